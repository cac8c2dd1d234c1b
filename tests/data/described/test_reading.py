"""Logs as they come: nothing vanishes on the way from a file to a data set, and nothing crashes."""

import bz2
import datetime as dt
import gzip
import json
import lzma
import math
import random
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.dataset import open_dataset
from clickscale.data.described.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.layout import Manifest
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ConfigError, DataError, InputError
from clickscale.features import FIRST, UNKNOWN
from clickscale.inference.requests import encode_requests

START = 1_704_067_200
Row = dict[str, Any]
TABLE = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "clicked", column = "clicked" }]
[impressions]
files = "FILES"
time = "time"
"""


def clicks(count: int = 600) -> list[Row]:
    """Impressions of 40 users and 25 items, a good half of them clicked."""
    draw = random.Random(7)
    return [
        {
            "user_id": f"u{draw.randrange(40)}",
            "item_id": f"i{n % 25}",
            "time": START + 60 * n,
            "clicked": int(draw.random() < 0.55),
        }
        for n in range(count)
    ]


def csv_text(rows: list[Row], separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(str(value) for value in row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def save(folder: Path, rows: list[Row], name: str = "clicks.csv") -> Path:
    path = folder / name
    if name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(csv_text(rows))
    return path


def prepared(folder: Path, toml: str = "", files: str = "clicks.csv", **options: Any) -> Manifest:
    (folder / "log.toml").write_text(TABLE.replace("FILES", files) + toml)
    return prepare(load_log(folder / "log.toml"), folder / "out", overwrite=True, **options)


def drafted(folder: Path, *names: str) -> str:
    """The draft of tables, which must lead to a data set without a change."""
    text = guess([folder / name for name in names], folder)
    (folder / "draft.toml").write_text(text)
    prepare(load_log(folder / "draft.toml"), folder / "drafted", overwrite=True)
    return text


def shares_missing(folder: Path, table: str, field: str) -> float:
    column = getattr(open_dataset(folder / "out"), table)[f"field.{field}"]
    rows = column[FIRST:] if table == "items" else column
    return float(np.mean(np.isnan(rows) if rows.dtype.kind == "f" else rows == UNKNOWN))


# --- booleans, numbers and texts compare by value


@pytest.mark.parametrize(
    "condition",
    ["clicked == 1", "clicked == true", "clicked == True", 'clicked == "True"', "clicked != false"],
)
def test_truth_values_as_text_keep_their_behaviors(tmp_path, condition):
    rows = [{**row, "clicked": bool(row["clicked"])} for row in clicks()]
    save(tmp_path, rows)
    manifest = prepared(tmp_path, f"[behaviors]\nwhere = '{condition}'\n")
    assert manifest.counts["behaviors"] == sum(row["clicked"] for row in rows)
    assert manifest.report["behaviors"].quarantined == {}


def test_the_condition_that_a_draft_offers_keeps_the_positives(tmp_path):
    rows = [{**row, "clicked": "NY"[row["clicked"]]} for row in clicks()]
    save(tmp_path, rows)
    (tmp_path / "draft.toml").write_text(drafted(tmp_path, "clicks.csv").replace("# where", "where"))
    manifest = prepare(load_log(tmp_path / "draft.toml"), tmp_path / "out")
    assert manifest.counts["behaviors"] == sum(row["clicked"] == "Y" for row in rows)


@pytest.mark.parametrize(
    "pair", [("N", "Y"), ("f", "t"), ("no", "yes"), (-1, 1), (False, True), ("0.0", "1.0")]
)
def test_labels_of_two_values_are_recognized_by_value(tmp_path, pair):
    rows = clicks()
    save(tmp_path, [{**row, "clicked": pair[row["clicked"]]} for row in rows])
    drafted(tmp_path, "clicks.csv")
    label = open_dataset(tmp_path / "drafted").impressions["label.clicked"]
    assert int(np.sum(label == 1)) == sum(row["clicked"] for row in rows)
    assert int(np.sum(label == 0)) == sum(not row["clicked"] for row in rows)


def test_a_condition_that_keeps_nothing_is_an_error_that_shows_values(tmp_path):
    save(tmp_path, [{**row, "action": ("view", "buy")[row["clicked"]]} for row in clicks()])
    message = r"""action == 'purchase'" holds for 0 of 600 rows .* has '(view|buy)', '(view|buy)'"""
    with pytest.raises(InputError, match=message):
        prepared(tmp_path, "[behaviors]\nwhere = 'action == purchase'\n")
    assert not (tmp_path / "out").exists()


