"""Leaks of many kinds, each planted into an honest log and found; honest logs of many kinds, none found."""

from pathlib import Path

import numpy as np
import pytest

from clickscale.data.adapters import open_source
from clickscale.data.checks.leaks import leak_check
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Sampling, Split
from clickscale.schema import Label
from tests.data.checks.logs import ITEMS, SHOWN, USERS, Log, Plant, honest_log
from tests.data.sources import real_log
from tests.data.tiny import DAY, START
from tests.everyday import thinned


def found(log: Log, folder: Path) -> set[tuple[str, str]]:
    """Code and name of every finding on a prepared log."""
    prepare(log.source(), folder)
    report = leak_check(folder)
    assert report.ok == (not report.findings)
    return {(finding.code, finding.name) for finding in report.findings}


# --- the outcome among the features


def the_label(log: Log) -> None:
    log.add("context", "target", log.click.astype(float), kind="numeric")


def the_opposite(log: Log) -> None:
    log.add("context", "skipped", 1.0 - log.click, kind="numeric")


def a_text_of_the_outcome(log: Log) -> None:
    log.add("context", "status", np.where(log.click == 1, "opened", "ignored"))


def the_dwell_time(log: Log) -> None:
    log.add("context", "dwell", log.click * log.random.gamma(2, 30, len(log.click)), kind="numeric")


def a_text_that_only_clicks_have(log: Log) -> None:
    comment = log.random.choice(["good", "fine", "bad"], len(log.click)).astype(object)
    log.add("context", "comment", np.where(log.click == 1, comment, None))


def one_token_of_many(log: Log) -> None:
    words = log.random.choice(["x", "y", "z"], len(log.click)).astype(object)
    log.add("context", "tags", np.where(log.click == 1, words + "|bought", words), values=2, separator="|")


def an_outcome_of_few_clicks(log: Log) -> None:
    few = (log.click == 1) & (log.random.random(len(log.click)) < 0.15)
    log.add("context", "refunded", few.astype(int), dtype="int")


def an_outcome_that_some_clicks_have(log: Log) -> None:
    some = (log.click == 1) & (log.random.random(len(log.click)) < 0.3)
    log.add("context", "minutes", np.where(some, log.random.gamma(2, 5, len(some)), 0.0), kind="numeric")


def an_id_that_grows_with_clicks(log: Log) -> None:
    log.add("context", "event", log.click * 10**9 + log.random.permutation(len(log.click)), dtype="int")


def items_named_by_their_outcome(log: Log) -> None:
    log.items["item"] = np.concatenate([np.arange(ITEMS), 10_000 + np.arange(ITEMS)])
    for name in ("category", "price", "quality"):
        log.items[name] = np.tile(log.items[name], 2)
    log.shown["item"] = log.shown["item"] + 10_000 * log.click


def feedback_of_the_own_event(log: Log) -> None:
    log.past = {name: log.shown[name] for name in ("user", "item")} | {
        "time": log.shown["time"] - 3600,
        "action": np.where(log.click == 1, "click", "skip"),
    }


# --- presence, moment and order


def the_own_click_seconds_before(log: Log) -> None:
    own = log.past["action"] == "click"
    log.past["time"] = log.past["time"] - 5 * own
    log.past["known_at"] = log.past["time"]


def the_own_click_of_some_seconds_before(log: Log) -> None:
    own = (log.past["action"] == "click") & (log.random.random(len(log.past["time"])) < 0.25)
    log.past["time"] = log.past["time"] - 5 * own
    log.past["known_at"] = np.where(own, log.past["time"], log.past["known_at"])


def the_own_event_before_sampled_negatives(log: Log) -> None:
    sampled_uniformly(log)
    log.past = {name: log.shown[name][log.click == 1] for name in ("user", "item", "time")}
    log.past["time"] = log.past["time"] - 5
    log.past["action"] = np.full(len(log.past["time"]), "click")


def some_event_seconds_before(log: Log) -> None:
    only_one_candidate(log)
    own = log.past["action"] == "click"
    log.past["item"] = np.where(own, 0, log.past["item"])
    log.past["time"] = log.past["time"] - 5 * own
    log.past["known_at"] = log.past["time"]


