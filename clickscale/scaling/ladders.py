"""Ladders of a sweep: cells of one model that differ along one axis only.

Compute is the axis of the grades, at one length and one share of the data; length and data are those of one
grade. Of several ladders of a model along an axis, the one with the most rungs counts, then the one at the
largest other values: laws are meant for large models.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from clickscale.arrays import Floats, Ints
from clickscale.errors import ClickscaleError
from clickscale.evaluation.measures import METRICS, UserRows
from clickscale.evaluation.predictions import Predictions
from clickscale.scaling.points import Measured, Sweep
from clickscale.scaling.power_law import Rungs

Axis = Literal["compute", "length", "data"]
AXES: tuple[Axis, ...] = ("compute", "length", "data")
UNITS: dict[Axis, str] = {
    "compute": "operations of one impression",
    "length": "behaviors",
    "data": "training impressions",
}
_RESAMPLES = 200


class UserLuck:
    """How resamples of the evaluation users change an AUC; the same users for every cell."""

    def __init__(self, folder: Path, resamples: int = _RESAMPLES, seed: int = 0) -> None:
        self._folder = folder
        self._resamples, self._seed = resamples, seed
        self._users: Ints | None = None
        self._counts: Floats | None = None
        self._known: dict[str, Floats | None] = {}

    def of(self, cell: Measured) -> Floats | None:
        """Change of the AUC of a cell under each resample (U,); None if the predictions do not tell."""
        if cell.name not in self._known:
            self._known[cell.name] = self._change(cell)
        return self._known[cell.name]

    def _change(self, cell: Measured) -> Floats | None:
        path = self._folder / cell.predictions
        if not cell.predictions or not path.is_file():
            return None
        try:
            predictions = Predictions.load(path).select_labels([cell.label])
        except ClickscaleError:
            return None  # a wider interval is no reason to refuse the sweep
        known = predictions.label_mask[:, 0]
        users = predictions.user[known]
        if not self._same_users(np.unique(users)) or self._counts is None:
            return None
        rows = UserRows(predictions.labels[known, 0], predictions.logits[known, 0], users)
        (metric,) = (metric for metric in METRICS if metric.name == "auc")
        found = metric.measure(rows)
        influence = found.value - found.without()  # (U,)
        return None if np.isnan(influence).any() else np.asarray(self._counts @ influence)

    def _same_users(self, users: Ints) -> bool:
        """True if a cell was measured on the users of the first one, which draws the resamples."""
        if self._users is None:
            random = np.random.default_rng(self._seed)
            equal = np.full(len(users), 1.0 / len(users))
            self._users = users
            self._counts = random.multinomial(len(users), equal, self._resamples).astype(np.float64) - 1.0
        return np.array_equal(self._users, users)


@dataclass(frozen=True)
class CellLadder:
    """Cells of one model along one axis.

    Attributes:
        fixed: what all cells share, for people.
        cells: by rung, those of all seeds; the rungs in the order of x.
    """

    model: str
    axis: Axis
    fixed: str
    cells: tuple[tuple[Measured, ...], ...]

    @property
    def x(self) -> Floats:
        """Places of the rungs (R,)."""
        return np.array([place(rung[0], self.axis) for rung in self.cells])

    @property
    def operations(self) -> Floats:
        """Operations of training (R,), by rung."""
        return np.array([np.mean([cell.training_flops for cell in rung]) for rung in self.cells])

    def rungs(self, luck: UserLuck | None = None) -> Rungs:
        """AUC by rung."""
        values = tuple(tuple(cell.auc for cell in rung) for rung in self.cells)
        return Rungs(self.x, values, _by_users(self.cells, luck))


def place(cell: Measured, axis: Axis) -> float:
    """Where a cell stands on an axis."""
    return float({"compute": cell.flops, "length": cell.length, "data": cell.impressions}[axis])


def ladders(sweep: Sweep, least: int = 3) -> list[CellLadder]:
    """The ladder of every model along every axis that has enough rungs.

    Args:
        least: rungs.
    """
    found = []
    for model in sweep.models:
        for axis in AXES:
            best = max(_ladders_of(sweep.of(model), axis), key=_worth, default=None)
            if best is not None and len(best.cells) >= least:
                found.append(best)
    return found


def _ladders_of(cells: Sequence[Measured], axis: Axis) -> list[CellLadder]:
    """All ladders along an axis."""
    groups: dict[tuple[object, ...], dict[float, list[Measured]]] = {}
    for cell in cells:
        rungs = groups.setdefault(_others(cell, axis), {})
        rungs.setdefault(place(cell, axis), []).append(cell)
    return [
        CellLadder(cells[0].model, axis, _told(rungs, axis), tuple(tuple(rungs[x]) for x in sorted(rungs)))
        for rungs in groups.values()
    ]


def _others(cell: Measured, axis: Axis) -> tuple[object, ...]:
    """What the cells of a ladder share."""
    return {
        "compute": (cell.length, cell.fraction),
        "length": (cell.grade, cell.fraction),
        "data": (cell.grade, cell.length),
    }[axis]


def _told(rungs: dict[float, list[Measured]], axis: Axis) -> str:
    cell = next(iter(rungs.values()))[0]
    size, length = cell.grade, f"{cell.length} behaviors"
    data = "all of the data" if cell.fraction == 1 else f"{cell.fraction:.3g} of the data"
    told = {"compute": (length, data), "length": (size, data), "data": (size, length)}[axis]
    return ", ".join(told)


def _worth(ladder: CellLadder) -> tuple[int, float, float]:
    """Most rungs first, then the largest model on the most data."""
    largest = ladder.cells[-1][0]
    return len(ladder.cells), float(largest.impressions), float(largest.flops)


def _by_users(cells: Iterable[Sequence[Measured]], luck: UserLuck | None) -> Floats | None:
    """Change of the mean AUC of each rung under resamples of the users (U, R); None if one is not known."""
    if luck is None:
        return None
    rungs = []
    for rung in cells:
        changes = [change for cell in rung if (change := luck.of(cell)) is not None]
        if len(changes) < len(rung):
            return None
        rungs.append(np.mean(changes, axis=0))
    return np.stack(rungs, axis=1)  # R of (U,) -> (U, R)
