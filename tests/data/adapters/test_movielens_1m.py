"""MovieLens-1M in its published layout."""

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.adapters import movielens_1m, open_source
from clickscale.data.tables.row_order import RowOrder
from clickscale.errors import ConfigError, InputError
from clickscale.schema import usual_statistics
from tests.data.sources import check_columns, counted, drained, real_log


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ratings.dat").write_text(
        "1::1193::5::978300760\n1::661::3::978302109\n2::1193::x::978298413\n"
    )
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-11\n")
    films = "661::James (1996)::Animation|Children's\n1193::Misérables, Les (1995)::Drama\n9::Odd::\n"
    (tmp_path / "movies.dat").write_bytes(films.encode("latin-1"))
    return tmp_path


def test_a_rating_is_an_impression_and_a_behavior(folder):
    tables = drained(movielens_1m.source(folder))
    assert tables["impressions"] == [
        {"user": 1, "item": 1193, "time": 978300760, "label.like": 1, "problem": None},
        {"user": 1, "item": 661, "time": 978302109, "label.like": 0, "problem": None},
        {"user": 2, "item": 1193, "time": 978298413, "label.like": None, "problem": "bad_label"},
    ]
    assert tables["behaviors"][1] == {
        "user": 1,
        "item": 661,
        "time": 978302109,
        "rating": "3",
        "problem": None,
    }


def test_profiles_and_films_are_read(folder):
    tables = drained(movielens_1m.source(folder))
    assert tables["users"][1] == {
        "user": 2,
        "gender": "M",
        "age": 56,
        "occupation": "16",
        "region": "7",
        "problem": None,
    }
    assert [(row["item"], row["genres"], row["year"]) for row in tables["items"]] == [
        (661, "Animation|Children's", 1996),
        (1193, "Drama", 1995),
        (9, None, None),
    ]


def test_every_table_has_the_columns_of_its_schema(folder):
    np.save(folder / "v.npy", np.eye(2, 3, dtype=np.float16))
    np.save(folder / "ids.npy", np.array([1193, 9]))
    options = {"statistics": "true", "content": folder / "v.npy", "content_ids": folder / "ids.npy"}
    source = open_source("movielens-1m", folder, options)
    check_columns(source)
    assert [row["text"] for row in drained(source)["items"]] == [None, [1, 0, 0], [0, 1, 0]]
    assert {statistic.name for statistic in source.schema.statistics} >= {
        "item_rate",
        "user_rate",
        "user_genres_rate",
    }


def test_the_usual_statistics_are_declared_unless_they_are_not_wanted(folder):
    declared = open_source("movielens-1m", folder).schema.statistics
    assert declared == usual_statistics("genres", returning=False)
    assert {each.name for each in usual_statistics("genres")} - {each.name for each in declared} == {
        "user_genres_rate_1d",
        "user_genres_rate_7d",
        "user_genres_recency",
    }
    assert open_source("movielens-1m", folder, {"statistics": "false"}).schema.statistics == ()


def test_vectors_that_do_not_fit_their_ids_are_an_error(folder):
    np.save(folder / "v.npy", np.eye(2, 3, dtype=np.float16))
    np.save(folder / "item_text_emb_ids.npy", np.arange(3))
    with pytest.raises(InputError, match=r"ids for the 2 vectors"):
        movielens_1m.source(folder, content=folder / "v.npy")


def test_a_missing_file_is_named(folder):
    (folder / "users.dat").unlink()
    with pytest.raises(InputError, match=r"does not hold users\.dat"):
        movielens_1m.source(folder)


def test_an_unknown_option_and_adapter_are_errors(folder):
    with pytest.raises(ConfigError, match="did you mean 'statistics'"):
        open_source("movielens-1m", folder, {"statistic": True})
    with pytest.raises(ConfigError, match="did you mean 'movielens-1m'"):
        open_source("movielens1m", folder)
    with pytest.raises(ConfigError, match="statistics = 'maybe'"):
        open_source("movielens-1m", folder, {"statistics": "maybe"})


def test_the_real_log_is_read_whole():
    source = movielens_1m.source(real_log("ml-1m"))
    assert counted(source) == {"users": 6040, "items": 3883, "behaviors": 1_000_209, "impressions": 1_000_209}
    likes = sum(b.column("label.like").to_numpy().sum() for n, b in source.chunks() if n == "impressions")
    assert likes == 348_971 + 226_310


@pytest.mark.parametrize("cut", range(7))
def test_rows_in_true_order_are_a_second_apart_wherever_chunks_end(cut):
    users, times = pa.array([1, 1, 1, 1, 2, 2, 2]), pa.array([10, 10, 10, 40, 40, 40, None])
    order = RowOrder()
    refined = [*order(users[:cut], times[:cut]).to_pylist(), *order(users[cut:], times[cut:]).to_pylist()]
    assert refined == [10, 11, 12, 40, 40, 41, None]


def test_the_order_of_rows_counts_only_if_asked_for(tmp_path, folder):
    (folder / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978300760\n")
    plain = drained(open_source("movielens-1m", folder))
    ordered = drained(open_source("movielens-1m", folder, {"ordered": "true"}))
    assert [row["time"] for row in plain["impressions"]] == [978300760, 978300760]
    assert [row["time"] for row in ordered["impressions"]] == [978300760, 978300761]
    assert [row["time"] for row in ordered["behaviors"]] == [978300760, 978300761]
