"""A draft for logs of every shape, from their tables alone; it prepares and trains as it is."""

import json
import random
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.adapters import open_source
from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.shapes import user_history
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.data.tables.delimited import TextFormat
from clickscale.errors import InputError
from clickscale.evaluation.evaluate import predict
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.training.run.folder import load_run
from clickscale.training.run.run_config import TrainConfig
from clickscale.workflow import train
from tests.data.sources import real_log
from tests.shape_logs import SHAPE_LOGS


def draft(folder, *paths):
    text = guess(paths or sorted(folder.iterdir()), folder)
    (folder / "schema.toml").write_text(text)
    return text, tomllib.loads(text)


def names(fields):
    return [field["name"] for field in fields]


@pytest.fixture(params=SHAPE_LOGS)
def shape_log(request, tmp_path):
    """Name and folder of each small log."""
    SHAPE_LOGS[request.param](tmp_path)
    return request.param, tmp_path


def test_every_shape_goes_from_its_tables_to_served_scores_without_an_edit(shape_log, tmp_path_factory):
    name, folder = shape_log
    out = tmp_path_factory.mktemp("out")
    draft(folder)
    manifest = prepare(load_log(folder / "schema.toml"), out / "data")
    assert all(
        set(report.quarantined) <= {"repeated", "first_of_item", "too_few_items"}
        for report in manifest.report.values()
    )
    dataset = open_dataset(out / "data")
    assert all(len(dataset.part(part)) for part in ("train", "valid", "test"))
    config = TrainConfig(model="mlp", data=str(out / "data"), grade="size-1", length=10, threads=1)
    train(config, out / "run", progress=False)
    trained = load_run(out / "run", out / "data")
    rows = dataset.part("test")
    predicted = predict(trained.model, dataset, "test", length=10, labels=trained.labels)
    responses = Scorer(out / "run/artifact").score_many(requests_from_dataset(dataset, rows))
    served = [logits for response in responses for logits in response.logits.tolist()]
    np.testing.assert_allclose(served, predicted.logits, atol=1e-5, rtol=0)
    if name == "criteo":
        assert set(responses[0].to_dict()["candidates"][0]) == {"column_1"}


# --- the roles that each draft gives


def written(tmp_path, name):
    SHAPE_LOGS[name](tmp_path)
    return draft(tmp_path)


def test_requests_as_text(tmp_path):
    text, tree = written(tmp_path, "mind")
    assert (tree["user"]["column"], tree["item"]["column"]) == ("column_2", "column_5")
    assert tree["labels"] == [{"name": "click", "column": "click"}]
    assert tree["impressions"]["time"] == "column_3"
    assert tree["impressions"]["lists"] == {"suffix": "click"}
    assert "fields" not in tree["impressions"]  # neither the number of the request nor the history
    assert tree["behaviors"] == {"where": "click == 1"}
    assert tree["history"] == {"items": "column_4"}
    assert tree["items"]["item"] == "column_1"
    assert "left out: column_1 (nearly every row has a value of its own)" in text


def test_requests_as_lists_with_a_table_of_histories(tmp_path):
    text, tree = written(tmp_path, "ebnerd")
    assert (tree["user"]["column"], tree["item"]["column"]) == ("user_id", "article_ids_inview")
    assert tree["labels"] == [{"name": "click", "column": "article_ids_clicked"}]
    assert tree["impressions"]["lists"] == {"chosen": ["article_ids_clicked"]}
    # The page on which articles were shown is an article, too.
    assert names(tree["impressions"]["fields"]) == ["article_id", "device_type", "article_category"]
    assert names(tree["users"]["fields"]) == ["is_subscriber"]
    assert tree["history"]["files"] == "history.parquet"
    assert tree["history"]["items"] == "article_id_fixed"
    assert tree["history"]["times"] == "impression_time_fixed"
    assert names(tree["history"]["fields"]) == ["past_read_time_fixed"]
    assert tree["items"]["item"] == "article_id"
    for column in ("impression_id", "session_id"):
        assert f"left out: {column} (an id of one event or session" in text


