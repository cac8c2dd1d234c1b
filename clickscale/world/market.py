"""The market: items, categories, prices and everything else of a world that no user changes.

All of it is drawn from the seed, so it is made again where it is needed and never stored.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array, Floats, Floats32, Ints, Ints32
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
        shelves: (days, C, S) items of each category, an item in as many of the S places as its exposure asks.
        storefront: (days, S') the same for all items.
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
    shelves: Ints32
    storefront: Ints32
    price: Floats32
    bid: Floats32
    period: Floats32
    delay: Floats32
    partner: Ints
    profile: tuple[Floats32, Floats32, Floats32]
    hours: Floats32
    places: Floats32

    def draw(self, uniform: Floats32, day: Ints, category: Ints) -> Ints:
        """Draw items of categories by exposure on a day; all arrays have one shape."""
        places = self.shelves.shape[2]
        place = (uniform * np.float32(places)).astype(np.int64)
        found: Ints = self.shelves[day, category, place].astype(np.int64)
        return found

    def draw_any(self, uniform: Floats32, day: Ints) -> Ints:
        """Draw items by exposure on a day."""
        places = self.storefront.shape[1]
        place = (uniform * np.float32(places)).astype(np.int64)
        found: Ints = self.storefront[day, place].astype(np.int64)
        return found


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
    places = _power_of_two(int(size.max()))
    bounds = zip(end - size, end, strict=True)
    shelves = np.stack([_places(exposure[:, low:high], places) + low for low, high in bounds], axis=1)
    profile = tuple(
        rng.standard_normal((values, kinds)).astype(np.float32) for values in (AGES, GENDERS, REGIONS)
    )
    shortest, longest = np.log(config.period)
    return Market(
        category=category,
        first=end - size,
        end=end,
        factors=factors.astype(np.float32),
        centers=centers.astype(np.float32),
        content=(noisy @ view).astype(np.float16),
        popularity=popularity.astype(np.float32),
        shelves=shelves.astype(np.int32),  # (days, C, S)
        storefront=_places(exposure, _power_of_two(count)).astype(np.int32),
        price=np.exp(3 + 0.8 * rng.standard_normal(count)).astype(np.float32),
        bid=np.exp(0.5 * rng.standard_normal(count)).astype(np.float32),
        period=np.exp(rng.permutation(np.linspace(shortest, longest, kinds))).astype(np.float32),
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


def _power_of_two(items: int) -> int:
    """Number of places for so many items: at least four for each, so that hardly any is left without one."""
    return 1 << max(7, (4 * items - 1).bit_length())


def _places(exposure: Floats, places: int) -> Ints:
    """(days, places) of exposures (days, n): each item has places in proportion to its exposure.

    A draw is then one look-up. A search among cumulated exposures would take most of the time of a life.
    """
    share = np.cumsum(exposure / exposure.sum(1, keepdims=True), axis=1)
    middle = (np.arange(places) + 0.5) / places
    found = np.stack([np.searchsorted(day, middle, side="right") for day in share])
    return np.minimum(found, exposure.shape[1] - 1)


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