def users_without_history_who_always_click(log: Log) -> None:
    new = np.flatnonzero((log.click == 1) & (np.arange(len(log.click)) % 5 == 0))
    log.shown["user"][new] = USERS + np.arange(len(new))
    chosen = log.random.integers(0, USERS, len(new))
    more = {name: values[chosen] for name, values in log.users.items()}
    more["user"] = USERS + np.arange(len(new))
    log.users = {name: np.concatenate([values, more[name]]) for name, values in log.users.items()}
    log.past["user"][-USERS:] = np.arange(USERS)  # everybody else has a history
    log.past["time"][-USERS:] = log.past["known_at"][-USERS:] = START - DAY


def negatives_drawn_by_hand_from_earlier_items(log: Log) -> None:
    new = np.flatnonzero((log.click == 1) & (log.random.random(len(log.click)) < 0.2))
    log.shown["item"][new] = ITEMS + np.arange(len(new))
    for name, values in log.items.items():
        log.items[name] = np.concatenate([values, log.random.choice(values, len(new))])
    log.items["item"] = np.arange(ITEMS + len(new))
    without_behaviors(log)
    first = np.full(len(log.items["item"]), len(log.click))  # clicked row of each item; rows are by time
    np.minimum.at(first, log.shown["item"][log.click == 1], np.flatnonzero(log.click == 1))
    kept = (log.click == 1) | (np.arange(len(log.click)) > first[log.shown["item"]])
    log.shown = {name: values[kept] for name, values in log.shown.items()}


def negatives_of_another_hour(log: Log) -> None:
    only_one_candidate(log)
    time = log.shown["time"]
    log.shown["time"] = np.where(log.click == 1, time, time - time % DAY + 3 * 3600)


def clicks_first_in_the_log(log: Log) -> None:
    order = np.lexsort((-log.click, log.shown["time"]))
    log.shown = {name: values[order] for name, values in log.shown.items()}


# --- copied by sampled negatives


def the_price_of_the_item_in_the_context(log: Log) -> None:
    sampled_uniformly(log)
    log.add("context", "paid", log.items["price"][log.shown["item"]], kind="numeric")


def a_price_that_varies_a_little(log: Log) -> None:
    sampled_uniformly(log)
    sales = 1 - 0.1 * log.random.random(len(log.click))
    log.add(
        "context", "paid", log.items["price"][log.shown["item"]] * sales, kind="numeric", transform="log1p"
    )


def the_maker_of_the_item_in_the_context(log: Log) -> None:
    sampled_uniformly(log)
    maker = log.shown["item"] // 4
    other = log.random.random(len(maker)) < 0.03
    log.add("context", "maker", np.where(other, log.random.integers(0, 38, len(maker)), maker).astype(str))


# --- made from the label


def the_rate_of_each_item(log: Log) -> None:
    log.add("items", "ctr", rates(log, "item", ITEMS), kind="numeric")


def the_clicks_of_each_item(log: Log) -> None:
    clicks = np.bincount(log.shown["item"], log.click, ITEMS)
    log.add("items", "popularity", clicks, kind="numeric", transform="log1p")


def the_rate_of_each_user(log: Log) -> None:
    log.add("profile", "activity", rates(log, "user", USERS), kind="numeric")


def the_smoothed_rate_of_the_item_in_every_row(log: Log) -> None:
    shown = np.bincount(log.shown["item"], minlength=ITEMS)
    clicks = np.bincount(log.shown["item"], log.click, ITEMS)
    log.add("context", "encoded", ((clicks + 5) / (shown + 20))[log.shown["item"]], kind="numeric")


def the_rate_of_the_other_rows_of_the_item(log: Log) -> None:
    shown = np.bincount(log.shown["item"], minlength=ITEMS)[log.shown["item"]]
    clicks = np.bincount(log.shown["item"], log.click, ITEMS)[log.shown["item"]]
    log.add("context", "encoded", (clicks - log.click) / (shown - 1), kind="numeric")


def clicks_of_the_user_so_far_and_now(log: Log) -> None:
    log.add("context", "so_far", log.running(log.shown["user"], own=True)[1], kind="numeric")


def the_rate_of_the_item_so_far_and_now(log: Log) -> None:
    rows, clicks = log.running(log.shown["item"], own=True)
    log.add("context", "so_far", clicks / rows, kind="numeric")


def clicks_of_user_and_category_so_far_and_now(log: Log) -> None:
    category = log.items["category"].astype(int)[log.shown["item"]]
    log.add("context", "so_far", log.running(log.shown["user"] * 8 + category, own=True)[1], kind="numeric")


def rates(log: Log, key: str, size: int) -> np.ndarray:
    rows = np.bincount(log.shown[key], minlength=size)
    return np.bincount(log.shown[key], log.click, size) / np.maximum(rows, 1)