def test_rows_without_user_item_and_time(tmp_path):
    text, tree = written(tmp_path, "criteo")
    assert not {"user", "item", "behaviors", "items", "users", "statistics"} & set(tree)
    assert tree["labels"] == [{"name": "column_1", "column": "column_1"}]
    assert tree["impressions"]["order"] == "rows"
    kinds = {field["name"]: field.get("kind", "categorical") for field in tree["impressions"]["fields"]}
    assert kinds == {
        "column_2": "numeric",
        "column_3": "numeric",
        "column_4": "categorical",
        "column_5": "categorical",
    }
    assert "No column names the user" in text
    source = load_log(tmp_path / "schema.toml")
    assert source.schema.absent == ("user", "item")
    assert any("GAUC is not defined, and no split goes by user" in note for note in source.notes)


def test_a_user_of_several_columns_and_a_propensity(tmp_path):
    text, tree = written(tmp_path, "bandit")
    assert tree["user"]["column"] == ["user_feature_0", "user_feature_1"]
    assert names(tree["impressions"]["fields"]) == ["position", "user_item_affinity_0"]
    assert names(tree["users"]["fields"]) == ["user_feature_0", "user_feature_1"]
    assert names(tree["items"]["fields"]) == ["item_feature_0", "item_feature_1"]
    assert "left out: propensity_score (the probability" in text


def test_reviews(tmp_path):
    text, tree = written(tmp_path, "reviews")
    assert tree["labels"] == [{"name": "like", "condition": "overall >= 4"}]
    assert "fields" not in tree["impressions"]
    assert "left out: reviewText (by its name a text about the outcome, written after it)" in text


def test_files_that_are_parts(tmp_path):
    _, tree = written(tmp_path, "parts")
    assert tree["impressions"]["files"] == {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}
    assert tree["split"] == {"kind": "files"}


def test_lines_of_a_user_and_items(tmp_path):
    _, tree = written(tmp_path, "sequences")
    assert (tree["user"]["column"], tree["item"]["column"]) == ("user", "line")
    assert tree["impressions"]["order"] == "lists"
    assert tree["impressions"]["lists"] == {"separator": " ", "first": "user"}
    assert tree["negatives"] == 4
    assert tree["split"] == {"kind": "user_last", "valid": 1, "test": 1}
    assert not any(statistic.get("window") for statistic in tree["statistics"])  # seconds mean nothing


def rows_of(count, **columns):
    return [{name: make(n) for name, make in columns.items()} for n in range(count)]


def write_rows(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_lists_of_outcomes_beside_the_shown_items(tmp_path):
    draw = random.Random(0)
    rows = rows_of(
        200,
        user_id=lambda n: n % 20,
        ts=lambda n: 1_600_000_000 + 60 * n,
        slate=lambda n: [n % 7, 10 + n % 5, 20 + n % 3][: 2 + n % 2],
        bids=lambda n: [round(draw.random(), 3) for _ in range(2 + n % 2)],
        labels=lambda n: [draw.randrange(2) for _ in range(2 + n % 2)],
    )
    _, tree = draft(tmp_path, write_rows(tmp_path / "log.parquet", rows))
    assert tree["item"]["column"] == "slate"
    assert set(tree["impressions"]["lists"]["parallel"]) == {"bids", "labels"}
    assert tree["labels"] == [{"name": "click", "column": "labels"}]
    assert names(tree["impressions"]["fields"]) == ["bids"]


@pytest.mark.parametrize(("first", "kept"), [(0.6, True), (0.2, False)])
def test_the_place_in_a_list_is_a_field_where_it_says_something(tmp_path, first, kept):
    draw = np.random.default_rng(0)
    rows = []
    for n in range(600):
        chance = [first, 0.2, 0.2, 0.2]
        shown = draw.permutation(40)[:4].tolist()
        clicked = [item for item, share in zip(shown, chance, strict=True) if draw.random() < share]
        row = {"user_id": n % 30, "time": 1_600_000_000 + n, "inview": shown, "clicked": clicked}
        rows.append(row | {"position": int(draw.integers(3))})
    _, tree = draft(tmp_path, write_rows(tmp_path / "log.parquet", rows))
    assert (tree["impressions"]["lists"].get("position") == "position_in_list") == kept
    fields = names(tree["impressions"]["fields"])
    assert sorted(fields) == (["position", "position_in_list"] if kept else ["position"])


def test_rows_with_one_item_and_a_list_of_the_past(tmp_path):
    rows = rows_of(
        300,
        user_id=lambda n: n % 20,
        item_id=lambda n: n % 31,
        time=lambda n: 1_600_000_000 + 60 * n,
        clicked=lambda n: n % 2,
        hist_item_ids=lambda n: [(n + step) % 31 for step in range(n % 5)],
        tags=lambda n: [f"t{n % 3}", f"t{n % 4}"],
    )
    _, tree = draft(tmp_path, write_rows(tmp_path / "log.parquet", rows))
    assert tree["history"] == {"items": "hist_item_ids"}
    assert "lists" not in tree["impressions"]
    assert "tags" in names(tree["impressions"]["fields"])


def test_a_column_of_parts_and_a_log_in_order(tmp_path):
    rows = rows_of(
        300,
        user=lambda n: n // 10,
        item=lambda n: n % 31,
        rating=lambda n: n % 5 + 1,
        fold=lambda n: ("train", "val", "test")[(n % 10 > 7) + (n % 10 > 8)],
    )
    text, tree = draft(tmp_path, write_rows(tmp_path / "log.parquet", rows))
    assert tree["impressions"]["order"] == "rows"
    assert "time" not in tree["impressions"]
    assert tree["split"] == {"kind": "column", "column": "fold"}
    assert "left out: fold" not in text
    rows = [{name: value for name, value in row.items() if name != "fold"} for row in rows]
    _, tree = draft(tmp_path, write_rows(tmp_path / "log.parquet", rows))
    assert tree["split"]["kind"] == "user_last"  # the rows of a user stand together


def test_the_one_item_that_was_chosen_of_a_list_in_a_text(tmp_path):
    draw = random.Random(0)
    lines = ["user_id,session_id,timestamp,reference,impressions,prices"]
    for n in range(300):
        shown = [str(item) for item in draw.sample(range(1000, 1060), 5)]
        prices = "|".join(str(draw.randrange(50, 300)) for _ in shown)
        line = f"u{n % 40},s{n // 3},{1_600_000_000 + n},{draw.choice(shown)},{'|'.join(shown)},{prices}"
        lines.append(line)
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    _, tree = draft(tmp_path, tmp_path / "log.csv")
    assert (tree["user"]["column"], tree["item"]["column"]) == ("user_id", "impressions")
    assert tree["impressions"]["lists"] == {"separator": "|", "parallel": ["prices"], "chosen": ["reference"]}
    assert tree["labels"] == [{"name": "click", "column": "reference"}]
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "out")
    assert open_dataset(tmp_path / "out").impressions["label.click"].sum() == 300


