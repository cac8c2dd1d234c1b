"""Summary of a prepared data set: what a person needs to know before training on it.

It is stored as ``summary.json`` in the data set, and `clickscale inspect` shows it. All numbers are of the
first label. The constant rate is that of the training part, said of every impression: a model must beat its
log-loss, and its PCOC (predicted over observed) shows how far the label rate has moved since.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Array, Flags, Ints
from clickscale.config import Config
from clickscale.config_text import load_json
from clickscale.data.columns import blocks
from clickscale.data.source import PARTS, Split

SUMMARY = "summary.json"
_FEW = 20  # positives or negatives below which the metrics of a part say little
_MOVED = (0.8, 1.25)  # PCOC of the constant rate outside of which a warning is worth its line
_HALF = 0.5  # share of impressions above which a lack is worth a warning
_NEARLY_ALL = 0.95
_SHORTER = (10, 20, 50)  # lengths of history to propose instead of the default
_LENGTH = 100  # the default


class _PartSummary(Config, frozen=True):
    """One part of the split.

    Attributes:
        users, items: different ones among its impressions.
        cold_users, cold_items: shares of its impressions whose user, or item, the training part has not.
        rate: positives among the known labels; None without any.
        log_loss, pcoc: of the constant rate; None where they are not defined.
    """

    impressions: int
    users: int
    items: int
    cold_users: float
    cold_items: float
    positives: int
    negatives: int
    rate: float | None
    log_loss: float | None
    pcoc: float | None


class Summary(Config, frozen=True):
    """Facts of a data set.

    Attributes:
        label: the label that ``parts`` are about, which training takes by default.
        labels: all of them.
        no_history: share of the impressions that see no behavior.
        history: number of behaviors that 95% of the impressions do not exceed.
        warnings: sentences about what will go wrong.
    """

    label: str
    labels: tuple[str, ...]
    parts: dict[str, _PartSummary]
    no_history: float
    history: int
    warnings: tuple[str, ...] = ()

    def next_steps(self, data: str) -> tuple[str, ...]:
        """Commands to go on with, with the options that fit this log."""
        model = "mlp" if self.no_history > _NEARLY_ALL else "suan"
        train = f"clickscale train {model} --data {data} --out runs/{model}"
        fitting = next((length for length in _SHORTER if length >= self.history), 0)
        if model == "suan" and fitting:
            train += f" --length {fitting}"
        remarks = []
        if len(self.labels) > 1:
            remarks.append(f"--labels {','.join(self.labels)} trains all labels")
        if self.history > _LENGTH:
            remarks.append(f"--length {self.history} reads 95% of the histories whole")
        return (f"clickscale leak-check {data}", train + ("  # " + "; ".join(remarks) if remarks else ""))


def summarize(
    impressions: Mapping[str, Array],
    part_of: Callable[[slice], npt.NDArray[np.uint8]],
    labels: Mapping[str, Array],
    split: Split,
    absent: Collection[str] = (),
) -> Summary:
    """Summarize the impressions of a data set, in two passes over their columns.

    Args:
        impressions: columns ``user``, ``item`` and ``visible``.
        part_of: gives the part of some rows: 0 train, 1 valid, 2 test.
        labels: columns of all labels by name, in order.
        absent: roles that the log does not have, of which none is new.
    """
    first, total = next(iter(labels)), len(impressions["visible"])
    size = [len(PARTS), *(int(impressions[name].max(initial=0)) + 1 for name in ("user", "item"))]
    seen = [np.zeros((size[0], count), bool) for count in size[1:]]
    for rows in blocks(total):
        part = part_of(rows)
        for there, name in zip(seen, ("user", "item"), strict=True):
            there[part, impressions[name][rows]] = True
    counts = np.zeros((len(PARTS), 1 + 2 * len(labels)), np.int64)
    cold = np.zeros((2, len(PARTS)), np.int64)
    lengths = np.zeros(int(impressions["visible"].max(initial=0)) + 1, np.int64)
    for rows in blocks(total):
        part = part_of(rows)
        counts += _label_counts(part, {name: column[rows] for name, column in labels.items()})
        lengths += np.bincount(impressions["visible"][rows], minlength=len(lengths))
        for index, name in enumerate(("user", "item")):
            unseen = ~seen[index][0, impressions[name][rows]]
            cold[index] += np.bincount(part[unseen], minlength=len(PARTS))
    found = {
        name: _part(counts[index, :3], counts[0, :3], [there[index] for there in seen], cold[:, index])
        for index, name in enumerate(PARTS)
    }
    long = int(np.searchsorted(np.cumsum(lengths), 0.95 * total))
    warnings = [*_scarce(counts, tuple(labels)), *_moved(found, first), *_cold(found, split, absent)]
    no_history = float(lengths[0] / max(total, 1))
    if no_history > _HALF:
        warnings.append(
            f"{no_history:.0%} of the impressions see no behavior, so a model of sequences gains little."
        )
    return Summary(first, tuple(labels), found, no_history, long, tuple(warnings))


def _label_counts(part: npt.NDArray[np.uint8], labels: Mapping[str, Array]) -> Ints:
    """Count rows, then negatives and positives of each label: (parts, 1 + 2 labels)."""
    counts = [np.bincount(part, minlength=len(PARTS))]
    for outcome in labels.values():
        counts += [np.bincount(part[outcome == value], minlength=len(PARTS)) for value in (0, 1)]
    return np.stack(counts, axis=1).astype(np.int64)


def _part(counts: Ints, train: Ints, seen: list[Flags], cold: Ints) -> _PartSummary:
    """Summarize a part from (rows, negatives, positives), its own and those of the training part."""
    rows, negatives, positives = counts.tolist()
    known, taught = negatives + positives, int(train[1] + train[2])
    rate = positives / known if known else None
    constant = int(train[2]) / taught if taught else 0.0
    log_loss = pcoc = None
    if rate is not None and 0 < constant < 1:
        log_loss = float(-rate * np.log(constant) - (1 - rate) * np.log1p(-constant))
        pcoc = constant / rate if rate else None
    return _PartSummary(
        impressions=rows,
        users=int(seen[0].sum()),
        items=int(seen[1].sum()),
        cold_users=int(cold[0]) / max(rows, 1),
        cold_items=int(cold[1]) / max(rows, 1),
        positives=positives,
        negatives=negatives,
        rate=rate,
        log_loss=log_loss,
        pcoc=pcoc,
    )


def _scarce(counts: Ints, labels: tuple[str, ...]) -> Iterator[str]:
    """Warn of parts with few outcomes of a kind."""
    for index, part in enumerate(PARTS):
        if not counts[index, 0]:
            yield f"{part} has no impressions; choose larger shares with --valid and --test."
            continue
        for place, label in enumerate(labels):
            both = counts[index, 1 + 2 * place : 3 + 2 * place].tolist()
            for kind, number in zip(("negatives", "positives"), both, strict=True):
                if not number:
                    yield f"{part} has no {kind} of {label!r}, so nothing can be measured there."
                elif number < _FEW:
                    yield f"{part} has only {number} {kind} of {label!r}, so its metrics say little."


def _moved(parts: dict[str, _PartSummary], label: str) -> Iterator[str]:
    """Warn of parts whose label rate is far from that of the training part."""
    taught = parts["train"].rate
    for name in PARTS[1:]:
        part = parts[name]
        if part.pcoc is not None and not _MOVED[0] <= part.pcoc <= _MOVED[1]:
            yield (
                f"The rate of {label!r} is {taught:.2%} in train and {part.rate:.2%} in {name}, so a model "
                f"that is right on train has PCOC {part.pcoc:.2f} there."
            )


def _cold(parts: dict[str, _PartSummary], split: Split, absent: Collection[str]) -> Iterator[str]:
    """Warn of a test part in which most users or items are new."""
    test = parts["test"]
    if test.impressions and test.cold_users > _HALF and "user" not in absent:
        new = f"{test.cold_users:.0%} of the test impressions are of users that train has not."
        way = " Visitors and sessions that do not come back will be new when served, too; if yours come back,"
        way += " --split user_time divides the impressions of each user."
        yield new if split.kind == "user_time" else new + way
    if test.impressions and test.cold_items > _HALF:
        yield (
            f"{test.cold_items:.0%} of the test impressions are of items that train has not: item ids teach "
            "little, attributes and content vectors of items do more."
        )


def read_summary(folder: Path) -> Summary:
    """Read the summary of a prepared data set."""
    path = folder / SUMMARY
    return load_json(path.read_bytes(), Summary, str(path))