PLANTED: tuple[tuple[Plant, tuple[str, str]], ...] = (
    (the_label, ("telling_feature", "target")),
    (the_opposite, ("telling_feature", "skipped")),
    (a_text_of_the_outcome, ("telling_feature", "status")),
    (the_dwell_time, ("telling_feature", "dwell")),
    (a_text_that_only_clicks_have, ("telling_feature", "comment")),
    (one_token_of_many, ("telling_feature", "tags")),
    (an_outcome_of_few_clicks, ("telling_feature", "refunded")),
    (an_outcome_that_some_clicks_have, ("telling_feature", "minutes")),
    (an_id_that_grows_with_clicks, ("telling_feature", "event")),
    (items_named_by_their_outcome, ("telling_feature", "item_id")),
    (feedback_of_the_own_event, ("telling_feature", "action")),
    (the_own_click_seconds_before, ("telling_presence", "own_item")),
    (the_own_click_of_some_seconds_before, ("telling_presence", "own_item")),
    (the_own_event_before_sampled_negatives, ("telling_presence", "own_item")),
    (some_event_seconds_before, ("telling_presence", "last_behavior")),
    (users_without_history_who_always_click, ("telling_presence", "history")),
    (negatives_drawn_by_hand_from_earlier_items, ("telling_presence", "new_item")),
    (negatives_of_another_hour, ("telling_presence", "moment")),
    (clicks_first_in_the_log, ("telling_presence", "row_order")),
    (the_price_of_the_item_in_the_context, ("copied_value", "paid")),
    (a_price_that_varies_a_little, ("copied_value", "paid")),
    (the_maker_of_the_item_in_the_context, ("copied_value", "maker")),
    (the_rate_of_each_item, ("aggregate", "ctr")),
    (the_clicks_of_each_item, ("aggregate", "popularity")),
    (the_rate_of_each_user, ("aggregate", "activity")),
    (the_smoothed_rate_of_the_item_in_every_row, ("aggregate", "encoded")),
    (the_rate_of_the_other_rows_of_the_item, ("aggregate", "encoded")),
    (clicks_of_the_user_so_far_and_now, ("aggregate", "so_far")),
    (the_rate_of_the_item_so_far_and_now, ("aggregate", "so_far")),
    (clicks_of_user_and_category_so_far_and_now, ("aggregate", "so_far")),
)


@thinned(("plant", "expected"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED], every=4)
def test_a_planted_leak_is_found(plant: Plant, expected: tuple[str, str], tmp_path: Path) -> None:
    log = honest_log()
    plant(log)
    assert expected in found(log, tmp_path / "out")


# --- honest logs


def as_it_is(log: Log) -> None:
    """Requests with a position bias and a quality that was measured elsewhere."""


def only_one_candidate(log: Log) -> None:
    first = np.arange(0, len(log.click), SHOWN)
    log.shown = {name: values[first] for name, values in log.shown.items()}
    names = ("user", "item", "time")
    shown = set(zip(*(log.shown[name].tolist() for name in names), strict=True))
    kept = [event in shown for event in zip(*(log.past[name].tolist() for name in names), strict=True)]
    kept = np.array(kept) | (log.past["action"] == "view")
    log.past = {name: values[kept] for name, values in log.past.items()}


def without_behaviors(log: Log) -> None:
    log.past = {name: values[:0] for name, values in log.past.items()}


def every_impression_is_a_behavior(log: Log) -> None:
    log.past = {name: log.shown[name] for name in ("user", "item", "time")}
    log.past |= {"action": np.where(log.click == 1, "click", "skip"), "known_at": log.shown["time"] + 30}


def days_instead_of_seconds(log: Log) -> None:
    for table in (log.shown, log.past):
        table["time"] = table["time"] - table["time"] % DAY
    log.past["known_at"] = log.past["time"] + DAY


def rare_outcomes_with_delays(log: Log) -> None:
    buy = (log.click == 1) & (log.random.random(len(log.click)) < 0.2)
    log.shown["label.buy"] = buy.astype(np.int64)
    log.labels = (Label(name="click", delay=2), Label(name="buy", delay=7200))


def views_of_the_item_seconds_before(log: Log) -> None:
    viewed = log.random.random(len(log.click)) < np.where(log.click == 1, 0.4, 0.1)
    more = {name: log.shown[name][viewed] for name in ("user", "item", "time")}
    more["time"] = more["time"] - log.random.integers(2, 50, viewed.sum())
    more |= {"known_at": more["time"], "action": np.full(viewed.sum(), "view")}
    log.past = {name: np.concatenate([values, more[name]]) for name, values in log.past.items()}


