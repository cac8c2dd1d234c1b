"""Reports of a run, label by label and slice by slice, and of the differences between two runs.

Both reports need `Predictions` only and become plain JSON by `to_dict`; nothing here prints.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from clickscale.arrays import Flags, Floats32, Ints
from clickscale.errors import ConfigError, DataError, unknown
from clickscale.evaluation.calibration import equal_mass_bins
from clickscale.evaluation.measures import METRICS, UserRows
from clickscale.evaluation.metrics import rela_impr
from clickscale.evaluation.predictions import Predictions, common_rows
from clickscale.evaluation.regret import Regret
from clickscale.evaluation.sanity import label_warnings
from clickscale.evaluation.significance import (
    Interval,
    PairedTest,
    delong,
    gap_closed,
    intervals_of,
    paired_tests_of,
)

DAY = 86_400
"""Seconds of a UTC day."""

_BEHAVIOR_EDGES = (1, 5, 20, 50, 100, 200)
_BEHAVIOR_NAMES = ("0", "1-4", "5-19", "20-49", "50-99", "100-199", "200+")
_AGE_EDGES = (0, DAY, 7 * DAY, 30 * DAY, 90 * DAY)
_AGE_NAMES = ("unknown", "under 1 day", "1-6 days", "7-29 days", "30-89 days", "90+ days")


@dataclass(frozen=True)
class _SliceReport:
    """One slice, such as the rows with 5 to 19 visible behaviors.

    ``metrics`` has those of `METRICS` that noise does not push in one direction; nan where not defined, and
    then ``reason`` says what the rows lack.
    """

    name: str
    rows: int
    positives: int
    metrics: dict[str, float]
    reason: str


@dataclass(frozen=True)
class _SimpleReport:
    """Metrics of a prediction that costs nothing, and tests of the model's metrics minus these.

    ``reason`` says what the rows lack if a metric is nan.
    """

    metrics: dict[str, float]
    against: dict[str, PairedTest]
    reason: str


@dataclass(frozen=True)
class _LabelReport:
    """Metrics of one label over the rows where it is known, each with its interval over users.

    `metrics` has all of `METRICS` by name. `ranked_users` are the users with both classes, the only ones that
    GAUC can see. `rela_impr` is in percent
    against a base AUC that counts as exact, None without one. `simple` maps constant and popularity to what
    these predictions reach; empty if they were not given. `slices` maps behaviors, user_activity,
    item_age and day to their slices, in order, empty ones left out: each partition covers every row once.
    """

    label: str
    rows: int
    positives: int
    users: int
    ranked_users: int
    metrics: dict[str, Interval]
    rela_impr: Interval | None
    simple: dict[str, _SimpleReport]
    slices: dict[str, tuple[_SliceReport, ...]]


@dataclass(frozen=True)
class EvaluationReport:
    """Results of one run on one part: its labels, in order, how rows were batched and intervals made.

    `warnings` are sentences about what makes the numbers worth little; see `clickscale.evaluation.sanity`.
    `regret` stands beside labels whose true probabilities are known, which is so on a simulated world only.
    """

    part: str
    grouping: str
    rows: int
    bootstrap: int
    seed: int
    level: float
    labels: tuple[_LabelReport, ...]
    warnings: tuple[str, ...] = ()
    regret: tuple[Regret, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; nan becomes None beside its reason. `regret` is there if it is known."""
        document: dict[str, Any] = _to_json_values(self)
        return document if self.regret else {k: v for k, v in document.items() if k != "regret"}


@dataclass(frozen=True)
class LabelComparison:
    """One label in two runs: `a` and `b` map metrics to values, the tests are of a - b.

    `delong` compares the AUC by a formula, `bootstrap` every metric but ECE by resampling; both count users
    as independent. `rela_impr` is that of a over b, in percent. `reason` says what the rows lack if a value
    is nan.
    """

    label: str
    rows: int
    positives: int
    users: int
    a: dict[str, float]
    b: dict[str, float]
    rela_impr: float
    delong: PairedTest
    bootstrap: dict[str, PairedTest]
    reason: str


