"""Reset embedding tables at the start of every epoch, so that training can pass over the data several times.

Tables over-fit in the second epoch, dense weights do not (Zhang et al. 2022). At the start of an epoch the
tables and the moments of their optimizers are set back: to the tables of the start of the run, to those of
an earlier run (the "historical model" of Liu et al. 2026), or to new random rows (Fan et al. 2023). Their
schedule runs once per epoch: one over the whole run would leave the new rows of the last epoch a rate of
almost nothing. Dense weights, their optimizer and schedule and running statistics go on. Whatever is
evaluated or saved before the next epoch begins has the tables that this epoch trained.

The starting point is kept in ``starting-point/`` of the run, in the form of a checkpoint: a continued run
needs neither the earlier run nor the same random state.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clickscale.data.features.encoder import Encoder
from clickscale.errors import RunError
from clickscale.layers.embedding import FusedEmbedding
from clickscale.training.learner import Learner
from clickscale.training.passes.epochs import Epochs, Position
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import load_run
from clickscale.training.table_rows import carried_over, tables_of

FOLDER = "starting-point"


class TableResets:
    """Sets the tables of all models of a run back when an epoch begins.

    Args:
        start: tables to return to by `_table_name`; needed only for ``reset="snapshot"``.
        seed: of the rows that ``reset="random"`` draws.

    Attributes:
        notes: messages to log when the run starts.
    """

    def __init__(
        self,
        epochs: Epochs,
        learners: Sequence[Learner],
        start: dict[str, Tensor],
        seed: int,
        notes: Sequence[str] = (),
    ) -> None:
        self.epochs, self.learners, self.start, self.seed, self.notes = epochs, learners, start, seed, notes

    def keep(self, folder: Path) -> None:
        """Write the starting point into the folder of the run, unless it is there."""
        store = CheckpointStore(folder / FOLDER) if self.start else None
        if store and not store.steps():
            store.save(Checkpoint(0, self.start, {"snapshot": self.epochs.snapshot}))

    def begin(self, position: Position, span: tuple[int, int]) -> None:
        """Set the tables back if an epoch begins at ``position``, the first one only with an earlier run.

        Args:
            span: first step of the epoch, and the number of its steps.
        """
        if self.epochs.reset == "none":
            return
        for learner in self.learners:
            learner.optimizer.table_steps = span
        first = position.epoch == 0 and not self.epochs.snapshot
        if position.batch or first:
            return
        with torch.no_grad():
            for index, (learner, name, table) in enumerate(_every_table(self.learners)):
                table.weight.copy_(self._rows(position.epoch, index, _table_name(learner, name), table))
                for moment in learner.optimizer.tables[f"{name}.weight"].state().values():
                    moment.zero_()

    def _rows(self, epoch: int, index: int, name: str, table: FusedEmbedding) -> Tensor:
        """Rows that a table begins an epoch with."""
        if self.epochs.reset == "snapshot":
            return self.start[name]
        drawn = np.random.SeedSequence([self.seed, epoch, index]).generate_state(1, np.uint64)
        return table.initial(torch.Generator().manual_seed(int(drawn[0])))


def table_resets(
    epochs: Epochs, learners: Sequence[Learner], encoder: Encoder, folder: Path, seed: int
) -> TableResets:
    """Resets of a run whose models are new; the starting point is read where the run is a continued one.

    Args:
        encoder: of the data set that is trained on.
        folder: of the run; nothing is written.

    Raises:
        RunError: the tables of the earlier run do not fit, or it is not a run.
    """
    if epochs.reset != "snapshot":
        return TableResets(epochs, learners, {}, seed)
    stored = CheckpointStore(folder / FOLDER).load()[0] if (folder / FOLDER).is_dir() else None
    if stored is not None:
        return TableResets(epochs, learners, stored.tensors, seed)
    if epochs.snapshot:
        return _from_earlier_run(epochs, learners, encoder, seed)
    start = {
        _table_name(learner, name): table.weight.detach().clone()
        for learner, name, table in _every_table(learners)
    }
    return TableResets(epochs, learners, start, seed)


def _table_name(learner: Learner, name: str) -> str:
    """Name of a table among those of all models of a run."""
    return learner.key(f"{name}.weight")


def _every_table(learners: Sequence[Learner]) -> list[tuple[Learner, str, FusedEmbedding]]:
    return [
        (learner, name, table) for learner in learners for name, table in tables_of(learner.model).items()
    ]


# --- tables of an earlier run


def _from_earlier_run(
    epochs: Epochs, learners: Sequence[Learner], encoder: Encoder, seed: int
) -> TableResets:
    """Resets to the tables of a run; of its part of a model's name if it was a distillation."""
    start: dict[str, Tensor] = {}
    notes = []
    for learner in learners:
        part = Path(epochs.snapshot, learner.name)
        folder = part if learner.name and part.is_dir() else Path(epochs.snapshot)
        run = load_run(folder)
        old = tables_of(run.model)
        for name, table in tables_of(learner.model).items():
            if name not in old or old[name].size[1] != table.size[1]:
                raise RunError(_misfit(folder, name, table, old.get(name)))
            rows, carried = carried_over(table, encoder, old[name], run.dataset.encoder)
            start[_table_name(learner, name)] = rows
            notes.append(f"{carried:,} of {len(rows):,} rows of {_table_name(learner, name)} are of {folder}")
    return TableResets(epochs, learners, start, seed, notes)


def _misfit(folder: Path, name: str, table: FusedEmbedding, old: FusedEmbedding | None) -> str:
    has = f"one of width {old.size[1]}" if old else "none"
    return (
        f"epochs.snapshot: the tables of {folder} do not fit. The model has a table {name!r} of width"
        f" {table.size[1]}, the earlier one {has}; name a run with the same width of embeddings."
    )
