"""A first draft of the description of a log, from its tables alone."""

import gzip
import json
import random
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.errors import InputError
from clickscale.schema import usual_statistics
from tests.data.sources import check_columns, drained

START = 1_600_000_000


def shop(rows=300, seed=0):
    """Rows of a plain log: 40 users, 30 items with a category and a price each."""
    draw = random.Random(seed)
    for n in range(rows):
        user, item = draw.randrange(40), draw.randrange(30)
        yield {
            "user_id": f"u{user}",
            "item_id": item,
            "timestamp": START + 60 * n,
            "clicked": int(draw.random() < 0.3),
            "category": f"c{item % 7}",
            "price": round(1.5 * item + 0.99, 2),
            "age": 20 + user % 30,
            "position": draw.randrange(10),
        }


def write_csv(path, rows, separator=",", header=True):
    rows = list(rows)
    lines = [separator.join(rows[0])] if header else []
    lines += [separator.join(str(value) for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def draft(folder, *paths):
    text = guess(paths, folder)
    (folder / "log.toml").write_text(text)
    return text, tomllib.loads(text)


def test_a_plain_csv_needs_no_editing(tmp_path):
    _, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", shop()))
    assert tree["user"] == {"name": "user", "column": "user_id"}
    assert tree["item"] == {"name": "item", "column": "item_id", "dtype": "int"}
    assert tree["labels"] == [{"name": "clicked", "column": "clicked"}]
    assert tree["impressions"]["files"] == "shop.csv"
    assert tree["impressions"]["time"] == "timestamp"
    assert tree["impressions"]["fields"] == [{"name": "position"}]
    assert [field["name"] for field in tree["items"]["fields"]] == ["category", "price"]
    assert tree["items"]["fields"][1]["kind"] == "numeric"
    assert tree["users"]["fields"] == [{"name": "age", "kind": "numeric"}]
    assert tree["behaviors"]["fields"] == [{"name": "past_clicked", "column": "clicked"}]
    source = load_log(tmp_path / "log.toml")
    check_columns(source)
    tables = drained(source)
    assert (len(tables["impressions"]), len(tables["items"]), len(tables["users"])) == (300, 30, 40)


def test_whole_numbers_are_amounts_where_outcomes_follow_their_order(tmp_path):
    draw, clicks, items = random.Random(0), [], []
    for item in range(300):
        items.append({"item_id": f"i{item}", "weight": draw.randrange(1000), "shelf": draw.randrange(1000)})
    for n in range(6000):
        item, level, slot = draw.choice(items), draw.randrange(1000), draw.randrange(1000)
        chance = 0.05 + 0.4 * (level > 500) + 0.4 * (item["weight"] > 500)
        row = {"user_id": f"u{draw.randrange(40)}", "item_id": item["item_id"], "timestamp": START + 60 * n}
        clicks.append(row | {"clicked": int(draw.random() < chance), "level": level, "slot": slot})
    paths = (write_csv(tmp_path / "clicks.csv", clicks), write_csv(tmp_path / "items.csv", items))
    text, tree = draft(tmp_path, *paths)
    kinds = {
        field["name"]: field.get("kind") for field in tree["impressions"]["fields"] + tree["items"]["fields"]
    }
    assert kinds == {"level": "numeric", "slot": None, "weight": "numeric", "shelf": None}
    assert "numbers, of which neighbors have similar outcomes" in text


def test_statistics_are_declared_with_their_meaning(tmp_path):
    text, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", shop()))
    found = {each["name"]: (each["by"], each["of"]) for each in tree["statistics"]}
    for of in ("rate", "count"):
        assert found[f"item_{of}"] == (["item"], of)
        assert found[f"user_{of}"] == (["user"], of)
        assert found[f"user_category_{of}"] == (["user", "category"], of)
    assert found["user_category_lift"] == (["user", "category"], "lift")
    assert "smoothed label rate of earlier impressions of the same user and category, 1 day back" in text
    assert "category stands for the kind of an item: by its name." in text
    assert all("#" in line for line in text.splitlines() if line.startswith("[[statistics]]"))
    usual = [each for each in usual_statistics("category") if each.of != "recency"]  # of users who come back
    assert list(load_log(tmp_path / "log.toml").schema.statistics) == usual


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"shelf": lambda n: n % 5, "maker": lambda n: f"m{n // 2}"}, "maker"),  # 5 and 30 values
        ({"shelf": lambda n: n % 5, "genres": lambda n: f"g{n % 4}|g{n % 3}"}, "genres"),  # a telling name
        ({"energy_class": lambda n: "ABCDE"[n % 5], "maker": lambda n: f"m{n // 2}"}, "maker"),
        ({"product_class": lambda n: "ABCDE"[n % 5], "maker": lambda n: f"m{n // 2}"}, "product_class"),
        ({"Branche": lambda n: f"b{n % 5}", "Firma": lambda n: f"m{n // 2}"}, "Branche"),
        ({"editoria": lambda n: f"b{n % 5}", "autor": lambda n: f"m{n // 2}"}, "editoria"),
        ({"sección": lambda n: f"b{n % 5}", "marca": lambda n: f"m{n // 2}"}, "seccion"),
        ({"editorial": lambda n: f"b{n % 5}", "maker": lambda n: f"m{n // 2}"}, "maker"),
        ({"stage": lambda n: "ABCDE"[n % 5], "maker": lambda n: f"m{n // 2}"}, "maker"),
        ({"flag": lambda n: n % 2}, ""),  # too few
        ({"width": lambda n: n / 8}, ""),  # a number
    ],
)
def test_the_kind_of_an_item_is_the_field_that_says_it_best(tmp_path, columns, chosen):
    clicks = [{key: row[key] for key in ("user_id", "item_id", "timestamp", "clicked")} for row in shop()]
    items = [{"item_id": n, **{name: make(n) for name, make in columns.items()}} for n in range(60)]
    write_csv(tmp_path / "items.csv", items)
    _, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", clicks), tmp_path / "items.csv")
    keys = {key for each in tree["statistics"] for key in each["by"]}
    assert keys == {"user", "item", *([chosen] if chosen else [])}


