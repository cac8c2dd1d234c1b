import random
import tomllib

import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.suspects import (
    precedes,
    tells_outcome,
    totals_outcomes,
    written_after,
    written_with,
    written_with_purchases,
)
from clickscale.errors import InputError
from tests.data.described.drafts.test_guess import shop, write_csv

DRAW = np.random.default_rng(0)
LABEL = (DRAW.random(4000) < 0.3).astype(float)


def column(name: str, values=(1, 2, 3)) -> Column:
    return Column(name, pa.array(values))


@pytest.mark.parametrize(
    "name",
    [
        "reviewText",
        "review_text",
        "summary",
        "helpful",
        "useful",
        "funny",
        "helpful_votes",
        "vote",
        "upvotes",
        "purchased_at",
        "click_time",
        "clickTimestamp",
        "converted_ts",
        "refund_amount",
        "canceled_at",
        "is_cancelled",
        "cancellation",
        "delivered_date",
        "seller_response",
        "cart_value_after",
        "sessionsAfter",
        "orders_value_after",
        "after_click_views",
        "post_purchase_score",
        "feedback",
        "outcome",
        "replies",
    ],
)
def test_names_of_what_is_written_after_the_outcome_are_known(name):
    assert "after" in written_after(column(name))


@pytest.mark.parametrize(
    "name",
    ["dwell", "dwellTime", "read_time_ms", "ad_clicked", "was_opened", "order_id", "payment_type", "gmv"],
)
def test_names_of_what_is_written_with_the_outcome_are_known(name):
    assert "with" in written_with(column(name), varies=False)


@pytest.mark.parametrize(
    "name",
    [
        "price",
        "category",
        "position",
        "device",
        "hour",
        "query_length",
        "city",
        "age",
        "brand",
        "title",
        "genre",
        "age_group",
        "campaign",
        "device_type",
        "opening_hours",
        "release_date",
        "weekday",
        "publisher",
        "browser",
        "slot",
        "ad_format",
        "bid",
        "created_at",
        "session_id",
        "session_start",
        "session_number",
        "delivery_estimate",
        "previous_response",
        "prior_outcome",
        "free_cancellation",
        "cancellation_policy",
        "cancelable",
        "refundable",
        "hidden_gem_score",
        "hidden_fees",
        "play_count_of_item",
        "video_width",
        "bid_price",
        "floor_price",
        "list_price",
        "active_users",
        "is_active",
        "is_open",
        "open_now",
        "opening_time",
        "reading_level",
        "read_only",
        "report_type",
        "engagement_ring_size",
        "exit_row",
        "viewer_age",
        "viewport_ratio",
        "playlist_id",
        "player_time_zone",
        "next_level_score",
        "previous_page",
        "time_since_last_click",
        "avg_listen_time",
        "predicted_active_time",
        "muted_colors",
        "blocked_users",
        "win_probability",
        "commission_free",
        "profit_org",
        "reason",
        "position_in_session",
        "minutes_to_departure",
        "age_quartile",
        "installs_tier",
        "hours_active",
        "price_after_discount",
        "day_after",
        "cart_value",
        "battery_lifetime",
        "lifetime_warranty",
        "predicted_lifetime_value",
        "churn_risk",
        "spending_level",
        "wallet_after",  # nothing tells that it is another value of something else
        "view",
        "session_lengthening",
        "Dauer",
        "tempo_medio",
        "online_since",
        "Kaufpreis",
        "visits_last_week",
    ],
)
def test_ordinary_names_are_not_suspect(name):
    assert (
        written_after(column(name)) == written_with(column(name), True) == totals_outcomes(column(name)) == ""
    )


