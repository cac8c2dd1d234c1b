"""Warnings of a result: worse than what costs nothing, badly calibrated, or measured on too little.

Each is one sentence that names the label, the numbers and a way out.
"""

from collections.abc import Mapping

from clickscale.evaluation.measures import METRICS
from clickscale.evaluation.significance import Interval, PairedTest

FEWEST = 20
"""Positives and negatives of a part, users or requests below which a metric says little."""

FEWEST_STEPS = 100
"""Steps of a training below which a model has hardly begun to learn."""

PCOC_RANGE = (0.5, 2.0)
"""Predicted over observed positives outside of which probabilities are not to be used as such."""

_CHANCE = 0.05  # p-value below which a difference counts as one

TITLES = {"constant": "the constant rate", "popularity": "item popularity"}
"""Names of the simple predictions in sentences and tables."""


def label_warnings(
    label: str,
    part: str,
    counts: tuple[int, int],
    metrics: Mapping[str, Interval],
    simple: Mapping[str, tuple[Mapping[str, float], Mapping[str, PairedTest]]],
    rests_on: Mapping[str, tuple[int, str]],
) -> list[str]:
    """Warn of a part with too few positives or negatives, of a bad PCOC, and of a model worse than a table.

    Args:
        counts: positives and negatives of the part.
        metrics: of the model, by name.
        simple: constant and popularity, each with its metrics and with tests of the model's minus these.
        rests_on: what metrics rest on that not all rows enter, such as 60 and ``requests``, by name;
            of fewer than `FEWEST`, a metric says nothing of a model.
    """
    found = few_warnings(label, part, counts)
    pcoc, (least, most) = metrics["pcoc"].value, PCOC_RANGE
    if pcoc < least or pcoc > most:
        found.append(
            f"{label}: PCOC is {pcoc:.3g}, outside of [{least:g}, {most:g}]: the probabilities add up to"
            f" {pcoc:.3g} times the positives of part {part}; undo a sampling of negatives"
            " (clickscale.evaluation.rectify), train on later impressions, or use the scores to rank only."
        )
    for name, (values, against) in simple.items():
        found += _worse_than(label, name, metrics, values, against, rests_on)
    return found


def few_warnings(label: str, part: str, counts: tuple[int, int]) -> list[str]:
    """Warn of a part with too few positives or negatives, which `counts` holds in this order."""
    found = []
    for count, what in zip(counts, ("positives", "negatives"), strict=True):
        if count < FEWEST:
            means, way = (
                ("a model can learn nothing from it", "smaller --valid and --test, or more of the log")
                if part == "train"
                else ("its numbers say little", f"a larger share of {part} (--{part})")
            )
            found.append(
                f"{label}: part {part} has {count} {what}, fewer than {FEWEST}, so {means}; prepare the log"
                f" with {way}."
            )
    return found


def _worse_than(
    label: str,
    name: str,
    model: Mapping[str, Interval],
    simple: Mapping[str, float],
    against: Mapping[str, PairedTest],
    rests_on: Mapping[str, tuple[int, str]],
) -> list[str]:
    """Warn of a model that does not beat a simple prediction: one sentence with every measure, or none."""
    better = {metric.name: (1 if metric.better == "higher" else -1, metric.title) for metric in METRICS}
    worse, sure = [], False
    for key, test in against.items():
        sign, title = better[key]
        often, of = rests_on.get(key, (FEWEST, ""))
        if often < FEWEST:
            continue
        if sign * test.delta < -1e-9:  # beyond rounding
            chance = "" if test.p_text == "-" else f", p {test.p_text}"
            sure |= test.p_value < _CHANCE
            few = f" on {often:,} {of}" if of else ""
            worse.append(f"{title} ({model[key].value:.4f} against {simple[key]:.4f}{few}{chance})")
    if not worse:
        return []
    verb = "is worse than" if sure else "does not beat"
    return [
        f"{label}: the model {verb} {TITLES[name]} in {' and '.join(worse)}; train it on more impressions or"
        " for more steps, or look for better options with clickscale tune."
    ]


def steps_warning(steps: int) -> list[str]:
    """Warn of a training that was too short to learn."""
    if steps >= FEWEST_STEPS:
        return []
    return [
        f"The model was trained for {steps} steps, fewer than {FEWEST_STEPS}, and has hardly begun to learn;"
        " train for more epochs (--epochs) or with smaller batches (--batch-size)."
    ]
