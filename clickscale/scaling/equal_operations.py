"""Models at equal operations of training, read off their ladders of the data.

A cheap model sees more of the data for the operations that an expensive one spends on a part of it, so models
that are compared on the same data are not compared at the same cost. Between two rungs, AUC goes along a
straight line over the logarithm of the operations; beyond the rungs nothing is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clickscale.arrays import Floats
from clickscale.evaluation.significance import PairedTest, seeds_t_test
from clickscale.scaling.ladders import CellLadder

_SLACK = 1e-9  # of operations: a rung counts as reached however its number was rounded


@dataclass(frozen=True)
class EqualOperations:
    """What models reach with the same operations of training.

    Attributes:
        operations: of all training steps together.
        auc: by model, of each seed (S,); models whose ladder does not reach here are missing.
        ahead: the best model. lead: of it over the next by mean, over the seeds that both have; None with a
            single seed.
    """

    operations: float
    auc: Mapping[str, Floats]
    ahead: str
    lead: PairedTest | None

    def told(self, model: str) -> str:
        """Mean of a model and its deviation over seeds, for people; ``-`` where its ladder does not reach."""
        if model not in self.auc:
            return "-"
        values = self.auc[model]
        spread = f" ±{values.std(ddof=1):.4f}" if len(values) > 1 else ""
        return f"{values.mean():.4f}{spread}"

    @property
    def lead_told(self) -> str:
        """The best model and its lead over the next, for people."""
        return f"{self.ahead} {self.lead.delta_text}, p {self.lead.p_text}" if self.lead else self.ahead


def at_equal_operations(ladders: Sequence[CellLadder]) -> list[EqualOperations]:
    """Budgets that double, each with the AUC of every model that has rungs around it; the smallest first.

    One budget is what the cheapest model spends on all of its data, and the others are 2, 4, 8 ... times as
    much and as little. A budget that fewer than two models reach is left out.

    Args:
        ladders: those along the data count.
    """
    curves = {ladder.model: _Curve(ladder) for ladder in ladders if ladder.axis == "data"}
    if len(curves) < 2:
        return []
    anchor = min(curve.operations[-1] for curve in curves.values())
    low = min(curve.operations[0] for curve in curves.values())
    high = max(curve.operations[-1] for curve in curves.values())
    first, last = np.log2(low / anchor), np.log2(high / anchor)
    budgets = anchor * 2.0 ** np.arange(np.ceil(first - _SLACK), np.floor(last + _SLACK) + 1)
    found = [_row(float(budget), curves) for budget in budgets]
    return [row for row in found if row is not None]


class _Curve:
    """AUC of each seed along a ladder of the data.

    Attributes:
        operations: (R,) of training, by rung, rising. seeds: those that all rungs have. values: (S, R).
    """

    def __init__(self, ladder: CellLadder) -> None:
        order = np.argsort(ladder.operations)  # a little more data may cost less: operations are estimates
        self.operations = ladder.operations[order]
        by_seed = [{cell.seed: cell.auc for cell in ladder.cells[place]} for place in order]
        self.seeds = sorted(set.intersection(*map(set, by_seed)))
        self.values = np.array([[rung[seed] for rung in by_seed] for seed in self.seeds])

    def reaches(self, operations: float) -> bool:
        low, high = self.operations[0] * (1 - _SLACK), self.operations[-1] * (1 + _SLACK)
        return bool(self.seeds) and low <= operations <= high

    def at(self, operations: float) -> Floats:
        """AUC of each seed (S,)."""
        x = np.log(self.operations)
        return np.array([np.interp(np.log(operations), x, of_seed) for of_seed in self.values])


def _row(operations: float, curves: Mapping[str, _Curve]) -> EqualOperations | None:
    reached = {name: curve for name, curve in curves.items() if curve.reaches(operations)}
    if len(reached) < 2:
        return None
    auc = {name: curve.at(operations) for name, curve in reached.items()}
    ahead, after = sorted(auc, key=lambda name: -float(auc[name].mean()))[:2]
    shared = sorted(set(curves[ahead].seeds) & set(curves[after].seeds))
    lead = None
    if len(shared) > 1:
        ours, theirs = ([auc[name][curves[name].seeds.index(s)] for s in shared] for name in (ahead, after))
        lead = seeds_t_test(ours, theirs)
    return EqualOperations(operations, auc, ahead, lead)
