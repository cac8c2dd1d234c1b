"""Tables beside the impressions that are no attributes: a draft names each, and none gives labels away."""

import random

import pytest

from tests.data.described.drafts.test_guess import draft, shop, write_csv

DRAW = random.Random(2)


def baskets(rows, first=0):
    """Products of orders, and whether they were bought before."""
    for n in range(rows):
        row = {"basket_id": first + n // 3, "product_id": DRAW.randrange(50)}
        yield row | {"place": n % 3, "reordered": int(DRAW.random() < 0.4)}


def test_a_second_table_of_events_holds_no_attributes_of_items(tmp_path):
    products = [{"product_id": n, "shelf": f"s{n % 7}"} for n in range(50)]
    paths = [
        write_csv(tmp_path / "prior.csv", baskets(1500)),
        write_csv(tmp_path / "later.csv", baskets(300, first=500)),
        write_csv(tmp_path / "products.csv", products),
    ]
    text, tree = draft(tmp_path, *paths)
    assert [label["column"] for label in tree["labels"]] == ["reordered"]
    assert set(tree["items"]) == {"files", "fields"}
    assert "# Not used: later.csv (basket_id, product_id, place, reordered)." in text


def test_flags_of_outcomes_in_several_rows_of_an_item_are_events(tmp_path):
    bought = [{"item_id": DRAW.randrange(30), "shelf": f"s{n % 4}", "bought": n % 2} for n in range(400)]
    paths = [write_csv(tmp_path / "shop.csv", shop()), write_csv(tmp_path / "extra.csv", bought)]
    text, tree = draft(tmp_path, *paths)
    assert "more" not in tree["items"]
    assert "# Not used: extra.csv" in text


def test_a_table_of_events_whose_time_is_not_read_is_named_as_not_used(tmp_path):
    paths = [
        write_csv(
            tmp_path / "label.csv",
            [{"user_id": n % 300, "shop_id": n % 17, "label": n % 2} for n in range(900)],
        ),
        write_csv(
            tmp_path / "log.csv",
            [{"user_id": n % 300, "item_id": n % 41, "month_day": 511 + n % 9} for n in range(3000)],
        ),
    ]
    text, tree = draft(tmp_path, *paths)
    assert tree["impressions"]["files"] == "label.csv"
    assert "# Not used: log.csv (user_id, item_id, month_day)." in text


def test_a_table_of_other_users_describes_none(tmp_path):
    """Who signed in has a row in a table of users, and the log goes by cookies, which all rows have."""
    shown = [
        row | {"user_id": "" if n % 4 == 0 else 100 + int(row["user_id"][1:]), "cookie_id": row["user_id"]}
        for n, row in enumerate(shop())
    ]
    users = [{"id": 100 + n, "birth_year": 1950 + n, "gender": "mf"[n % 2]} for n in range(40)]
    paths = [write_csv(tmp_path / "views.csv", shown), write_csv(tmp_path / "users.csv", users)]
    _, tree = draft(tmp_path, *paths)
    assert tree["user"]["column"] == "cookie_id"
    assert (tree["joined"][0]["files"], tree["joined"][0]["shown_key"]) == ("users.csv", ["user_id"])
    assert "files" not in tree.get("users", {})


@pytest.mark.parametrize(
    ("user", "item", "table", "key"),
    [("from_id", "to_id", "profiles", "profile_id"), ("viewer", "shown", "members", "id")],
)
def test_people_who_are_shown_to_people_have_one_table(tmp_path, user, item, table, key):
    shown = [
        {user: f"p{n // 5 % 40}", item: f"p{DRAW.randrange(60)}", "at": 1_600_000_000 + 60 * n}
        | {"liked": int(DRAW.random() < 0.3)}
        for n in range(900)
    ]
    people = [{key: f"p{n}", "city": f"c{n % 5}"} for n in range(60)]
    _, tree = draft(
        tmp_path, write_csv(tmp_path / "shown.csv", shown), write_csv(tmp_path / f"{table}.csv", people)
    )
    assert [tree[name]["files"] for name in ("users", "items")] == [f"{table}.csv"] * 2
    assert tree["users"]["user"] == tree["items"]["item"] == key
    assert (tree["user"]["column"], tree["item"]["column"]) == (user, item)
