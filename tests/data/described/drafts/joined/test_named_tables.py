"""Drafts of logs whose tables name rows of others: sellers of items, cities of users, stores."""

import random
import re
import tomllib

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.files import table_heads
from clickscale.data.described.drafts.files.table_heads import read_head
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.drafts.joined.named_tables import with_named_tables
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from tests.data.described.drafts.test_guess import START, draft, write_csv
from tests.shape_logs import SHAPE_LOGS


def database(folder):
    """Write the tables of a shop and draft their description."""
    SHAPE_LOGS["database"](folder)
    return draft(folder, *sorted(folder.glob("*.csv")))


def joined(tree):
    return {
        (table["files"], *table.get("shown_key", table["key"])): table.get("prefix", "")
        for table in tree["joined"]
    }


def names(fields):
    return [field["name"] for field in fields]


def test_every_table_of_a_database_finds_its_place(tmp_path):
    text, tree = database(tmp_path)
    assert joined(tree) == {
        ("page_views.csv", "page_view_id"): "",
        ("orders.csv", "order_id"): "",
        ("sellers.csv", "seller_id"): "seller_",
        ("cities.csv", "seller_city_id"): "seller_city_",
        ("categories.csv", "category_id"): "category_",
        ("cities.csv", "city_id"): "city_",
        ("stores.csv", "store_id"): "store_",
    }
    assert names(tree["impressions"]["fields"]) == ["store_id", "device", "store_place"]
    assert names(tree["items"]["fields"]) == [
        *("seller_id", "price", "seller_level", "seller_city_id", "seller_city_region"),
    ]
    assert names(tree["items"]["more"][0]["fields"]) == ["category_id", "category_department"]
    assert names(tree["users"]["fields"]) == ["city_id", "plan", "city_region"]
    assert [(each["name"], each["key"]) for each in tree["outcomes"]] == [
        (
            "click",
            ["impression_id"],
        ),  # not the number of the click, which is called like that of the impression
        ("order_item", ["user_id", "product_id"]),  # of the order that the row names
    ]
    assert "left out: name (each id has its own)" in text
    assert "Not used" not in text


def test_items_users_and_impressions_have_what_they_name(tmp_path):
    database(tmp_path)
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    labels = np.asarray(dataset.impressions["label.click"])
    store = np.asarray(dataset.impressions["field.store_id"])
    place = np.asarray(dataset.impressions["field.store_place"])
    assert [len(set(place[store == each])) for each in set(store.tolist())] == [1] * 8
    assert labels[place == 2].mean() != pytest.approx(labels[place == 3].mean(), abs=0.15)
    level = np.asarray(dataset.items["field.seller_level"])[np.asarray(dataset.impressions["item"])]
    rates = sorted(labels[level == code].mean() for code in (2, 3, 4))
    assert rates[2] - rates[1] > 0.15  # one of three levels is clicked more
    bought = np.asarray(dataset.impressions["label.order_item"])
    clicks = labels == 1
    assert bought[clicks].mean() > 0.3
    assert bought[~clicks].sum() < bought[clicks].sum() / 10


DRAW = random.Random(4)


def events(count=2000, **columns):
    """Impressions of 60 users and 40 items, with further columns by functions of the item."""
    for n in range(count):
        item = DRAW.randrange(40)
        row = {"user_id": f"u{DRAW.randrange(60)}", "item_id": f"i{item}", "timestamp": START + 60 * n}
        row |= {name: of(item) for name, of in columns.items()}
        yield row | {"click": int(DRAW.random() < 0.3)}


def write_items(folder, **columns):
    items = [{"item_id": f"i{n}", **{name: of(n) for name, of in columns.items()}} for n in range(40)]
    return write_csv(folder / "items.csv", items)


def test_attributes_of_three_steps_are_joined(tmp_path):
    paths = [
        write_csv(tmp_path / "views.csv", list(events())),
        write_items(tmp_path, campaign_id=lambda n: n % 12, width=lambda n: 100 * (n % 3)),
        write_csv(
            tmp_path / "campaigns.csv",
            [{"id": n, "goal": "ab"[n % 2], "advertiser_id": n % 5} for n in range(12)],
        ),
        write_csv(
            tmp_path / "advertisers.csv",
            [{"advertiser_id": n, "branch": "xyz"[n % 3], "country": f"C{n % 4}"} for n in range(5)],
        ),
        write_csv(tmp_path / "countries.csv", [{"country": f"C{n}", "union": "pq"[n % 2]} for n in range(4)]),
    ]
    text, tree = draft(tmp_path, *paths)
    assert (
        list(joined(tree).items())
        == [
            (("campaigns.csv", "campaign_id"), "campaign_"),
            (("advertisers.csv", "campaign_advertiser_id"), "campaign_advertiser_"),
            (("countries.csv", "campaign_advertiser_country"), "campaign_advertiser_country_"),
        ]
        or "countries.csv" in text
    )
    found = names(tree["items"]["fields"])
    assert found[:3] == ["campaign_id", "width", "campaign_goal"]
    assert found[-1] == "campaign_advertiser_country_union"