@pytest.mark.parametrize(
    "name",
    [
        "time_to_click",
        "decision_ms",
        "thinking_time",
        "click_x",
        "ms_played",
        "listen_time",
        "listened_pct",
        "playing_time",
        "active_time",
        "activeTime",
        "engagement_time",
        "visible_time",
        "time_in_view",
        "exposure_ms",
        "hover_ms",
        "clicks_in_session",
        "session_length",
        "win_price",
        "payprice",
        "clearing_price",
        "amount_paid",
        "commission",
        "payout",
        "reason_end",
        "exit_page",
        "next_item_id",
        "converted_24h",
        "installed_app",
        "skipped",
        "dismissed",
        "hidden",
        "reported",
        "engaged",
        "viewable",
        "bounced",
        "unsubscribed",
        "is_read",
        "is_valid_read",
        "opened",
        "sessionStop",
        "seconds_played",
        "closed_ad",
        "video_quartile",
        "session_len_sec",
        "Verweildauer (Sek.)",
        "Lesezeit",
        "Scrolltiefe",
        "temps_de_lecture",
        "durée_visite",
        "tiempo_permanencia",
        "profundidad_scroll",
        "tempo_leitura_s",
        "profundidade_rolagem",
        "tempo_di_lettura",
        "durata_sessione",
        "leestijd",
    ],
)
def test_what_came_of_an_impression_is_suspect_where_it_differs_between_impressions(name):
    assert "with" in written_with(column(name), varies=True)


def test_a_duration_is_suspect_where_it_differs_between_impressions_of_an_item():
    assert written_with(column("duration"), varies=True)
    assert not written_with(column("video_duration"), varies=False)
    for name in ("hidden", "viewable", "commission", "playing_time"):
        assert not written_with(column(name), varies=False)


@pytest.mark.parametrize("name", ["read_at", "started_at", "date_read", "date_finished", "clicked_on_date"])
def test_moments_of_what_users_did_later_are_known(name):
    assert "after" in written_after(column(name))


@pytest.mark.parametrize(
    ("name", "values", "bought"),
    [
        ("quantity", (1, 2, 3), True),
        ("unit_price", (1.5, 2.5, 3.5), True),
        ("total_amount_eur", (1, 2, 3), True),
        ("discount", ("spring", "summer", "none"), False),
        ("sales_channel_id", (1, 2, 3), False),
        ("price_group", (1, 2, 3), False),
        ("items_seen", (1, 2, 3), False),
    ],
)
def test_amounts_of_what_was_bought_are_known(name, values, bought):
    assert ("amount" in written_with_purchases(column(name, values))) == bought


@pytest.mark.parametrize(
    "name",
    [
        *("ctr", "click_cnt", "show_count", "n_views", "avg_rating", "like_rate"),
        *("stats.clicks", "rating.count.$numberInt", "rating.avg.$numberDouble", "views", "views_total"),
        *("Bewerbungen gesamt", "Anzahl Aufrufe", "Käufe", "nb_vues", "nombre_de_commandes", "commentaires"),
        *("visualizaciones", "total_pedidos", "Visualizações", "comentarios", "vendite", "aantal_weergaven"),
        *("total_spend", "lifetime_value", "lifetimeClicks", "LTV", "total_revenue", "spend_to_date"),
    ],
)
def test_names_of_totals_of_outcomes_are_known(name):
    assert "total of outcomes" in totals_outcomes(column(name))


@pytest.mark.parametrize("name", ["days_on_market", "daysSinceLastVisit", "recency", "Tage online"])
def test_spans_up_to_the_export_are_known(name):
    assert "counted up to the export" in totals_outcomes(column(name))


def test_words_for_counts_are_no_counts():
    assert totals_outcomes(column("comments", ["good", "bad", "fine"])) == ""


@pytest.mark.parametrize(
    ("after", "before", "suspect"),
    [
        ("wallet_after", "wallet_before", True),
        ("energyAfter", "energy", True),
        ("Guthaben nachher", "Guthaben vorher", True),
        ("énergie_après", "energie_avant", True),
        ("saldo_depois", "saldo_antes", True),
        ("wallet_after", "purse_before", False),
        ("price_after", "price_before", False),  # a discount
        ("day_after", "wallet", False),
    ],
)
def test_what_stands_there_before_and_after_is_known_before_only(after, before, suspect):
    beside = [column(before), column(after)]
    assert (f"what became of {before}" in written_after(beside[1], beside)) == suspect
    assert written_after(beside[0], beside) == ""


@pytest.mark.parametrize("name", ["churned", "is_churned", "churn_flag", "Attrition"])
def test_what_became_of_users_by_the_export_is_known(name):
    assert "by the time of the export" in totals_outcomes(column(name))


