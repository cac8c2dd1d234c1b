"""Fields made of other columns, lists of flags and parts of URLs: in drafts, data sets and requests."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.computed.made_columns import with_flag_groups
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.log import load_log
from clickscale.data.layout import Manifest
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError, SchemaError
from clickscale.features import FIRST, UNKNOWN
from clickscale.inference.request_tables import RequestTable
from clickscale.inference.requests import encode_requests
from tests.data.described.logs import START, Row, clicks, drafted, prepared, save

GENRES = ("action", "comedy", "drama", "horror", "western")
FLAGS = "flags = [" + ", ".join(f'"{name}"' for name in GENRES) + "]"
FIELD = f'fields = [{{ name = "genres", values = 3, {FLAGS} }}]\n'


def film(item: int, prefix: str = "") -> Row:
    """An item of the genre of its number; every second one is a drama as well."""
    flags = {prefix + name: int(item % 5 == n or (n == 2 and item % 2 > 0)) for n, name in enumerate(GENRES)}
    return {"item_id": f"i{item}", "released": f"{1 + item % 9}-Mar-{1950 + item}", **flags}


def with_films(folder: Path, *odd: Row) -> Manifest:
    """A data set whose items have genres as flags; rows of ``odd`` stand in the table first."""
    save(folder, clicks())
    save(folder, [*odd, *(film(item) for item in range(len(odd), 25))], "items.csv")
    return prepared(folder, f'[items]\nfiles = "items.csv"\n{FIELD}')


def genres(folder: Path, item: int) -> set[str]:
    """Genres of an item of a data set."""
    dataset = open_dataset(folder)
    names = dataset.encoder.vocabulary("genres").values.to_pylist()
    row = dataset.encoder.item_rows.encode(pa.array([f"i{item}"]))[0]
    return {names[n - FIRST] for n in np.asarray(dataset.items["field.genres"])[row].tolist() if n >= FIRST}


def columns(*flags: list[Any]) -> list[tuple[Column, str]]:
    return [(Column(f"is_{n}", pa.array(values)), "") for n, values in enumerate(flags)]


@pytest.mark.parametrize(
    ("prefix", "name"), [("", "flags"), ("genre_", "genre"), ("column_", "flags"), ("g_", "flags")]
)
def test_a_draft_makes_one_field_of_neighboring_flags_and_counts_by_it(
    tmp_path: Path, prefix: str, name: str
) -> None:
    save(tmp_path, clicks())
    save(tmp_path, [film(item, prefix) for item in range(25)], "items.csv")
    tree = tomllib.loads(drafted(tmp_path, "clicks.csv", "items.csv"))
    assert tree["items"]["fields"] == [
        {"name": "released", "kind": "timestamp"},
        {"name": name, "values": 2, "flags": [prefix + genre for genre in GENRES]},
    ]
    assert ["user", name] in [statistic["by"] for statistic in tree["statistics"]]


def test_few_flags_and_those_of_which_many_are_set_stay_columns() -> None:
    few = columns([0, 1, 0, 1], [1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1])
    assert list(with_flag_groups(few)) == few
    many = columns(*[[1, 1, 1, 0]] * 11)
    assert list(with_flag_groups(many)) == many


def test_flags_of_which_one_is_set_are_one_category(tmp_path: Path) -> None:
    rows = clicks()
    for row in rows:
        row |= {f"shelf_{n}": int(int(row["item_id"][1:]) % 6 == n) for n in range(6)}
    save(tmp_path, rows)
    (shelf,) = tomllib.loads(drafted(tmp_path, "clicks.csv"))["items"]["fields"]
    assert shelf == {"name": "shelf", "flags": [f"shelf_{n}" for n in range(6)]}
    dataset = open_dataset(tmp_path / "drafted")
    assert dataset.items["field.shelf"].ndim == 1
    assert len(dataset.encoder.vocabulary("shelf").values) == 6


def test_values_are_the_names_of_the_flags_that_are_set(tmp_path: Path) -> None:
    manifest = with_films(tmp_path)
    assert sum(manifest.report["items"].quarantined.values()) == 0
    assert genres(tmp_path / "out", 7) == {"drama"}
    assert genres(tmp_path / "out", 9) == {"drama", "western"}
    assert genres(tmp_path / "out", 6) == {"comedy"}


def test_words_count_and_anything_else_is_quarantined_with_its_value(tmp_path: Path) -> None:
    words = film(0) | {"action": "no", "comedy": "yes", "drama": "", "horror": "", "western": "true"}
    manifest = with_films(tmp_path, words, film(1) | {"horror": 2})
    assert genres(tmp_path / "out", 0) == {"comedy", "western"}
    assert dict(manifest.report["items"].quarantined) == {"bad_flag": 1}
    (example,) = (tmp_path / "out/quarantine/items.jsonl").read_text().splitlines()
    assert "horror" in example


def test_flags_of_users_are_read_from_tables_of_candidates(tmp_path: Path) -> None:
    rows = clicks()
    for row in rows:
        row |= {name: int(int(row["user_id"][1:]) % 5 == n) for n, name in enumerate(GENRES)}
    save(tmp_path, rows)
    prepared(tmp_path, f"[users]\n{FIELD}")
    encoder = open_dataset(tmp_path / "out").encoder
    path = tmp_path / "candidates.csv"
    header = ",".join(["user", "item", "time", *GENRES])
    path.write_text(f"{header}\nu1,i1,1704067200,0,1,0,1,0\n")
    (request,) = RequestTable(path, encoder).requests()
    assert request.request["profile"] == {"genres": ["comedy", "horror"]}
    path.write_text("user,item,time,genres\nu1,i1,1704067200,comedy\n")
    (request,) = RequestTable(path, encoder).requests()
    assert request.request["profile"] == {"genres": "comedy"}
    path.write_text(f"{header}\nu1,i1,1704067200,0,1,0,7,0\n")
    with pytest.raises(InputError, match=r"row 1: horror is '?7'?; send 0 or 1"):
        list(RequestTable(path, encoder).requests())


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('[items]\nfields = [{ name = "a", values = 2, flags = ["clicked", "b"] }]', "holds the outcome"),
        ('[items]\nfields = [{ name = "a", column = "d", flags = ["b", "c"] }]', "leave out column"),
        ('[items]\nfields = [{ name = "a", kind = "numeric", flags = ["b", "c"] }]', "are categorical"),
        ('[items]\nfields = [{ name = "a", values = 2, flags = ["time", "gone"] }]', "column 'gone'"),
        (
            '[history]\nitems = "item_id"\nfields = [{ name = "a", values = 2, flags = ["b", "c"] }]',
            "of \\[history\\] has flags",
        ),
    ],
)
def test_flags_that_cannot_be_are_refused(tmp_path: Path, toml: str, message: str) -> None:
    save(tmp_path, clicks())
    with pytest.raises((SchemaError, InputError), match=message):
        prepared(tmp_path, toml)


# --- parts of URLs


def visits(address: str, count: int = 600) -> list[Row]:
    """Clicks on pages of 4 hosts with 3 sections each; every page is another one."""
    return [
        row | {"page_url": address.format(host=f"site{n % 4}.com", section=f"part{n % 3}", page=n)}
        for n, row in enumerate(clicks(count))
    ]


@pytest.mark.parametrize(
    "address", ["https://www.{host}/{section}/{page}.html?id={page}", "{host}/{section}/{page}"]
)
def test_a_draft_keeps_the_host_and_the_section_of_urls(tmp_path: Path, address: str) -> None:
    save(tmp_path, visits(address))
    tree = tomllib.loads(drafted(tmp_path, "clicks.csv"))
    assert tree["impressions"]["fields"] == [
        {"name": "page_url_host", "column": "page_url", "url": "host"},
        {"name": "page_url_section", "column": "page_url", "url": "section"},
    ]
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    encoder = open_dataset(tmp_path / "data").encoder
    assert encoder.vocabulary("page_url_host").values.to_pylist() == [f"site{n}.com" for n in range(4)]
    assert encoder.vocabulary("page_url_section").values.to_pylist() == [f"/part{n}" for n in range(3)]


def test_a_request_may_send_the_url_or_its_part(tmp_path: Path) -> None:
    save(tmp_path, visits("https://{host}/{section}/{page}"))
    drafted(tmp_path, "clicks.csv")
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    encoder = open_dataset(tmp_path / "data").encoder
    sent = [
        {
            "item": "i1",
            "page_url_host": "https://site2.com/part1/new",
            "page_url_section": "site2.com/part1/new",
        },
        {"item": "i1", "page_url_host": "site2.com", "page_url_section": "/part1"},
        {"item": "i1", "page_url_host": "elsewhere.com"},
    ]
    encoded = encode_requests([{"user": "u1", "time": START + 900_000, "candidates": sent}], encoder, 5)
    context = encoded.batch.candidates.context[0].tolist()
    assert context == [[FIRST + 2, FIRST + 1], [FIRST + 2, FIRST + 1], [UNKNOWN, UNKNOWN]]


def test_few_urls_are_values_as_they_are(tmp_path: Path) -> None:
    save(tmp_path, [row | {"page": f"https://a.com/{n % 9}"} for n, row in enumerate(clicks())])
    assert tomllib.loads(drafted(tmp_path, "clicks.csv"))["impressions"]["fields"] == [{"name": "page"}]


def test_parts_that_hardly_differ_or_never_come_again_are_left_out(tmp_path: Path) -> None:
    save(tmp_path, visits("https://shop.com/{section}/{page}"))
    [field] = tomllib.loads(drafted(tmp_path, "clicks.csv"))["impressions"]["fields"]
    assert field["url"] == "section"
    save(tmp_path, visits("https://{host}/{page}"))
    [field] = tomllib.loads(drafted(tmp_path, "clicks.csv"))["impressions"]["fields"]
    assert field["url"] == "host"
