"""MovieLens-100k in its published layout."""

import pytest

from clickscale.data.adapters import movielens_100k
from tests.data.sources import check_columns, counted, drained, real_log


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "ml-100k"
    inner.mkdir()
    (inner / "u.data").write_text("196\t242\t4\t881250949\n186\t302\t3\t891717742\n")
    (inner / "u.user").write_text("196|49|M|writer|55105\n186|17|F|student|V3N4P\n1|bad age\n")
    films = (
        "242|Kolya (1996)|24-Jan-1997||http://x|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "302|L.A. Confidential (1997)|01-Jan-1997||http://y|0|0|0|0|0|0|1|0|0|0|1|0|0|1|0|0|1|0|0\n"
        "267|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
    )
    (inner / "u.item").write_bytes(films.encode("latin-1"))
    return tmp_path


def test_ratings_profiles_and_films_are_read_from_the_inner_folder(folder):
    source = movielens_100k.source(folder)
    check_columns(source)
    tables = drained(source)
    assert [row["label.like"] for row in tables["impressions"]] == [1, 0]
    assert tables["behaviors"][0] == {
        "user": 196,
        "item": 242,
        "time": 881250949,
        "rating": 4,
        "problem": None,
    }
    assert [(row["genres"], row["year"]) for row in tables["items"]] == [
        ("Comedy", 1996),
        ("Crime|Film-Noir|Mystery|Thriller", 1997),
        ("unknown", None),
    ]


def test_ages_fall_into_the_seven_groups_and_a_broken_line_is_kept_apart(folder):
    users = drained(movielens_100k.source(folder))["users"]
    assert [(row["user"], row["age"], row["region"], row["problem"]) for row in users] == [
        (196, 45, "5", None),
        (186, 1, "V", None),
        (None, None, None, "bad_row"),
    ]


def test_the_real_log_is_read_whole():
    source = movielens_100k.source(real_log("ml-100k"))
    assert counted(source) == {"users": 943, "items": 1682, "behaviors": 100_000, "impressions": 100_000}
    most = max(str(r["genres"]).count("|") + 1 for r in drained(source)["items"])
    assert most <= source.schema.items[0].values
