"""Lists of objects in tables of items, such as shelves with how often books stand on them."""

import json
import tomllib

import numpy as np

from clickscale.data.dataset import open_dataset
from tests.data.described.logs import clicks, drafted, save

KINDS = ["art", "war", "sea"]


def test_the_words_of_objects_are_values_of_a_field(tmp_path):
    save(tmp_path, clicks())
    books = [
        {
            "item_id": f"i{n}",
            "shelves": [{"count": 10 + n % 3, "name": "read"}, {"count": 5, "name": KINDS[n % 3]}],
            "authors": [{"author_id": 70 + n % 6, "role": ""}],
        }
        for n in range(25)
    ]
    (tmp_path / "books.json").write_text("".join(f"{book!r}\n" for book in books))  # as Python prints them
    tree = tomllib.loads(drafted(tmp_path, "clicks.csv", "books.json"))
    assert tree["items"]["fields"] == [
        {"name": "shelves_name", "column": "shelves.name", "values": 2},
        {"name": "authors_author_id", "column": "authors.author_id", "values": 1},
    ]
    items = open_dataset(tmp_path / "drafted").items
    assert len(np.unique(np.asarray(items["field.shelves_name"])[2:], axis=0)) == len(KINDS)


def test_objects_that_never_come_back_stay_out(tmp_path):
    save(tmp_path, clicks())
    photos = [{"item_id": f"i{n}", "photos": [{"url": f"p{n}-{k}.jpg"} for k in range(2)]} for n in range(25)]
    (tmp_path / "photos.json").write_text("".join(json.dumps(each) + "\n" for each in photos))
    assert "photos (lists of objects)" in drafted(tmp_path, "clicks.csv", "photos.json")