def honest_running_numbers(log: Log) -> None:
    rows, clicks = log.running(log.shown["item"], own=False)
    log.add("context", "rate_so_far", (clicks + 1) / (rows + 5), kind="numeric")
    rows, clicks = log.running(log.shown["user"], own=False)
    log.add("context", "clicks_so_far", clicks, kind="numeric", transform="log1p")
    log.add("context", "shown_so_far", rows, kind="numeric")


def a_strong_honest_feature(log: Log) -> None:
    noise = log.random.normal(size=len(log.click))
    log.add("context", "relevance", 1.6 * log.click + noise, kind="numeric")


def parts_of_each_user(log: Log) -> None:
    log.split = Split(kind="user_time")


def sampled_uniformly(log: Log) -> None:
    log.negatives = 4


def sampled_by_popularity(log: Log) -> None:
    log.negatives, log.sampling = 4, Sampling(by="popularity")


def sampled_within_the_category(log: Log) -> None:
    log.negatives, log.sampling = 4, Sampling(within="category")


def sampled_with_a_device_that_leans_on_the_item(log: Log) -> None:
    sampled_uniformly(log)
    usual = log.shown["item"] % 3
    other = log.random.random(len(usual)) < 0.5
    log.add("context", "device", np.where(other, log.random.integers(0, 3, len(usual)), usual).astype(str))
    log.add("context", "hour", log.shown["time"] % DAY / 3600, kind="numeric")
    log.add(
        "context",
        "temperature",
        log.items["price"][log.shown["item"]] + log.random.gamma(2, 10, len(usual)),
        kind="numeric",
    )


def sampled_from_lists_without_times(log: Log) -> None:
    """All users begin at the same moment, so that their first positives have nothing to draw from."""
    sampled_uniformly(log)
    order = np.lexsort((log.shown["time"], log.shown["user"]))
    kept = order[log.click[order] == 1]
    log.shown = {name: values[kept] for name, values in log.shown.items()}
    _, first, back = np.unique(log.shown["user"], return_index=True, return_inverse=True)
    log.shown["time"] = START + np.arange(len(kept)) - first[back]
    log.past = {name: log.shown[name] for name in ("user", "item", "time")}
    log.past["action"] = np.full(len(kept), "click")
    log.split = Split(kind="user_time")


def sampled_where_few_items_are_nearly_all(log: Log) -> None:
    sampled_uniformly(log)
    popular = log.random.random(len(log.click)) < 0.9
    log.shown["item"] = np.where(popular, log.shown["item"] % 3, log.shown["item"])


HONEST: tuple[Plant, ...] = (
    as_it_is,
    only_one_candidate,
    without_behaviors,
    every_impression_is_a_behavior,
    days_instead_of_seconds,
    rare_outcomes_with_delays,
    views_of_the_item_seconds_before,
    honest_running_numbers,
    a_strong_honest_feature,
    parts_of_each_user,
    sampled_uniformly,
    sampled_by_popularity,
    sampled_within_the_category,
    sampled_with_a_device_that_leans_on_the_item,
    sampled_from_lists_without_times,
    sampled_where_few_items_are_nearly_all,
)


@thinned("change", HONEST, ids=[change.__name__ for change in HONEST], every=4)
def test_nothing_is_found_in_an_honest_log(change: Plant, tmp_path: Path) -> None:
    log = honest_log(seed=1)
    change(log)
    assert found(log, tmp_path / "out") == set()


@pytest.mark.parametrize(
    ("adapter", "folder", "options"),
    [
        ("movielens-100k", "ml-100k", {}),
        ("movielens-1m", "ml-1m", {}),
        ("mind", "mind-small-sample", {}),
        ("kuairand", "kuairand-pure-part/raw", {}),
        ("taobao-userbehavior", "taobao-userbehavior-sample", {}),
        ("taobao-userbehavior", "taobao-userbehavior-sample", {"negatives_by": "popularity"}),
        ("amazon-reviews", "amazon2014-musical-5core/raw", {}),
        ("amazon-reviews", "amazon2014-musical-5core/raw", {"negatives": 4}),
    ],
)
def test_nothing_is_found_in_a_public_log(adapter, folder, options, tmp_path: Path) -> None:
    prepare(open_source(adapter, real_log(folder), options), tmp_path / "out")
    report = leak_check(tmp_path / "out")
    assert report.ok, report.findings
