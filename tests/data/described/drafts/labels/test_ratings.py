"""Ratings as people write them are labels, as plain ones are."""

import tomllib

import pytest

from clickscale.data.described.drafts.guess import guess
from tests.data.described.drafts.labels.test_label_search import CLICKS, drafted, log, outcomes
from tests.data.described.drafts.test_guess import write_csv

GIVEN = [5 - n % 2 if clicked else 1 + n % 3 for n, clicked in enumerate(CLICKS)]


@pytest.mark.parametrize(
    ("write", "name", "condition"),
    [
        (lambda stars, n: f"{stars}/5", "rating", "rating >= 4"),
        (lambda stars, n: f"{stars} of 5", "score", "score >= 4"),
        (lambda stars, n: "★" * stars + "☆" * (5 - stars), "Bewertung", "Bewertung >= 4"),
        (lambda stars, n: f"{2 * stars - 1 + n % 10 / 10:.1f}/10", "rating", "rating >= 8"),
        (lambda stars, n: f"{stars}.0 out of 5 stars", "stars", "stars >= 4"),
    ],
)
def test_ratings_as_people_write_them_are_a_label(tmp_path, write, name, condition):
    # Of ten: 4 stars are 7.x and no likes.
    is_of_ten = condition.endswith("8")
    text, tree = drafted(tmp_path, {name: lambda n, c: write(GIVEN[n], n)})
    assert tree["labels"] == [{"name": "like", "condition": condition}]
    assert "ratings go up to" in text
    expected = [float(given >= (5 if is_of_ten else 4)) for given in GIVEN]
    assert outcomes(tmp_path) == expected


def test_none_among_written_ratings_is_not_rated(tmp_path):
    _, tree = drafted(tmp_path, {"rating": lambda n, c: f"{GIVEN[n]} of 5" if n % 4 else "-1"})
    assert tree["labels"] == [{"name": "like", "condition": "rating >= 4", "known": "rating != -1"}]
    assert outcomes(tmp_path) == [float(given >= 4) if n % 4 else None for n, given in enumerate(GIVEN)]


@pytest.mark.parametrize(("most", "is_warned"), [(4, True), (5, False)])
def test_ratings_of_several_wholes_are_warned_of(tmp_path, most, is_warned):
    text, tree = drafted(tmp_path, {"rating": lambda n, c: f"{GIVEN[n]}/{5 if n % 3 else most}"})
    assert tree["labels"] == [{"name": "like", "condition": "rating >= 4"}]
    assert ("# WARNING: rating has ratings out of 4 and of 5, and" in text) == is_warned


def test_what_all_think_of_an_item_is_no_label(tmp_path):
    rows = [{**row, "rating": f"{row['item_id'] % 50 / 10}/5"} for row in log({})]
    tree = tomllib.loads(guess([write_csv(tmp_path / "log.csv", rows)], tmp_path))
    assert "labels" not in tree
    (field,) = [field for field in tree["items"]["fields"] if field["name"] == "rating"]
    assert field["unit"] == "/5"


def test_the_stars_of_a_hotel_are_no_label(tmp_path):
    rows = [{**row, "stars": 1 + row["item_id"] % 5} for row in log({})]
    tree = tomllib.loads(guess([write_csv(tmp_path / "log.csv", rows)], tmp_path))
    assert "labels" not in tree
    assert "stars" in [field["name"] for field in tree["items"]["fields"]]


@pytest.mark.parametrize("write", [str, "{}/5".format])
def test_ratings_that_were_named_as_the_label_are_compared_as_ratings(tmp_path, write):
    rows = [{**row, "rating": write(given)} for row, given in zip(log({}), GIVEN, strict=True)]
    tree = tomllib.loads(guess([write_csv(tmp_path / "log.csv", rows)], tmp_path, labels=["rating"]))
    assert [label["condition"] for label in tree["labels"]] == ["rating >= 4"]
