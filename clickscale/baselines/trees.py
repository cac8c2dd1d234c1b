"""Gradient-boosted trees on point-in-time target means and counts: the baseline beside every model.

Trees use neither embeddings nor sequences. Their features are numbers known strictly before each impression,
computed from the timelines that the models read:

level ``history`` (always)
    * smoothed label rate and count of earlier impressions by item, by user, by every categorical item and
      context field, by user x each of those fields, and by profile field x item;
    * lift: the user's earlier labels less the rates that their items had at those moments, over all time,
      7 days and 1 day, and by user x each field;
    * instead of these two, where negatives were drawn, so that positives alone are counted: count and share
      by the same keys, and the share of the item over 30 days (`clickscale.schema.Statistic`);
    * of the behaviors known before the moment: their number, the seconds since the newest, the oldest and the
      newest with the candidate's item, and the numbers that share its item or a value of one of its fields;
    * the fields themselves: numbers as they are, and single indices as categories (ids of users and items
      excepted).

level ``statistics`` (``statistics=True``)
    * also the statistics that the schema declares, with the values that the models get.

Models get the fields and the declared statistics, which count through the parts valid and test exactly as the
features above do. `FittedTrees.beyond` names all other features of the trees.

LightGBM trains the trees and stops early on part ``valid``. All features are held in memory: about 4 bytes
for each impression of the log and each feature.
"""

import time as clock
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from clickscale.config import Config
from clickscale.data.dataset import Dataset
from clickscale.data.features.counts_in_memory import counts_before, sums_before
from clickscale.data.features.statistics import ImpressionLog, LogCounter, overall_rate, rate
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.evaluate import with_facts
from clickscale.evaluation.predictions import Predictions
from clickscale.features import Feature, column_of, label_of
from clickscale.schema import Statistic, select_labels

Floats32 = NDArray[np.float32]
Integers = NDArray[np.int64]

_DAY = 86_400
_EVERY = 1 << 62  # rows in memory: all of them
_CATEGORIES = 1000  # indices of a field with more values than this are not given to the trees as categories


class _TreesConfig(Config, frozen=True):
    """Options of the trees; chosen once on MovieLens-1M and kept for every data set.

    Attributes:
        prior: pseudo-impressions that pull every target mean to the overall rate, and every lift to 0.
        rounds: largest number of trees.
        patience: rounds without a better log-loss on part valid, after which training ends.
    """

    prior: float = 10.0
    leaves: int = 31
    learning_rate: float = 0.05
    rounds: int = 2000
    patience: int = 50
    least_rows: int = 500
    l2: float = 20.0
    feature_share: float = 0.4
    row_share: float = 0.8


@dataclass(frozen=True)
class _FeatureTable:
    """Features of some impressions.

    Attributes:
        names: of the columns.
        values: (rows, columns) float32, NaN where a feature is not defined.
        categories: names of the columns that hold indices.
    """

    names: tuple[str, ...]
    values: Floats32
    categories: tuple[str, ...]


