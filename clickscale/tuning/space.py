"""Candidates of a search: the options that the recipe decides, and draws in their neighborhood.

A draw first chooses the batch, then lets the recipe decide what follows from it (rates, L2, window), and only
then moves these numbers. An option that was set by hand stays.
"""

import math
import random
from dataclasses import dataclass

import msgspec
import torch
from msgspec.structs import replace

from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError
from clickscale.models import model_config
from clickscale.training.recipe import L2, decided_optimizer, facts_of, resolve, traits_of
from clickscale.training.run.model import make_model
from clickscale.training.run.run_config import TrainConfig

MOVED = 0.5  # chance of each number to move: a draw keeps half of the recipe, which is seldom far off
VALIDATIONS = 4  # of a run, at least: halving compares after a quarter and after a half
RATE, TABLE_RATE = "optimizer.learning_rate", "optimizer.table_learning_rate"
TABLE_L2 = "optimizer.table_l2"
HEAD_DROPOUT = "model.head.dropout"
FACTORS = {RATE: 3.0, TABLE_RATE: 3.0, TABLE_L2: 5.0}  # drawn log-uniformly, up and down
CHOICES = {
    "batch_size": (0.5, 2.0),  # times the recipe's
    "window": (0.5, 2.0),
    "embedding_dropout": (0.1, 0.2),
    HEAD_DROPOUT: (0.1, 0.2),
}


@dataclass(frozen=True)
class Candidate:
    """Options of one trial.

    Attributes:
        config: everything decided.
        changes: what was drawn, by the key of its option; empty for the recipe itself.
        validations: of the run, about, unless it stops early.
    """

    config: TrainConfig
    changes: dict[str, float]
    validations: int


class Space:
    """What a search may draw for a model and a data set.

    Args:
        config: options as given; one that differs from its default stays.

    Attributes:
        keys: options that are searched.
    """

    def __init__(self, config: TrainConfig, dataset: Dataset) -> None:
        self._config, self._facts = config, facts_of(dataset)
        if not (config.early_stopping and self._facts.valid):
            why = "early_stopping is off" if self._facts.valid else "the data set has no validation part"
            raise ConfigError(
                f"tune compares the validation losses of early stopping, but {why}; leave early_stopping on,"
                " and prepare the data with a validation part."
            )
        with torch.random.fork_rng(devices=[]):
            model = make_model(config, dataset)
        self._traits, self._model = traits_of([model], config.length), type(model)
        self.keys = _open_keys(config)
        if self._decide(config).grouping != "timeline":
            self.keys -= {"window"}
        if not self.keys:
            raise ConfigError("Every option that tune searches is set by hand; leave one of them out.")

    def candidate(self, number: int) -> Candidate:
        """Trial of a number: 0 is the recipe; another depends on the seed and on its number only."""
        recipe = self._decide(self._config)
        drawn = self._draw(number) if number else {}
        given = self._config
        if "batch_size" in drawn:
            given = replace(given, batch_size=max(round(recipe.batch_size * drawn["batch_size"]), 1))
        config, changes = self._move(self._decide(given), drawn)
        return self._validated(config, changes)

    def _draw(self, number: int) -> dict[str, float]:
        """Numbers that move: factors, and values of dropout."""
        dice = random.Random(f"{self._config.seed} {number}")  # a text gives the same in every process
        while True:
            drawn = {key: dice.choice(values) for key, values in CHOICES.items()}
            drawn |= {key: math.exp(dice.uniform(-1, 1) * math.log(most)) for key, most in FACTORS.items()}
            # All are drawn, whichever are searched, so that an option that is set by hand shifts no other.
            moved = {key: value for key, value in drawn.items() if dice.random() < MOVED}
            if moved := {key: value for key, value in moved.items() if key in self.keys}:
                return moved

    def _decide(self, config: TrainConfig) -> TrainConfig:
        """Options with everything decided by the recipe."""
        decided, _ = resolve(config, self._facts, self._traits)
        optimizer, _ = decided_optimizer(decided.optimizer, decided, self._facts, self._model)
        return replace(decided, optimizer=optimizer)

    def _move(self, config: TrainConfig, drawn: dict[str, float]) -> tuple[TrainConfig, dict[str, float]]:
        """Apply a draw to decided options; returns them and the values that are new."""
        optimizer = config.optimizer
        # Where the recipe takes no L2, a draw starts from what it takes where values are seen often.
        l2 = optimizer.table_l2 or L2[self._model.shares][-1] / config.batch_size
        starts = {RATE: optimizer.rate, TABLE_RATE: optimizer.table_rate, TABLE_L2: l2}
        changes: dict[str, float] = {}
        for key, value in drawn.items():
            if key in starts:
                changes[key] = float(f"{starts[key] * value:.3g}")
            elif key == "window":
                changes[key] = max(round(config.window * value), 1)
            else:
                changes[key] = config.batch_size if key == "batch_size" else value
        optimizer = replace(
            optimizer,
            learning_rate=changes.get(RATE, optimizer.rate),
            table_learning_rate=changes.get(TABLE_RATE, optimizer.table_rate),
            table_l2=changes.get(TABLE_L2, optimizer.table_l2),
        )
        head = (f"head.dropout={changes[HEAD_DROPOUT]}",) if HEAD_DROPOUT in changes else ()
        moved = replace(
            config,
            optimizer=optimizer,
            window=int(changes.get("window", config.window)),
            embedding_dropout=changes.get("embedding_dropout", config.embedding_dropout),
            model_options=(*config.model_options, *head),
        )
        return moved, changes

    def _validated(self, config: TrainConfig, changes: dict[str, float]) -> Candidate:
        """Measure often enough for halving; patience spans as many steps as before."""
        steps = -(-self._facts.impressions // config.batch_size) * config.epochs.count
        every = max(min(config.validate_every, steps // VALIDATIONS), 1)
        patience = -(-config.patience * config.validate_every // every)
        config = replace(config, validate_every=every, patience=patience, keep=1)
        return Candidate(config, changes, max(steps // every, 1))


def _open_keys(config: TrainConfig) -> set[str]:
    """Options that were left at their defaults."""
    defaults = TrainConfig(model=config.model, data=config.data)
    given, usual = (
        {
            RATE: one.optimizer.learning_rate,
            TABLE_RATE: one.optimizer.table_learning_rate,
            TABLE_L2: one.optimizer.table_l2,
            "batch_size": one.batch_size,
            "window": one.window,
            "embedding_dropout": one.embedding_dropout,
        }
        for one in (config, defaults)
    )
    keys = {key for key, value in given.items() if value == usual[key]}
    return keys | ({HEAD_DROPOUT} if _head_dropout(config) == 0 else set())


def _head_dropout(config: TrainConfig) -> float | None:
    """Dropout of the head of a model; None if its head has none."""
    tree = msgspec.to_builtins(model_config(config.model, config.grade, config.model_options))
    head = tree.get("head")
    return head.get("dropout") if isinstance(head, dict) else None
