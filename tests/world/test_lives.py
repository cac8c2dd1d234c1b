"""Lives of users: causal, reproducible, of the size and the click rate that were asked for."""

import numpy as np
import pytest

from clickscale.evaluation.regret import regret
from clickscale.world.click_logit import probability
from clickscale.world.lives import BUY, CLICK, Events, blocks_of, find_intercept, live
from clickscale.world.market import make_market
from clickscale.world.world_config import WorldConfig
from tests.world.small_world import small_config


def lived(config: WorldConfig, intercept: float = -4.0) -> Events:
    """The first block of a world."""
    return live(config, make_market(config), intercept, *next(iter(blocks_of(config))))


@pytest.fixture(scope="module")
def events() -> Events:
    return lived(small_config())


def test_blocks_hold_all_impressions_in_whole_requests() -> None:
    for impressions in (1, 9_999, 10_000_001):
        blocks = list(blocks_of(small_config(impressions)))
        assert sum(requests for _, _, requests in blocks) == -(-impressions // 10)
        assert [number for number, _, _ in blocks] == list(range(len(blocks)))


def test_the_impressions_that_were_asked_for_are_shown(events: Events) -> None:
    assert len(events.impressions["user"]) == 6_000
    assert events.impressions["position"].reshape(-1, 10).tolist() == [list(range(1, 11))] * 600


def test_clicks_are_behaviors_after_their_impression_and_before_the_next_request(events: Events) -> None:
    shown, done = events.impressions, events.behaviors
    hit = shown["click"]
    moment = shown["time"] + 1 + shown["position"]
    clicks = set(zip(shown["user"][hit], shown["item"][hit], moment[hit], strict=True))
    made = done["action"] == CLICK
    assert clicks == set(zip(done["user"][made], done["item"][made], done["time"][made], strict=True))
    assert len(clicks) == hit.sum() > 0
    for user in np.unique(shown["user"])[:20]:
        moments = np.unique(shown["time"][shown["user"] == user])
        assert (np.diff(moments) > 40).all()


def test_clicks_are_drawn_from_the_stored_logit(events: Events) -> None:
    p = probability(events.impressions["logit"]).astype(np.float64)
    clicks = events.impressions["click"].sum()
    assert abs(clicks - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())


def test_the_measured_auc_of_the_truth_agrees_with_the_expected_one_on_every_seed() -> None:
    off = []
    for seed in range(6):
        shown = lived(small_config(seed=seed)).impressions
        truth = probability(shown["logit"])
        found = regret("click", shown["click"], shown["logit"], truth, shown["user"])
        off.append((found.drawn_auc - found.best.auc) / found.drawn_error)
    assert max(map(abs, off)) < 3.5
    assert np.sqrt(np.mean(np.square(off))) < 1.8


def test_the_same_seed_gives_the_same_life_and_another_seed_another(events: Events) -> None:
    again, other = lived(small_config()), lived(small_config(seed=1))
    for name, column in events.impressions.items():
        np.testing.assert_array_equal(column, again.impressions[name])
    assert not np.array_equal(events.impressions["item"], other.impressions["item"])


def test_a_block_does_not_depend_on_the_other_blocks() -> None:
    config = small_config()
    market = make_market(config)
    alone = live(config, market, -4.0, 3, 50, 100)
    live(config, market, -4.0, 2, 20, 30)
    again = live(config, market, -4.0, 3, 50, 100)
    np.testing.assert_array_equal(alone.behaviors["time"], again.behaviors["time"])


def test_purchases_recur_with_the_period_of_their_category() -> None:
    config = small_config(days=60, visits=120.0, period=(4.0, 4.0))
    done = lived(config, intercept=-20.0).behaviors  # no clicks, so nothing but needs makes a purchase
    bought = done["action"] == BUY
    category = make_market(config).category[done["item"]]
    gaps = []
    for user in np.unique(done["user"])[:40]:
        for kind in range(config.categories):
            own = done["time"][bought & (done["user"] == user) & (category == kind)]
            gaps += list(np.diff(np.sort(own)) / 86_400)
    assert 4.0 < np.median(gaps) < 5.0  # a visit must come before the purchase


def test_the_intercept_gives_the_click_rate() -> None:
    config = small_config(60_000, rate=0.08, requests=20.0)
    intercept = find_intercept(config, make_market(config))
    shown = lived(config, intercept).impressions
    assert probability(shown["logit"]).mean() == pytest.approx(0.08, rel=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {"impressions": 1},
        {"categories": 2, "items": 2},
        {"candidates": 1},
        {"requests": 300.0},
        {"browsed": 1.0, "visits": 1.0},
        {"factors": 1},
    ],
)
def test_worlds_of_odd_sizes_can_be_lived_in(options: dict[str, object]) -> None:
    config = small_config(**{"impressions": 300, **options})
    shown = lived(config).impressions
    assert len(shown["item"]) >= config.impressions
    assert np.isfinite(shown["logit"]).all()


def test_items_live_and_die_where_lives_are_short() -> None:
    config = small_config(life=3.0)
    shown = lived(config).impressions
    last = {item: shown["time"][shown["item"] == item] // 86_400 for item in np.unique(shown["item"])}
    spans = np.array([days.max() - days.min() for days in last.values()])
    assert (spans < 15).mean() > 0.5
    assert (np.array([days.min() for days in last.values()]) > 12).mean() > 0.2
