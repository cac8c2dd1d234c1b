"""What columns are for."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from clickscale.data.described.drafts.computed.nearness import nearly_determines
from clickscale.data.described.drafts.roles.column_names import is_action, is_quantity
from clickscale.data.described.drafts.roles.column_values import follows_order, looks_rated, separation
from clickscale.data.described.drafts.roles.id_columns import find_id, guests_of, shared_id
from clickscale.data.described.drafts.roles.moments import find_time
from clickscale.data.described.drafts.roles.sides import side_of
from clickscale.data.described.drafts.samples import Column, Head
from clickscale.data.described.drafts.toml_lines import field_options
from clickscale.data.tables.delimited import TextFormat


def columns(**values):
    return {name: Column(name, pa.array(entries)) for name, entries in values.items()}


def head(**values):
    found = columns(**values)
    return Head(None, "csv", TextFormat(), True, found, len(next(iter(found.values())).values))


@pytest.mark.parametrize(
    ("names", "user", "item"),
    [
        (["user_id", "item_id"], "user_id", "item_id"),
        (["UserID", "MovieID"], "UserID", "MovieID"),
        (["device_sha256", "PRODUCT_CD"], "device_sha256", "PRODUCT_CD"),
        (["cookie_md5", "banner_hash"], "cookie_md5", "banner_hash"),
        (["ip_hash", "anon_id", "sku"], "anon_id", "sku"),
        (["reviewerID", "asin"], "reviewerID", "asin"),
        (["session_id", "customer_id", "sku"], "customer_id", "sku"),
        (["subscriber_key", "song_no"], "subscriber_key", "song_no"),
        (["NutzerID", "WerbemittelID"], "NutzerID", "WerbemittelID"),
        (["visitor_location_country_id", "prop_id"], None, "prop_id"),
        (["id_cliente", "id_producto"], "id_cliente", "id_producto"),
        (["código_usuário", "id_artigo"], "código_usuário", "id_artigo"),
        (["id_użytkownika", "id_ogłoszenia"], "id_użytkownika", "id_ogłoszenia"),
        (["kullanıcı_no", "ürün_no"], "kullanıcı_no", "ürün_no"),
        (["Email Hash", "sku"], "Email Hash", "sku"),
        (["会員ID", "商品コード"], "会員ID", "商品コード"),
        (["用户编号", "商品ID"], "用户编号", "商品ID"),
        (["회원번호", "상품코드"], "회원번호", "상품코드"),
        (["商品名", "会員ランク"], None, None),
        (["id_client", "code_coupon"], "id_client", "code_coupon"),
        (["ID_UTENTE", "codice_articolo"], "ID_UTENTE", "codice_articolo"),
        (["Kunden-Nr.", "Artikelnummer"], "Kunden-Nr.", "Artikelnummer"),
        (["klantnummer", "advertentie_id"], "klantnummer", "advertentie_id"),
        (["collector", "sekunden"], None, None),
        (["color", "shape"], None, None),
    ],
)
def test_ids_are_known_by_the_names_of_several_conventions(names, user, item):
    found = list(columns(**{name: [1, 2] for name in names}).values())
    for kind, name in (("user", user), ("item", item)):
        column = find_id(found, kind)
        assert (column.name if column else None) == name


def test_one_value_that_most_rows_have_stands_for_unknown_ids():
    def found(ids):
        return shared_id(Column("device_id", pa.array(ids)))

    rare = [f"d{n % 180}" for n in range(200)]
    assert found(["none"] * 800 + rare) == ("none", 0.8)
    assert found(["none"] * 400 + ["app"] * 300 + rare) == (None, 0.0)  # two that come often
    assert found(["none"] * 40 + rare) == (None, 0.0)
    assert found(["none"] * 800 + rare[:20]) == (None, 0.0)  # users are few


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("view_count", True),
        ("price", True),
        ("age", True),
        ("avg_secs", True),
        ("comment_stay_time", True),
        ("country", False),
        ("visitor_country_id", False),
        ("section", False),
        ("agent", False),
        ("consumer_class", False),
        ("listener.age", True),
        ("landingPage", False),
        ("profile.birthYear.$numberInt", True),
        ("slot.$numberInt", False),
        ("number_of_rooms", True),
        ("time_since_last_click", True),
        ("n_results", True),
        ("runtime_min", True),
        ("past_orders", True),
        ("timezone", False),
        ("Geburtsjahr", True),
        ("edad", True),
        ("âge", True),
        ("Preis", True),
        ("Preisklasse", False),
        ("weight", True),
        ("discount", True),
        ("click_rate_7d", True),
        ("title_len", True),
        ("ms_played_sec", True),
        ("commute_minutes", True),
        ("years_of_experience", True),
        ("campaign_discount_pct", True),
        ("utc_offset_hours", False),
        ("hour", False),
        ("account_type", False),
        ("operation", False),
        ("registration_source", False),
        ("bid_strategy", False),
        ("secondary_category", False),
        ("talent_tier", False),
        ("discount_type", False),
        ("price_code", False),
        ("rate_plan", False),
        ("flight_number", False),
        ("year", False),  # two values are learned each for itself
    ],
)
def test_names_of_quantities(name, quantity):
    assert is_quantity(Column(name, pa.array([1, 2]))) == quantity


def test_many_years_are_amounts():
    assert is_quantity(Column("release_year", pa.array(range(1950, 2000))))
    assert is_quantity(Column("Baujahr", pa.array(range(1950, 2000))))


def test_versions_are_no_amounts():
    options, _ = field_options(Column("ctx.app.version", pa.array([4.5, 4.6, 5.0])))
    assert options == ""
    options, _ = field_options(Column("ctx.app.load", pa.array([4.5, 4.6, 5.0])))
    assert options == ', kind = "numeric"'


def test_the_time_is_a_column_of_moments_whatever_the_others_are_called():
    found = columns(date=[1, 2], created=[1_600_000_000, 1_600_000_001], time=["late", "early"])
    assert find_time(found.values()).name == "created"


def test_actions_are_known_by_name_or_by_value():
    assert is_action(Column("event_type", pa.array(["x", "y"])))
    assert is_action(Column("c", pa.array(["pv", "buy", "pv"])))
    assert not is_action(Column("c", pa.array(["red", "blue"])))


def test_ratings_go_from_one_to_five_or_ten():
    assert looks_rated(Column("c", pa.array([1, 2, 3, 4, 5])))
    assert looks_rated(Column("c", pa.array([0.5, 2.5, 4.0, 5.0])))
    assert not looks_rated(Column("c", pa.array([0, 1])))
    assert not looks_rated(Column("c", pa.array([1, 2, 3, 4, 70])))


def test_a_column_belongs_to_whoever_decides_it():
    n = np.arange(600)
    user, item = n % 50, n % 31
    table = head(u=user, i=item, paint=item % 5, club=user % 7, slot=(n * 7) % 11)
    assert side_of(table.columns["paint"], table.columns["u"], table.columns["i"])[0] == "item"
    assert side_of(table.columns["club"], table.columns["u"], table.columns["i"])[0] == "profile"
    assert side_of(table.columns["slot"], table.columns["u"], table.columns["i"])[0] == "context"


def test_an_id_of_nobody_says_nothing_of_users():
    ids = ["a99f214a"] * 400 + [f"d{n % 100}" for n in range(300)]
    of_users = ["x1"] * 400 + [f"x{n % 7}" for n in range(100)] * 3
    of_rows = [f"x{n % 5}" for n in range(400)] + of_users[400:]
    table = head(device_id=ids, model=of_users, ip=of_rows)
    user = table.columns["device_id"]
    assert side_of(table.columns["model"], user, None)[0] == "profile"
    assert side_of(table.columns["ip"], user, None)[0] == "context"
    guests = Column("device_id", pa.array([each.replace("a99f214a", "unknown") for each in ids]))
    assert side_of(table.columns["ip"], guests, None)[0] == "profile"  # each is a user of its own


def test_an_id_of_one_thing_is_none_of_items():
    shown = {"app_id": ["shop"] * 60, "campaign_id": [f"c{n % 31}" for n in range(60)]}
    assert find_id(list(columns(**shown).values()), "item").name == "campaign_id"


def test_the_id_of_a_title_goes_before_the_number_of_its_episode():
    shown = columns(**{"title.series.episode": [n % 12 for n in range(60)], "title.id": list(range(60))})
    assert find_id(list(shown.values()), "item").name == "title.id"
    del shown["title.id"]
    assert find_id(list(shown.values()), "item") is None


def test_where_few_ids_repeat_the_name_speaks():
    table = head(u=[1, 2, 3], i=[4, 5, 6], price=[1.5, 2.5, 3.5], gender=["f", "m", "f"], slot=[1, 2, 3])
    sides = {
        name: side_of(table.columns[name], table.columns["u"], table.columns["i"])[0]
        for name in ("price", "gender", "slot")
    }
    assert sides == {"price": "item", "gender": "profile", "slot": "context"}


def test_separation_is_the_auc_of_the_better_direction():
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 200).astype(float)
    values = np.round(draw.normal(size=200) - label, 1)
    expected = roc_auc_score(label, values)
    assert separation(Column("c", pa.array(values)), label) == pytest.approx(max(expected, 1 - expected))
    assert separation(Column("c", pa.array(["a"] * 200)), label) == 0.5
    assert separation(Column("c", pa.array(values)), np.ones(200)) == 0.5


def drawn(name, seed, effect):
    """A column of whole numbers below 1,000, and outcomes whose logit is the effect of the number."""
    random = np.random.default_rng(seed)
    numbers = random.integers(0, 1000, 6000)
    chance = 1 / (1 + np.exp(-effect(random)[numbers]))
    return (
        Column(name, pa.array(numbers)),
        numbers.astype(float),
        (random.random(6000) < chance).astype(float),
    )


def amounts(random):
    return 2 * np.sin(np.arange(1000) / 250)


def ids(random):
    return random.normal(0, 1.5, 1000)


def test_outcomes_follow_the_order_of_amounts_and_not_of_ids():
    for seed in range(10):
        assert follows_order(*drawn("balance", seed, amounts))
        assert not follows_order(*drawn("balance", seed, ids))


def test_codes_and_few_values_are_no_amounts_whatever_the_outcomes_say():
    column, numbers, label = drawn("balance", 0, amounts)
    assert not follows_order(Column("zip_code", column.values), numbers, label)
    assert not follows_order(Column("balance", pa.array(numbers // 40)), numbers // 40, label)
    assert not follows_order(column, np.full(6000, np.nan), label)


ITEM = np.arange(300) % 30


@pytest.mark.parametrize(
    ("values", "near"),
    [
        (10.0 * ITEM + np.arange(300) % 7, True),  # spread within items is small beside that between them
        (10.0 * ITEM + 37 * (np.arange(300) // 30), False),
        (
            np.where(np.arange(300) < 15, "other", np.char.add("m", (ITEM // 3).astype(str))),
            True,
        ),  # 5% differ
        (np.where(np.arange(300) < 120, "other", np.char.add("m", (ITEM // 3).astype(str))), False),
        (np.where(ITEM + 5 * (np.arange(300) % 9) > 40, "yes", "no"), False),
        (np.full(300, "same"), False),  # says nothing
    ],
)
def test_an_item_nearly_determines_what_differs_little_between_its_rows(values, near):
    assert nearly_determines(Column("item", pa.array(ITEM)), Column("c", pa.array(values.tolist()))) == near


def test_few_items_with_several_rows_are_no_evidence():
    few = np.r_[ITEM[:30], np.arange(19)]
    assert not nearly_determines(Column("item", pa.array(few)), Column("c", pa.array(few * 1.0)))


def test_a_few_kinds_under_the_name_of_an_id_are_no_ids() -> None:
    kinds = Column("player", pa.array(["html5", "ios", "android"] * 200))
    ids = Column("player", pa.array([f"p{n % 150}" for n in range(600)]))
    assert find_id([kinds], "user") is None
    assert find_id([ids], "user") is ids
    formats = Column("banner", pa.array(["wide", "tall"] * 300))
    assert find_id([formats], "item") is None


def test_a_path_is_known_by_what_it_ends_with():
    columns = [
        Column(name, pa.array(["a", "b"]))
        for name in ("app.meta.name", "context.device.id", "payload.user.id")
    ]
    assert find_id(columns, "user").name == "payload.user.id"
    assert find_id(columns[:2], "user").name == "context.device.id"
    assert (
        find_id([Column("app.id", pa.array(["a"])), Column("meta.id", pa.array(["b"]))], "item").name
        == "app.id"
    )
    assert find_id([Column("meta.id", pa.array(["b"]))], "item") is None


def test_times_inside_of_users_and_items_are_none_of_events():
    moments = pa.array([1_704_067_200, 1_704_067_900])
    columns = [Column(name, moments) for name in ("user.created_at", "item.time", "meta.sent")]
    assert find_time(columns).name == "meta.sent"
    assert find_time(columns[:1]).name == "user.created_at"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("item", "booking_id"),
        ("item", "trackingId"),
        ("item", "news_category_id"),
        ("item", "video_quality_id"),
        ("user", "user_agent_id"),
        ("user", "customer_type_id"),
    ],
)
def test_ids_of_kinds_and_of_bookings_are_neither_users_nor_items(kind, name):
    column = Column(name, pa.array(list(range(100)) * 2))
    assert find_id([column], kind) is None
    own = Column({"item": "news_item_id", "user": "traveler_id"}[kind], column.values)
    assert find_id([column, own], kind) is own


@pytest.mark.parametrize(
    ("nobody", "first", "guests"),
    [("anonymous", "u700", ["anonymous"]), ("0", "700", ["0"]), ("-1", "700", ["-1"]), ("0", "1", [])],
)
def test_a_few_rows_of_a_word_for_nobody_are_of_visitors(nobody, first, guests):
    start = int(first.strip("u"))
    ids = [nobody if n % 20 == 0 else f"{first[: -len(str(start))]}{start + n % 60}" for n in range(1_200)]
    assert guests_of(Column("user_id", pa.array(ids))) == guests
