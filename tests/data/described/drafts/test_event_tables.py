"""Users and items of tables of events, where several columns may hold their ids, or where no name tells."""

import random
import tomllib
from typing import Any

import pytest

from clickscale.errors import InputError
from tests.data.described.logs import START, drafted, save

CODES = [f"SKU-{n:05}" for n in range(50)]


def visits(known: float, rows: int = 1200, nobody: str = "") -> list[dict[str, Any]]:
    """Impressions of 60 cookies in visits of 4 rows, a share of them signed in."""
    draw = random.Random(3)
    for n in range(rows):
        visit, cookie = n // 4, n // 4 % 60
        yield {
            "user_id": f"{700 + cookie}" if draw.random() < known else nobody,
            "domain_userid": f"cookie{cookie}",
            "visit_key": f"v{visit * 7919 % 100_003}",
            "time": START + 3600 * visit + n % 4,
            "app_id": "shop",
            "shown": draw.choice(CODES),
            "clicked": int(draw.random() < 0.3),
        }


def draft(folder, rows, *tables):
    """Write the log; return the text of its draft, and the tree."""
    save(folder, rows, "log.csv")
    text = drafted(folder, "log.csv", *tables)
    return text, tomllib.loads(text)


@pytest.mark.parametrize(
    ("known", "nobody", "user"),
    [(0.4, "", "domain_userid"), (0.4, "guest", "domain_userid"), (0.95, "", "user_id")],
)
def test_a_user_id_that_many_rows_lack_gives_way_to_one_that_all_have(tmp_path, known, nobody, user):
    text, tree = draft(tmp_path, list(visits(known, nobody=nobody)))
    assert tree["user"]["column"] == user
    named = [
        field["name"] for table in ("impressions", "users") for field in tree.get(table, {}).get("fields", [])
    ]
    if user == "domain_userid":
        assert "user_id" not in named
        assert "# left out: user_id (another id of users, which many rows lack)" in text
        assert "guests" not in tree["impressions"]


def test_without_a_complete_id_rows_without_one_are_guests(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "domain_userid"} for row in visits(0.4)]
    _, tree = draft(tmp_path, rows)
    assert tree["user"]["column"] == "user_id"
    assert tree["impressions"]["guests"] == [""]


def test_an_id_of_others_is_none_of_the_user(tmp_path):
    draw = random.Random(4)
    rows = [{**row, "domain_userid": "", "seller_user_id": f"s{draw.randrange(40)}"} for row in visits(0.4)]
    _, tree = draft(tmp_path, [{key: row[key] for key in row if key != "domain_userid"} for row in rows])
    assert tree["user"]["column"] == "user_id"


def test_a_table_of_users_tells_of_the_impressions_that_name_them(tmp_path):
    save(tmp_path, [{"user_id": 700 + n, "age": 20 + n % 37} for n in range(60)], "crm.csv")
    _, tree = draft(tmp_path, list(visits(0.4)), "crm.csv")
    (joined,) = tree["joined"]
    assert joined["key"] == ["user_id"]
    assert "user_age" in [field["name"] for field in tree["impressions"]["fields"]]
    assert "items" not in tree or "files" not in tree["items"]


def test_codes_that_come_again_with_many_users_are_items_where_no_name_tells(tmp_path):
    text, tree = draft(tmp_path, list(visits(0.4)))
    assert tree["item"]["column"] == "shown"
    assert "# codes that come again with other users" in text
    assert "# left out: app_id (it has one value in 1,200 sampled rows)" in text


def test_ids_of_visits_are_no_features(tmp_path):
    text, _ = draft(tmp_path, list(visits(0.4)))
    assert "# left out: visit_key (an id of one request or visit, which does not come back)" in text


def test_ids_that_a_user_keeps_are_no_visits(tmp_path):
    rows = [{**row, "phone_key": f"p{n % 240}"} for n, row in enumerate(visits(0.4))]
    text, _ = draft(tmp_path, rows)
    assert "phone_key (an id" not in text


def exchange(shared: float, rows: int = 3000) -> list[dict[str, Any]]:
    """Impressions of 50 ads without a name, in apps and on sites; a share of them in no app."""
    draw = random.Random(6)
    for n in range(rows):
        ad, device = draw.randrange(50), draw.randrange(90)
        yield {
            "click": int(draw.random() < 0.2),
            "time": START + 60 * n,
            "device_id": f"d{device}",
            "app_id": "none-at-all" if draw.random() < shared else f"a{draw.randrange(40)}",
            "site_id": f"s{draw.randrange(30)}",
            "C14": 15_700 + ad,
            "C17": 1700 + ad // 2,
            "C18": draw.randrange(4),
            "C21": ad // 5,
        }


