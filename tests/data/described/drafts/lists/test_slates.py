"""Drafts of requests with places of what was clicked, and of slates that are divided into columns."""

import random
import tomllib

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from tests.data.described.logs import START, drafted, save

DRAW = random.Random(5)


def slates(rows=400, width=5):
    """Requests of 40 users: what was shown, and the places of what was clicked, from 0."""
    for n in range(rows):
        shown = [f"i{item}" for item in DRAW.sample(range(30), width)]
        clicked = [place for place in range(width) if DRAW.random() < 0.3 / (1 + place % 2)]
        yield {"user_id": f"u{n % 40}", "time": START + 60 * n, "slate": shown, "clicked": clicked}


LOG = list(slates())
CLICKS = [int(place in row["clicked"]) for row in LOG for place in range(5)]
FIRSTS = [int(place in row["clicked"][:1]) for row in LOG for place in range(5)]


def written(folder, change, name="log.jsonl"):
    """Write the log with other columns; return its draft, and the tree of it."""
    rows = [{"user_id": row["user_id"], "time": row["time"], **change(row)} for row in LOG]
    save(folder, rows, name)
    text = drafted(folder, name)
    return text, tomllib.loads(text)


def labels(folder):
    dataset = open_dataset(folder / "drafted")
    manifest = dataset.manifest.report["impressions"]
    assert manifest.quarantined == {}
    order = np.argsort(dataset.impressions["row"])
    (name,) = [name for name in dataset.impressions if name.startswith("label.")]
    return np.asarray(dataset.impressions[name])[order].tolist()


@pytest.mark.parametrize("first", [0, 1])
def test_places_of_clicks_in_lists(tmp_path, first):
    _, tree = written(
        tmp_path,
        lambda row: {"slate": row["slate"], "clicked_positions": [first + place for place in row["clicked"]]},
    )
    assert tree["item"]["column"] == "slate"
    lists = tree["impressions"]["lists"]
    assert (lists["chosen_places"], lists["first_place"]) == (["clicked_positions"], first)
    assert labels(tmp_path) == CLICKS


def test_places_of_clicks_in_texts(tmp_path):
    text, _ = written(
        tmp_path,
        lambda row: {
            "slate": "|".join(row["slate"]),
            "click_pos": "|".join(str(place) for place in row["clicked"]),
        },
        "log.csv",
    )
    assert 'separator = "|"' in text
    assert labels(tmp_path) == CLICKS


@pytest.mark.parametrize(
    ("first", "nothing", "name"),
    [
        (0, -1, "log.jsonl"),
        (0, None, "log.jsonl"),
        (1, 0, "log.jsonl"),
        (1, -1, "log.csv"),
        (0, "", "log.csv"),
    ],
)
def test_one_place_or_none(tmp_path, first, nothing, name):
    def change(row):
        place = first + row["clicked"][0] if row["clicked"] else nothing
        return {"slate": row["slate"] if name.endswith("l") else " ".join(row["slate"]), "click_index": place}

    _, tree = written(tmp_path, change, name)
    assert tree["impressions"]["lists"]["first_place"] == first
    assert labels(tmp_path) == FIRSTS


def test_places_that_may_begin_with_0_or_1_are_told(tmp_path):
    text, tree = written(
        tmp_path,
        lambda row: {"slate": row["slate"], "clicked_positions": [p for p in row["clicked"] if 0 < p < 5]},
    )
    assert tree["impressions"]["lists"]["first_place"] == 1
    assert "# WARNING: no sampled outcome is at place 0 or at the last one of a list" in text


def test_ids_beside_places_are_outcomes_and_no_history(tmp_path):
    def change(row):
        ids = [row["slate"][place] for place in row["clicked"]]
        return {"slate": row["slate"], "clicked_ids": ids, "clicked_positions": row["clicked"]}

    text, tree = written(tmp_path, change)
    assert tree["impressions"]["lists"]["chosen"] == ["clicked_ids"]
    assert "history" not in tree
    assert "# left out: clicked_ids (it nearly determines the label" in text
    assert labels(tmp_path) == CLICKS


@pytest.mark.parametrize("name", ["last_click_position", "prev_clicked_pos"])
def test_places_of_earlier_clicks_are_no_outcome(tmp_path, name):
    text, _ = written(
        tmp_path,
        lambda row: {
            "slate": row["slate"],
            name: DRAW.randrange(5),
            "clicked_ids": [row["slate"][place] for place in row["clicked"]],
        },
    )
    assert "chosen_places" not in text
    assert labels(tmp_path) == CLICKS


def test_numbers_of_clicks_are_no_places(tmp_path):
    text, _ = written(tmp_path, lambda row: {"slate": row["slate"], "clicks": len(row["clicked"])})
    assert "chosen_places" not in text


@pytest.mark.parametrize(
    "change",
    [
        lambda row: {f"click_{n + 1}": int(n in row["clicked"]) for n in range(5)},
        lambda row: {f"slot{n + 1}_clicked": int(n in row["clicked"]) for n in range(5)},
    ],
)
def test_a_column_for_each_item_and_for_its_click(tmp_path, change):
    text, tree = written(
        tmp_path,
        lambda row: {**{f"item_{n + 1}": item for n, item in enumerate(row["slate"])}, **change(row)},
        "log.csv",
    )
    gather = tree["impressions"]["lists"]["gather"]
    assert gather["item"] == ["item_1", "item_2", "item_3", "item_4", "item_5"]
    assert tree["item"]["column"] == "item"
    assert labels(tmp_path) == CLICKS
    assert "item_1 " not in text