def test_every_field_and_choice_carries_its_reason(tmp_path):
    text, _ = draft(tmp_path, write_csv(tmp_path / "shop.csv", shop()))
    for line in text.splitlines():
        if line.startswith(("  {", "user =", "item =", "time_unit")):
            assert "#" in line, line


def test_names_of_other_conventions_are_known(tmp_path):
    rows = [
        {
            "reviewerID": r["user_id"],
            "asin": f"B{r['item_id']}",
            "unixReviewTime": r["timestamp"],
            "overall": n % 5 + 1.0,
        }
        for n, r in enumerate(shop())
    ]
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    _, tree = draft(tmp_path, path)
    assert (tree["user"]["column"], tree["item"]["column"]) == ("reviewerID", "asin")
    assert tree["labels"] == [{"name": "like", "condition": "overall >= 4"}]
    assert tree["behaviors"]["fields"] == [{"name": "past_overall", "column": "overall"}]


def test_feedback_is_kept_out_of_the_context(tmp_path):
    rows = [{**r, "play_time_ms": n, "reward": 3.5 * r["clicked"] + n / 1e6} for n, r in enumerate(shop())]
    text, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", rows))
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["position"]
    assert {field["name"] for field in tree["behaviors"]["fields"]} == {
        "past_clicked",
        "past_play_time_ms",
        "past_reward",
    }
    assert "it nearly determines the label" in text


def test_a_flag_that_every_positive_has_is_feedback(tmp_path):
    draw = random.Random(3)
    rows = [
        {k: v for k, v in row.items() if k != "clicked"}
        | {"opened": row["clicked"], "liked": int(row["clicked"] and draw.random() < 0.5), "big": n % 2}
        for n, row in enumerate(shop())
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", rows))
    assert [label["column"] for label in tree["labels"]] == ["liked"]
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["position", "big"]
    assert [field["column"] for field in tree["behaviors"]["fields"]] == ["liked", "opened"]


def test_free_text_constants_and_row_numbers_are_left_out(tmp_path):
    rows = [
        {**r, "event_id": n, "site": "x", "query": f"a long question number {n} about things"}
        for n, r in enumerate(shop())
    ]
    text, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", rows))
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["position"]
    for reason in ("event_id (it differs in every row)", "site (it has one value in", "query (free text)"):
        assert f"# left out: {reason}" in text


def test_without_a_label_negatives_are_sampled_with_a_warning(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "clicked"} for row in shop()]
    text, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", rows))
    assert tree["negatives"] == 4
    assert "labels" not in tree
    assert "WARNING" in text
    assert "how many of a thousand earlier positives are of the same item, 30 days back" in text
    assert "the same user have this category, next to all positives, 7 days back" in text
    read = load_log(tmp_path / "log.toml")
    assert read.negatives == 4
    usual = [each for each in usual_statistics("category", drawn=True) if each.of != "recency"]
    assert list(read.schema.statistics) == usual


