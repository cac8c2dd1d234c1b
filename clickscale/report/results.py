"""One line of a results table: accuracy of a model with its intervals, and its cost.

Two more lines of a table cost nothing: the constant rate and item popularity.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clickscale.evaluation.sanity import TITLES
from clickscale.evaluation.significance import Interval, PairedTest


@dataclass(frozen=True)
class Result:
    """Accuracy and cost of one run for one label; values that do not apply (GFLOPs of trees) are None.

    Attributes:
        auc, gauc, log_loss, pcoc: with intervals over users.
        dense: parameters outside embedding tables.
        gflops: 10^9 operations of a request of 60 candidates.
        speed: training samples per second.
        simple: the constant rate and item popularity on the same impressions.
        against: by measure, the test of the model minus this simple prediction; empty for a model.
        warnings: sentences about what makes the numbers worth little.
        regret: the JSON form of a `clickscale.evaluation.regret.Regret`, on a simulated world.
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
    simple: tuple["Result", ...] = ()
    against: Mapping[str, PairedTest] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    regret: Mapping[str, Any] | None = None

    @property
    def shown(self) -> list[tuple[str, Interval]]:
        """Title and interval of each metric that `cells` shows."""
        return [("AUC", self.auc), ("GAUC", self.gauc), ("log-loss", self.log_loss)]


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
            simple=tuple(
                _simple(evaluation, label, TITLES[key], found)
                for key, found in label.get("simple", {}).items()
            ),
            warnings=tuple(evaluation.get("warnings", ())),
            regret=next((r for r in evaluation.get("regret", ()) if r["label"] == label["label"]), None),
        )
        for label in evaluation["labels"]
    ]


def _simple(
    evaluation: Mapping[str, Any], label: Mapping[str, Any], name: str, found: Mapping[str, Any]
) -> Result:
    """A simple prediction as a line; its values have no intervals."""
    return Result(
        name=name,
        label=label["label"],
        part=evaluation["part"],
        grouping=evaluation["grouping"],
        rows=label["rows"],
        auc=_value(found, "auc"),
        gauc=_value(found, "gauc"),
        log_loss=_value(found, "log_loss"),
        pcoc=_value(found, "pcoc"),
        against={key: _test(test) for key, test in found["against"].items()},
    )


def _value(found: Mapping[str, Any], key: str) -> Interval:
    value = _number(found[key])
    reason = found["reason"] or "" if math.isnan(value) else "simple predictions stand without intervals"
    return Interval(math.nan, math.nan, value, reason)


def _test(stored: Mapping[str, Any]) -> PairedTest:
    delta, low, high, p_value = (_number(stored[key]) for key in ("delta", "low", "high", "p_value"))
    return PairedTest(delta, low, high, p_value, stored["reason"] or "", stored["resamples"])


def _interval(stored: Mapping[str, Any]) -> Interval:
    low, high, value = (_number(stored[end]) for end in ("low", "high", "value"))
    return Interval(low, high, value, stored.get("reason") or "")


def _number(stored: float | None) -> float:
    # JSON has no nan: reports store it as null.
    return math.nan if stored is None else stored


REGRET_HEADERS = (
    "model",
    "expected AUC",
    "to best",
    "expected GAUC",
    "to best",
    "excess log-loss",
    "true PCOC",
    "true error",
)


def regret_cells(name: str, regret: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts of a line, in the order of `REGRET_HEADERS`, from the JSON form of a `Regret`."""
    expected = {key: _number(value) for key, value in regret["expected"].items()}
    values = (
        expected["auc"],
        *(_number(regret["auc"]), expected["gauc"], _number(regret["gauc"]), _number(regret["log_loss"])),
        *(expected["calibration"], _number(regret["calibration_error"])),
    )
    return (name, *("-" if math.isnan(value) else f"{value:.4f}" for value in values))


def regret_sentence(regret: Mapping[str, Any]) -> str:
    """Say how good any model could be, from the JSON form of a `Regret`."""
    auc, gauc, entropy = (_number(regret["best"][key]) for key in ("auc", "gauc", "log_loss"))
    drawn, error = _number(regret["drawn_auc"]), _number(regret["drawn_error"])
    return (
        f"The true probabilities reach AUC {auc:.4f}, GAUC {gauc:.4f} and log-loss {entropy:.4f} (their "
        f"entropy) on average over clicks; on the clicks that were drawn, AUC {drawn:.4f} (standard error "
        f"{error:.4f})."
    )


HEADERS = ("model", "AUC", "GAUC", "log-loss", "dense parameters", "GFLOPs, 60 candidates", "samples/s")


def cells(result: Result) -> tuple[str, ...]:
    """Texts of a line, in the order of `HEADERS`."""
    return (
        result.name,
        *(with_interval(interval) for _, interval in result.shown),
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


def gap_text(share: Interval) -> str:
    """``47% [35%, 60%]``; ``unsure`` where the gap may be chance; ``undefined`` where there is none."""
    if math.isnan(share.value):
        return "undefined"
    if math.isnan(share.low):
        return "unsure"
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def gap_document(share: Interval) -> dict[str, Any]:
    """A share of a gap for JSON, with its text and the reason why something is missing."""
    ends = {name: getattr(share, name) for name in ("low", "value", "high")}
    numbers = {name: None if math.isnan(end) else end for name, end in ends.items()}
    return numbers | {"text": gap_text(share), "reason": share.reason or None}


def with_simple(results: Sequence[Result]) -> list[Result]:
    """The lines of a table: results, and behind those of a label its two simple predictions, once."""
    lines = []
    for label in dict.fromkeys(result.label for result in results):
        of_label = [result for result in results if result.label == label]
        lines += [*of_label, *next((result.simple for result in of_label if result.simple), ())]
    return lines


def footnotes(intervals: Iterable[tuple[str, Interval]]) -> list[str]:
    """Reasons of the dashes and of missing intervals in a table: ``GAUC: there are no positives``.

    Args:
        intervals: with the title of their column.
    """
    titles: dict[str, list[str]] = {}
    for title, interval in intervals:
        if interval.reason and title not in titles.setdefault(interval.reason, []):
            titles[interval.reason].append(title)
    return [f"{', '.join(of_reason)}: {reason}" for reason, of_reason in titles.items()]


def verdict(results: Sequence[Result]) -> str:
    """A sentence that names the models with the best AUC and the best GAUC."""
    auc, gauc = _best(results, "auc"), _best(results, "gauc")
    return f"Best AUC and best GAUC: {auc}." if auc == gauc else f"Best AUC: {auc}; best GAUC: {gauc}."


def _best(results: Sequence[Result], measure: str) -> str:
    """Name of the model with the highest value; ``-`` if it is defined for none."""
    values = {result.name: getattr(result, measure).value for result in results}
    told = {name: value for name, value in values.items() if not math.isnan(value)}
    return max(told, key=lambda name: told[name], default="-")


def to_dict(result: Result) -> dict[str, Any]:
    """JSON-ready form; an interval is ``[low, value, high]``, and ``reasons`` say why one has nulls."""
    intervals = {
        name: [interval.low, interval.value, interval.high]
        for name, interval in (
            ("auc", result.auc),
            ("gauc", result.gauc),
            ("log_loss", result.log_loss),
            ("pcoc", result.pcoc),
        )
    }
    facts = ("name", "label", "part", "grouping", "rows", "dense", "gflops", "speed", "warnings")
    document = {name: getattr(result, name) for name in facts} | intervals
    document["reasons"] = {name: reason for name in intervals if (reason := getattr(result, name).reason)}
    if result.simple:
        document["simple"] = [to_dict(simple) for simple in result.simple]
    return document
