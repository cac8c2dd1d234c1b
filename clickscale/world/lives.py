"""Lives of users, simulated block by block: visits, requests, clicks, purchases, in the order of time.

Users do not influence each other, so a block of them lives from the first day to the last before the next
block begins, all users of a block at once, one visit at a time. A block draws from a generator of its own, so
the log does not depend on anything but the options. In a visit, a user first buys what is due, then browses a
few categories, and then may be shown requests; clicks become behaviors before the next request.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clickscale.arrays import Array, Flags, Floats, Floats32, Ints
from clickscale.world.click_logit import NEVER, complement, decayed_mean, need, probability, satiation
from clickscale.world.market import AGES, DAY, GENDERS, REGIONS, Market
from clickscale.world.world_config import WorldConfig

VISIT, CLICK, BUY = 0, 1, 2  # actions of behaviors
ACTIONS = pa.array(["visit", "click", "buy"])  # their names
BLOCK = 1024  # users that live at once; part of what a seed means
_THEMES = np.array([0.6, 0.85])  # shares of a visit's first category, and of its first two
_REST = 40  # seconds after a request in which its clicks and purchases happen
_PILOT = 256  # users whose lives find the intercept
_PAUSE = 600  # seconds between two visits at least


@dataclass(frozen=True)
class Events:
    """Columns of the users, behaviors and impressions of a block.

    ``known`` is the part of an impression's logit that does not depend on the user's life: intercept,
    profile, popularity, position, hour, price.
    """

    users: dict[str, Array]
    behaviors: dict[str, Array]
    impressions: dict[str, Array]


def blocks_of(config: WorldConfig) -> Iterator[tuple[int, int, int]]:
    """Yield number, users and requests of every block."""
    requests = -(-config.impressions // config.candidates)
    users = max(1, round(requests / config.requests))
    for block, start in enumerate(range(0, users, BLOCK)):
        count = min(BLOCK, users - start)
        done, after = requests * start // users, requests * (start + count) // users
        yield block, count, after - done


def find_intercept(config: WorldConfig, market: Market) -> float:
    """Find the intercept that gives the click rate, from the lives of a few other users."""
    intercept = float(np.log(config.rate / (1 - config.rate)))
    for _ in range(3):
        requests = round(_PILOT * config.requests)
        shown = _Lives(config, market, intercept, (1, 0), _PILOT, requests).live().impressions
        logit = shown["logit"].astype(np.float64) - intercept
        # More clicks make more interest, so the intercept of the last lives is not yet that of the next.
        intercept = _shift(logit, config.rate)
    return intercept


def _shift(logit: Floats, rate: float) -> float:
    """Find by halving what to add to logits so that their mean probability is the rate."""
    low, high = -20.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        above = probability(logit + middle).mean() > rate
        low, high = (low, middle) if above else (middle, high)
    return (low + high) / 2


def live(
    config: WorldConfig, market: Market, intercept: float, block: int, users: int, requests: int
) -> Events:
    """Simulate a block of users; see `blocks_of`."""
    return _Lives(config, market, intercept, (2, block), users, requests).live()


class _Lives:
    """Users of a block while they live, those of most visits first, and what happened so far."""

    def __init__(
        self,
        config: WorldConfig,
        market: Market,
        intercept: float,
        key: tuple[int, int],
        users: int,
        requests: int,
    ) -> None:
        self.config, self.market, self.intercept, self.users = config, market, intercept, users
        self.rng = np.random.default_rng([config.seed, *key])
        self.number = key[1] * BLOCK + self.rng.permutation(users)
        self._draw_people()
        self._draw_plan(requests)
        shape, kinds = (users, config.factors), (users, config.categories)
        self.now = np.zeros(users)  # seconds from the start; all states below are those of this moment
        self.fast, self.slow = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.fast_count, self.slow_count = np.zeros(users, np.float32), np.zeros(users, np.float32)
        self.seen = np.zeros(kinds, np.float32)
        self.last_buy = np.full(kinds, NEVER)
        first = self.rng.random(kinds) * market.period * DAY
        self.due_at = np.where(self.rng.random(kinds) < config.needy, first, np.inf)
        self.behaviors: list[tuple[Array, ...]] = []
        self.impressions: list[tuple[Array, ...]] = []

    def _draw_people(self) -> None:
        """Draw profiles and tastes."""
        rng, shape = self.rng, (self.users, self.config.factors)
        self.profile = tuple(rng.integers(0, values, self.users) for values in (AGES, GENDERS, REGIONS))
        tables = zip(self.market.profile, self.profile, strict=True)
        self.leaning: Floats32 = np.sum([table[value] for table, value in tables], axis=0)
        self.taste = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(0.7))
        self.drift = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(0.3))

    def _draw_plan(self, requests: int) -> None:
        """Draw visits and the requests in them: (users, visits) seconds and counts, active users first."""
        rng, config = self.rng, self.config
        activity = np.sort(rng.gamma(3.0, 1 / 3.0, self.users))[::-1]
        activity /= activity.mean()
        visits = np.maximum(2, np.round(activity * config.visits).astype(np.int64))
        most = int(visits.max())
        day = rng.integers(0, config.days, (self.users, most))
        hour = np.clip(rng.normal(16, 4.5, (self.users, most)), 0, 23.9)
        time = np.floor(day * DAY + hour * 3600 + rng.random((self.users, most)) * 360)
        time[np.arange(most) >= visits[:, None]] = np.inf
        self.start = np.sort(time, axis=1)
        late = np.maximum((np.isfinite(self.start) & (self.start >= config.quiet_days * DAY)).sum(1), 1)
        share = np.cumsum(activity) / activity.sum()
        asked = np.diff(np.round(share * requests).astype(np.int64), prepend=0)
        owner = np.repeat(np.arange(self.users), asked)
        visit = visits[owner] - 1 - np.floor(rng.random(len(owner)) * late[owner]).astype(np.int64)
        self.requests = np.bincount(owner * most + visit, minlength=self.users * most).reshape(
            self.users, most
        )  # (users, visits)
        self.active = (np.arange(most)[:, None] < visits).sum(1)

    def live(self) -> Events:
        """Live from the first visit to the last."""
        for visit, count in enumerate(self.active):
            self._visit(visit, int(count))
        age, gender, region = self.profile
        people = {"user": self.number, "age": age, "gender": gender, "region": region}
        shown = ("user", "item", "time", "position", "price", "bid", "click", "logit", "known")
        return Events(
            people,
            _joined(("user", "item", "time", "action"), self.behaviors),
            _joined(shown, self.impressions),
        )

    def _visit(self, visit: int, count: int) -> None:
        """Live one visit of the first ``count`` users."""
        who = np.arange(count)
        start = np.maximum(self.start[:count, visit], self.now[:count] + _PAUSE)
        self._drift(who, start)
        self._advance(who, start)
        self._buy_what_is_due(who)
        pull = self._pull(who)
        themes = self._themes(pull, 3)
        self._browse(who, themes)
        asked = self.requests[:count, visit]
        for number in range(int(asked.max(initial=0))):
            some = np.flatnonzero(asked > number)
            gap = np.floor(20 + 180 * self.rng.random(len(some)))
            self._advance(some, self.now[some] + gap)
            self._request(some, pull[some])

    # --- state

    def _drift(self, who: Ints, time: Floats) -> None:
        """Let tastes drift until a moment."""
        kept = np.exp(-(time - self.now[who]) / (self.config.drift_days * DAY)).astype(np.float32)[:, None]
        noise = self.rng.standard_normal((len(who), self.config.factors), np.float32)
        self.drift[who] = kept * self.drift[who] + np.sqrt(0.3 * (1 - kept * kept)) * noise

    def _advance(self, who: Ints, time: Floats) -> None:
        """Let sums over behaviors decay until a moment."""
        passed = time - self.now[who]
        fast, slow, seen = (self._decay(passed, constant) for constant in self._constants)
        self.fast[who] *= fast[:, None]
        self.fast_count[who] *= fast
        self.slow[who] *= slow[:, None]
        self.slow_count[who] *= slow
        self.seen[who] *= seen[:, None]
        self.now[who] = time

    @property
    def _constants(self) -> tuple[float, float, float]:
        """Seconds in which interests of minutes, of days, and satiation fall to 1/e."""
        config = self.config
        return config.minutes * 60, config.lasting_days * DAY, config.satiation_hours * 3600

    @staticmethod
    def _decay(passed: Floats, constant: float) -> Floats32:
        decayed: Floats32 = np.exp(-passed / constant).astype(np.float32)
        return decayed

    def _behave(self, who: Ints, item: Ints, time: Floats, action: int) -> None:
        """Add behaviors at or before the present moment of their users, ``who`` ascending."""
        if not len(who):
            return
        self.behaviors.append(
            (self.number[who], item, time.astype(np.int64), np.full(len(who), action, np.int8))
        )
        passed = self.now[who] - time
        fast, slow, seen = (self._decay(passed, constant) for constant in self._constants)
        first = np.flatnonzero(np.diff(who, prepend=-1))
        users, factors = who[first], self.market.factors[item]
        self.fast[users] += np.add.reduceat(factors * fast[:, None], first)
        self.fast_count[users] += np.add.reduceat(fast, first)
        self.slow[users] += np.add.reduceat(factors * slow[:, None], first)
        self.slow_count[users] += np.add.reduceat(slow, first)
        np.add.at(self.seen, (who, self.market.category[item]), seen)

    def _bought(self, who: Ints, category: Ints, time: Floats) -> None:
        """Renew needs."""
        self.last_buy[who, category] = time
        jitter = 1 + 0.1 * self.rng.standard_normal(len(who))
        self.due_at[who, category] = np.where(
            np.isfinite(self.due_at[who, category]),
            time + np.maximum(jitter, 0.5) * self.market.period[category] * DAY,
            np.inf,
        )

    # --- what users do

    def _wants(self, who: Ints) -> tuple[Floats32, Floats32, Floats32, Floats32]:
        """(n, D) interests of minutes and of days, (n, C) needs and wishes for complements."""
        age = (self.now[who][:, None] - self.last_buy[who]) / DAY
        return (
            decayed_mean(self.fast[who], self.fast_count[who]),
            decayed_mean(self.slow[who], self.slow_count[who]),
            need(age, self.market.period),
            complement(age[:, self.market.partner], self.market.delay),
        )

    def _pull(self, who: Ints) -> Floats32:
        """(n, C) how much each category draws the users."""
        _, slow, _, wish = self._wants(who)
        toward = self.config.clarity * (self.taste[who] + self.drift[who]) + 2 * slow
        pull: Floats32 = np.einsum("nd,cd->nc", toward, self.market.centers) + 0.5 * wish
        return pull

    def _themes(self, pull: Floats32, count: int) -> Ints:
        """(n, count) different categories, drawn by their pull."""
        rows = np.arange(len(pull))
        noisy = pull - np.log(self.rng.standard_exponential(pull.shape, np.float32) + np.float32(1e-12))
        themes = np.empty((len(pull), count), np.int64)
        for place in range(count):
            themes[:, place] = noisy.argmax(1)
            noisy[rows, themes[:, place]] = -np.inf
        return themes

    def _day(self, who: Ints) -> Ints:
        day: Ints = np.minimum(self.now[who] // DAY, self.config.days - 1).astype(np.int64)
        return day

    def _buy_what_is_due(self, who: Ints) -> None:
        row, category = np.nonzero(self.due_at[who] <= self.now[who][:, None])
        buyer = who[row]
        item = self.market.draw(self.rng.random(len(row), np.float32), self._day(buyer), category)
        self._advance(who, self.now[who] + 1)
        self._behave(buyer, item, self.now[buyer], BUY)
        self._bought(buyer, category, self.now[buyer])

    def _browse(self, who: Ints, themes: Ints) -> None:
        """Look at items of the themes, of two at hand rather the one that fits the taste."""
        count = self.rng.geometric(1 / self.config.browsed, len(who))
        row = np.repeat(np.arange(len(who)), count)
        total = len(row)
        category = themes[row, np.searchsorted(_THEMES, self.rng.random(total))]
        day = self._day(who)[row]
        item, other = (self.market.draw(self.rng.random(total, np.float32), day, category) for _ in range(2))
        taste = (self.taste[who] + self.drift[who])[row]
        better = np.einsum("nd,nd->n", taste, self.market.factors[other] - self.market.factors[item])
        odds = self.rng.random(total)
        item = np.where(self.config.clarity * better > np.log(odds / (1 - odds) + 1e-12), other, item)
        passed = np.cumsum(np.floor(5 + 40 * self.rng.random(total)))
        end = np.cumsum(count)
        before = np.concatenate([[0.0], passed[end[:-1] - 1]])
        time = self.now[who][row] + passed - before[row]
        self._advance(who, time[end - 1])
        self._behave(who[row], item, time, VISIT)

    # --- what users are shown

    def _request(self, who: Ints, pull: Floats32) -> None:
        """Show one request to each user, let them click, and go on to the moment after the clicks."""
        items, price, bid = self._candidates(who, pull)
        fast, slow, due, wish = self._wants(who)
        strengths, market = self.config.strengths, self.market
        toward = strengths.taste * (self.taste[who] + self.drift[who])
        toward += strengths.interest * fast + strengths.lasting * slow
        by_category = strengths.need * due + strengths.complement * wish
        by_category -= strengths.satiation * satiation(self.seen[who])
        category = market.category[items]  # (n, K)
        lived = np.einsum("nd,nkd->nk", toward, market.factors[items])
        lived += np.take_along_axis(by_category, category, 1)
        known = self._known(who, items, category, price)
        logit = (known + lived).astype(np.float32)
        clicked = self.rng.random(logit.shape, np.float32) < probability(logit)
        self._note(who, items, price, bid, clicked, logit, known)
        time = self.now[who]
        self._advance(who, time + _REST)
        self._click(who, items, time, clicked, due)

    def _candidates(self, who: Ints, pull: Floats32) -> tuple[Ints, Floats32, Floats32]:
        """(n, K) items, prices and bids; the highest bid comes first."""
        rng, market = self.rng, self.market
        shape = (len(who), self.config.candidates)
        day = np.broadcast_to(self._day(who)[:, None], shape)
        themes = self._themes(pull, min(3, self.config.categories))
        category = np.take_along_axis(themes, rng.integers(0, themes.shape[1], shape), 1)
        uniform = rng.random(shape, np.float32)
        targeted = rng.random(shape) < self.config.targeted
        items = np.where(targeted, market.draw(uniform, day, category), market.draw_any(uniform, day))
        bid = market.bid[items] * np.exp(0.3 * rng.standard_normal(shape, np.float32))
        order = np.argsort(-bid, axis=1)
        items, bid = np.take_along_axis(items, order, 1), np.take_along_axis(bid, order, 1)
        price = market.price[items] * np.exp(0.2 * rng.standard_normal(shape, np.float32))
        return items, price, bid

    def _known(self, who: Ints, items: Ints, category: Ints, price: Floats32) -> Floats32:
        """(n, K) part of the logit that does not depend on the user's life."""
        strengths, market = self.config.strengths, self.market
        hour = (self.now[who] // 3600 % 24).astype(np.int64)
        by_category = strengths.profile * self.leaning[who] + strengths.hour * market.hours[hour]
        dearer = np.log(price / market.price[items])
        known: Floats32 = (
            np.float32(self.intercept)
            + np.take_along_axis(by_category, category, 1)
            + strengths.popularity * market.popularity[self._day(who)[:, None], items]
            + strengths.position * market.places
            - strengths.price * dearer
        ).astype(np.float32)
        return known

    def _note(
        self,
        who: Ints,
        items: Ints,
        price: Floats32,
        bid: Floats32,
        clicked: Flags,
        logit: Floats32,
        known: Floats32,
    ) -> None:
        """Keep what was shown."""
        count = items.shape[1]
        user, time = (np.repeat(one, count) for one in (self.number[who], self.now[who].astype(np.int64)))
        position = np.tile(np.arange(1, count + 1, dtype=np.int8), len(who))
        columns: tuple[npt.NDArray[np.generic], ...] = (items, price, bid, clicked, logit, known)
        item, *rest = (column.ravel() for column in columns)  # each (n * K,)
        self.impressions.append((user, item, time, position, *rest))

    def _click(self, who: Ints, items: Ints, time: Floats, clicked: Flags, due: Floats32) -> None:
        """Turn clicks into behaviors; half of the clicks on what is needed become purchases."""
        row, place = np.nonzero(clicked)
        item = items[row, place]
        moment = time[row] + 2 + place
        self._behave(who[row], item, moment, CLICK)
        category = self.market.category[item]
        buys = (due[row, category] > 0.5) & (self.rng.random(len(row)) < 0.5)
        buyer = who[row[buys]]
        self._behave(buyer, item[buys], moment[buys] + 15, BUY)
        self._bought(buyer, category[buys], moment[buys] + 15)


def _joined(names: tuple[str, ...], pieces: list[tuple[Array, ...]]) -> dict[str, Array]:
    """Columns by name of what happened piece by piece."""
    columns = zip(*pieces, strict=True)
    return {name: np.concatenate(column) for name, column in zip(names, columns, strict=True)}