def test_without_a_label_the_columns_that_may_be_one_are_named(tmp_path):
    rows = [
        {("seen" if k == "clicked" else k): v for k, v in row.items()} | {"kept": n % 2}
        for n, row in enumerate(shop())
    ]
    text, tree = draft(tmp_path, write_csv(tmp_path / "shop.csv", rows))
    assert tree["negatives"] == 4
    assert '# Columns with two values, such as 0 and 1: "seen", "kept".' in text


def test_separate_tables_are_told_apart(tmp_path):
    clicks = [{key: row[key] for key in ("user_id", "item_id", "timestamp", "clicked")} for row in shop()]
    pq.write_table(pa.Table.from_pylist(clicks), tmp_path / "impressions.parquet")
    views = [
        {"user_id": r["user_id"], "item_id": r["item_id"], "ts": r["timestamp"] * 1000} for r in shop(400)
    ]
    write_csv(
        tmp_path / "views.tsv",
        [{**view, "action": ("view", "buy")[n % 2]} for n, view in enumerate(views)],
        "\t",
    )
    pq.write_table(
        pa.table({"id": list(range(30)), "tags": [["a", "b"]] * 29 + [["a"]], "vec": [[0.5, 1.0]] * 30}),
        tmp_path / "items.parquet",
    )
    write_csv(tmp_path / "members.csv", [{"user_id": f"u{n}", "gender": "fm"[n % 2]} for n in range(40)], ";")
    names = ("members.csv", "items.parquet", "views.tsv", "impressions.parquet")
    _, tree = draft(tmp_path, *(tmp_path / name for name in names))
    assert tree["impressions"]["files"] == "impressions.parquet"
    assert tree["items"]["item"] == "id"
    assert tree["items"]["fields"][0] == {"name": "tags", "values": 2}
    assert tree["items"]["fields"][1] == {"name": "vec", "kind": "content", "width": 2}
    assert (tree["users"]["files"], tree["users"]["separator"]) == ("members.csv", ";")
    assert (tree["behaviors"]["time"], tree["behaviors"]["time_unit"]) == ("ts", "ms")
    assert tree["behaviors"]["fields"] == [{"name": "past_action", "column": "action"}]
    source = load_log(tmp_path / "log.toml")
    check_columns(source)
    assert drained(source)["behaviors"][0]["time"] == START


def test_a_table_without_names_goes_by_place_and_values(tmp_path):
    rows = [{"u": n % 40, "i": n % 30, "a": ("pv", "buy")[n % 2], "t": START + n} for n in range(300)]
    text, tree = draft(tmp_path, write_csv(tmp_path / "log.csv", rows, header=False))
    assert tree["impressions"]["names"] == ["column_1", "column_2", "column_3", "column_4"]
    assert (tree["user"]["column"], tree["item"]["column"]) == ("column_1", "column_2")
    assert tree["behaviors"]["fields"] == [{"name": "past_column_3", "column": "column_3"}]
    assert "by its position" in text
    check_columns(load_log(tmp_path / "log.toml"))


def test_tables_without_names_are_joined_to_the_ids_that_they_have_in_common(tmp_path):
    rows = [{"u": n % 40, "i": n % 90, "r": 1 + n % 5, "t": START + n} for n in range(900)]
    log = write_csv(tmp_path / "a.data", rows, "\t", header=False)
    goods = [{"id": n, "title": f"Title {n} (a, {n})" if n > 1 else "Same", "kind": n % 7} for n in range(90)]
    people = [{"id": n, "age": 20 + n % 30, "sex": "fm"[n % 2]} for n in range(40)]
    # The ids of the items hold those of the users, and the endings of the files are unknown.
    for order in (("a.b", "a.c"), ("a.c", "a.b")):
        tables = (write_csv(tmp_path / order[0], goods, "|", header=False),)
        tables += (write_csv(tmp_path / order[1], people, "|", header=False),)
        text, tree = draft(tmp_path, log, *sorted(tables))
        assert (tree["items"]["files"], tree["users"]["files"]) == order
        assert (tree["user"]["column"], tree["items"]["item"]) == ("column_1", "column_1")
        assert [field["name"] for field in tree["items"]["fields"]] == ["column_3"]
        assert "# left out: column_2 (it differs in nearly every row)" in text
        check_columns(load_log(tmp_path / "log.toml"))