def test_an_app_in_which_ads_are_shown_gives_way_to_what_tells_of_an_ad(tmp_path):
    text, tree = draft(tmp_path, list(exchange(0.6)))
    assert tree["item"]["column"] == "C14"
    assert "# it tells C17 and C21 as an ad does, and app_id says where it was shown" in text
    assert {"app_id", "site_id", "C18"} <= {field["name"] for field in tree["impressions"]["fields"]}
    assert {"C17", "C21"} == {field["name"] for field in tree["items"]["fields"]}


def test_an_app_that_most_rows_have_their_own_of_stays_the_item_and_the_other_is_named(tmp_path):
    text, tree = draft(tmp_path, list(exchange(0.0)))
    assert tree["item"]["column"] == "app_id"
    assert (
        '# If app_id only says where an ad was shown, and C14 which it was:\n#   item = { name = "item"'
        in text
    )


@pytest.mark.parametrize("without", ["C14", "site_id"])
def test_without_an_ad_or_other_places_an_app_is_the_item(tmp_path, without):
    rows = [{name: row[name] for name in row if name != without} for row in exchange(0.6)]
    text, tree = draft(tmp_path, rows)
    assert tree["item"]["column"] == "app_id"
    assert without != "site_id" or "says where" not in text


def test_a_second_id_of_the_user_or_the_item_is_no_feature(tmp_path):
    draw = random.Random(8)
    rows = []
    for n in range(2400):
        user, item = draw.randrange(60), draw.randrange(40)
        rows.append(
            {
                "user_id": f"u{user}",
                "crm": f"{user * 7919 % 1009}-x",
                "item_id": f"i{item}",
                "slug": f"thing-{item * 31 % 97}",
                "brand": f"b{item % 35}",
                "time": START + 60 * n,
                "clicked": int(draw.random() < 0.3),
            }
        )
    text, tree = draft(tmp_path, rows)
    assert "# left out: crm (each user has one of its own, so it is a second id)" in text
    assert "# left out: slug (each item has one of its own, so it is a second id)" in text
    assert [field["name"] for field in tree["items"]["fields"]] == ["brand"]


def test_documents_with_an_id_of_their_own_are_those_of_users(tmp_path):
    ids = [f"{7919 * n % 100_003:024x}" for n in range(120)]
    rows = [
        {
            "_id": {"$oid": f"{n:024x}"},
            "user": {"$oid": ids[n % 50]},
            "item_id": f"i{n * 7 % 30}",
            "time": START + 60 * n,
            "clicked": n % 3 == 0,
        }
        for n in range(1500)
    ]
    people = [{"_id": {"$oid": key}, "tier": "abc"[n % 3]} for n, key in enumerate(ids)]
    save(tmp_path, people, "users.jsonl")
    save(tmp_path, rows, "log.jsonl")
    text = drafted(tmp_path, "log.jsonl", "users.jsonl")
    tree = tomllib.loads(text)
    assert tree["user"]["column"] == "user.$oid"
    assert (tree["users"]["files"], tree["users"]["user"]) == ("users.jsonl", "_id.$oid")
    assert "Not used" not in text


def test_a_time_that_cannot_be_read_is_no_feature(tmp_path):
    rows = [{**row, "time": 133 * n + 1} for n, row in enumerate(visits(0.95))]
    text, tree = draft(tmp_path, rows)
    assert tree["impressions"]["order"] == "rows"
    assert 'WARNING: "time"' in text
    assert "# left out: time (by its name a time that moves on, and it is not read as one)" in text


def test_an_id_of_which_each_has_rows_of_one_user_is_no_item(tmp_path):
    draw = random.Random(7)
    log = [
        {
            "user_id": n // 5 % 60,
            "assignment_id": n // 5,
            "problem_id": draw.randrange(40),
            "time": START + 900 * n,
        }
        | {"correct": int(draw.random() < 0.6)}
        for n in range(1_500)
    ]
    _, tree = draft(tmp_path, log)
    assert tree["item"]["column"] == "problem_id"


def test_the_number_of_a_row_is_no_user_where_no_name_helps(tmp_path):
    draw = random.Random(8)
    log = [
        {"lp": n, "kto": f"k{draw.randrange(50)}", "co": f"c{draw.randrange(40)}", "time": START + 900 * n}
        for n in range(900)
    ]
    text, tree = draft(tmp_path, log)
    assert (tree["user"]["column"], tree["item"]["column"]) == ("kto", "co")
    assert "# WARNING: no name tells the user and the item, so the first two ids are taken for them." in text