@dataclass(frozen=True)
class ComparisonReport:
    """Two runs on the `rows` that both scored, of `rows_a` and `rows_b`, for the labels that both have."""

    part: str
    grouping_a: str
    grouping_b: str
    rows: int
    rows_a: int
    rows_b: int
    bootstrap: int
    seed: int
    level: float
    labels: tuple[LabelComparison, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; nan becomes None beside its reason."""
        return _to_json_values(self)


def evaluate_predictions(
    predictions: Predictions,
    *,
    bootstrap: int = 200,
    seed: int = 0,
    level: float = 0.95,
    base_auc: float | Mapping[str, float] | None = None,
    simple: Mapping[str, Floats32] | None = None,
) -> EvaluationReport:
    """Measure a run's predictions: metrics with intervals over users, per label, then sliced.

    `bootstrap` replicates (0: no intervals); `base_auc` of the base model, by label name or, if there is a
    single label, as a number; `simple` logits (N, T) by name of the predictions that cost nothing, see
    `clickscale.baselines.simple`. Raises `DataError` on logits that are not finite, `ConfigError` on
    impossible options.
    """
    bases = _bases(predictions, base_auc)
    partitions = _slice_rows(predictions)
    resampling = _Resampling(bootstrap, seed, level)
    labels, warnings = [], []
    for column, name in enumerate(predictions.label_names):
        rows = _LabelRows(predictions, column)
        beside = {key: logits[rows.known, column] for key, logits in (simple or {}).items()}
        label = rows.report(resampling, bases.get(name), beside, partitions)
        labels.append(label)
        counts = (label.positives, label.rows - label.positives)
        beaten_by = {key: (found.metrics, found.against) for key, found in label.simple.items()}
        warnings += label_warnings(
            name, predictions.part, counts, label.metrics, beaten_by, rows.rests_on(label.ranked_users)
        )
    return EvaluationReport(
        part=predictions.part,
        grouping=predictions.grouping,
        rows=len(predictions),
        bootstrap=bootstrap,
        seed=seed,
        level=level,
        labels=tuple(labels),
        warnings=tuple(warnings),
    )


def compare_predictions(
    a: Predictions,
    b: Predictions,
    *,
    bootstrap: int = 200,
    seed: int = 0,
    level: float = 0.95,
    allow_missing: bool = False,
) -> ComparisonReport:
    """Test whether run a differs from run b on the same impressions, per label.

    Raises `DataError` as `common_rows` does, so runs that were measured on different data are never compared.
    """
    shared_a, shared_b = common_rows(a, b, allow_missing)
    labels = tuple(
        _compare_label(
            _LabelRows(shared_a, column), _LabelRows(shared_b, column), _Resampling(bootstrap, seed, level)
        )
        for column in range(len(shared_a.label_names))
    )
    return ComparisonReport(
        part=a.part,
        grouping_a=a.grouping,
        grouping_b=b.grouping,
        rows=len(shared_a),
        rows_a=len(a),
        rows_b=len(b),
        bootstrap=bootstrap,
        seed=seed,
        level=level,
        labels=labels,
    )


def share_closed(
    alone: Sequence[Predictions],
    taught: Sequence[Predictions],
    teacher: Sequence[Predictions],
    label: str,
    *,
    bootstrap: int = 200,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Share of the gap between a student alone and its teacher that a taught student closes, by metric.

    Several predictions of a kind are those of its seeds; see `clickscale.evaluation.significance.gap_closed`.

    Raises:
        DataError: the predictions are not of the same impressions.
    """
    first = alone[0].select_labels([label])
    alone_rows, taught_rows, teacher_rows = (
        [_LabelRows(common_rows(first, one.select_labels([label]))[1], 0).rows for one in kind]
        for kind in (alone, taught, teacher)
    )
    return gap_closed(alone_rows, taught_rows, teacher_rows, bootstrap, seed, level)


@dataclass(frozen=True)
class _Partition:
    """Every row's slice (N,) as a number below len(names); slices without rows are possible."""

    codes: Ints
    names: tuple[str, ...]

    def slices(self, known: Flags) -> Iterator[tuple[str, Ints]]:
        """Name and row numbers (among the `known` rows) of each slice that has a known row, in order."""
        # One sort instead of a mask per slice: a log of many days has many slices.
        codes = self.codes[known]
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        for code, rows in zip(present, np.split(order, starts[1:]), strict=False):
            yield self.names[code], rows


def _slice_rows(predictions: Predictions) -> dict[str, _Partition]:
    """The partitions of a report: visible behaviors, user activity (in quartiles), item age, UTC day.

    Users of equal training impressions share a quartile (of users, not of rows), so quartiles may be uneven
    or, when most users are new, empty.
    """
    # Days in UTC, so that a slice does not depend on the machine's time zone.
    days, day_codes = np.unique(predictions.time // DAY, return_inverse=True)
    return {
        "behaviors": _Partition(
            np.searchsorted(_BEHAVIOR_EDGES, predictions.behaviors, side="right"), _BEHAVIOR_NAMES
        ),
        "user_activity": _activity_quartiles(predictions),
        "item_age": _Partition(np.searchsorted(_AGE_EDGES, predictions.item_age, side="right"), _AGE_NAMES),
        "day": _Partition(day_codes, tuple(str(day) for day in days.astype("datetime64[D]"))),
    }


def _activity_quartiles(predictions: Predictions) -> _Partition:
    # Quartiles of users and not of rows, or the most active users would fill them all.
    _, first_rows, users = np.unique(predictions.user, return_index=True, return_inverse=True)
    activity = predictions.user_activity[first_rows]
    quartiles = equal_mass_bins(activity, 4)
    names = []
    for quartile in range(4):
        inside = activity[quartiles == quartile]
        names.append(
            f"q{quartile + 1} ({inside.min()}-{inside.max()})" if inside.size else f"q{quartile + 1}"
        )
    return _Partition(quartiles[users], tuple(names))


@dataclass(frozen=True)
class _Resampling:
    """How intervals and tests are made; see `clickscale.evaluation.significance.user_bootstrap`."""

    replicates: int
    seed: int
    level: float

    def intervals(self, rows: UserRows) -> dict[str, Interval]:
        """Every metric with its interval."""
        return intervals_of(rows, self.replicates, self.seed, self.level)

    def tests(self, a: UserRows, b: UserRows) -> dict[str, PairedTest]:
        """Differences a - b, tested."""
        return paired_tests_of(a, b, self.replicates, self.seed, self.level)


def _moments(predictions: Predictions) -> Ints:
    """(N,) equal for impressions of one time that see the same behaviors, as all of one request do.

    In a log whose rows are in order, the later one of two at the same time sees the earlier.
    """
    behaviors = predictions.behaviors.astype(np.int64)
    moments: Ints = predictions.time * (behaviors.max(initial=0) + 1) + behaviors
    return moments


class _LabelRows:
    """The rows of one label that are known."""

    def __init__(self, predictions: Predictions, column: int) -> None:
        self.name = predictions.label_names[column]
        self.known: Flags = predictions.label_mask[:, column]
        self.labels = predictions.labels[self.known, column]
        self.logits = predictions.logits[self.known, column]
        self.users, self.moments = predictions.user[self.known], _moments(predictions)[self.known]
        self._check_finite(predictions)
        self.rows = UserRows(self.labels, self.logits, self.users, self.moments)

    def _check_finite(self, predictions: Predictions) -> None:
        finite = np.isfinite(self.logits)
        if not finite.all():
            at = int(finite.argmin())
            row = predictions.row[self.known][at]
            raise DataError(
                f"Label {self.name!r}, impression row {row} of part {predictions.part}: the logit is"
                f" {self.logits[at]}; {int((~finite).sum())} of {len(finite)} are not finite. The training"
                " diverged: train again with a lower --learning-rate."
            )

    def report(
        self,
        resampling: _Resampling,
        base: float | None,
        simple: Mapping[str, Floats32],
        partitions: dict[str, _Partition],
    ) -> _LabelReport:
        """Measure all rows, then each slice."""
        intervals = resampling.intervals(self.rows)
        return _LabelReport(
            label=self.name,
            rows=len(self.labels),
            positives=int(self.rows.positive.sum()),
            users=self.rows.users,
            ranked_users=int((self.rows.pairs.pairs > 0).sum()),
            metrics=intervals,
            rela_impr=None if base is None else _rela_impr_interval(intervals["auc"], base),
            simple={name: self._simple(logits, resampling) for name, logits in simple.items()},
            slices={
                name: tuple(self._slice(value, rows) for value, rows in partition.slices(self.known))
                for name, partition in partitions.items()
            },
        )

    def rests_on(self, ranked_users: int) -> dict[str, tuple[int, str]]:
        """What the metrics rest on that rank within a user or a request, by name; see `label_warnings`."""
        requests = int((self.rows.requests.pairs > 0).sum())
        return {"gauc": (ranked_users, "users"), "request_auc": (requests, "requests")}

    def _simple(self, logits: Floats32, resampling: _Resampling) -> _SimpleReport:
        other = UserRows(self.labels, logits, self.users, self.moments)
        tests = resampling.tests(self.rows, other)
        # PCOC is best at one, so a difference of two says nothing about which is better.
        against = {m.name: tests[m.name] for m in METRICS if m.name in tests and m.better != "one"}
        return _SimpleReport(_values(other), against, other.lack)

    def _slice(self, name: str, rows: Ints) -> _SliceReport:
        inside = UserRows(self.labels[rows], self.logits[rows], self.users[rows], self.moments[rows])
        values = {metric.name: metric.value(inside) for metric in METRICS if not metric.biased}
        return _SliceReport(name, len(rows), int(inside.positive.sum()), values, inside.lack)


def _values(rows: UserRows) -> dict[str, float]:
    """Value of every metric, without intervals."""
    return {metric.name: metric.value(rows) for metric in METRICS}


def _compare_label(a: _LabelRows, b: _LabelRows, resampling: _Resampling) -> LabelComparison:
    of_a, of_b = _values(a.rows), _values(b.rows)
    return LabelComparison(
        label=a.name,
        rows=len(a.labels),
        positives=int(a.labels.sum()),
        users=a.rows.users,
        a=of_a,
        b=of_b,
        rela_impr=rela_impr(of_a["auc"], of_b["auc"]),
        delong=delong(a.labels, a.logits, b.logits, resampling.level, groups=a.users),
        bootstrap=resampling.tests(a.rows, b.rows),
        reason=a.rows.lack,
    )


def _rela_impr_interval(interval: Interval, base: float) -> Interval:
    ends = rela_impr(interval.low, base), rela_impr(interval.high, base)
    # Against a base below 0.5 a higher AUC is a lower RelaImpr, so the ends swap.
    low, high = (ends[1], ends[0]) if base < 0.5 else ends
    return Interval(low, high, rela_impr(interval.value, base), interval.reason)


def _bases(predictions: Predictions, base_auc: float | Mapping[str, float] | None) -> dict[str, float]:
    if base_auc is None:
        return {}
    if isinstance(base_auc, Mapping):
        for name in base_auc:
            if name not in predictions.label_names:
                raise ConfigError(unknown("label", name, predictions.label_names))
        return dict(base_auc)
    if len(predictions.label_names) > 1:
        raise ConfigError(
            f"One base AUC ({base_auc}) for the labels {predictions.label_names}; give one by label name."
        )
    return {predictions.label_names[0]: base_auc}


def _to_json_values(report: Any) -> Any:
    return _plain_json(msgspec.to_builtins(report))


def _plain_json(value: Any) -> Any:
    """JSON values without nan; ``metrics`` stand beside the other values of their label or slice."""
    if isinstance(value, dict):
        flat = {key: inner for key, inner in value.items() if key != "metrics"} | value.get("metrics", {})
        # A reason that is empty is none, as a value that is not defined is none.
        return {k: None if k == "reason" and not v else _plain_json(v) for k, v in flat.items()}
    if isinstance(value, list | tuple):
        return [_plain_json(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