@pytest.mark.parametrize(
    ("item", "click"),
    [
        ("producto_", "clic_"),
        ("produto", "clicado_"),
        ("Artikel_", "geklickt_"),
        ("annonce_", "clic"),
        ("item_", "klik_"),
    ],
)
def test_slates_in_other_languages(tmp_path, item, click):
    def change(row):
        shown = {f"{item}{n + 1}": each for n, each in enumerate(row["slate"])}
        return shown | {f"{click}{n + 1}": int(n in row["clicked"]) for n in range(5)}

    _, tree = written(tmp_path, change, "log.csv")
    gather = tree["impressions"]["lists"]["gather"]
    assert gather[item.rstrip("_").lower()] == [f"{item}{n + 1}" for n in range(5)]
    assert labels(tmp_path) == CLICKS


@pytest.mark.parametrize("stem", ["shown_", "slot", "item"])
def test_a_column_for_each_item_and_one_for_what_was_clicked(tmp_path, stem):
    def change(row):
        clicked = row["slate"][row["clicked"][0]] if row["clicked"] else ""
        price = {f"price_{n}": 5 + n for n in range(5)}
        return {f"{stem}{n}": item for n, item in enumerate(row["slate"])} | price | {"clicked_item": clicked}

    _, tree = written(tmp_path, change, "log.csv")
    lists = tree["impressions"]["lists"]
    assert lists["chosen"] == ["clicked_item"]
    assert lists["parallel"] == ["price"]
    assert labels(tmp_path) == FIRSTS


def test_numbered_features_of_items_are_no_slate(tmp_path):
    def change(row):
        features = {f"item_feature_{n}": DRAW.randrange(9) for n in range(4)}
        return {"item_id": row["slate"][0], **features, "clicked": int(0 in row["clicked"])}

    text, _ = written(tmp_path, change, "log.csv")
    assert "gather" not in text


def test_items_of_objects_have_zeros_in_front_and_what_was_added_is_the_outcome(tmp_path):
    def change(row):
        skus = [f"{int(item[1:]):08}" for item in row["slate"]]
        shown = [
            {"slot": place, "on_promo": place % 2 == 0, "sku": sku, "price": 1.5 + place}
            for place, sku in enumerate(skus)
        ]
        return {"recs": shown, "added_skus": [skus[place] for place in row["clicked"]]}

    _, tree = written(tmp_path, change)
    assert tree["item"]["column"] == "recs.sku"
    assert tree["impressions"]["lists"]["chosen"] == ["added_skus"]
    assert labels(tmp_path) == CLICKS


@pytest.mark.parametrize(("names", "item"), [(("slot", "sku"), "sku"), (("sku", "number"), "sku")])
def test_of_the_lists_of_objects_with_marks_the_one_that_names_items_holds_them(tmp_path, names, item):
    def change(row):
        marks = [{"on_promo": int(place < 3), "tapped": int(place in row["clicked"])} for place in range(5)]
        ids = {"sku": [int(shown[1:]) for shown in row["slate"]], "slot": range(5), "number": range(5)}
        return {"recs": [{name: ids[name][n] for name in names} | marks[n] for n in range(5)]}

    _, tree = written(tmp_path, change)
    assert (tree["item"]["column"], tree["labels"][0]["column"]) == (f"recs.{item}", "recs.tapped")
    assert labels(tmp_path) == CLICKS


def test_rows_of_other_actions_do_not_hide_what_was_chosen(tmp_path):
    rows = []
    for row in LOG:
        base = {"user_id": row["user_id"], "time": row["time"]}
        rows += [base | {"action_type": "search", "reference": "rome", "shown": "", "prices": ""}] * 2
        chosen = row["slate"][(row["clicked"] or [0])[0]]
        listed = {"shown": "|".join(row["slate"]), "prices": "|".join(map(str, range(70, 75)))}
        rows.append(base | {"action_type": "clickout", "reference": chosen} | listed)
    save(tmp_path, rows, "sessions.csv")
    tree = tomllib.loads(guess([tmp_path / "sessions.csv"], tmp_path))
    lists = tree["impressions"]["lists"]
    assert (tree["item"]["column"], lists["chosen"], lists["parallel"]) == (
        "shown",
        ["reference"],
        ["prices"],
    )
    assert tree["labels"][0]["column"] == "reference"


def test_items_in_objects_of_objects_are_found_without_a_user(tmp_path):
    rows = [
        {
            "t": row["time"],
            "cards": [{"product": {"id": item, "cents": 100 * n}} for n, item in enumerate(row["slate"])],
        }
        | {"tapped": [row["slate"][place] for place in row["clicked"]]}
        for row in LOG
    ]
    products = [{"id": f"i{n}", "tags": [f"t{n % 5}", f"s{n % 3}"], "maker": f"m{n % 25}"} for n in range(30)]
    paths = [save(tmp_path, rows, "feed.jsonl"), save(tmp_path, products, "products.jsonl")]
    tree = tomllib.loads(guess(paths, tmp_path))
    assert "user" not in tree
    assert (tree["item"]["column"], tree["impressions"]["lists"]["chosen"]) == (
        "cards.product.id",
        ["tapped"],
    )
    assert {"name": "cards_product_cents", "column": "cards.product.cents", "kind": "numeric"} in tree[
        "impressions"
    ]["fields"]
