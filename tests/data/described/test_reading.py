"""Logs as they come: nothing vanishes on the way from a file to a data set, and nothing crashes."""

import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.data.dataset import open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import DataError, InputError, SchemaError
from clickscale.features import FIRST
from clickscale.inference.requests import encode_requests
from tests.data.described.logs import START, TABLE, clicks, csv_text, drafted, prepared, save, shares_missing

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


def test_histories_of_other_users_are_an_error_with_counts(tmp_path):
    save(tmp_path, clicks())
    save(tmp_path, [{**row, "user_id": row["user_id"].upper()} for row in clicks()], "views.csv")
    with pytest.raises(
        DataError, match=r"0 of 40 users of clicks\.csv occur in views\.csv, which has 40 others"
    ):
        prepared(tmp_path, '[behaviors]\nfiles = "views.csv"\n')
    few = [row for row in clicks() if row["user_id"] in ("u1", "u2", "u3")]
    save(tmp_path, few, "views.csv")
    notes = prepared(tmp_path, '[behaviors]\nfiles = "views.csv"\n').notes
    assert "WARNING: 3 of 40 users of clicks.csv occur in views.csv; the others have no history." in notes


@pytest.mark.wide
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
@settings(max_examples=15, deadline=None)
def test_any_bytes_give_rows_that_are_kept_or_quarantined(tmp_path_factory, kind, changes, cut):
    check_changed_bytes(tmp_path_factory.mktemp("t"), kind, changes, cut)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@given(changes=st.lists(MUTATION, max_size=12), cut=st.booleans())
@settings(max_examples=200, deadline=None)
def test_many_more_bytes_give_rows_that_are_kept_or_quarantined(tmp_path_factory, kind, changes, cut):
    check_changed_bytes(tmp_path_factory.mktemp("t"), kind, changes, cut)


def check_changed_bytes(folder, kind, changes, cut):
    """Change a table in some places, prepare it, and count its rows."""
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


def test_a_value_of_a_profile_counts_once_for_each_user(tmp_path: Path) -> None:
    rows = clicks()
    for row in rows:
        user = int(row["user_id"][1:])
        row |= {"zip": f"z{max(user, 2)}", "city": f"c{user % 3}"}  # the first three users share a zip code
    save(tmp_path, rows)
    fields = '{ name = "zip", min_count = 2 }, { name = "city", min_count = 2 }'
    prepared(tmp_path, f"[users]\nfields = [{fields}]\n")
    encoder = open_dataset(tmp_path / "out").encoder
    assert encoder.vocabulary("zip").values.to_pylist() == ["z2"]
    assert encoder.vocabulary("city").values.to_pylist() == ["c0", "c1", "c2"]


def test_a_draft_keeps_no_value_of_a_single_user_where_a_profile_has_many(tmp_path: Path) -> None:
    rows = [(n % 80, row) for n, row in enumerate(clicks())]
    # The first twenty users share ten zip codes.
    save(tmp_path, [row | {"user_id": f"u{u}", "zip": f"z{u // 2 if u < 20 else u}"} for u, row in rows])
    (field,) = tomllib.loads(drafted(tmp_path, "clicks.csv"))["users"]["fields"]
    assert field == {"name": "zip", "min_count": 2}
    known = open_dataset(tmp_path / "drafted").encoder.vocabulary("zip").values
    assert sorted(known.to_pylist()) == [f"z{n}" for n in range(10)]


def test_lists_in_brackets_are_read_alike_from_tables_and_requests(tmp_path: Path) -> None:
    rows = [row | {"tags": str([f"t{n % 4}", f"t{n % 3}"][: 1 + n % 2])} for n, row in enumerate(clicks())]
    save(tmp_path, rows, "clicks.jsonl")
    tree = tomllib.loads(drafted(tmp_path, "clicks.jsonl"))
    assert tree["impressions"]["fields"] == [{"name": "tags", "values": 2, "separator": "[]"}]
    dataset = open_dataset(tmp_path / "drafted")
    assert dataset.encoder.vocabulary("tags").values.to_pylist() == ["t0", "t1", "t2", "t3"]
    shown = np.asarray(dataset.impressions["field.tags"])[np.argsort(dataset.impressions["time"])]
    assert shown[:2].tolist() == [[FIRST, 0], [FIRST + 1, FIRST + 1]]
    for tags in ("['t1', 't2']", ["t1", "t2"]):
        request = {"user": "u1", "time": START, "candidates": [{"item": "i1", "tags": tags}]}
        batch = encode_requests([request], dataset.encoder, 5).batch
        assert FIRST + 1 in batch.candidates.context[0, 0].tolist()
        assert FIRST + 2 in batch.candidates.context[0, 0].tolist()


@pytest.mark.parametrize("odd", ["0", "99999999", "20240132", ""])
def test_one_odd_date_moves_no_date_of_later_files(tmp_path: Path, odd: str) -> None:
    save(tmp_path, clicks())
    days = [f"202301{1 + n:02}" for n in range(25)]
    for file in range(5):
        rows = [{"item_id": f"i{n}", "since": days[n]} for n in range(5 * file, 5 * file + 5)]
        if file == 1:
            rows[2]["since"] = odd
        save(tmp_path, rows, f"items-{file}.csv")
    prepared(tmp_path, '[items]\nfiles = "items-*.csv"\nfields = [{ name = "since", kind = "timestamp" }]\n')
    dataset = open_dataset(tmp_path / "out")
    since = np.asarray(dataset.items["field.since"])[
        dataset.encoder.item_rows.encode(pa.array([f"i{n}" for n in range(25)]))
    ]
    known = np.delete(since, 7)
    assert (np.diff(known) > 0).all()
    assert np.isnan(since[7])


def test_texts_with_broken_objects_are_counted(tmp_path):
    lines = ["user_id;item_id;time;clicked;properties"]
    for n, row in enumerate(clicks()):
        text = '{"page": "p' if n % 100 == 7 else json.dumps({"page": f"p{n % 3}"})
        lines.append(";".join([*map(str, row.values()), text if n % 50 else ""]))
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    fields = 'separator = ";"\nfields = [{ name = "page", column = "properties.page" }]'
    manifest = prepared(tmp_path, fields)
    assert manifest.report["impressions"].quarantined == {"bad_object": 6}
    assert shares_missing(tmp_path, "impressions", "page") == pytest.approx(12 / 594)


def test_a_number_of_lines_to_skip_below_0_is_refused(tmp_path: Path) -> None:
    save(tmp_path, clicks())
    with pytest.raises(SchemaError, match="skip = -1"):
        prepared(tmp_path, "skip = -1\n")