@pytest.mark.parametrize(
    ("shown", "file", "key", "is_joined"),
    [
        ("seller_id", "sellers.csv", "seller_id", True),
        ("seller_id", "sellers.csv", "id", True),
        ("seller", "dim_seller.csv", "seller_key", True),
        ("main_category_id", "categories.csv", "id", True),
        ("store_id", "sellers.csv", "id", False),  # small numbers are in common by chance
        ("season", "sellers.csv", "id", False),
        ("price", "sellers.csv", "level_number", False),
    ],
)
def test_numbers_name_a_table_only_where_names_agree(tmp_path, shown, file, key, is_joined):
    items = write_items(tmp_path, **{shown: lambda n: 1 + n % 20})
    sellers = write_csv(tmp_path / file, [{key: n, "level": "abc"[n % 3]} for n in range(1, 21)])
    _, tree = draft(tmp_path, write_csv(tmp_path / "views.csv", list(events())), items, sellers)
    assert ("joined" in tree) == is_joined


@pytest.mark.parametrize(("different", "is_joined"), [(30, True), (12, False)])
def test_many_texts_in_common_name_a_table_under_any_name(tmp_path, different, is_joined):
    items = write_items(tmp_path, made_by=lambda n: f"s{n % different}")
    firms = [{"firm": f"s{n}", "level": "abc"[n % 3]} for n in range(different)]
    log = write_csv(tmp_path / "views.csv", list(events()))
    _, tree = draft(tmp_path, log, items, write_csv(tmp_path / "firms.csv", firms))
    assert ("joined" in tree) == is_joined


def test_what_the_impressions_say_of_an_item_may_name_a_table(tmp_path):
    log = list(events(seller_id=lambda item: item % 9))
    sellers = [{"id": n, "level": "abc"[n % 3], "population": 1000 * n} for n in range(9)]
    _, tree = draft(
        tmp_path, write_csv(tmp_path / "views.csv", log), write_csv(tmp_path / "sellers.csv", sellers)
    )
    assert names(tree["items"]["fields"]) == ["seller_id", "seller_level", "seller_population"]
    assert "files" not in tree["items"]
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert sorted(set(np.asarray(dataset.items["field.seller_level"]).tolist())) == [0, 1, 2, 3, 4]


def test_tables_with_several_rows_of_an_id_and_tables_of_outcomes_are_not_joined(tmp_path):
    log = write_csv(tmp_path / "views.csv", list(events()))
    items = write_items(tmp_path, seller_id=lambda n: n % 10, order_id=lambda n: n)
    days = [{"seller_id": n % 10, "day": START + n, "sold": n % 7, "open": n % 2} for n in range(60)]
    orders = [{"order_id": n, "paid_by": "ab"[n % 2]} for n in range(40)]
    text, tree = draft(
        tmp_path,
        *(log, items),
        *(write_csv(tmp_path / "seller_days.csv", days), write_csv(tmp_path / "orders.csv", orders)),
    )
    assert "joined" not in tree
    assert len(re.findall("Not used", text)) == 2


def test_totals_of_outcomes_and_names_of_one_row_are_left_out(tmp_path):
    log = write_csv(tmp_path / "views.csv", list(events()))
    items = write_items(tmp_path, seller_id=lambda n: n % 10)
    sellers = [
        {"id": n, "name": f"N{n}", "click_count": 7 * n % 5, "tier": "ab"[n % 2], "one": 1} for n in range(10)
    ]
    text, tree = draft(tmp_path, log, items, write_csv(tmp_path / "sellers.csv", sellers))
    assert names(tree["items"]["fields"]) == ["seller_id", "seller_tier"]
    for column in ("name", "click_count", "one"):
        assert f"# left out: {column} (" in text


