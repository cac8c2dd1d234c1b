"""Drafts of lists of shown items with a table of what was clicked of them."""

import random
import tomllib

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from tests.data.described.logs import START, drafted, save

DRAW = random.Random(3)
SHOWN = [DRAW.sample(range(500, 540), 4) for _ in range(240)]
CLICKED = [[item for place, item in enumerate(items) if DRAW.random() < 0.5 / (1 + place)] for items in SHOWN]


@pytest.mark.parametrize("item", ["itemId", "result"])  # of clicks, by another name than that of the lists
def test_clicks_name_a_query_and_one_of_its_items(tmp_path, item):
    queries = [
        {
            "queryId": n,
            "userId": f"u{n % 30}",
            "at": START + 90 * n,
            "frame": n * n,
            "items": " ".join(map(str, items)),
        }
        for n, items in enumerate(SHOWN)
    ]
    clicks = [{"queryId": n, item: each} for n, items in enumerate(CLICKED) for each in items]
    views = [{"userId": f"u{n % 30}", "itemId": 500 + n % 40, "at": START + 60 * n} for n in range(300)]
    save(tmp_path, queries, "queries.csv")
    save(tmp_path, clicks, "query_clicks.csv")
    save(tmp_path, views, "views.csv")
    text = drafted(tmp_path, "queries.csv", "query_clicks.csv", "views.csv")
    tree = tomllib.loads(text)
    assert tree["impressions"]["files"] == "queries.csv"
    assert tree["outcomes"][0]["key"] == ["queryId", item]
    assert tree["outcomes"][0]["shown_key"] == ["queryId", "items"]
    assert tree["impressions"]["lists"] == {"position": "position"}
    assert "left out: frame (every list has a value of its own)" in text
    dataset = open_dataset(tmp_path / "drafted")
    order = np.argsort(dataset.impressions["row"])
    truth = [int(each in CLICKED[n]) for n, items in enumerate(SHOWN) for each in items]
    assert np.asarray(dataset.impressions["label.query_click"])[order].tolist() == truth
