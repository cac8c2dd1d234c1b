"""Bring your own log: tables described in TOML."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ConfigError, InputError, SchemaError
from tests.data.sources import check_columns, drained, real_log

CLICKS = """user_id,item_id,timestamp,clicked,category,price,age
u1,a,1600000000,1,shoes,10.5,30
u1,b,1600000100,0,hats,,30
u2,a,1600000200,1,shoes,11,
u2,b,1600000300,x,hats,3,41
"""
SIMPLE = """
name = "shop"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
[impressions]
files = "clicks.csv"
time = "timestamp"
"""


def described(folder, toml, **files):
    for name, text in files.items():
        (folder / name.replace("_csv", ".csv").replace("_jsonl", ".jsonl")).write_text(text)
    (folder / "log.toml").write_text(toml)
    return load_log(folder / "log.toml")


def test_a_single_csv_is_impressions_behaviors_items_and_users(tmp_path):
    toml = SIMPLE + (
        '[behaviors]\nwhere = "clicked == 1"\n'
        '[items]\nfields = [{ name = "category" }, { name = "price", kind = "numeric" }]\n'
        '[users]\nfields = [{ name = "age", dtype = "int" }]\n'
    )
    source = described(tmp_path, toml, clicks_csv=CLICKS)
    check_columns(source)
    tables = drained(source)
    assert [(r["user"], r["item"], r["time"], r["label.click"]) for r in tables["impressions"]] == [
        ("u1", "a", 1600000000, "1"),
        ("u1", "b", 1600000100, "0"),
        ("u2", "a", 1600000200, "1"),
        ("u2", "b", 1600000300, "x"),
    ]
    assert [(r["item"], r["problem"]) for r in tables["behaviors"]] == [
        ("a", None),
        ("a", None),
        ("b", "bad_condition"),
    ]
    assert [(r["item"], r["category"], r["price"]) for r in tables["items"]] == [
        ("a", "shoes", 10.5),
        ("b", "hats", None),
    ]
    assert [(r["user"], r["age"]) for r in tables["users"]] == [("u1", 30), ("u2", None)]
    assert "Behaviors are the impressions of the log itself." in source.notes


def test_a_source_reads_its_log_from_the_start_each_time(tmp_path):
    source = described(tmp_path, SIMPLE + '[items]\nfields = [{ name = "category" }]\n', clicks_csv=CLICKS)
    assert drained(source) == drained(source)


def test_tables_of_their_own_in_three_formats(tmp_path):
    pq.write_table(pa.table({"uid": ["u1"], "sex": ["f"]}), tmp_path / "users.parquet")
    toml = (
        SIMPLE
        + """