def test_a_condition_that_keeps_little_is_a_warning(tmp_path):
    save(tmp_path, [{**row, "action": "buy" if n == 9 else "view"} for n, row in enumerate(clicks())])
    manifest = prepared(tmp_path, "[behaviors]\nwhere = 'action == buy'\n")
    assert any(
        note.startswith("""WARNING: [behaviors] where "action == 'buy'" holds for 1 of 600""")
        for note in manifest.notes
    )


def test_a_log_without_a_positive_is_an_error(tmp_path):
    save(tmp_path, [{**row, "clicked": 0} for row in clicks()])
    with pytest.raises(DataError, match="No impression is positive"):
        prepared(tmp_path)


# --- missing numbers


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.jsonl", "clicks.parquet"])
@pytest.mark.parametrize("missing", [math.nan, None])
def test_nan_is_a_missing_number_in_every_format(tmp_path, name, missing):
    save(
        tmp_path,
        [{**row, "price": missing if n % 5 == 0 else 1.5 + n} for n, row in enumerate(clicks())],
        name,
    )
    manifest = prepared(tmp_path, 'fields = [{ name = "price", kind = "numeric" }]', name)
    assert (manifest.counts["impressions"], manifest.counts["behaviors"]) == (600, 600)
    assert shares_missing(tmp_path, "impressions", "price") == 0.2


def test_a_label_that_is_nan_costs_that_label_alone(tmp_path):
    save(tmp_path, [{**row, "liked": math.nan if n % 3 else n % 2} for n, row in enumerate(clicks())])
    path = tmp_path / "log.toml"
    path.write_text(
        TABLE.replace("FILES", "clicks.csv").replace(
            '"clicked" }]', '"clicked" }, { name = "liked", column = "liked" }]'
        )
    )
    prepare(load_log(path), tmp_path / "out")
    found = open_dataset(tmp_path / "out").impressions
    assert int(np.sum(found["label.clicked"] >= 0)) == 600
    assert int(np.sum(found["label.liked"] >= 0)) == 200


@pytest.mark.parametrize("missing", ["—", "-", "nan", "N/A", r"\N", "NULL", "NA", ""])
def test_a_placeholder_costs_the_number_and_nothing_else(tmp_path, missing):
    save(tmp_path, clicks())
    items = [
        {"item_id": f"i{n}", "category": f"c{n % 4}", "price": missing if n < 5 else n} for n in range(25)
    ]
    save(tmp_path, items, "items.csv")
    fields = 'fields = [{ name = "category" }, { name = "price", kind = "numeric" }]'
    manifest = prepared(tmp_path, f'[items]\nfiles = "items.csv"\n{fields}\n')
    assert manifest.report["items"].kept == 25
    assert shares_missing(tmp_path, "items", "price") == 0.2
    assert shares_missing(tmp_path, "items", "category") == 0.0
    assert '{ name = "price", kind = "numeric" }' in drafted(tmp_path, "clicks.csv", "items.csv")


def test_commas_between_thousands_are_read(tmp_path):
    save(tmp_path, clicks())
    lines = [f'i{n},c{n % 4},"1,{200 + n}.00"' for n in range(25)]
    (tmp_path / "items.csv").write_text("item_id,category,price\n" + "\n".join(lines) + "\n")
    manifest = prepared(
        tmp_path, '[items]\nfiles = "items.csv"\nfields = [{ name = "price", kind = "numeric" }]\n'
    )
    assert manifest.report["items"].kept == 25
    assert open_dataset(tmp_path / "out").encoder.scales["price"].mean == pytest.approx(1212, abs=2)


