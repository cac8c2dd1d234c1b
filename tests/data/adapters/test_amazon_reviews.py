"""Amazon reviews in the layouts of three years."""

import gzip
import json

import pytest

from clickscale.data.adapters import amazon_reviews, open_source
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from clickscale.schema import usual_statistics
from tests.data.sources import check_columns, drained

OLD = {
    "reviewerID": "A1",
    "asin": "B000000001",
    "overall": 5.0,
    "unixReviewTime": 1393545600,
    "reviewText": "fine",
}
NEW = {"user_id": "AE", "parent_asin": "B000000002", "asin": "B0X", "rating": 3.0, "timestamp": 1588687728923}


def packed(path, rows):
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))


def test_reviews_of_2014_are_rated_impressions_with_attributes_from_literals(tmp_path):
    packed(tmp_path / "reviews_Books_5.json.gz", [OLD, {**OLD, "overall": 2.0}, {**OLD, "overall": "good"}])
    book = {"asin": "B000000001", "price": 9.99, "brand": "Acme", "categories": [["Books", "Art"], ["Other"]]}
    (tmp_path / "meta_Books.json").write_text(f"{book!r}\n{{broken\n")
    source = amazon_reviews.source(tmp_path)
    check_columns(source)
    tables = drained(source)
    assert [(r["label.like"], r["problem"]) for r in tables["impressions"]] == [
        (1, None),
        (0, None),
        (None, "bad_label"),
    ]
    assert (tables["behaviors"][0]["time"], tables["behaviors"][0]["rating"]) == (1393545600, "5.0")
    assert tables["items"][0] == {
        "item": "B000000001",
        "category": ["Books", "Art"],
        "brand": "Acme",
        "price": 9.99,
        "problem": None,
    }
    assert tables["items"][1]["problem"] == "bad_row"


def test_without_attributes_no_statistic_is_by_category(tmp_path):
    packed(tmp_path / "reviews_Books_5.json.gz", [OLD])
    assert open_source("amazon-reviews", tmp_path).schema.statistics == usual_statistics()
    (tmp_path / "meta_Books.json").write_text("{'asin': 'B000000001'}\n")
    assert open_source("amazon-reviews", tmp_path).schema.statistics == usual_statistics("category")
    drawn = open_source("amazon-reviews", tmp_path, {"negatives": 2}).schema
    assert drawn.statistics == usual_statistics("category", drawn=True)


def test_reviews_of_2018_have_attributes_as_json(tmp_path):
    packed(tmp_path / "AMAZON_FASHION_5.json.gz", [OLD])
    meta = {
        "asin": "B000000001",
        "category": ["A", "B", "C", "D", "E"],
        "brand": "",
        "price": "$1,299.50 - $2,000",
    }
    packed(tmp_path / "meta_AMAZON_FASHION.json.gz", [meta, {"asin": "B2", "price": "call us"}])
    items = drained(amazon_reviews.source(tmp_path))["items"]
    assert [(i["category"], i["brand"], i["price"]) for i in items] == [
        (["A", "B", "C", "D"], None, 1299.5),
        ([], None, None),
    ]


def test_reviews_of_2023_join_on_the_parent_and_count_milliseconds(tmp_path):
    packed(tmp_path / "All_Beauty.jsonl.gz", [NEW])
    meta = {
        "parent_asin": "B000000002",
        "main_category": "Beauty",
        "categories": ["Hair"],
        "store": "S",
        "price": 5,
    }
    packed(tmp_path / "meta_All_Beauty.jsonl.gz", [meta])
    tables = drained(amazon_reviews.source(tmp_path))
    assert [(r["user"], r["item"], r["time"], r["label.like"]) for r in tables["impressions"]] == [
        ("AE", "B000000002", 1588687728, 0)
    ]
    assert [(i["item"], i["brand"], i["price"]) for i in tables["items"]] == [("B000000002", "S", 5.0)]


@pytest.mark.parametrize(
    "text",
    [
        "user_id,parent_asin,rating,timestamp\nA123456789ABC,B000000001,5.0,1393545600000\n",
        "A123456789ABC,B000000001,5.0,1393545600\n",
        "B000000001,A123456789ABC,5.0,1393545600\n",
    ],
)
def test_ratings_alone_come_in_three_kinds_of_csv(tmp_path, text):
    (tmp_path / "Books.csv").write_text(text)
    source = amazon_reviews.source(tmp_path)
    check_columns(source)
    (row,) = drained(source)["impressions"]
    assert (row["user"], row["item"], row["time"], row["label.like"]) == (
        "A123456789ABC",
        "B000000001",
        1393545600,
        1,
    )


def test_with_negatives_every_review_is_a_positive(tmp_path):
    rows = [
        {**OLD, "asin": f"B{n % 25:09}", "unixReviewTime": 1393545600 + 86_400 * n, "overall": 1 + n % 5}
        for n in range(30)
    ]
    packed(tmp_path / "reviews_Books_5.json.gz", rows)
    source = amazon_reviews.source(tmp_path, negatives=2)
    check_columns(source)
    assert source.schema.labels[0].name == "review"
    manifest = prepare(source, tmp_path / "out")
    assert manifest.schema.sampled_negatives == 2
    # the first review of an item is left out: no item is drawn before it was reviewed
    assert manifest.report["impressions"].quarantined == {"first_of_item": 25}
    assert manifest.counts["impressions"] == 5 * (1 + 2)


def test_files_that_hold_no_reviews_are_an_error(tmp_path):
    with pytest.raises(InputError, match="does not hold reviews"):
        amazon_reviews.source(tmp_path)
    (tmp_path / "other.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(InputError, match="the keys id"):
        amazon_reviews.source(tmp_path)
    (tmp_path / "other.jsonl").unlink()
    (tmp_path / "other.csv").write_text("1,2\n")
    with pytest.raises(InputError, match="2 fields"):
        amazon_reviews.source(tmp_path)
