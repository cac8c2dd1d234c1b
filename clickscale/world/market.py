"""The market: items, categories, prices and everything else of a world that no user changes.

All of it is drawn from the seed, so it is made again where it is needed and never stored.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array, Floats, Floats32, Ints
from clickscale.world.world_config import WorldConfig

DAY = 86_400
START = 1_704_067_200  # 2024-01-01, UTC
AGES, GENDERS, REGIONS = 6, 2, 8  # values of the three profile fields
_GROUPS = 4  # of categories that share a curve over the hours of the day
CONTENT_WIDTH = 16


@dataclass(frozen=True)
class Market:
    """I items in C categories, sorted by category; times are days from the start.

    Attributes:
        category: (I,) of each item; ``first`` and ``end`` (C,) bound the items of a category.
        factors: (I, D) of length 1; ``centers`` (C, D) are the means of the categories.
        content: (I, W) noisy views of the factors.
        popularity: (days, I) part of the click logit, before its strength.
        cumulative: (days * I,) exposure up to and with an item, as day + share of the day.
        price, bid: (I,) usual ones.
        period, delay: (C,) days of the recurring need, and from the purchase of ``partner`` (C,).
        profile: by field, (values, C) parts of the click logit.
        hours: (24, C) part of the click logit.
        places: (K,) part of the click logit.
    """

    category: Ints
    first: Ints
    end: Ints
    factors: Floats32
    centers: Floats32
    content: npt.NDArray[np.float16]
    popularity: Floats32
    cumulative: Floats
    price: Floats32
    bid: Floats32
    period: Floats32
    delay: Floats32
    partner: Ints
    profile: tuple[Floats32, Floats32, Floats32]
    hours: Floats32
    places: Floats32

    def draw(self, uniform: Floats, day: Ints, category: Ints) -> Ints:
        """Draw items of categories by exposure on a day; all arrays have one shape."""
        items = len(self.category)
        start = day * items + self.first[category]
        low = np.where(start > 0, self.cumulative[start - 1], 0.0)
        # The last item of the day before ends at the share 1, where this day begins.
        high = self.cumulative[day * items + self.end[category] - 1]
        found = np.searchsorted(self.cumulative, low + uniform * (high - low), side="right") - day * items
        return np.clip(found, self.first[category], self.end[category] - 1)

    def draw_any(self, uniform: Floats, day: Ints) -> Ints:
        """Draw items by exposure on a day."""
        items = len(self.category)
        found = np.searchsorted(self.cumulative, day + uniform, side="right") - day * items
        return np.clip(found, 0, items - 1)


def make_market(config: WorldConfig) -> Market:
    """Draw the market of a world."""
    rng = np.random.default_rng([config.seed, 0])
    count, kinds = config.items, config.categories
    size = np.full(kinds, count // kinds) + (np.arange(kinds) < count % kinds)
    category = np.repeat(np.arange(kinds), size)
    end = np.cumsum(size)
    centers = _unit(rng.standard_normal((kinds, config.factors)))
    factors = _unit(centers[category] + 0.7 * _unit(rng.standard_normal((count, config.factors))))
    view = rng.standard_normal((config.factors, CONTENT_WIDTH)) / np.sqrt(config.factors)
    noisy = factors + config.noise * _unit(rng.standard_normal(factors.shape))
    quality = rng.standard_normal(count)
    popularity, exposure = _popularity(rng, config, quality, end - size)
    shares = np.cumsum(exposure / exposure.sum(1, keepdims=True), axis=1)
    shares[:, -1] = 1.0
    profile = tuple(
        rng.standard_normal((values, kinds)).astype(np.float32) for values in (AGES, GENDERS, REGIONS)
    )
    low, high = np.log(config.period[0]), np.log(config.period[1])
    return Market(
        category=category,
        first=end - size,
        end=end,
        factors=factors.astype(np.float32),
        centers=centers.astype(np.float32),
        content=(noisy @ view).astype(np.float16),
        popularity=popularity.astype(np.float32),
        cumulative=(shares + np.arange(config.days)[:, None]).ravel(),
        price=np.exp(3 + 0.8 * rng.standard_normal(count)).astype(np.float32),
        bid=np.exp(0.5 * rng.standard_normal(count)).astype(np.float32),
        period=np.exp(rng.permutation(np.linspace(low, high, kinds))).astype(np.float32),
        delay=np.exp(rng.uniform(0, np.log(6), kinds)).astype(np.float32),
        partner=_partners(rng, kinds),
        profile=(profile[0], profile[1], profile[2]),
        hours=_hours(rng, kinds),
        places=-np.log1p(np.arange(config.candidates)).astype(np.float32),
    )


def _popularity(
    rng: np.random.Generator, config: WorldConfig, quality: Floats, always: Ints
) -> tuple[Floats, Floats]:
    """(days, I) part of the logit, and exposure: items are born and die; ``always`` are there throughout."""
    day = np.arange(config.days)[:, None] + 0.5
    if config.life:
        birth = rng.uniform(-config.life, config.days, config.items)
        death = birth + config.life * rng.exponential(1.0, config.items)
        birth[always], death[always] = -1e9, 1e9
    else:
        birth, death = np.full(config.items, -1e9), np.full(config.items, 1e9)
    age = np.maximum(day - birth, 0)
    popularity = quality + np.exp(-age / 10)
    exposure = np.exp(0.5 * quality) * ((day >= birth) & (day < death))
    return popularity, exposure


def _unit(rows: Array) -> Floats:
    """Scale rows to length 1."""
    scaled: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def _partners(rng: np.random.Generator, kinds: int) -> Ints:
    """For each category another one, after whose purchase it is wanted."""
    order = rng.permutation(kinds)
    partner = np.empty(kinds, np.int64)
    partner[order] = np.roll(order, 1)
    return partner


def _hours(rng: np.random.Generator, kinds: int) -> Floats32:
    """(24, C) waves over the day; categories of a group share one."""
    peak = rng.uniform(0, 24, _GROUPS)[rng.integers(0, _GROUPS, kinds)]
    wave: Floats32 = np.cos((np.arange(24)[:, None] - peak) * (2 * np.pi / 24)).astype(np.float32)
    return wave
