"""Oracles that see only the last L behaviors: estimates of the best that a model of that length can do.

Such an oracle knows the market (factors, periods, delays, time constants, strengths) and the part of an
impression's logit that does not depend on behaviors. It knows nothing of the user's taste and of older
behaviors. The best it can predict is E[p | the last L behaviors], which has no closed form. It is estimated:

1. the parts of the logit that are formulas of behaviors are computed from the last L of them;
2. so are means of the factors seen, over several spans, which tell the taste;
3. boosted trees are fitted to the true probabilities (not to clicks) on impressions before the part that is
   measured, starting from the sum of 1.

With all behaviors, step 1 is exact, and only the taste is left to be estimated. A measure of these estimates
is a bound from below on the best that is possible with L behaviors, and close to it as far as the trees find
what there is.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from clickscale.arrays import Array, Floats, Floats32, Ints
from clickscale.config import LONGEST
from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.features import UNKNOWN, column_of
from clickscale.world.click_logit import NEVER, complement, need, satiation
from clickscale.world.market import DAY, Market, make_market
from clickscale.world.truth import known_logit, true_probability, world_facts
from clickscale.world.world_config import WorldConfig

_SPANS = (0.2, 4.0, 20.0, 1e9)  # days over which factors are averaged
_SINCE, _PERIOD = 3, 6  # columns of the features
_PAIRS = 1 << 20  # behaviors that are looked at together


def sample_rows(rows: Ints, most: int, seed: int = 0) -> Ints:
    """Draw at most so many of some impressions, in their order."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows


def window_parts(dataset: Dataset, rows: Ints, length: int) -> tuple[Floats32, Floats32]:
    """Logits and features from the last ``length`` behaviors of impressions.

    Returns:
        (N,) the part of the logit that is a formula of behaviors, from those; (N, F) features of the taste.
    """
    windows = _Windows(dataset, length)
    found = [windows.parts(some) for some in windows.chunks(rows)]
    return np.concatenate([logit for logit, _ in found]), np.concatenate([features for _, features in found])


def due_shares(dataset: Dataset, rows: Ints) -> Floats32:
    """(N,) days since the user's last purchase in the category, over its period; above 1e3 without one."""
    _, features = window_parts(dataset, rows, LONGEST)
    shares: Floats32 = features[:, _SINCE] / features[:, _PERIOD]
    return shares


def window_oracles(
    dataset: Dataset, rows: Ints, lengths: tuple[int, ...], sample: int = 100_000, seed: int = 0
) -> dict[int, Floats32]:
    """Estimate the (N,) logits of oracles of several lengths for impressions of one part.

    Args:
        rows: measured impressions.
        sample: impressions before the measured ones on which the estimates are fitted.

    Raises:
        ConfigError: LightGBM is not installed.
    """
    first = int(np.asarray(dataset.impressions["time"])[rows].min())
    before = np.flatnonzero(np.asarray(dataset.impressions["time"]) < first)
    if not len(before):
        raise ConfigError("The oracles are fitted on impressions before the part; choose the part test.")
    fitted = sample_rows(before, sample, seed)
    return {length: _oracle(dataset, fitted, rows, length, seed) for length in lengths}


def _oracle(dataset: Dataset, fitted: Ints, rows: Ints, length: int, seed: int) -> Floats32:
    """Fit the probabilities of ``fitted``, and predict the logits of ``rows``."""
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigError("The oracles need LightGBM: pip install 'clickscale[trees]'.") from error
    known, told = (known_logit(dataset, some) for some in (fitted, rows))
    lived, features = window_parts(dataset, fitted, length)
    data = lightgbm.Dataset(
        _columns(known, lived, features),
        true_probability(dataset, fitted),
        init_score=(known + lived).astype(np.float64),
        params={"verbose": -1},
    )
    options = {
        "objective": "cross_entropy",
        "learning_rate": 0.08,
        "num_leaves": 63,
        "min_data_in_leaf": 100,
        "seed": seed,
        "deterministic": True,
        "num_threads": 1,
        "verbose": -1,
    }
    trees = lightgbm.train(options, data, num_boost_round=150)
    lived, features = window_parts(dataset, rows, length)
    raw = np.asarray(trees.predict(_columns(told, lived, features), raw_score=True))
    return (told + lived + raw).astype(np.float32)