# --- columns of any type


ANYTHING = {
    "context": (pa.array([{"device": f"d{n % 3}"} for n in range(600)]), "objects"),
    "maps": (pa.array([[("a", n)] for n in range(600)], pa.map_(pa.string(), pa.int64())), "maps"),
    "pairs": (pa.array([[{"a": 1}]] * 600), "lists of objects"),
    "nested": (pa.array([[[1]]] * 600), "lists of lists"),
    "nothing": (pa.nulls(600), "no value in 600 sampled rows"),
    "empty": (pa.nulls(600, pa.string()), "no value in 600 sampled rows"),
}
READABLE = {
    "id": pa.array([uuid.UUID(int=n % 50).bytes for n in range(600)], pa.uuid()),
    "clock": pa.array([dt.time(n % 24, 5) for n in range(600)]),
    "view": pa.array([f"w{n % 7}" for n in range(600)], pa.string_view()),
    "coded": pa.array([f"w{n % 7}" for n in range(600)]).dictionary_encode(),
    "lasted": pa.array([dt.timedelta(seconds=n % 9) for n in range(600)]),
    "day": pa.array([dt.date(2024, 1, 1 + n % 9) for n in range(600)]),
    "money": pa.array([n % 50 for n in range(600)], pa.int64()).cast(pa.decimal128(21, 2)),
    "half": pa.array(np.arange(600, dtype=np.float16) % 8),
    "words": pa.array([[f"w{n % 5}"] for n in range(600)], pa.list_(pa.string_view())),
    "vectors": pa.array([[0.5, n / 600] for n in range(600)], pa.list_(pa.float32(), 2)),
    "bytes": pa.array([f"b{n % 7}".encode() for n in range(600)], pa.binary_view()),
}


def test_a_draft_leaves_out_by_name_what_no_field_can_hold(tmp_path):
    table = pa.Table.from_pylist(clicks())
    for name, (column, _) in ANYTHING.items():
        table = table.append_column(name, column)
    pq.write_table(table, tmp_path / "clicks.parquet")
    text = drafted(tmp_path, "clicks.parquet")
    for name, (_, why) in ANYTHING.items():
        assert f"# left out: {name} ({why}" in text
    assert 'column = "context.device"' in text


@pytest.mark.parametrize("name", READABLE)
def test_columns_of_other_types_are_read_by_a_draft_and_by_preparing(tmp_path, name):
    table = pa.Table.from_pylist(clicks()).append_column(name, READABLE[name])
    pq.write_table(table, tmp_path / "clicks.parquet")
    assert name in drafted(tmp_path, "clicks.parquet")
    report = open_dataset(tmp_path / "drafted").manifest.report["impressions"]
    assert (report.rows, report.kept) == (600, 600)


@pytest.mark.parametrize("name", ["clicks.jsonl", "clicks.parquet"])
def test_a_value_inside_of_objects_is_read_by_its_path(tmp_path, name):
    save(
        tmp_path,
        [{**row, "context": {"page": {"device": f"d{n % 3}"}}} for n, row in enumerate(clicks())],
        name,
    )
    prepared(tmp_path, 'fields = [{ name = "device", column = "context.page.device" }]', name)
    assert open_dataset(tmp_path / "out").encoder.vocabulary("device").values.to_pylist() == [
        "d0",
        "d1",
        "d2",
    ]


def test_a_list_of_at_most_one_value_is_that_value(tmp_path):
    for count in (0, 1, 2):
        stars = [["s0", "s1"][: n % 2 + 1] if count == 2 else ["s0"] * (n % 2 or count) for n in range(600)]
        save(
            tmp_path, [{**row, "stars": s} for row, s in zip(clicks(), stars, strict=True)], "clicks.parquet"
        )
        drafted(tmp_path, "clicks.parquet")
        assert open_dataset(tmp_path / "drafted").manifest.report["impressions"].kept == 600
    prepared(tmp_path, 'fields = [{ name = "stars" }]', "clicks.parquet")
    encoder = open_dataset(tmp_path / "out").encoder
    sent = [{"item": "i1", "stars": stars} for stars in (["s0"], "s0", [], None)]
    batch = encode_requests([{"user": "u1", "time": START, "candidates": sent}], encoder, 5).batch
    assert batch.candidates.context[0, :, 0].tolist() == [2, 2, 1, 1]