def test_a_table_of_which_nothing_is_known_before_is_not_joined(tmp_path):
    log = list(events(store_id=lambda _: DRAW.randrange(8)))
    stores = [{"id": n, "name": f"N{n}", "refunds": n % 3} for n in range(8)]
    text, tree = draft(
        tmp_path, write_csv(tmp_path / "views.csv", log), write_csv(tmp_path / "stores.csv", stores)
    )
    assert "joined" not in tree
    assert "Not used: stores.csv" in text


def test_a_large_table_is_read_where_its_rows_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(table_heads, "_ROWS", 100)
    items = write_items(tmp_path, seller_id=lambda n: 5000 + n % 11)
    write_csv(tmp_path / "sellers.csv", [{"id": n, "level": "abc"[n % 3]} for n in range(9000)])
    head, (table,) = with_named_tables(read_head(items), "items", [read_head(tmp_path / "sellers.csv")], [])
    assert (table.key, table.shown_key, table.found) == ("id", "seller_id", 1.0)
    assert head.columns["seller_level"].values.to_pylist()[:3] == ["c", "a", "b"]
    assert with_named_tables(read_head(items), "items", [read_head(items)], [])[1] == []


def test_owners_of_items_are_users_with_all_that_is_said_of_these(tmp_path):
    users = [{"user_id": f"u{n}", "city": f"C{n % 7}", "pro": n % 2} for n in range(60)]
    paths = [
        write_csv(tmp_path / "views.csv", list(events())),
        write_items(tmp_path, owner=lambda n: f"u{n}"),
        write_csv(tmp_path / "users.csv", users),
    ]
    text, tree = draft(tmp_path, *paths)
    assert joined(tree) == {("users.csv", "owner"): "owner_"}
    assert names(tree["items"]["fields"]) == ["owner_city", "owner_pro"]  # each item has an owner of its own
    assert names(tree["users"]["fields"]) == ["city", "pro"]
    assert "Not used" not in text
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    items = open_dataset(tmp_path / "out").items
    assert len(set(np.asarray(items["field.owner_city"]).tolist())) == 2 + 7


def test_of_orders_the_rows_are_what_was_ordered_and_not_who_brought_it(tmp_path):
    lines, orders = [], []
    for number in range(500):
        orders.append(
            {"order_id": number, "customer_id": DRAW.randrange(50), "courier_id": DRAW.randrange(20)}
            | {"created_at": START + 90 * number}
        )
        for dish in DRAW.sample(range(30), 2):
            lines.append({"order_item_id": len(lines), "order_id": number, "dish_id": dish})
    dishes = [{"dish_id": n, "store_id": n % 7, "price": 3.5 + n} for n in range(30)]
    stores = [{"store_id": n, "cuisine": "abc"[n % 3]} for n in range(7)]
    tables = {
        "order_items": lines,
        "orders": orders,
        "dishes": dishes,
        "stores": stores,
        "couriers": [{"courier_id": n, "vehicle": "ab"[n % 2]} for n in range(20)],
        "customers": [{"customer_id": n, "plan": "ab"[n % 2]} for n in range(50)],
    }
    _, tree = draft(tmp_path, *(write_csv(tmp_path / f"{name}.csv", rows) for name, rows in tables.items()))
    assert (tree["user"]["column"], tree["item"]["column"]) == ("customer_id", "dish_id")
    assert tree["impressions"]["files"] == "order_items.csv"
    assert list(joined(tree)) == [
        *(("orders.csv", "order_id"), ("stores.csv", "store_id"), ("couriers.csv", "courier_id")),
    ]
    assert names(tree["items"]["fields"]) == ["store_id", "price", "store_cuisine"]


def test_jobs_with_a_salary_are_items_where_the_user_is_known(tmp_path):
    log = [{"job_ref": row.pop("item_id"), "seeker": row.pop("user_id")} | row for row in events()]
    jobs = [{"job_ref": f"i{n}", "salary": 1000 * n, "kind": "abc"[n % 3]} for n in range(40)]
    _, tree = draft(tmp_path, write_csv(tmp_path / "views.csv", log), write_csv(tmp_path / "jobs.csv", jobs))
    assert (tree["user"]["column"], tree["item"]["column"]) == ("seeker", "job_ref")
    assert tree["items"]["files"] == "jobs.csv"