def test_a_table_whose_key_holds_lists_is_not_joined(tmp_path):
    log = write_csv(tmp_path / "log.csv", shop())
    pq.write_table(
        pa.table({"item_id": [[n, n + 1] for n in range(30)], "kind": [n % 4 for n in range(30)]}),
        tmp_path / "bundles.parquet",
    )
    text, tree = draft(tmp_path, log, tmp_path / "bundles.parquet")
    assert "files" not in tree["items"]
    assert "# Not used: bundles.parquet" in text


def test_rows_without_users_and_times_whose_outcomes_stand_in_runs_are_warned_of(tmp_path):
    draw = random.Random(5)

    def write(run):
        """Write rows of which a positive has copies beside it."""
        rows = [
            {"label": int(draw.random() < 0.3), "x": draw.randrange(9), "h": draw.randrange(1000)}
            for _ in range(400)
        ]
        copies = [copy for row in rows for copy in [row] * (run if row["label"] else 1)]
        return write_csv(tmp_path / "log.csv", copies, header=False)

    text, tree = draft(tmp_path, write(15))
    assert "# WARNING: positives and negatives stand together in runs" in text
    assert tree["impressions"]["order"] == "rows"
    # A value of a row tells its copies, and no other row.
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["column_2", "column_3"]
    text, _ = draft(tmp_path, write(1))
    assert "WARNING" not in text


def test_odd_column_names_become_fit_field_names(tmp_path):
    rows = [
        {
            **{k: v for k, v in r.items() if k != "position"},
            **{"slot no.": r["position"], "1st": n % 3, "設備(型)": n % 5, "Größe": n % 7},
        }
        for n, r in enumerate(shop())
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "my shop.2020.csv", rows))
    assert tree["impressions"]["fields"] == [
        {"name": "slot_no", "column": "slot no."},
        {"name": "f_1st", "column": "1st"},
        {"name": "設備_型", "column": "設備(型)"},
        {"name": "Grosse", "column": "Größe"},
    ]
    check_columns(load_log(tmp_path / "log.toml"))


def test_tables_without_user_item_and_time_are_an_error_that_shows_what_they_have(tmp_path):
    path = write_csv(tmp_path / "t.csv", [{"user_id": n, "item_id": n} for n in range(30)])
    with pytest.raises(InputError, match=r"t\.csv has user user_id, item item_id, but no time column"):
        guess([path])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"empty\.csv is empty"):
        guess([tmp_path / "empty.csv"])


def test_a_draft_warns_of_a_device_that_stands_for_all_unknown_ones(tmp_path):
    """As in Avazu's log, whose hours have years of two digits."""
    draw = random.Random(3)
    rows = [
        {
            "click": int(draw.random() < 0.2),
            "hour": f"1410{21 + n // 300}{n // 30 % 10:02}",
            "banner_pos": draw.randrange(3),
            "app_id": f"a{draw.randrange(60)}",
            "device_id": "a99f214a" if draw.random() < 0.8 else f"d{draw.randrange(200)}",
        }
        for n in range(1500)
    ]
    text, tree = draft(tmp_path, write_csv(tmp_path / "clicks.csv", rows))
    assert tree["user"]["column"] == "device_id"
    assert "% of the rows have the user a99f214a. If it stands for" in text
    assert text.count("# WARNING") == 1
    assert (tree["impressions"]["time"], tree["impressions"]["time_unit"]) == ("hour", "YYMMDDHH")
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["banner_pos"]
    tables = drained(load_log(tmp_path / "log.toml"))
    assert tables["impressions"][0]["time"] == 1_413_849_600  # 2014-10-21 00:00 UTC


def test_hotels_that_a_search_showed_have_outcomes_and_no_user(tmp_path):
    """As in Expedia's log: a search is no user, a country is none either, and a booking is feedback."""
    draw = random.Random(4)
    rows = [
        {
            "srch_id": n // 10,
            "date_time": f"2013-01-{1 + n // 100:02} 10:00:00",
            "visitor_location_country_id": draw.randrange(30),
            "prop_id": draw.randrange(80),
            "srch_length_of_stay": draw.randrange(1, 9),
            "position": n % 10,
            "click_bool": int(draw.random() < 0.3),
        }
        for n in range(1500)
    ]
    for row in rows:
        row["booking_bool"] = int(row["click_bool"] and draw.random() < 0.5)
    _, tree = draft(tmp_path, write_csv(tmp_path / "hotels.csv", rows))
    assert ("user" in tree, tree["item"]["column"]) == (False, "prop_id")
    assert [label["column"] for label in tree["labels"]] == ["click_bool", "booking_bool"]
    assert [field["name"] for field in tree["impressions"]["fields"]] == [
        "visitor_location_country_id",
        "srch_length_of_stay",
        "position",
    ]