# --- ids


def float_ids(folder: Path) -> None:
    rows = [{**row, "item_id": f"{10 + n % 25}.0" if n % 86 else ""} for n, row in enumerate(clicks())]
    save(folder, rows)
    save(folder, [{"item_id": 10 + n, "category": f"c{n % 5}"} for n in range(25)], "items.csv")


@pytest.mark.parametrize("dtype", ["string", "int"])
def test_ids_that_became_floats_join_and_are_served(tmp_path, dtype):
    float_ids(tmp_path)
    (tmp_path / "log.toml").write_text(
        TABLE.replace("FILES", "clicks.csv").replace('"item_id" }', f'"item_id", dtype = "{dtype}" }}')
        + '[items]\nfiles = "items.csv"\nfields = [{ name = "category" }]\n'
    )
    manifest = prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    assert manifest.counts["items"] == 27
    assert manifest.report["impressions"].quarantined == {"null_item": 7}
    assert shares_missing(tmp_path, "items", "category") == 0.0
    candidates = [{"item": item} for item in (12, 12.0, "12", "12.0")]
    encoder = open_dataset(tmp_path / "out").encoder
    batch = encode_requests([{"user": "u1", "time": START, "candidates": candidates}], encoder, 5).batch
    assert len(set(batch.candidates.items[0].tolist())) == 1
    assert int(batch.candidates.items[0, 0]) >= FIRST


def test_items_that_do_not_join_are_an_error_with_counts(tmp_path):
    save(tmp_path, clicks())
    save(tmp_path, [{"item_id": f"I{n}", "category": "c"} for n in range(25)], "items.csv")
    toml = '[items]\nfiles = "items.csv"\nfields = [{ name = "category" }]\n'
    with pytest.raises(DataError, match=r"0 of 25 items of clicks\.csv occur in items\.csv"):
        prepared(tmp_path, toml)
    save(tmp_path, [{"item_id": f"i{n}", "category": "c"} for n in range(4)], "items.csv")
    assert any(
        "4 of 25 items of clicks.csv occur in items.csv" in note for note in prepared(tmp_path, toml).notes
    )


def test_ids_with_leading_zeros_are_texts_wherever_the_first_one_stands(tmp_path):
    rows = [{**row, "item_id": str(10 + n % 25)} for n, row in enumerate(clicks(60_000))]
    rows[20_001]["item_id"] = "0012"
    save(tmp_path, rows)
    assert 'item = { name = "item", column = "item_id" }' in drafted(tmp_path, "clicks.csv")
    ids = open_dataset(tmp_path / "drafted").encoder.item_rows.values.to_pylist()
    assert len(ids) == 26
    assert {"0012", "12"} <= set(ids)
    rows[20_001]["item_id"] = "12"
    save(tmp_path, rows)
    assert 'item = { name = "item", column = "item_id", dtype = "int" }' in drafted(tmp_path, "clicks.csv")


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.jsonl", "clicks.parquet"])
def test_large_ids_stay_exact(tmp_path, name):
    save(tmp_path, [{**row, "item_id": 2**53 + n % 25} for n, row in enumerate(clicks())], name)
    drafted(tmp_path, name)
    ids = open_dataset(tmp_path / "drafted").encoder.item_rows.values.to_pylist()
    assert sorted(map(int, ids)) == [2**53 + n for n in range(25)]


# --- files and times