@pytest.mark.parametrize("counts", [True, False])
def test_the_number_of_a_click_is_not_that_of_its_impression(tmp_path, counts):
    log = [{"id": n} | {k: v for k, v in row.items() if k != "click"} for n, row in enumerate(events())]
    chosen = [n for n in range(2000) if DRAW.random() < 0.3]
    clicks = [
        ({"id": n, "impression_id": shown} if counts else {"id": shown})
        | {"clicked_at": START + 60 * shown + 5}
        for n, shown in enumerate(chosen)
    ]
    _, tree = draft(
        tmp_path, write_csv(tmp_path / "impressions.csv", log), write_csv(tmp_path / "clicks.csv", clicks)
    )
    assert tree["outcomes"][0]["key"] == (["impression_id"] if counts else ["id"])
    assert tree["labels"][0]["delay"] == 5


def test_where_an_order_is_brought_to_is_known_before_it(tmp_path):
    log = [row | {"delivery_zone_id": DRAW.randrange(9), "delivery_minutes": 5} for row in events()]
    for row in log:
        row["delivery_minutes"] = DRAW.randrange(40)
    text, tree = draft(tmp_path, write_csv(tmp_path / "views.csv", log))
    assert names(tree["impressions"]["fields"]) == ["delivery_zone_id"]
    assert "left out: delivery_minutes (by its name written after the outcome)" in text


def test_the_key_of_a_table_is_its_own_id_and_not_one_that_it_names(tmp_path):
    log = [
        {"ad_id": 1000 + int(row.pop("item_id")[1:]), "user_id": int(row.pop("user_id")[1:])} | row
        for row in events()
    ]
    tables = {
        "impressions": log,
        "ads": [{"id": 1000 + n, "campaign_id": n % 15, "format": "xyz"[n % 3]} for n in range(40)],
        "campaigns": [{"id": n, "goal": "pq"[n % 2]} for n in range(15)],
        "users": [{"id": n, "household_id": n % 25, "age": 20 + n} for n in range(60)],
        "households": [{"id": n, "income_band": "abc"[n % 3]} for n in range(25)],
    }
    _, tree = draft(tmp_path, *(write_csv(tmp_path / f"{name}.csv", rows) for name, rows in tables.items()))
    assert (tree["items"]["item"], tree["users"]["user"]) == ("id", "id")
    assert names(tree["items"]["fields"]) == ["campaign_id", "format", "campaign_goal"]
    assert names(tree["users"]["fields"]) == ["household_id", "age", "household_income_band"]


def test_a_table_of_something_else_that_impressions_name_is_not_that_of_items(tmp_path):
    log = [{"ad_id": int(row.pop("item_id")[1:])} | row for row in events()]
    log = [row | {"campaign_id": row["ad_id"] % 15} for row in log]
    campaigns = [{"campaign_id": n, "goal": "pq"[n % 2]} for n in range(15)]
    _, tree = draft(
        tmp_path, write_csv(tmp_path / "views.csv", log), write_csv(tmp_path / "campaigns.csv", campaigns)
    )
    assert joined(tree) == {("campaigns.csv", "campaign_id"): "campaign_"}
    assert "files" not in tree["items"]
    assert names(tree["items"]["fields"]) == ["campaign_id", "campaign_goal"]


def test_a_column_to_keep_may_stand_in_a_named_table(tmp_path):
    items = write_items(tmp_path, seller_id=lambda n: n % 10)
    sellers = [{"id": n, "name": f"N{n}", "click_count": 7 * n % 5, "tier": "ab"[n % 2]} for n in range(10)]
    stores = [{"id": n, "size": n % 3, "refunds": n % 5} for n in range(8)]
    log = [row | {"store_id": DRAW.randrange(8)} for row in events()]
    paths = [
        write_csv(tmp_path / "views.csv", log),
        items,
        write_csv(tmp_path / "sellers.csv", sellers),
        write_csv(tmp_path / "stores.csv", stores),
    ]
    tree = tomllib.loads(guess(paths, tmp_path, keep=["click_count"]))
    assert names(tree["items"]["fields"]) == ["seller_id", "seller_click_count", "seller_tier"]
    assert names(tree["impressions"]["fields"]) == ["store_id", "store_size"]
    tree = tomllib.loads(guess(paths, tmp_path, keep=["refunds"]))
    assert names(tree["impressions"]["fields"]) == ["store_id", "store_size", "store_refunds"]


def test_what_users_saw_of_something_else_is_no_attribute_of_theirs(tmp_path):
    log = [row | {"document_id": DRAW.randrange(30)} for row in events()]
    seen = [
        {"user_id": f"u{n % 60}", "document_id": DRAW.randrange(30), "minute": n, "source": "abc"[n % 3]}
        for n in range(900)
    ]
    text, tree = draft(
        tmp_path, write_csv(tmp_path / "views.csv", log), write_csv(tmp_path / "pages.csv", seen)
    )
    assert "users" not in tree
    assert "Not used: pages.csv" in text