@pytest.mark.parametrize(("timed", "order"), [(True, None), (False, "rows")])
def test_baskets_are_lists_of_a_moment(tmp_path, timed, order):
    rows = rows_of(
        200,
        customer_id=lambda n: n % 20,
        **({"time": lambda n: 1_600_000_000 + 60 * n} if timed else {}),
        products=lambda n: [n % 31, 40 + n % 17][: 1 + n % 2],
    )
    _, tree = draft(tmp_path, write_rows(tmp_path / "baskets.parquet", rows))
    assert (tree["item"]["column"], tree["impressions"].get("order")) == ("products", order)
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert len(dataset.behaviors["item"]) == 300


def test_a_session_is_the_user_where_nothing_else_is(tmp_path):
    rows = rows_of(
        300,
        session_id=lambda n: n // 6,
        request_id=lambda n: n // 2,
        item_id=lambda n: n % 31,
        time=lambda n: 1_600_000_000 + 60 * n,
        clicked=lambda n: n % 2,
    )
    text, tree = draft(tmp_path, write_rows(tmp_path / "log.parquet", rows))
    assert tree["user"]["column"] == "session_id"
    assert "left out: request_id (an id of one event" in text


def test_a_table_of_attributes_alone_is_no_log(tmp_path):
    rows = rows_of(40, item_id=lambda n: n, category=lambda n: f"c{n % 4}", is_new=lambda n: n % 2)
    with pytest.raises(InputError, match="No table has columns"):
        guess([write_rows(tmp_path / "items.parquet", rows)])


# --- real logs


def list_shaped_mind(folder, out):
    """Write the lines of MIND as tables with list columns."""
    requests = []
    with (folder / "behaviors.tsv").open(encoding="utf-8") as stream:
        for line in stream:
            number, user, moment, past, shown = line.rstrip("\n").split("\t")
            pairs = [entry.rsplit("-", 1) for entry in shown.split()]
            requests.append(
                {
                    "impression_id": int(number),
                    "user_id": user,
                    "time": moment,
                    "history": past.split(),
                    "inview": [news for news, _ in pairs],
                    "clicked": [news for news, click in pairs if click == "1"],
                }
            )
    with (folder / "news.tsv").open(encoding="utf-8") as stream:
        news = [line.split("\t")[:3] for line in stream]
    keys = ("news_id", "category", "subcategory")
    return (
        write_rows(out / "requests.parquet", requests),
        write_rows(out / "news.parquet", [dict(zip(keys, row, strict=True)) for row in news]),
    )