def _columns(known: Floats32, lived: Floats32, features: Floats32) -> Floats32:
    return np.column_stack([known, lived, features]).astype(np.float32)


class _Windows:
    """The last behaviors before impressions, with what the market says of them."""

    def __init__(self, dataset: Dataset, length: int) -> None:
        self.dataset, self.length = dataset, length
        self.config: WorldConfig = world_facts(dataset).options
        self.market: Market = make_market(self.config)
        self.number = np.asarray(dataset.items["ids"])  # of an item in the market, by row of the item table
        bought = dataset.encoder.vocabulary("action").encode(pa.array(["buy"]))[0]
        self.bought = int(bought) if bought != UNKNOWN else -1

    def chunks(self, rows: Ints) -> Iterator[Ints]:
        """Cut impressions into pieces of about as many behaviors."""
        seen = np.minimum(np.asarray(self.dataset.impressions["visible"])[rows], self.length).astype(np.int64)
        piece = np.cumsum(seen) // _PAIRS
        yield from np.split(rows, np.flatnonzero(np.diff(piece)) + 1)

    def parts(self, rows: Ints) -> tuple[Floats32, Floats32]:
        """See `window_parts`."""
        shown, past = self.dataset.impressions, self.dataset.behaviors
        visible = np.asarray(shown["visible"])[rows].astype(np.int64)
        count = np.minimum(visible, self.length)
        end = np.asarray(self.dataset.users["offsets"])[np.asarray(shown["user"])[rows]] + visible
        row = np.repeat(np.arange(len(rows)), count)
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        behavior = np.repeat(end - count, count) + place
        age = np.repeat(np.asarray(shown["time"])[rows], count) - np.asarray(past["time"])[behavior]
        item, other = self.number[np.asarray(shown["item"])[rows]], self.number[past["item"][behavior]]
        bought = np.asarray(past[column_of("action")])[behavior] == self.bought
        return self._parts(item, row, other, age.astype(np.float64), bought)

    def _parts(
        self, item: Ints, row: Ints, other: Ints, age: Floats, bought: Array
    ) -> tuple[Floats32, Floats32]:
        """Compute the parts of (N,) candidates from (M,) behaviors, each of candidate ``row``."""
        config, market, rows = self.config, self.market, len(item)
        strengths, kind = config.strengths, market.category[item]
        alike = np.einsum("nd,nd->n", market.factors[item][row], market.factors[other])
        same = market.category[other] == kind[row]
        interest, lasting = (
            _mean(row, rows, np.exp(-age / constant), alike, 1.0)
            for constant in (config.minutes * 60, config.lasting_days * DAY)
        )
        weary = satiation(_sum(row, rows, np.exp(-age / (config.satiation_hours * 3600)) * same))
        since = _youngest(row, rows, age, bought & same) / DAY
        partner = market.category[other] == market.partner[kind][row]
        since_partner = _youngest(row, rows, age, bought & partner) / DAY
        lived = (
            strengths.interest * interest
            + strengths.lasting * lasting
            + strengths.need * need(since, market.period[kind])
            + strengths.complement * complement(since_partner, market.delay[kind])
            - strengths.satiation * weary
        )
        oldest = np.zeros(rows)
        np.maximum.at(oldest, row, age)
        features: list[Array] = [interest, lasting, weary, since, since_partner, oldest, market.period[kind]]
        for span in _SPANS:
            weight = np.exp(-age / (span * DAY))
            features += [
                _mean(row, rows, weight, alike, 3.0),
                _mean(row, rows, weight, same, 3.0),
                _sum(row, rows, weight),
            ]
        return lived.astype(np.float32), np.column_stack(features).astype(np.float32)


def _sum(row: Ints, rows: int, values: Array) -> Floats:
    total: Floats = np.bincount(row, weights=values, minlength=rows).astype(np.float64)
    return total


def _mean(row: Ints, rows: int, weight: Array, values: Array, prior: float) -> Floats:
    """Weighted means, drawn to zero where there is little."""
    means: Floats = _sum(row, rows, weight * values) / (prior + _sum(row, rows, weight))
    return means


def _youngest(row: Ints, rows: int, age: Floats, chosen: Array) -> Floats:
    """(N,) seconds since the last of the chosen behaviors."""
    found = np.full(rows, -NEVER)
    np.minimum.at(found, row[chosen], age[chosen])
    return found