def test_several_rows_of_what_an_item_names_are_lists(tmp_path):
    items = write_items(tmp_path, seller_id=lambda n: n % 10)
    sellers = [{"id": n, "tier": "ab"[n % 2]} for n in range(10)]
    badges = [{"seller_id": n, "badge": f"b{(n + k) % 5}"} for n in range(10) for k in range(1 + n % 3)]
    text, tree = draft(
        tmp_path,
        write_csv(tmp_path / "views.csv", events()),
        items,
        write_csv(tmp_path / "sellers.csv", sellers),
        write_csv(tmp_path / "seller_badges.csv", badges),
    )
    assert "Not used" not in text
    assert [(table["files"], table.get("several", False)) for table in tree["joined"]] == [
        ("sellers.csv", False),
        ("seller_badges.csv", True),
    ]
    fields = {field["name"]: field.get("values", 1) for field in tree["items"]["fields"]}
    assert fields == {"seller_id": 1, "seller_tier": 1, "seller_badge": 3}


def test_the_groups_of_the_tags_of_an_item_are_a_list(tmp_path):
    tags = [{"item_id": f"i{n}", "tag_id": (n + k) % 20} for n in range(40) for k in range(1 + n % 3)]
    groups = [{"tag_id": n, "group": f"g{(n + k) % 6}"} for n in range(20) for k in range(1 + n % 2)]
    paths = [
        write_csv(tmp_path / f"{name}.csv", rows)
        for name, rows in (("views", events()), ("item_tags", tags), ("tag_groups", groups))
    ]
    _, tree = draft(tmp_path, *paths)
    (table,) = tree["joined"]
    assert (table["files"], table["several"]) == ("tag_groups.csv", True)
    (more,) = tree["items"]["more"]
    assert {field["name"]: field["values"] for field in more["fields"]} == {"tag_id": 3, "tag_group": 5}


def test_what_all_have_alike_is_no_list(tmp_path):
    items = write_items(tmp_path, seller_id=lambda n: n % 10)
    hours = [{"seller_id": n, "weekday": day, "opens": 8 + n % 3} for n in range(10) for day in range(7)]
    _, tree = draft(
        tmp_path, write_csv(tmp_path / "views.csv", events()), items, write_csv(tmp_path / "hours.csv", hours)
    )
    assert names(tree["items"]["fields"]) == ["seller_id", "seller_opens"]


@pytest.mark.parametrize("column", ["at", "id", "user_id"])
def test_events_and_things_of_what_an_item_names_are_no_lists(tmp_path, column):
    items = write_items(tmp_path, seller_id=lambda n: n % 10)
    made = {"at": "2024-01-01 10:00:00", "id": 0, "user_id": "u1"}
    sales = [
        {"seller_id": n % 10, "kind": "abc"[n % 3], column: n if column == "id" else made[column]}
        for n in range(300)
    ]
    if column != "id":
        for n, row in enumerate(sales):
            row[column] = f"u{n % 60}" if column == "user_id" else f"2024-01-01 {n % 24:02}:00:00"
    text, _ = draft(
        tmp_path,
        write_csv(tmp_path / "views.csv", events()),
        items,
        write_csv(tmp_path / "notes.csv", sales),
    )
    assert "several = true" not in text


@pytest.mark.parametrize("separator", ["|", ";"])
def test_lists_of_an_item_name_rows_of_another_table(tmp_path, separator):
    items = write_items(
        tmp_path, tag_ids=lambda n: separator.join(str((n + k) % 20) for k in range(1 + n % 3))
    )
    tags = [{"id": n, "title": f"T{n}", "group": f"g{n % 6}"} for n in range(20)]
    _, tree = draft(
        tmp_path, write_csv(tmp_path / "views.csv", events()), items, write_csv(tmp_path / "tags.csv", tags)
    )
    (table,) = tree["joined"]
    assert (table["files"], table["shown_key"]) == ("tags.csv", ["tag_ids"])
    assert table["entry_separator"] == separator
    assert {field["name"]: field["values"] for field in tree["items"]["fields"]} == {
        "tag_ids": 3,
        "tag_group": 3,
    }
    assert "separator" not in tree["items"]["fields"][1]
