"""One line of a results table: accuracy of a model with its intervals, and its cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clickscale.evaluation.significance import Interval


@dataclass(frozen=True)
class Result:
    """Accuracy and cost of one run for one label; values that do not apply (GFLOPs of trees) are None.

    Attributes:
        auc, gauc, log_loss, pcoc: with intervals over users.
        dense: parameters outside embedding tables.
        gflops: 10^9 operations of a request of 60 candidates.
        speed: training samples per second.
    """

    name: str
    label: str
    part: str
    grouping: str
    rows: int
    auc: Interval
    gauc: Interval
    log_loss: Interval
    pcoc: Interval
    dense: int | None = None
    gflops: float | None = None
    speed: float | None = None


def results_of(
    name: str,
    evaluation: Mapping[str, Any],
    cost: Mapping[str, Any] | None = None,
    speed: float | None = None,
) -> list[Result]:
    """One result per label from the JSON forms of an `EvaluationReport` and of a `Cost`."""
    return [
        Result(
            name=name,
            label=label["label"],
            part=evaluation["part"],
            grouping=evaluation["grouping"],
            rows=label["rows"],
            auc=_interval(label["auc"]),
            gauc=_interval(label["gauc"]),
            log_loss=_interval(label["log_loss"]),
            pcoc=_interval(label["pcoc"]),
            dense=cost["dense"] if cost else None,
            gflops=cost["gflops"] if cost else None,
            speed=speed,
        )
        for label in evaluation["labels"]
    ]


def _interval(stored: Mapping[str, float | None]) -> Interval:
    low, high, value = (stored[end] for end in ("low", "high", "value"))
    # JSON has no nan: reports store it as null.
    return Interval(*(math.nan if number is None else number for number in (low, high, value)))


HEADERS = ("model", "AUC", "GAUC", "log-loss", "dense parameters", "GFLOPs, 60 candidates", "samples/s")


def cells(result: Result) -> tuple[str, ...]:
    """Texts of a line, in the order of `HEADERS`."""
    return (
        result.name,
        *(with_interval(interval) for interval in (result.auc, result.gauc, result.log_loss)),
        "-" if result.dense is None else f"{result.dense:,}",
        "-" if result.gflops is None else f"{result.gflops:.4f}",
        "-" if result.speed is None else f"{result.speed:,.0f}",
    )


def with_interval(interval: Interval) -> str:
    """``0.8031 [0.7990, 0.8070]``."""
    if math.isnan(interval.value):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.value:.4f}"
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def verdict(results: Sequence[Result]) -> str:
    """A sentence that names the models with the best AUC and the best GAUC."""
    auc = max(results, key=lambda result: result.auc.value).name
    gauc = max(results, key=lambda result: result.gauc.value).name
    return f"Best AUC and best GAUC: {auc}." if auc == gauc else f"Best AUC: {auc}; best GAUC: {gauc}."


def to_dict(result: Result) -> dict[str, Any]:
    """JSON-ready form; an interval is ``[low, value, high]``."""
    intervals = {
        name: [interval.low, interval.value, interval.high]
        for name, interval in (
            ("auc", result.auc),
            ("gauc", result.gauc),
            ("log_loss", result.log_loss),
            ("pcoc", result.pcoc),
        )
    }
    facts = ("name", "label", "part", "grouping", "rows", "dense", "gflops", "speed")
    return {name: getattr(result, name) for name in facts} | intervals