[behaviors]
files = ["b1.jsonl", "b2*.jsonl"]
user = "who"
item = "what"
time = "when"
known_at = "seen"
fields = [{ name = "action" }, { name = "tags", values = 3 }]
[users]
files = "users.parquet"
user = "uid"
fields = [{ name = "gender", column = "sex" }]
[items]
files = "items.csv"
separator = "|"
names = ["item_id", "released"]
fields = [{ name = "released", kind = "timestamp" }]
[split]
kind = "day"
valid = 1
test = 2
"""
    )
    event = {
        "who": "u1",
        "what": "a",
        "when": "2020-09-13T12:26:40Z",
        "action": "buy",
        "tags": ["x"],
        "seen": None,
    }
    source = described(
        tmp_path,
        toml,
        clicks_csv=CLICKS,
        b1_jsonl=json.dumps(event),
        b2x_jsonl=json.dumps({**event, "when": "2020-09-14", "seen": "never"}),
        items_csv="a|2020-01-01\nb|soon\n",
    )
    check_columns(source)
    tables = drained(source)
    assert [(r["time"], r["known_at"], r["problem"]) for r in tables["behaviors"]] == [
        (1600000000, 1600000000, None),
        (1600041600, 1600041600, "bad_time"),
    ]
    assert tables["behaviors"][0]["tags"] == ["x"]
    assert tables["users"] == [{"user": "u1", "gender": "f", "problem": None}]
    assert [(r["released"], r["problem"]) for r in tables["items"]] == [
        (1577836800, None),
        (None, "bad_time"),
    ]
    assert source.split.kind == "day"


def test_labels_are_columns_or_conditions(tmp_path):
    cheap, hat = (
        "{ name = 'cheap', condition = 'price < 11' }",
        "{ name = 'hat', condition = 'category == hats' }",
    )
    toml = SIMPLE.replace('{ name = "click", column = "clicked" }', f"{cheap}, {hat}")
    tables = drained(described(tmp_path, toml, clicks_csv=CLICKS))
    assert [r["label.cheap"] for r in tables["impressions"]] == [1, None, 0, 1]
    assert [r["label.hat"] for r in tables["impressions"]] == [0, 1, 0, 1]


def test_a_label_is_unknown_where_its_condition_says_so(tmp_path):
    labels = [
        "{ name = 'click', column = 'clicked', known = 'price > 3' }",
        "{ name = 'cheap', condition = 'price < 11', known = 'age != 30' }",
    ]
    toml = SIMPLE.replace('{ name = "click", column = "clicked" }', ", ".join(labels))
    rows = drained(described(tmp_path, toml, clicks_csv=CLICKS))["impressions"]
    assert [r["label.click"] for r in rows] == ["1", None, "1", None]  # the price of the second is not known
    assert [r["label.cheap"] for r in rows] == [None, None, None, 1]  # nor is the age of the third


def test_without_labels_negatives_are_sampled_and_conditions_choose_positives(tmp_path):
    toml = SIMPLE.replace('labels = [{ name = "click", column = "clicked" }]', "negatives = 4")
    source = described(tmp_path, toml, clicks_csv=CLICKS)
    check_columns(source)
    assert (source.negatives, source.schema.sampled_negatives, source.schema.labels[0].name) == (
        4,
        4,
        "positive",
    )
    assert len(drained(source)["impressions"]) == 4
    toml = SIMPLE.replace('column = "clicked" }]', 'condition = "category == shoes" }]\nnegatives = 1')
    tables = drained(described(tmp_path, toml))
    assert [r["item"] for r in tables["impressions"]] == ["a", "a"]
    assert len(tables["behaviors"]) == 4


@pytest.mark.parametrize(
    ("behaviors", "seconds"),
    [
        ("", 0),
        (
            'fields = [{ name = "past_category", column = "category" }]',
            0,
        ),  # context, which is known with the impression
        ('fields = [{ name = "past_clicked", column = "clicked" }]', 50),
        ('where = "clicked == 1"', 50),
        ('fields = [{ name = "past_bought", column = "price" }]', 700),
        ('fields = [{ name = "age" }]', 700),  # whatever it is, it may tell of the slower outcome
        ('known_after = 90\nfields = [{ name = "past_clicked", column = "clicked" }]', 90),
    ],
)
def test_behaviors_made_of_impressions_wait_for_the_outcomes_that_they_show(tmp_path, behaviors, seconds):
    labels = '{ name = "click", column = "clicked", delay = 50 }, '
    labels += '{ name = "bought", condition = "price >= 2", delay = 700 }'
    toml = re.sub(r"labels = .*", f"labels = [{labels}]", SIMPLE)
    toml = toml.replace("[impressions]", '[impressions]\nfields = [{ name = "category" }]', 1)
    known = drained(described(tmp_path, f"{toml}[behaviors]\n{behaviors}\n", clicks_csv=CLICKS))["behaviors"]
    waits = {row.get("known_at", row["time"]) - row["time"] for row in known}
    assert waits == {seconds}


@pytest.mark.parametrize(
    ("labels", "behaviors", "told"),
    [
        ('[{ name = "click", column = "clicked" }]', "", ""),
        ('[{ name = "click", column = "clicked" }]', "where = 'clicked == true'", "click"),
        ('[{ name = "click", column = "clicked" }]', "where = 'price >= 2'", ""),
        ('[{ name = "cheap", condition = "price < 2" }]', "where = 'price<2'", "cheap"),
        ('[{ name = "click", column = "clicked", known = "age > 0" }]', "where = 'clicked == 1'", ""),
        ("[]\nnegatives = 2", "", "positive"),
        ("[]\nnegatives = 2", "files = 'clicks.csv'", ""),
    ],
)
def test_a_schema_names_the_label_without_which_an_impression_is_no_behavior(
    tmp_path, labels, behaviors, told
):
    toml = re.sub(r"labels = .*", f"labels = {labels}", SIMPLE) + f"[behaviors]\n{behaviors}\n"
    schema = described(tmp_path, toml, clicks_csv=CLICKS).schema
    assert (schema.behavior_label, schema.has_own_behaviors) == (told, "files" in behaviors)


def test_content_vectors_join_by_item_id(tmp_path):
    np.save(tmp_path / "v.npy", np.ones((1, 2), np.float32))
    np.save(tmp_path / "ids.npy", np.array(["b"]))
    source = described(
        tmp_path, SIMPLE + '[content]\nvectors = "v.npy"\nids = "ids.npy"\n', clicks_csv=CLICKS
    )
    check_columns(source)
    assert [r["content"] for r in drained(source)["items"]] == [None, [1.0, 1.0]]


def test_ids_of_several_columns_join_tables_whatever_their_names(tmp_path):
    toml = """