@pytest.mark.parametrize(
    "values",
    [
        np.where(LABEL == 1, "yes", "no"),
        np.where(LABEL == 1, DRAW.choice(["a", "b"], 4000), None),
        LABEL * DRAW.gamma(2, 9, 4000),
        1 - LABEL,
        np.where((LABEL == 1) & (DRAW.random(4000) < 0.3), "promo", "none"),
    ],
)
def test_a_column_that_tells_the_label_in_the_sample_is_suspect(values):
    assert "tells the label" in tells_outcome(column("x", values.tolist()), LABEL)


def test_a_column_that_leans_on_the_label_is_not_suspect():
    assert tells_outcome(column("x", (LABEL + DRAW.normal(size=4000)).tolist()), LABEL) == ""
    assert tells_outcome(column("x", [str(n) for n in range(4000)]), LABEL) == ""


def suspicious_shop():
    """The plain log with columns that came after the click, and one that only looks like it."""
    draw = random.Random(5)
    for row in shop(900):
        clicked = row["clicked"]
        yield row | {
            "review_text": draw.choice(["good", "fine"]) if clicked else "",
            "helpful_votes": draw.randrange(3),
            "ad_clicked": draw.randrange(2),
            "state": "paid" if clicked else draw.choice(["open", "closed"]),
            "response_group": draw.randrange(4),
        }


def test_suspects_are_left_out_with_their_reason(tmp_path):
    text = guess([write_csv(tmp_path / "shop.csv", suspicious_shop())], tmp_path)
    tree = tomllib.loads(text)
    assert [field["name"] for field in tree["impressions"]["fields"]] == ["position"]
    past = {field["column"] for field in tree["behaviors"]["fields"]}
    assert past == {
        "clicked",
        "ad_clicked",
        "state",
    }  # known with the outcome, so later histories may show them
    for reason in (
        "review_text (by its name a text about the outcome, written after it)",
        "helpful_votes (by its name written after the outcome)",
        "ad_clicked (by its name written with the outcome; an attribute of behaviors)",
        "state (it tells the label with AUC 1.000, so it may be feedback; an attribute of behaviors)",
    ):
        assert f"# left out: {reason}" in text
    assert "guess again with --keep COLUMN" in text


def test_a_suspect_that_is_kept_is_a_feature(tmp_path):
    path = write_csv(tmp_path / "shop.csv", suspicious_shop())
    tree = tomllib.loads(guess([path], tmp_path, keep=["response_group", "ad_clicked"]))
    kept = [field["name"] for field in tree["impressions"]["fields"]]
    assert kept == ["position", "ad_clicked", "response_group"]
    with pytest.raises(InputError, match="did you mean 'response_group'"):
        guess([path], tmp_path, keep=["respons_group"])


def test_totals_of_outcomes_in_a_table_of_items_are_left_out(tmp_path):
    write_csv(
        tmp_path / "items.csv", [{"item_id": n, "shelf": n % 5, "click_rate": n / 40} for n in range(30)]
    )
    rows = [{name: row[name] for name in ("user_id", "item_id", "timestamp", "clicked")} for row in shop()]
    paths = [write_csv(tmp_path / "clicks.csv", rows), tmp_path / "items.csv"]
    text = guess(paths, tmp_path)
    assert [field["name"] for field in tomllib.loads(text)["items"]["fields"]] == ["shelf"]
    assert "# left out: click_rate (by its name a total of outcomes" in text
    kept = tomllib.loads(guess(paths, tmp_path, keep=["click_rate"]))["items"]["fields"]
    assert [field["name"] for field in kept] == ["shelf", "click_rate"]


def test_what_users_came_to_is_left_out_of_their_table(tmp_path):
    columns = {"total_spend": 1.5, "lifetime_value": 2.5, "lifetime_clicks": 2.0, "churned": 1.0, "plan": 1.0}
    users = [
        {"user_id": f"u{n}", **{name: n * size % 7 for name, size in columns.items()}} for n in range(40)
    ]
    paths = [write_csv(tmp_path / "clicks.csv", shop()), write_csv(tmp_path / "users.csv", users)]
    text = guess(paths, tmp_path)
    assert [field["name"] for field in tomllib.loads(text)["users"]["fields"]] == ["plan"]
    assert "# left out: churned (by its name what became of it by the time of the export" in text


