"""Embedding tables that begin every epoch anew, so that training may pass over the data several times.

Tables over-fit in the second epoch, dense weights do not (Zhang et al. 2022). At the start of an epoch the
tables, and what their optimizers remember, are set back: to the tables of the start of the run, to those of
an earlier run (the "historical model" of Liu et al. 2026), or to new random rows (Fan et al. 2023). Their
schedule runs once per epoch: one over the whole run would leave the new rows of the last epoch a rate of
almost nothing. Dense weights, their optimizer and schedule and running statistics go on. Whatever is
evaluated or saved before the next epoch begins has the tables that this epoch trained.

The starting point is kept in ``starting-point/`` of the run, in the form of a checkpoint: a continued run
needs neither the earlier run nor luck with random numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from clickscale.data.features.encoder import Encoder, Vocabulary
from clickscale.data.features.texts import hash_texts
from clickscale.errors import RunError
from clickscale.layers.embedding import FusedEmbedding
from clickscale.schema import FIRST, UNKNOWN
from clickscale.training.epochs import Epochs, Position
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import load_run

if TYPE_CHECKING:
    from clickscale.training.loop import Learner

FOLDER = "starting-point"


class TableResets:
    """Sets the tables of all models of a run back when an epoch begins.

    Args:
        start: tables to return to by `table_name`; needed for ``reset="snapshot"`` alone.
        seed: of the rows that ``reset="random"`` draws.

    Attributes:
        said: what is worth telling of the start.
    """

    def __init__(
        self,
        epochs: Epochs,
        learners: Sequence["Learner"],
        start: dict[str, Tensor],
        seed: int,
        said: Sequence[str] = (),
    ) -> None:
        self.epochs, self.learners, self.start, self.seed, self.said = epochs, learners, start, seed, said

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
            for place, (learner, name, table) in enumerate(_every_table(self.learners)):
                table.weight.copy_(self._rows(position.epoch, place, table_name(learner, name), table))
                for live in learner.optimizer.tables[f"{name}.weight"].state().values():
                    live.zero_()

    def _rows(self, epoch: int, place: int, name: str, table: FusedEmbedding) -> Tensor:
        """What a table begins an epoch with."""
        if self.epochs.reset == "snapshot":
            return self.start[name]
        drawn = np.random.SeedSequence([self.seed, epoch, place]).generate_state(1, np.uint64)
        return table.initial(torch.Generator().manual_seed(int(drawn[0])))


def table_resets(
    epochs: Epochs, learners: Sequence["Learner"], encoder: Encoder, folder: Path, seed: int
) -> TableResets:
    """Resets of a run whose models are new; the starting point is read where the run is a continued one.

    Args:
        encoder: of the data set that is trained on.
        folder: of the run; nothing is written.

    Raises:
        RunError: the tables of the earlier run do not fit, or it is no run.
    """
    if epochs.reset != "snapshot":
        return TableResets(epochs, learners, {}, seed)
    stored = CheckpointStore(folder / FOLDER).load()[0] if (folder / FOLDER).is_dir() else None
    if stored is not None:
        return TableResets(epochs, learners, stored.tensors, seed)
    if epochs.snapshot:
        return _from_earlier_run(epochs, learners, encoder, seed)
    start = {
        table_name(learner, name): table.weight.detach().clone()
        for learner, name, table in _every_table(learners)
    }
    return TableResets(epochs, learners, start, seed)


def table_name(learner: "Learner", name: str) -> str:
    """Name of a table among those of all models of a run."""
    return learner.key(f"{name}.weight")


def _every_table(learners: Sequence["Learner"]) -> list[tuple["Learner", str, FusedEmbedding]]:
    return [(each, name, table) for each in learners for name, table in tables_of(each.model).items()]


def tables_of(model: nn.Module) -> dict[str, FusedEmbedding]:
    """Embedding tables of a model by the name of their module."""
    return {name: part for name, part in model.named_modules() if isinstance(part, FusedEmbedding)}


# --- tables of an earlier run


def _from_earlier_run(
    epochs: Epochs, learners: Sequence["Learner"], encoder: Encoder, seed: int
) -> TableResets:
    """Resets to the tables of a run; of its part of a model's name if it was a distillation."""
    start: dict[str, Tensor] = {}
    said = []
    for learner in learners:
        part = Path(epochs.snapshot, learner.name)
        folder = part if learner.name and part.is_dir() else Path(epochs.snapshot)
        run = load_run(folder)
        old = tables_of(run.model)
        for name, table in tables_of(learner.model).items():
            if name not in old or old[name].size[1] != table.size[1]:
                raise RunError(_misfit(folder, name, table, old.get(name)))
            rows, carried = carried_over(table, encoder, old[name], run.dataset.encoder)
            start[table_name(learner, name)] = rows
            said.append(f"{carried:,} of {len(rows):,} rows of {table_name(learner, name)} are of {folder}")
    return TableResets(epochs, learners, start, seed, said)


def _misfit(folder: Path, name: str, table: FusedEmbedding, old: FusedEmbedding | None) -> str:
    has = f"one of width {old.size[1]}" if old else "none"
    return (
        f"epochs.snapshot: the tables of {folder} do not fit. The model has a table {name!r} of width"
        f" {table.size[1]}, the earlier one {has}; name a run with the same width of embeddings."
    )


def carried_over(
    table: FusedEmbedding, encoder: Encoder, earlier: FusedEmbedding, its_encoder: Encoder
) -> tuple[Tensor, int]:
    """Rows of ``table`` (rows, d) in which every value that the earlier table knew has its row of then.

    Values are compared as they stand in the logs, so the two data sets may number them differently. A feature
    or value that is new keeps its initial row.

    Returns:
        The rows, on the CPU, and how many of them are of the earlier table.
    """
    rows, before = table.weight.detach().cpu().clone(), earlier.weight.detach().cpu()
    carried = torch.zeros(len(rows), dtype=torch.bool)
    for feature, offset in table.offsets.items():
        if feature not in earlier.offsets:
            continue
        here, there = _same_values(encoder.vocabulary(feature), its_encoder.vocabulary(feature))
        rows[torch.from_numpy(here) + offset] = before[torch.from_numpy(there) + earlier.offsets[feature]]
        carried[torch.from_numpy(here) + offset] = True
    return rows, int(carried.sum())


def _same_values(new: Vocabulary, old: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the values that both vocabularies know, in the new one and in the old one."""
    unknown = np.array([UNKNOWN], np.int64)
    if new.dtype != old.dtype:
        return unknown, unknown
    if new.values is None:
        size = new.size if old.values is None and old.buckets == new.buckets else FIRST
        return np.arange(UNKNOWN, size), np.arange(UNKNOWN, size)
    keys = new.values.to_numpy(zero_copy_only=False) if new.dtype == "int" else hash_texts(new.values)
    there = old.lookup(keys).astype(np.int64)
    known = np.flatnonzero(there != UNKNOWN)
    return np.concatenate([unknown, known + FIRST]), np.concatenate([unknown, there[known]])