@pytest.mark.parametrize(
    ("ending", "pack"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", lambda text: pa.compress(text, "zstd", asbytes=True)),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_compressed_text_is_read(tmp_path, ending, pack, kind):
    path = save(tmp_path, clicks(), f"clicks.{kind}")
    (tmp_path / f"clicks.{kind}.{ending}").write_bytes(pack(path.read_bytes()))
    assert prepared(tmp_path, files=f"clicks.{kind}.{ending}").counts["impressions"] == 600
    drafted(tmp_path, f"clicks.{kind}.{ending}")


def partitioned(folder: Path) -> None:
    """A table as Spark writes it."""
    for n in range(6):
        part = folder / "log" / f"dt=2024-01-0{n + 1}" / f"country={('de', 'fr', 'a%20b')[n % 3]}"
        part.mkdir(parents=True)
        save(part, [{**row, "time": row["time"] + 86_400 * n} for row in clicks(100)], "part-0.parquet")
        (part / ".part-0.parquet.crc").write_bytes(b"x")
    (folder / "log" / "_SUCCESS").touch()


@pytest.mark.parametrize("files", ["log", "log/**/*", "log/**/*.parquet", "log/dt=*"])
def test_folders_of_parts_are_one_table_with_the_columns_of_their_names(tmp_path, files):
    partitioned(tmp_path)
    manifest = prepared(tmp_path, 'fields = [{ name = "country" }]', files)
    assert manifest.counts["impressions"] == 600
    assert open_dataset(tmp_path / "out").encoder.vocabulary("country").values.to_pylist() == [
        "a b",
        "de",
        "fr",
    ]


def test_a_date_that_only_the_folder_has_is_a_time(tmp_path):
    partitioned(tmp_path)
    (tmp_path / "log.toml").write_text(TABLE.replace("FILES", "log").replace('time = "time"', 'time = "dt"'))
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    times = open_dataset(tmp_path / "out").impressions["time"]
    assert sorted(set(times.tolist())) == [START + 86_400 * n for n in range(6)]


def test_a_draft_of_a_folder_samples_its_files(tmp_path):
    partitioned(tmp_path)
    text = drafted(tmp_path, "log")
    assert 'files = "log"' in text
    assert '{ name = "country" }' in text
    assert open_dataset(tmp_path / "drafted").manifest.counts["impressions"] == 600


TIMES = {
    " UTC": lambda at: f"{at:%Y-%m-%d %H:%M:%S} UTC",
    "UTC": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}UTC",
    "Z": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}Z",
    "offset": lambda at: f"{at:%Y-%m-%d %H:%M:%S}+0000",
    "zone": lambda at: f"{at + dt.timedelta(hours=1):%Y-%m-%d %H:%M:%S} Europe/Berlin",
    "java": lambda at: f"{at + dt.timedelta(hours=1):%Y-%m-%dT%H:%M:%S}+01:00[Europe/Berlin]",
    "slashes": lambda at: f"{at:%Y/%m/%d %H:%M:%S}",
    "mail": lambda at: f"{at:%a %d %b %Y %H:%M:%S} GMT",
}


@pytest.mark.parametrize("form", TIMES)
def test_times_in_other_notations_are_read(tmp_path, form):
    rows = clicks()
    moments = [dt.datetime.fromtimestamp(row["time"], dt.UTC) for row in rows]
    save(tmp_path, [{**row, "time": TIMES[form](at)} for row, at in zip(rows, moments, strict=True)])
    drafted(tmp_path, "clicks.csv")
    manifest = prepared(tmp_path)
    assert manifest.report["impressions"].kept == 600
    times = open_dataset(tmp_path / "out").impressions["time"]
    assert sorted(times.tolist()) == [row["time"] for row in rows]
    assert any("taken as UTC" in note for note in manifest.notes) == (form == "slashes")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_times_without_a_zone_are_those_of_the_stated_one(tmp_path, kind):
    moments = [dt.datetime(2024, 7, 1) + dt.timedelta(minutes=n) for n in range(600)]
    save(tmp_path, [{**row, "time": at} for row, at in zip(clicks(), moments, strict=True)], f"clicks.{kind}")
    assert any(
        "taken as UTC (impressions.time)" in note for note in prepared(tmp_path, files=f"clicks.{kind}").notes
    )
    (tmp_path / "log.toml").write_text(
        'time_zone = "Europe/Berlin"\n' + TABLE.replace("FILES", f"clicks.{kind}")
    )
    manifest = prepare(load_log(tmp_path / "log.toml"), tmp_path / "berlin")
    assert not any("taken as UTC" in note for note in manifest.notes)
    first = int(open_dataset(tmp_path / "berlin").impressions["time"].min())
    assert first == int(dt.datetime(2024, 6, 30, 22, tzinfo=dt.UTC).timestamp())
    (tmp_path / "log.toml").write_text('time_zone = "Mars"\n' + TABLE.replace("FILES", f"clicks.{kind}"))
    with pytest.raises(ConfigError, match=r"time_zone = 'Mars' names no zone"):
        load_log(tmp_path / "log.toml")