@dataclass(frozen=True)
class _FittedTrees:
    """Trained trees and their predictions.

    Attributes:
        label: name of the label that they predict.
        predictions: of the parts ``valid`` and ``test``; their grouping is ``impression``.
        text: the trees in the text form of LightGBM, which `score_with_trees` reads.
        trees: number of trees that early stopping kept.
        seconds: wall time of computing the features, and of training.
        importance: share of the total gain by feature, largest first.
        beyond: features that models do not get: made from the timelines, and no declared statistic.
    """

    label: str
    predictions: dict[str, Predictions]
    text: str
    trees: int
    seconds: tuple[float, float]
    importance: dict[str, float]
    statistics: bool
    beyond: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Facts of the run, as plain values."""
        return {
            "model": "trees",
            "label": self.label,
            "statistics": self.statistics,
            "trees": self.trees,
            "seconds_features": self.seconds[0],
            "seconds_training": self.seconds[1],
            "importance": self.importance,
            "beyond": list(self.beyond),
        }


def train_trees(
    dataset: Dataset,
    *,
    label: str = "",
    seed: int = 0,
    statistics: bool = True,
    threads: int = 1,
    config: _TreesConfig | None = None,
) -> _FittedTrees:
    """Train trees on part train, stop on valid, predict valid and test.

    Args:
        label: label to predict; the first one if empty.
        statistics: also use the statistics that the schema declares.

    Raises:
        ConfigError: LightGBM is not installed.
        DataError: a part has no impression with a known label, or training has only one class.
    """
    lightgbm, options = _lightgbm(), config or _TreesConfig()
    (index,) = select_labels(dataset.labels, (label,) if label else ())
    name, start = dataset.labels[index], clock.perf_counter()
    rows = {part: dataset.part(part) for part in ("train", "valid", "test")}
    every = np.concatenate(list(rows.values()))
    table = _features(dataset, every, label=name, statistics=statistics, prior=options.prior)
    made = clock.perf_counter()
    outcome = dataset.impressions[label_of(name)][every]
    ends = np.cumsum([len(some) for some in rows.values()])
    train, valid, test = (slice(begin, end) for begin, end in zip((0, *ends[:-1]), ends, strict=True))
    booster = _boost(lightgbm, table, outcome, train, valid, options, seed, threads)
    logits = {
        part: booster.predict(table.values[where], raw_score=True, num_threads=threads).astype(np.float32)[
            :, None
        ]
        for part, where in (("valid", valid), ("test", test))
        if len(rows[part])
    }
    gain = booster.feature_importance("gain")
    order = np.argsort(-gain, kind="stable")
    return _FittedTrees(
        label=name,
        text=booster.model_to_string(num_iteration=booster.best_iteration),
        predictions={
            part: with_facts(dataset, rows[part], values, (name,), part, "impression")
            for part, values in logits.items()
        },
        trees=int(booster.best_iteration or booster.num_trees()),
        seconds=(made - start, clock.perf_counter() - made),
        importance={table.names[column]: float(gain[column] / max(gain.sum(), 1e-12)) for column in order},
        statistics=statistics,
        beyond=_beyond(dataset, table.names),
    )


def score_with_trees(
    text: str, dataset: Dataset, rows: Integers, *, label: str, statistics: bool, threads: int = 1
) -> Floats32:
    """Logits (n, 1) of some impressions; their features are held in memory.

    Args:
        text, label, statistics: of the trees, see `_FittedTrees`.
        dataset: with the encoder of the data set that the trees were fitted to.
    """
    booster = _lightgbm().Booster(model_str=text)
    table = _features(dataset, rows, label=label, statistics=statistics, prior=_TreesConfig().prior)
    scores: Floats32 = booster.predict(table.values, raw_score=True, num_threads=threads).astype(np.float32)
    return scores[:, None]


def _beyond(dataset: Dataset, names: Sequence[str]) -> tuple[str, ...]:
    """List the features that a model does not get from the fields and the declared statistics."""
    declared = {_title(statistic) for statistic in dataset.schema.statistics}
    given = ("statistic(", "profile(", "item(", "context(")
    return tuple(name for name in names if name not in declared and not name.startswith(given))


def _title(statistic: Statistic) -> str:
    """Name the feature that equals a declared statistic, except for the prior."""
    days = f" {statistic.window // _DAY}d" if statistic.window else ""
    return f"{statistic.of}({'*'.join(statistic.by)}{days})"


def _lightgbm() -> Any:
    """Import LightGBM, or raise an error that says how to install it."""
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigError(
            "The trees need LightGBM; install it with: pip install 'clickscale[trees]'"
        ) from error
    return lightgbm


def _boost(
    lightgbm: Any,
    table: _FeatureTable,
    outcome: NDArray[np.int8],
    train: slice,
    valid: slice,
    options: _TreesConfig,
    seed: int,
    threads: int,
) -> Any:
    """Train, with early stopping on ``valid`` if that part has both classes."""
    sets = []
    for where in (train, valid):
        known = outcome[where] >= 0
        sets.append((table.values[where][known], outcome[where][known]))
    (values, labels), (valid_values, valid_labels) = sets
    if len(np.unique(labels)) < 2:
        raise DataError(
            "Part train has only one outcome of the label, so trees cannot be trained on it; choose another"
            " label or another split."
        )
    parameters = {
        "objective": "binary",
        "num_leaves": options.leaves,
        "learning_rate": options.learning_rate,
        "min_data_in_leaf": min(options.least_rows, max(len(labels) // 100, 1)),
        "lambda_l2": options.l2,
        "feature_fraction": options.feature_share,
        "bagging_fraction": options.row_share,
        "bagging_freq": 1,
        "seed": seed,
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    named = {"feature_name": list(table.names), "categorical_feature": list(table.categories)}
    data = lightgbm.Dataset(values, labels, params=parameters, free_raw_data=True, **named)
    stopping: dict[str, Any] = {}
    if len(np.unique(valid_labels)) == 2:
        stopping["valid_sets"] = [lightgbm.Dataset(valid_values, valid_labels, reference=data)]
        stopping["callbacks"] = [lightgbm.early_stopping(options.patience, verbose=False)]
    return lightgbm.train(parameters, data, num_boost_round=options.rounds, **stopping)


# --- features


def _features(
    dataset: Dataset, rows: Integers, *, label: str = "", statistics: bool = True, prior: float = 10.0
) -> _FeatureTable:
    """Compute the point-in-time features of some impressions; the module docstring lists them.

    Args:
        rows: (n,) rows of the impressions. Counts run over the whole log, whatever the rows are.
        label: label of the rates; the first one if empty.
        statistics: include the declared statistics.
    """
    label = label or dataset.labels[0]
    names, columns, categories = [], [], []
    for name, column, category in _every_feature(dataset, rows, label, statistics, prior):
        names.append(name)
        columns.append(column.astype(np.float32))
        categories += [name] if category else []
    return _FeatureTable(tuple(names), np.stack(columns, axis=1), tuple(categories))


def _every_feature(
    dataset: Dataset, rows: Integers, label: str, statistics: bool, prior: float
) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Yield (name, (n,) values, whether they are categories)."""
    attributes = [
        feature.name
        for feature in (*dataset.features.item[1:], *dataset.features.context)
        if feature.kind == "categorical"
    ]
    profile = [feature.name for feature in dataset.features.profile[1:] if feature.kind == "categorical"]
    of_user: list[tuple[str, ...]] = [("user",), *(("user", name) for name in attributes)]
    others: list[tuple[str, ...]] = [
        ("item",),
        *((name,) for name in attributes),
        *((f, "item") for f in profile),
    ]
    counted = _positives if dataset.schema.sampled_negatives else _labels
    for name, column in counted(dataset, of_user, others, label, prior):
        yield name, column[rows], False
    for name in ("item", *(f.name for f in dataset.features.item[1:] if f.kind == "categorical")):
        yield f"behaviors(user*{name})", _behavior_counts(dataset, name, rows), False
    for name, column in _moments(dataset, rows):
        yield name, column, False
    yield from _fields(dataset, rows, statistics)