def test_answers_to_offers_are_impressions_and_not_the_table_that_describes_places(tmp_path):
    draw = random.Random(9)
    offers = [
        {"offer_id": f"f{n}", "driver_id": f"d{draw.randrange(50)}", "pickup": f"z{draw.randrange(30)}"}
        | {"offered_at": START + 900 * n, "outcome": draw.choice(["ACCEPTED", "DECLINED", "TIMEOUT"])}
        for n in range(1_500)
    ]
    save(
        tmp_path,
        [{"zone": f"z{n}", "airport": int(n % 7 == 0), "kind": f"k{n % 4}"} for n in range(30)],
        "zones.csv",
    )
    _, tree = draft(tmp_path, offers, "zones.csv")
    assert tree["impressions"]["files"] == "log.csv"
    assert tree["user"]["column"] == "driver_id"
    assert tree["labels"][0]["condition"] == "outcome == 'ACCEPTED'"
    assert tree["joined"][0]["files"] == "zones.csv"
    assert "item" not in tree  # the id of an offer is that of its row


def test_a_table_that_a_longer_one_names_is_no_log_by_the_place_of_its_columns(tmp_path):
    draw = random.Random(10)
    shown = [
        {"ref": f"x{draw.randrange(60)}", "when": START + 60 * n, "size": draw.random()} for n in range(900)
    ]
    things = [
        {"ref": f"x{n}", "maker": f"m{n % 40}", "owner": f"o{n % 35}", "since": START + n} for n in range(60)
    ]
    with pytest.raises(InputError, match="No table has columns for user, item and time"):
        draft(tmp_path, shown, save(tmp_path, things, "things.csv").name)


@pytest.mark.parametrize(
    ("column", "left_out"),
    [("VBELN", True), ("SRCH", True), ("balance", False), ("budget", False), ("query", False)],
)
def test_a_code_that_each_request_has_for_itself_is_no_feature(tmp_path, column, left_out):
    draw = random.Random(11)
    values = {
        "VBELN": "{0:010d}",
        "SRCH": "{0}",  # counts up with time
        "balance": "{3}",
        "budget": "{1}",
        "query": "red shoes {2}",
    }
    log = [
        {"user_id": f"u{visit % 50}", "item_id": f"i{draw.randrange(40)}", "time": START + 9_000 * visit}
        | {
            column: values[column].format(
                80_000 + visit, 10 * (visit * 7 % 30), "abcdefgh"[visit % 8], visit * 37_919 % 100_003
            )
        }
        | {"place": place, "clicked": int(draw.random() < 0.3)}
        for visit in range(400)
        for place in range(4)
    ]
    text, tree = draft(tmp_path, log)
    assert (f"# left out: {column} (an id of one request" in text) == left_out
    assert (column in [field["name"] for field in tree["impressions"]["fields"]]) == (not left_out)


def test_a_table_with_a_row_for_each_item_is_no_log_where_a_longer_one_is(tmp_path):
    draw = random.Random(12)
    shown = [
        {
            "cookie_md5": f"{draw.randrange(90) ** 9:032x}",
            "banner_id": draw.randrange(60),
            "time": START + 60 * n,
        }
        | {"is_odd": n % 2, "is_call": (called := int(draw.random() < 0.3))}
        | {"call_dt": START + 60 * n + 9 if called else ""}
        for n in range(900)
    ]
    banners = [
        {"client_id": 7 + n % 20, "banner_id": n, "created": START - 9_000 * n, "rubric": f"r{n % 5}"}
        for n in range(60)
    ]
    _, tree = draft(tmp_path, shown, save(tmp_path, banners, "banners.csv").name)
    assert tree["impressions"]["files"] == "log.csv"
    assert tree["user"]["column"] == "cookie_md5"
    assert (tree["items"]["files"], tree["labels"][0]["column"]) == ("banners.csv", "is_call")


def test_the_one_address_of_each_user_is_no_item(tmp_path):
    draw = random.Random(6)
    rows = []
    for n in range(900):
        user = draw.randrange(60)
        shown = f"ad{draw.randrange(40)}"
        rows.append([START + 60 * n, f"u{user}", f"10.0.0.{user}", shown, int(draw.random() < 0.3)])
    (tmp_path / "log.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    tree = tomllib.loads(drafted(tmp_path, "log.csv"))
    assert (tree["user"]["column"], tree["item"]["column"]) == ("column_2", "column_4")