@pytest.mark.parametrize("day", ["%Y-%m-%d", "%Y%m%d"])
def test_dates_are_times(tmp_path, day):
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=n // 100) for n in range(600)]
    save(tmp_path, [{**row, "time": f"{at:{day}}"} for row, at in zip(clicks(), days, strict=True)])
    drafted(tmp_path, "clicks.csv")
    prepared(tmp_path)
    times = open_dataset(tmp_path / "out").impressions["time"]
    assert sorted(set(times.tolist())) == [START + 86_400 * n for n in range(6)]


# --- samples, headers and messages


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv.gz"])
def test_a_draft_looks_beyond_the_head_of_a_sorted_log(tmp_path, kind):
    rows = clicks(90_000)
    rows = [
        {**row, "site": "a" if n < 80_000 else "b", "late": "x" if n == 45_000 else "y"}
        for n, row in enumerate(rows)
    ]
    rows = [{**row, "page": f"p{n // 40_000}", "filler": "f" * 30} for n, row in enumerate(rows)]
    path = save(tmp_path, rows, f"clicks.{kind.removesuffix('.gz')}")
    if kind == "csv.gz":
        (tmp_path / "clicks.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    text = guess([tmp_path / f"clicks.{kind}"], tmp_path)
    assert '{ name = "site" }' in text
    assert '{ name = "page" }' in text
    assert "# left out: filler (it has one value in 15,000 sampled rows)" in text


def test_columns_without_a_name_keep_the_header(tmp_path):
    lines = [f"{n},{','.join(map(str, row.values()))},{n % 7},v{n % 3}" for n, row in enumerate(clicks())]
    (tmp_path / "clicks.csv").write_text(",user_id,item_id,time,clicked,,\n" + "\n".join(lines) + "\n")
    text = drafted(tmp_path, "clicks.csv")
    assert 'time = "time"' in text
    assert "names = [" not in text
    assert 'column = "column_6"' in text or '"column_6"' in text


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("user_id", "has item item_id, time time, but no user column among"),
        ("item_id", "has user user_id, time time, but no item column among"),
        ("time", "has user user_id, item item_id, but no time column among"),
    ],
)
def test_a_dead_end_names_the_missing_role(tmp_path, role, said):
    save(
        tmp_path,
        [
            {("x" if name == role else name): "z" if name == role else v for name, v in row.items()}
            for row in clicks()
        ],
    )
    with pytest.raises(InputError, match=said):
        guess([tmp_path / "clicks.csv"], tmp_path)


def test_the_error_about_unusable_rows_shows_value_row_and_way_out(tmp_path):
    save(tmp_path, [{**row, "time": "the 5th of May"} for row in clicks()])
    with pytest.raises(
        DataError, match=r"bad_time 600 \(such as row 0, time = the 5th of May; times are numbers"
    ):
        prepared(tmp_path)


