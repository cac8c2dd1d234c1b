"""Tables in any file, of any type and notation: read, or left out by name with the reason."""

import bz2
import datetime as dt
import gzip
import json
import lzma
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ConfigError, DataError, InputError
from clickscale.features import numeric
from clickscale.inference.requests import encode_requests
from tests.data.described.logs import (
    START,
    TABLE,
    clicks,
    csv_text,
    drafted,
    prepared,
    save,
)

# --- columns of any type


ANYTHING = {
    "objects": (pa.array([{f"p{n}": 1} for n in range(600)]), "objects"),  # of 600 names
    "maps": (pa.array([[(f"p{n}", n)] for n in range(600)], pa.map_(pa.string(), pa.int64())), "maps"),
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
    assert 'column = "objects.p0"' in text  # shows how a value inside is named


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


# --- numbers that people wrote


@pytest.mark.parametrize("name", ["clicks.tsv", "clicks.jsonl"])
def test_numbers_in_the_notation_of_people_are_numbers_in_training_and_in_requests(tmp_path, name):
    amounts = [0.5 * n + 1000 * (n % 3) for n in range(600)]
    swap = str.maketrans(",.", ".,")
    rows = [
        {**row, "preis": f"{x:,.2f}".translate(swap), "bid": f"${x:,.2f}", "off": f"{x / 100:.1f}%"}
        for row, x in zip(clicks(), amounts, strict=True)
    ]
    path = save(tmp_path, rows, name)
    if name.endswith("tsv"):
        path.write_text(csv_text(rows, "\t"))
    text = drafted(tmp_path, name)
    assert '{ name = "preis", kind = "numeric", notation = "1.234,5" }' in text
    assert '{ name = "bid", kind = "numeric", notation = "1,234.5" }' in text
    assert '{ name = "off", kind = "numeric", notation = "1,234.5" }' in text
    data = open_dataset(tmp_path / "drafted")
    encoder = data.encoder
    expected = encoder.scales["preis"].apply(np.array(amounts))
    for column in ("preis", "bid"):
        stored = np.sort(np.asarray(data.impressions[f"field.{column}"]))
        np.testing.assert_allclose(stored, np.sort(expected), rtol=1e-5)
    sent = [{"item": "i1", "preis": preis, "bid": 1299} for preis in (1.299, "1.299", "1.299,00", 1299)]
    for candidates in (sent, sent[1:3]):
        request = {"user": "u1", "time": START, "candidates": candidates}
        numbers = encode_requests([request], encoder, 5).batch.candidates.context_numbers[0, :, :2]
        right = encoder.scales["preis"].apply(
            np.array([1.299 if c["preis"] == 1.299 else 1299.0 for c in candidates])
        )
        np.testing.assert_allclose(numbers[:, 0].numpy(), right, rtol=1e-5)
    bad = {"user": "u1", "time": START, "candidates": [{"item": "i1", "preis": "12.99"}]}
    with pytest.raises(InputError, match="preis"):
        encode_requests([bad], encoder, 5)


def test_a_number_in_another_notation_is_in_quarantine_with_the_way_out(tmp_path):
    rows = [{**row, "preis": "12,99" if n else "12.9"} for n, row in enumerate(clicks())]
    (tmp_path / "clicks.tsv").write_text(csv_text(rows, "\t"))
    field = 'fields = [{ name = "preis", kind = "numeric"'
    report = prepared(tmp_path, field + ', notation = "1.234,5" }]', "clicks.tsv").report["impressions"]
    assert report.quarantined == {"bad_number": 1}
    with pytest.raises(DataError, match="give the field a notation"):
        prepared(tmp_path, field + " }]", "clicks.tsv")


def test_numbers_with_units_are_numbers_in_training_and_in_requests(tmp_path):
    minutes = [5 + n % 170 for n in range(600)]
    rows = [
        {
            **row,
            "flat": f"{40 + n % 90} m²",
            "lasts": f"{m} min" if n % 2 else f"{m // 60} h {m % 60} min",
            "stars": f"{n % 50 / 10}/5",
            "tyre": f"{185 + n % 5}/65R15",
        }
        for n, (row, m) in enumerate(zip(clicks(), minutes, strict=True))
    ]
    save(tmp_path, rows, "clicks.jsonl")
    text = drafted(tmp_path, "clicks.jsonl")
    assert '{ name = "flat", kind = "numeric", notation = "1,234.5", unit = "m²" }' in text
    assert '{ name = "lasts", kind = "numeric", notation = "1,234.5", unit = "min" }' in text
    assert '{ name = "stars", kind = "numeric", notation = "1,234.5", unit = "/5" }' in text
    assert '{ name = "tyre" }' in text
    data = open_dataset(tmp_path / "drafted")
    scale = data.encoder.scales["lasts"]
    stored = np.sort(np.asarray(data.impressions["field.lasts"]))
    np.testing.assert_allclose(stored, np.sort(scale.apply(np.array(minutes))), rtol=1e-5)
    sent = [{"item": "i1", "lasts": lasts} for lasts in ("1 h 30 min", "90 min", "1h30", "1:30:00", "90", 90)]
    for candidates in (sent, sent[:1], sent[-1:]):
        request = {"user": "u1", "time": START, "candidates": candidates}
        numbers = encode_requests([request], data.encoder, 5).batch.candidates.context_numbers[0]
        place = [feature.name for feature in numeric(data.encoder.features().context)].index("lasts")
        right = scale.apply(np.full(len(candidates), 90.0))
        np.testing.assert_allclose(numbers[:, place].numpy(), right, rtol=1e-5)
    bad = {"user": "u1", "time": START, "candidates": [{"item": "i1", "lasts": "90 km"}]}
    with pytest.raises(InputError, match="lasts"):
        encode_requests([bad], data.encoder, 5)


def test_whole_numbers_with_units_that_all_differ_are_kept(tmp_path):
    items = [
        {"item_id": f"i{n}", "lasts": f"{20 + 7 * n} min", "visitors": f"{n + 1}K visitors", "code": f"{n}-x"}
        for n in range(40)
    ]
    save(tmp_path, items, "items.jsonl")
    save(tmp_path, clicks(), "clicks.jsonl")
    text = drafted(tmp_path, "clicks.jsonl", "items.jsonl")
    assert '{ name = "lasts", kind = "numeric", notation = "1,234.5", unit = "min" }' in text
    assert '{ name = "visitors", kind = "numeric", notation = "1,234.5", unit = "visitors" }' in text
    assert "# left out: code (it differs in every row)" in text


def test_a_number_of_another_unit_is_in_quarantine(tmp_path):
    rows = [{**row, "far": f"{n} km" if n else "5 kg"} for n, row in enumerate(clicks())]
    (tmp_path / "clicks.tsv").write_text(csv_text(rows, "\t"))
    field = 'fields = [{ name = "far", kind = "numeric"'
    report = prepared(tmp_path, field + ', unit = "km" }]', "clicks.tsv").report["impressions"]
    assert report.quarantined == {"bad_number": 1}
    with pytest.raises(DataError, match="a unit if its numbers are written like"):
        prepared(tmp_path, field + " }]", "clicks.tsv")


def test_many_ranges_are_numbers_in_training_and_in_requests_and_a_few_are_categories(tmp_path):
    lows = [400 + 50 * (n % 60) for n in range(600)]
    rows = [
        {**row, "pay": f"€{low} – €{low + 400}" if n % 9 else "VB", "age": ["18-24", "25-34", "65+"][n % 3]}
        for n, (row, low) in enumerate(zip(clicks(), lows, strict=True))
    ]
    save(tmp_path, rows, "clicks.jsonl")
    text = drafted(tmp_path, "clicks.jsonl")
    assert '{ name = "pay", kind = "numeric", notation = "1,234.5" }' in text
    assert "ranges by their middle" in text
    assert '{ name = "age" }' in text
    data = open_dataset(tmp_path / "drafted")
    scale = data.encoder.scales["pay"]
    middles = np.array([low + 200 if n % 9 else np.nan for n, low in enumerate(lows)])
    stored = np.sort(np.asarray(data.impressions["field.pay"]))
    np.testing.assert_allclose(stored, np.sort(scale.apply(middles)), rtol=1e-5)
    sent = [{"item": "i1", "pay": pay} for pay in ("€400 – €800", "400-800", 600, "on request")]
    for candidates in (sent, sent[:1], sent[-1:]):
        request = {"user": "u1", "time": START, "candidates": candidates}
        numbers = encode_requests([request], data.encoder, 5).batch.candidates.context_numbers[0]
        place = [feature.name for feature in numeric(data.encoder.features().context)].index("pay")
        right = scale.apply(np.array([np.nan if c["pay"] == "on request" else 600.0 for c in candidates]))
        np.testing.assert_allclose(numbers[:, place].numpy(), right, rtol=1e-5)


def test_ratings_with_a_decimal_comma_are_no_label(tmp_path):
    rows = [{**row, "rating": f"{n % 5 + 1},{n % 2 * 5}"} for n, row in enumerate(clicks())]
    for row in rows:
        del row["clicked"]
    (tmp_path / "clicks.tsv").write_text(csv_text(rows, "\t"))
    assert "negatives = 4" in drafted(tmp_path, "clicks.tsv")


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
    "american": lambda at: f"{at:%m/%d/%Y} {int(f'{at:%I}')}{at::%M:%S %p}",
    "server": lambda at: f"{at:%d/%b/%Y:%H:%M:%S} +0000",
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
    assert any("taken as UTC" in note for note in manifest.notes) == (form in ("slashes", "american"))


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
    ],
)
def test_a_dead_end_names_the_missing_role(tmp_path, role, said):
    save(
        tmp_path,
        [
            {("x" if name == role else name): "z" if name == role else v for name, v in row.items()}
            for row in ({k: v for k, v in row.items() if k != "clicked"} for row in clicks())
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


@pytest.mark.parametrize("name", ["a\rb", "a\nb", "a\0b", 'a"b', "a\x7fb", "#", "[x]", "", "\ud800"])
def test_a_column_of_any_name_is_drafted(tmp_path, name):
    save(
        tmp_path,
        [{**row, name: f"v{n % 3}", f"{name}2": "one"} for n, row in enumerate(clicks())],
        "clicks.jsonl",
    )
    text = drafted(tmp_path, "clicks.jsonl")
    assert ("it has one value in 600 sampled rows" in text) == (name != "\ud800")