def test_the_list_shaped_mind_needs_no_edit_and_gives_the_timelines_of_its_adapter(tmp_path):
    folder = real_log("mind-small-sample")
    _, tree = draft(tmp_path, *list_shaped_mind(folder, tmp_path))
    assert tree["history"] == {"items": "history"}
    assert "fields" not in tree["impressions"]
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "lists")
    prepare(open_source("mind", folder, {}), tmp_path / "adapter")
    mine, theirs = open_dataset(tmp_path / "lists"), open_dataset(tmp_path / "adapter")
    for column in ("user", "time", "item", "visible", "label.click"):
        np.testing.assert_array_equal(mine.impressions[column], theirs.impressions[column])
    np.testing.assert_array_equal(mine.behaviors["time"], theirs.behaviors["time"])
    config = TrainConfig(model="mlp", data=str(tmp_path / "lists"), grade="size-1", length=20, threads=1)
    train(config, tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "done.json").read_text())


@pytest.mark.parametrize(
    ("log", "tables", "user", "item"),
    [
        ("mind-small-sample", ("behaviors.tsv", "news.tsv"), "column_2", "column_5"),
        ("seq-beauty", ("user_sequences.parquet", "items.parquet"), "user_id", "items"),
        ("kuairand-pure-part", ("interactions.parquet", "user_histories.parquet"), "user_id", "video_id"),
    ],
)
def test_real_logs_of_these_shapes_are_recognized(tmp_path, log, tables, user, item):
    folder = real_log(log)
    _, tree = draft(tmp_path, *(folder / table for table in tables))
    assert (tree["user"]["column"], tree["item"]["column"]) == (user, item)
    if log == "kuairand-pure-part":
        assert (tree["history"]["items"], tree["history"]["time"]) == ("watch_seq", "last_time_ms")
    load_log(tmp_path / "schema.toml")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_candidates_that_are_objects_are_impressions_and_behaviors_a_history(tmp_path, ending):
    """As in requests that a server logged together with what came of them."""
    draw, rows = random.Random(2), []
    for n in range(400):
        time = 1_700_000_000 + 60 * n
        shown = [
            {
                "item": f"i{draw.randrange(50)}",
                "price": 0.5 * k,
                "tags": ["t"],
                "clicked": int(draw.random() < 0.3),
            }
            for k in range(draw.randrange(2, 6))
        ]
        past = [{"item": f"i{draw.randrange(50)}", "time": time - 86_400 + k} for k in range(3)]
        rows.append(
            {"user": f"u{n % 40}", "time": time, "candidates": shown, "behaviors": past, "odd": [{"a": 1}]}
        )
    path = tmp_path / f"requests.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = guess([path], tmp_path)
    tree = tomllib.loads(text)
    assert tree["item"]["column"] == "candidates.item"
    assert tree["labels"] == [{"name": "click", "column": "candidates.clicked"}]
    assert set(tree["impressions"]["lists"]["parallel"]) == {"candidates.price", "candidates.clicked"}
    assert (tree["history"]["items"], tree["history"]["times"]) == ("behaviors.item", "behaviors.time")
    assert "# left out: odd (lists of objects)" in text
    (tmp_path / "log.toml").write_text(text)
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    labels = open_dataset(tmp_path / "out").impressions["label.click"]
    assert len(labels) == sum(len(row["candidates"]) for row in rows)
    assert labels.sum() == sum(shown["clicked"] for row in rows for shown in row["candidates"])


@pytest.mark.parametrize(
    ("name", "is_history"), [("friend_list", False), ("item_list", True), ("history", True)]
)
def test_lists_of_people_who_are_users_are_no_history(name, is_history):
    people = pa.array(range(100))
    lists = pa.array([[n % 100, n * 7 % 100, n * 3 % 100] for n in range(100)])
    columns = {"user_id": Column("user_id", people), name: Column(name, lists)}
    head = Head(Path("network.csv"), "csv", TextFormat(), True, columns, 100)
    assert bool(user_history(head, pa.array(range(120)), people)[0]) == is_history