def test_quarantine_keeps_the_text_of_a_broken_row(tmp_path):
    lines = csv_text(clicks()).splitlines()
    lines[11] = "u1,only"
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    assert prepared(tmp_path).report["impressions"].quarantined == {"bad_row": 1}
    example = json.loads((tmp_path / "out" / "quarantine" / "impressions.jsonl").read_text())
    assert example == {"row": 10, "reason": "bad_row", "column": "line", "value": "u1,only"}


# --- numbers


def numbers_with(folder: Path, change: dict[int, float]) -> np.ndarray:
    draw = np.random.default_rng(3)
    x = [change.get(n, float(v)) for n, v in enumerate(draw.normal(size=600))]
    save(folder, [{**row, "x": v} for row, v in zip(clicks(), x, strict=True)])
    prepared(folder, 'fields = [{ name = "x", kind = "numeric" }]')
    return open_dataset(folder / "out").impressions["field.x"]


@pytest.mark.parametrize(
    "change", [{7: 1e30}, dict.fromkeys(range(0, 600, 50), -999_999_999.0), {3: -1e38, 9: 1e38}]
)
def test_outliers_and_codes_leave_the_other_numbers_apart(tmp_path, change):
    (tmp_path / "good").mkdir()
    (tmp_path / "odd").mkdir()
    good, odd = numbers_with(tmp_path / "good", {}), numbers_with(tmp_path / "odd", change)
    same = np.abs(odd) < 9
    assert int((~same).sum()) == len(change)
    np.testing.assert_allclose(odd[same], good[same], atol=0.1)
    assert np.abs(odd).max() <= 10


def test_a_constant_column_stays_harmless_and_is_named(tmp_path):
    rows = [{**row, "x": 5.0 if n < 500 else 1e6} for n, row in enumerate(clicks())]
    save(tmp_path, rows)
    manifest = prepared(tmp_path, 'fields = [{ name = "x", kind = "numeric" }]')
    assert not open_dataset(tmp_path / "out").impressions["field.x"].any()
    assert any(
        "Numbers without two values in the training part" in n and n.endswith(": x.") for n in manifest.notes
    )


# --- any bytes


def records(text: bytes, columns: int) -> int | None:
    """Rows of text without quotes, counted another way: the lines that are not blank, less the header."""
    if b'"' in text or b"\r" in text:
        return None
    return sum(bool(line) for line in text.split(b"\n")) - 1


MUTATION = st.tuples(
    st.integers(0, 10**6),
    st.sampled_from(['"', '""', ",", "\n", "\r", "\t", "\0", "\xff", "\\", "}", "u", "\ufeff", ""]),
)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@given(changes=st.lists(MUTATION, max_size=12), cut=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_bytes_give_rows_that_are_kept_or_quarantined(tmp_path_factory, kind, changes, cut):
    folder = tmp_path_factory.mktemp("t")
    rows = [{**row, "title": f"title {n}"} for n, row in enumerate(clicks(60))]
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        text = csv_text(rows, "\t" if kind == "tsv" else ",").encode()
    head = 0 if kind == "jsonl" else text.index(b"\n") + 1
    for place, token in changes:  # the header stays: without it there is no table
        at = head + place % (len(text) - head)
        raw = b"\xff" if token == "\xff" else token.encode()
        text = text[:at] + raw + text[at + place % 2 :]
    text = text[: len(text) - 9] if cut else text
    (folder / f"clicks.{kind}").write_bytes(text)
    manifest = prepared(folder, 'fields = [{ name = "title" }]', f"clicks.{kind}", max_quarantined=1.0)
    report = manifest.report["impressions"]
    assert report.rows == report.kept + sum(report.quarantined.values())
    assert report.kept == manifest.counts["impressions"] >= 60 - 4 * len(changes) - 1
    expected = records(text, 5) if kind != "jsonl" else sum(bool(line.strip()) for line in text.split(b"\n"))
    if expected is not None:
        assert report.rows == expected


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "clicks.csv").write_bytes(b"\xef\xbb\xbf" + csv_text(clicks()).encode())
    assert 'column = "user_id"' in drafted(tmp_path, "clicks.csv")
    assert prepared(tmp_path).counts["impressions"] == 600