@pytest.mark.parametrize(
    ("user", "item", "why"),
    [
        ("Cust_Id", "Movie_Id", "by its name"),
        ("user_id", "anime_id", "by its name"),
        ("user_id", "workshop_id", "the other id beside the user"),
        ("userId", "workshopId", "the other id beside the user"),
    ],
)
def test_the_item_is_the_other_id_where_its_name_is_new(tmp_path, user, item, why):
    draw = random.Random(5)
    rows = [
        {
            user: draw.randrange(40),
            item: draw.randrange(90),
            "country_id": draw.randrange(99),
            "rating": n % 6,
        }
        for n in range(900)
    ]
    text, tree = draft(tmp_path, write_csv(tmp_path / "ratings.csv", rows))
    assert (tree["user"]["column"], tree["item"]["column"]) == (user, item)
    assert f"# {why}\n" in text
    # A table of users has a user and another id as well, and no event.
    write_csv(tmp_path / "users.csv", [{user: n, "plan_id": n % 7} for n in range(40)])
    _, tree = draft(tmp_path, tmp_path / "ratings.csv", tmp_path / "users.csv")
    assert tree["users"]["fields"] == [{"name": "plan_id"}]


@pytest.mark.parametrize(
    "outcome", ["Clicked on Ad", "isConverted", "hasPurchased", "clickThrough", "purchases"]
)
def test_a_word_in_its_name_tells_the_outcome_among_other_flags(tmp_path, outcome):
    """As in a table of advertisements without any id: no column of it is taken for one."""
    draw = random.Random(6)
    rows = [
        {
            "Age": 20 + draw.randrange(40),
            "City": f"c{draw.randrange(90)}",
            "Male": n % 2,
            "responsive_design": n % 3 % 2,
            "has_reward_card": n % 5 % 2,
            "Timestamp": f"2016-03-{1 + n // 40:02} {n % 24:02}:00:00",
            outcome: int(draw.random() < 0.5),
        }
        for n in range(900)
    ]
    _, tree = draft(tmp_path, write_csv(tmp_path / "ads.csv", rows))
    assert [label["column"] for label in tree["labels"]] == [outcome]
    assert ("user" in tree, "item" in tree) == (False, False)
    assert [field["name"] for field in tree["impressions"]["fields"]] == [
        "Age",
        "City",
        "Male",
        "responsive_design",
        "has_reward_card",
    ]


@pytest.mark.parametrize(("tags", "used"), [(60, False), (600, True)])
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_few_events_of_another_kind_do_not_replace_what_users_did_with_impressions(
    tmp_path, tags, used, ending
):
    """As the tags beside the ratings of the smaller MovieLens logs."""
    ratings = [
        {"userId": r["user_id"], "movieId": r["item_id"], "rating": n % 5 + 1, "timestamp": r["timestamp"]}
        for n, r in enumerate(shop(600))
    ]
    write_csv(tmp_path / "ratings.csv", ratings)
    rows = [
        {k: v for k, v in row.items() if k != "rating"} | {"tag": f"t{n % 9}"}
        for n, row in enumerate(ratings)
    ]
    path = tmp_path / f"tags.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows[:tags]), path)
    elif ending == "csv":
        write_csv(path, rows[:tags])
    else:
        path.write_bytes(gzip.compress(write_csv(tmp_path / "t", rows[:tags]).read_bytes()))
    text, tree = draft(tmp_path, tmp_path / "ratings.csv", path)
    assert ("files" in tree["behaviors"]) == used
    assert (f"# Not used: tags.{ending}" in text) != used


def test_an_index_of_a_few_places_is_no_id_of_events(tmp_path):
    rows = [row | {"index": n % 6, "row_id": n // 2} for n, row in enumerate(shop())]
    text, tree = draft(tmp_path, write_csv(tmp_path / "log.csv", rows))
    assert {"name": "index"} in tree["impressions"]["fields"]
    assert "# left out: row_id" in text