_Keys = list[tuple[str, ...]]


def _labels(
    dataset: Dataset, of_user: _Keys, others: _Keys, label: str, prior: float
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield (name, (impressions,) values) of label rates, counts and lifts."""
    targets = _Targets(dataset, label, prior)
    for by in (*of_user, *others):
        means, counts = targets.rates(by)
        yield f"rate({'*'.join(by)})", means
        yield f"count({'*'.join(by)})", counts
    for by in of_user:
        yield f"lift({'*'.join(by)})", targets.lift(by)
    for days in (1, 7):
        yield f"lift(user {days}d)", targets.lift(("user",), days * _DAY)


def _positives(
    dataset: Dataset, of_user: _Keys, others: _Keys, label: str, prior: float
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the counts and shares of a log of which positives alone are counted."""
    counter = LogCounter(ImpressionLog(dataset.path, dataset.schema), _EVERY, dataset.path)
    wanted = [Statistic(name="", by=by, of="count", label=label) for by in (*of_user, *others)]
    wanted += [replace(each, of="share", prior=prior) for each in wanted if each.by != ("user",)]
    wanted.append(Statistic(name="", by=("item",), of="share", label=label, window=30 * _DAY, prior=prior))
    for statistic in wanted:
        yield _title(statistic), np.concatenate([values for _, values in counter.column(statistic)])


class _Targets:
    """Means of earlier labels, for every impression of the log."""

    def __init__(self, dataset: Dataset, label: str, prior: float) -> None:
        self.prior = prior
        self.log = ImpressionLog(dataset.path, dataset.schema)
        self.outcome = self.log.label(label)
        self.delay = next(one.delay for one in dataset.schema.labels if one.name == label)
        before = counts_before(
            np.zeros(len(self.log), np.int8), self.log.time, self.outcome, delay=self.delay
        )
        self.overall = overall_rate(before.known, before.positives)

    def rates(self, by: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(impressions,) smoothed label rate and number of earlier impressions; means over several values."""
        keys = self.log.keys(by, slice(None))
        there = keys >= 0
        row, _ = np.nonzero(there)
        before = counts_before(keys[there], self.log.time[row], self.outcome[row], delay=self.delay)
        means = rate(before.known, before.positives, self.overall[row], self.prior)
        return _spread(means, there), _spread(before.rows, there)

    def lift(self, by: tuple[str, ...], window: int = 0) -> NDArray[np.float64]:
        """(impressions,) smoothed mean of label less item rate over the earlier impressions of the key."""
        keys = self.log.keys(by, slice(None))
        there = keys >= 0
        row, _ = np.nonzero(there)
        key, time, outcome = keys[there], self.log.time[row], self.outcome[row]
        known = counts_before(key, time, outcome, delay=self.delay, window=window).known
        total = sums_before(key, time, self._surprise[row], delay=self.delay, window=window)
        return _spread(total / (known + self.prior), there)

    @cached_property
    def _surprise(self) -> NDArray[np.float64]:
        """(impressions,) label less the rate that the item had then, NaN where the label is unknown."""
        return np.where(self.outcome >= 0, self.outcome - self.rates(("item",))[0], np.nan)


def _spread(values: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(rows,) means of the values that stand, row by row, at the set places of ``there`` (rows, slots)."""
    table = np.zeros(there.shape)
    table[there] = values
    return table.sum(axis=1) / np.maximum(there.sum(axis=1), 1)


def _behavior_counts(dataset: Dataset, name: str, rows: Integers) -> NDArray[np.float64]:
    """(n,) visible behaviors that share the candidate's item, or a value of an item field (then the mean)."""
    behaviors, impressions = dataset.behaviors, dataset.impressions
    owner = np.repeat(np.arange(len(dataset.users["offsets"]) - 1), np.diff(dataset.users["offsets"]))
    size = (
        len(dataset.items["first_seen"]) if name == "item" else int(dataset.items[column_of(name)].max()) + 1
    )

    def keys(user: Integers, item: Integers) -> Integers:
        """(N, values) a number for each user and value; -1 for none."""
        values = item if name == "item" else dataset.items[column_of(name)][item]
        values = values[:, None] if values.ndim == 1 else values
        return np.where(values > 0, user[:, None].astype(np.int64) * size + values, -1)

    past, present = keys(owner, behaviors["item"]), keys(impressions["user"][rows], impressions["item"][rows])
    key = np.concatenate((past.ravel(), present.ravel()))
    time = np.concatenate(
        (dataset.known_at.repeat(past.shape[1]), impressions["time"][rows].repeat(past.shape[1]))
    )
    # Behaviors are counted (1); impressions only ask for the count before them (-1: unknown label).
    shown = np.repeat(np.array([1, -1], np.int8), (past.size, present.size))
    there = key >= 0
    counts = np.zeros(len(key))
    counts[there] = counts_before(key[there], time[there], shown[there]).known
    return counts[past.size :].reshape(present.shape).sum(axis=1) / np.maximum((present >= 0).sum(axis=1), 1)


def _moments(dataset: Dataset, rows: Integers) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield (name, (n,) values) of the number and the age of behaviors; NaN seconds without a behavior."""
    impressions, offsets = dataset.impressions, dataset.users["offsets"]
    user, item = impressions["user"][rows], impressions["item"][rows]
    time, visible = impressions["time"][rows], impressions["visible"][rows].astype(np.int64)
    yield "behaviors", visible.astype(np.float64)
    newest = np.where(visible > 0, offsets[user] + visible - 1, -1)
    for name, row in (
        ("newest", newest),
        ("oldest", np.where(visible > 0, offsets[user], -1)),
        ("same_item", _newest_of_item(dataset, user, item, offsets[user] + visible)),
    ):
        known = dataset.known_at[row] if len(dataset.known_at) else np.zeros(len(rows))
        yield f"seconds_since({name})", np.where(row >= 0, time - known, np.nan)


def _newest_of_item(dataset: Dataset, user: Integers, item: Integers, end: Integers) -> Integers:
    """(n,) row of the newest behavior before row ``end`` of the user with the item, -1 if there is none."""
    total, items = len(dataset.behaviors["item"]), len(dataset.items["first_seen"])
    owner = np.repeat(np.arange(len(dataset.users["offsets"]) - 1), np.diff(dataset.users["offsets"]))
    pair = np.concatenate((owner * items + dataset.behaviors["item"], user.astype(np.int64) * items + item))
    row = np.concatenate((np.arange(total), end))
    # Of one pair and row, the impression comes before the behavior, so it sees earlier behaviors only.
    order = np.lexsort((np.arange(len(pair)) < total, row, pair))
    behaviors = np.where(order < total, np.arange(len(order)), -1)
    newest = np.maximum.accumulate(behaviors)  # position in the order of the last behavior so far
    result = np.full(len(user), -1, np.int64)
    asking = np.flatnonzero(order >= total)
    latest = newest[asking]
    same = (latest >= 0) & (pair[order[latest]] == pair[order[asking]])
    result[order[asking] - total] = np.where(same, row[order[latest]], -1)
    return result


def _fields(dataset: Dataset, rows: Integers, statistics: bool) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Yield (name, (n,) values, whether they are categories) of the fields themselves."""
    declared = {statistic.name for statistic in dataset.schema.statistics}
    user, item = dataset.impressions["user"][rows], dataset.impressions["item"][rows]
    for side, group, columns, at in (
        ("profile", dataset.features.profile[1:], dataset.users, user),
        ("item", dataset.features.item[1:], dataset.items, item),
        ("context", dataset.features.context, dataset.impressions, rows),
    ):
        for feature in group:
            if feature.name in declared and statistics:
                yield f"statistic({feature.name})", columns[column_of(feature.name)][at], False
            elif feature.name not in declared and _fits(feature):
                column = columns[column_of(feature.name)][at]
                yield f"{side}({feature.name})", column, feature.kind == "categorical"


def _fits(feature: Feature) -> bool:
    """True if trees can use a field unchanged."""
    if feature.kind == "categorical":
        return feature.values == 1 and feature.size <= _CATEGORIES
    return feature.kind == "numeric"
