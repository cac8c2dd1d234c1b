"""Drafts of logs without outcomes: drawn negatives must not copy what only their positive can have."""

import random

import pytest

from clickscale.data.described.log import load_log
from tests.data.described.drafts.test_guess import START, draft, write_csv

DRAW = random.Random(3)
ITEMS = [{"product_id": f"p{n}", "shelf": n % 5, "list_price": 10 + n} for n in range(60)]


def orders(rows=1500):
    """Lines of orders: a price that the item has, one that varies a little, and what is of the moment."""
    for n in range(rows):
        item, user = DRAW.randrange(60), DRAW.randrange(40)
        yield {
            "customer_id": f"u{user}",
            "product_id": f"p{item}",
            "timestamp": START + 60 * n,
            "height": round(1.5 * item + 0.99, 2),
            "price": round((20 + item) * DRAW.uniform(0.95, 1), 2),
            "maker": f"m{item // 4}" if DRAW.random() < 0.97 else "m0",
            "quantity": DRAW.randrange(1, 9),
            "device": DRAW.choice("abc"),
            "hour": DRAW.randrange(24),
            "discount": DRAW.choice("xyz"),  # a name of a campaign, not an amount
            "region": f"r{user % 6}",
        }


def names(tree, table):
    return [field["name"] for field in tree.get(table, {}).get("fields", [])]


def test_columns_that_the_item_determines_are_attributes_of_items(tmp_path):
    text, tree = draft(tmp_path, write_csv(tmp_path / "orders.csv", orders()))
    assert tree["negatives"] == 4
    assert names(tree, "items") == ["height", "price", "maker"]
    assert names(tree, "impressions") == ["device", "hour", "discount"]
    assert names(tree, "users") == ["region"]
    assert "the values of one 'product_id' are nearly alike" in text
    assert (
        "# left out: quantity (by its name an amount of what was bought; an attribute of behaviors)" in text
    )
    assert load_log(tmp_path / "log.toml").negatives == 4


def test_columns_that_the_item_determines_are_left_out_where_items_have_a_table(tmp_path):
    paths = write_csv(tmp_path / "orders.csv", orders()), write_csv(tmp_path / "products.csv", ITEMS)
    text, tree = draft(tmp_path, *paths)
    assert names(tree, "items") == ["shelf", "list_price"]
    assert names(tree, "impressions") == ["device", "hour", "discount"]
    assert names(tree, "behaviors") == ["past_height", "past_price", "past_maker", "past_quantity"]
    assert "height (each 'product_id' has one value of it, and a drawn negative would have that" in text
    assert "price (the values of one 'product_id' are nearly alike, and a drawn negative would have" in text


@pytest.mark.parametrize("column", ["price", "quantity"])
def test_they_stay_in_the_context_where_the_log_has_negatives_of_its_own(column, tmp_path):
    rows = [row | {"clicked": int(DRAW.random() < 0.3)} for row in orders()]
    _, tree = draft(tmp_path, write_csv(tmp_path / "orders.csv", rows))
    assert column in names(tree, "impressions")


@pytest.mark.parametrize(("quantity", "is_label"), [("qty", False), ("stock_quantity", True)])
def test_a_purchase_is_a_positive_whatever_was_used_with_it(quantity, is_label, tmp_path):
    rows = [
        {name: row[name] for name in ("customer_id", "product_id", "timestamp")}
        | {quantity: row["quantity"], "coupon_used": int(DRAW.random() < 0.2)}
        for row in orders(600)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "lines.csv", rows))
    assert ("labels" in tree) == is_label