name = "shop"
user = { name = "user", column = ["city", "number"] }
item = { name = "item" }
labels = [{ name = "click", column = "clicked" }]
[impressions]
files = "clicks.csv"
item = ["shop", "sku"]
time = "timestamp"
[items]
files = "items.csv"
item = ["s", "k"]
fields = [{ name = "kind" }]
[users]
files = "users.csv"
user = ["c", "n"]
fields = [{ name = "age", kind = "numeric" }]
"""
    source = described(
        tmp_path,
        toml,
        clicks_csv="city,number,shop,sku,timestamp,clicked\nrome,1,a,x,1600000000,1\nrome,2,a|x,,1600000001,0\n",
        items_csv="s,k,kind\na,x,hat\n",
        users_csv="c,n,age\nrome,2,30\n",
    )
    check_columns(source)
    assert (source.schema.user.parts, source.schema.item.parts) == (2, 2)
    tables = drained(source)
    assert [(row["user"], row["item"]) for row in tables["impressions"]] == [
        ("rome|1", "a|x"),
        ("rome|2", "a\\|x|"),
    ]
    assert [row["item"] for row in tables["items"]] == ["a|x"]
    assert [row["user"] for row in tables["users"]] == ["rome|2"]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ('{ name = "tags", column = ["a", "b"] }', "which only the ids of users and items may have"),
        ('{ name = "user", column = ["a", "b"], dtype = "int" }', "an id of several columns is a text"),
    ],
)
def test_several_columns_make_ids_and_nothing_else(tmp_path, field, message):
    toml = SIMPLE + f"fields = [{field}]\n"
    if "dtype" in field:
        toml = SIMPLE.replace('{ name = "user", column = "user_id" }', field)
    with pytest.raises(SchemaError, match=message):
        described(tmp_path, toml, clicks_csv=CLICKS)


def test_the_unit_of_times_is_told_from_the_first_values(tmp_path):
    text = CLICKS.replace("1600000000", "1600000000000").replace("1600000100", "1600000100999")
    text = text.replace("1600000200", "1600000200000").replace("1600000300", "soon")
    impressions = drained(described(tmp_path, SIMPLE, clicks_csv=text))["impressions"]
    assert [(r["time"], r["problem"]) for r in impressions] == [
        (1600000000, None),
        (1600000100, None),
        (1600000200, None),
        (None, "bad_time"),
    ]


def test_broken_lines_are_counted_once_per_table_and_bring_no_items(tmp_path):
    source = described(
        tmp_path, SIMPLE + '[items]\nfields = [{ name = "category" }]\n', clicks_csv=CLICKS + "u3,z\n"
    )
    tables = drained(source)
    assert tables["impressions"][-1]["problem"] == tables["behaviors"][-1]["problem"] == "bad_row"
    assert [r["item"] for r in tables["items"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("[impressions]", "[impression]"), ConfigError, "did you mean 'impressions'"),
        (('time = "timestamp"', 'time = "timestmp"'), InputError, r"impressions .*did you mean 'timestamp'"),
        (('"clicks.csv"', '"click*.tsv"'), InputError, r"no file matches 'click\*\.tsv'"),
        (('labels = [{ name = "click", column = "clicked" }]', ""), SchemaError, "declares no label"),
        (
            ('column = "clicked" }]', 'column = "clicked" }]\nnegatives = 2'),
            SchemaError,
            "one label without a column",
        ),
        (('column = "clicked"', 'condition = "clicked"'), SchemaError, "Cannot read the condition"),
        (
            ('column = "clicked"', 'column = "clicked", known = "price"'),
            SchemaError,
            "Cannot read the condition",
        ),
        (('column = "clicked"', 'column = "clicked", known = "cost > 3"'), InputError, "'cost'"),
        (
            ('column = "clicked" }]', 'condition = "age > 3", known = "age != 9" }]\nnegatives = 1'),
            SchemaError,
            "write it as where",
        ),
        ((', column = "clicked"', ""), SchemaError, "'click' needs .* has neither"),
        (('column = "clicked"', 'column = "clicked", condition = "age > 3"'), SchemaError, "has both"),
        (
            ('files = "clicks.csv"', 'files = "clicks.csv"\nfields = [{ name = "time" }]'),
            SchemaError,
            "must not be",
        ),
        (
            ('files = "clicks.csv"', 'files = "clicks.csv"\nfields = [{ name = "x", column = "clicked" }]'),
            SchemaError,
            "field 'x' of .impressions. reads the column 'clicked', of which label 'click' is made",
        ),
        (
            (
                'column = "clicked" }]',
                'condition = "price > 3" }]\n[items]\nfields = [{ name = "price", kind = "numeric" }]',
            ),
            SchemaError,
            "field 'price' of .items. reads the column 'price'",
        ),
        (('name = "click"', 'nam = "click"'), ConfigError, "did you mean 'labels.*name'"),
        (('"clicks.csv"', "3"), ConfigError, "files"),
    ],
)
def test_mistakes_are_named_before_any_row_is_read(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        described(tmp_path, SIMPLE.replace(*change), clicks_csv=CLICKS)


def test_a_part_without_rows_is_passed_over_and_a_table_without_any_is_an_error(tmp_path):
    head = CLICKS.partition("\n")[0] + "\n"
    parts = SIMPLE.replace('"clicks.csv"', '"c*.csv"')
    source = described(tmp_path, parts, c1_csv=head, c2_csv=CLICKS, c3_csv=head)
    assert len(drained(source)["impressions"]) == 4
    with pytest.raises(InputError, match=r"impressions .*clicks\.csv: the table has no rows"):
        described(tmp_path, SIMPLE, clicks_csv=head)


KUAIRAND = """
name = "kuairand-parquet"
user = {{ name = "user", column = "user_id", dtype = "int" }}
item = {{ name = "item", column = "video_id", dtype = "int" }}
labels = [{{ name = "click", column = "is_click" }}, {{ name = "long_view", column = "long_view" }}]
[impressions]
files = "{log}/interactions.parquet"
time = "time_ms"
fields = [{{ name = "tab", dtype = "int" }}]
[behaviors]
files = "behaviors.parquet"
known_at = "known_at"
fields = [{{ name = "viewed_long" }}]
[users]
files = "{log}/users.parquet"
fields = [{{ name = "user_active_degree" }}, {{ name = "register_days", kind = "numeric" }}]
[items]
files = "{log}/items.parquet"
fields = [{{ name = "author_id", min_count = 2 }}, {{ name = "tag", values = 3, separator = "," }}]
"""


def earlier_and_logged_exposures(folder):
    """One table of behaviors: the videos before the log, one second apart, then those of the log itself."""
    earlier = pq.read_table(folder / "user_histories.parquet")
    lists = earlier["watch_seq"].combine_chunks()
    row = lists.value_parent_indices().to_numpy()
    place = np.arange(len(row)) - np.asarray(lists.offsets)[row]
    lengths = np.diff(np.asarray(lists.offsets))
    last = earlier["last_time_ms"].to_numpy()
    times = last[row] + 1000 * (place - lengths[row] + 1)
    before = {
        "user_id": earlier["user_id"].to_numpy()[row].astype(np.int64),
        "video_id": lists.flatten().to_numpy().astype(np.int64),
        "time_ms": times,
        "known_at": times,
        "viewed_long": pa.nulls(len(row), pa.int8()),
    }
    log = pq.read_table(folder / "interactions.parquet")
    logged = {
        "user_id": log["user_id"].to_numpy().astype(np.int64),
        "video_id": log["video_id"].to_numpy().astype(np.int64),
        "time_ms": log["time_ms"].to_numpy(),
        "known_at": log["time_ms"].to_numpy() + log["play_time_ms"].to_numpy(),
        "viewed_long": log["long_view"].cast(pa.int8()),
    }
    return pa.concat_tables([pa.table(before), pa.table(logged)])


def test_the_real_parquet_tables_prepare_with_the_exposures_before_the_log(tmp_path):
    folder = real_log("kuairand-pure-part")
    pq.write_table(earlier_and_logged_exposures(folder), tmp_path / "behaviors.parquet")
    source = described(tmp_path, KUAIRAND.format(log=folder))
    manifest = prepare(source, tmp_path / "out")
    assert manifest.report["behaviors"].rows == 817_187 + 228_329
    assert manifest.report["impressions"].rows == 228_329
    assert set(manifest.report["impressions"].quarantined) <= {"duplicate"}
    visible = np.load(tmp_path / "out" / "impressions" / "visible.npy")
    assert (visible > 0).mean() > 0.97


@pytest.mark.parametrize(
    ("ordered", "where", "visible"),
    [
        ("", "", [0, 0, 0, 0, 4, 4, 4, 4]),
        ("ordered = true\n", "", [0, 1, 2, 3, 4, 5, 6, 7]),
        # The second and the fourth row of each moment are clicked.
        ("ordered = true\n", '[behaviors]\nwhere = "clicked == 1"\n', [0, 0, 1, 1, 2, 2, 3, 3]),
    ],
)
def test_rows_in_order_see_the_earlier_ones_of_their_moment_and_no_later_one(
    tmp_path, ordered, where, visible
):
    moments = [(user, day, n) for user in ("u1", "u2") for day in (0, 86_400) for n in range(4)]
    rows = [f"{user},i{n},{1_600_000_000 + day},{n % 2}\n" for user, day, n in moments]
    log = described(
        tmp_path, SIMPLE + ordered + where, clicks_csv="user_id,item_id,timestamp,clicked\n" + "".join(rows)
    )
    prepare(log, tmp_path / "out")
    assert open_dataset(tmp_path / "out").impressions["visible"].tolist() == visible * 2


@pytest.mark.parametrize(
    "beside",
    [
        'order = "rows"',
        "[impressions.lists]",
        '[history]\nitems = "past"',
        '[behaviors]\nfiles = "views.csv"',
    ],
)
def test_rows_in_order_go_with_plain_impressions_only(tmp_path, beside):
    toml = SIMPLE.replace('time = "timestamp"\n', "") if beside.startswith("order") else SIMPLE
    with pytest.raises(SchemaError, match=r"ordered = true .* does not go with"):
        described(tmp_path, f"{toml}ordered = true\n{beside}\n", clicks_csv=CLICKS)