@pytest.mark.parametrize(
    "name",
    ["last_login", "Letzter Login", "dernière_visite", "ultima_visita", "última_compra", "laatste_bezoek"],
)
def test_a_moment_that_moves_on_until_the_export_is_left_out(tmp_path, name):
    users = [{"user_id": f"u{n}", name: f"2024-12-{1 + n % 28:02} 10:00", "plan": n % 3} for n in range(40)]
    paths = [write_csv(tmp_path / "clicks.csv", shop()), write_csv(tmp_path / "users.csv", users)]
    text = guess(paths, tmp_path)
    assert [field["name"] for field in tomllib.loads(text)["users"]["fields"]] == ["plan"]
    assert "by its name it moves on, and here it lies after impressions" in text


def test_columns_that_tools_count_for_themselves_are_no_features_and_no_labels(tmp_path):
    tools = {"partition": (0, 1, 2), "offset": range(300), "__v": (0, 1), "topic": (4, 5)}
    rows = [row | {name: tools[name][n % len(tools[name])] for name in tools} for n, row in enumerate(shop())]
    text = guess([write_csv(tmp_path / "clicks.csv", rows)], tmp_path)
    tree = tomllib.loads(text)
    assert [label["column"] for label in tree["labels"]] == ["clicked"]
    assert "# left out: offset (the place of a message in Kafka)" in text
    assert "# left out: __v (the version of a document, which Mongoose counts)" in text
    assert not {"partition", "offset", "v", "__v"} & {
        field["name"] for field in tree["impressions"]["fields"]
    }
    for row in rows:
        del row["offset"]
    fields = tomllib.loads(guess([write_csv(tmp_path / "clicks.csv", rows)], tmp_path))["impressions"][
        "fields"
    ]
    assert "partition" in {field["name"] for field in fields}  # of anything else


@pytest.mark.parametrize("name", ["host_response_rate", "host_response_time", "seller_feedback_score"])
def test_how_a_seller_does_in_general_is_known_before_if_it_is_one_value(name):
    assert written_after(column(name), varies=False) == ""
    assert "after" in written_after(column(name))


def test_a_flag_of_whether_a_moment_of_the_export_is_there_is_left_out(tmp_path):
    users = [
        {"user_id": f"u{n}", "unsubscribed": int(n % 4 == 0), "member": int(n % 3 == 0)}
        | {"unsubscribed_at": "" if n % 4 else f"2020-10-{1 + n % 9:02}"}
        for n in range(40)
    ]
    paths = [write_csv(tmp_path / "shop.csv", shop()), write_csv(tmp_path / "users.csv", users)]
    text = guess(paths, tmp_path)
    assert "# left out: unsubscribed (it says whether there is a value in unsubscribed_at" in text
    assert [field["name"] for field in tomllib.loads(text)["users"]["fields"]] == ["member"]


@pytest.mark.parametrize(
    ("values", "goes_before"),
    [
        (["R", "S", "L", "L", "L", "L"], True),  # only those of R and S are ever a match
        (["R", "S", "L"], False),  # most rows went this step
        (["R", "R", "L", "L", "L", "R"], False),
    ],
)
def test_a_rare_step_that_all_positives_went_is_one_before_the_label(values, goes_before):
    direction = column("direction", [values[n % len(values)] for n in range(4_200)])
    positive = np.array([float(n % len(values) < 2 and n % 5 == 0) for n in range(4_200)])
    assert precedes(direction, positive) == goes_before


@pytest.mark.parametrize("name", ["win_price", "win_price_micros", "clearing_price_usd"])
def test_what_was_paid_for_an_impression_is_known_after_it(name):
    assert written_with(column(name), varies=True)


def test_an_amount_that_only_few_positives_have_tells_the_outcome():
    paid = (LABEL == 1) & (DRAW.random(4000) < 0.1)
    amounts = np.where(paid, DRAW.uniform(10, 900, 4000), 0.0)
    assert "hardly a negative" in tells_outcome(column("sum", amounts), LABEL)
    assert tells_outcome(column("sum", DRAW.permutation(amounts)), LABEL) == ""
