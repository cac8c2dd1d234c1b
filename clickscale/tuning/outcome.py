"""The outcome of a search: which options to take, what they gained, and how far to believe it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from clickscale.config_text import split_assignments
from clickscale.files import replace_text
from clickscale.training.run.run_config import TrainConfig
from clickscale.tuning.space import Candidate

TUNED = "tuned.toml"
# Not in the file: named by the command, of a machine, or written as ``model.KEY``, beside which TOML has
# no room for a key ``model``.
_LEFT_OUT = {"data", "model", "model_options", "keep", "threads"}


@dataclass(frozen=True)
class TrialResult:
    """One line of the table of a search.

    Attributes:
        trial, seed: which run; the recipe is trial 0.
        validations: measured so far.
        loss: the lowest over the validation part.
        auc, gauc: with the weights of that loss; None unless the run came to its end.
        ended: whether it did.
        seconds: wall time.
        changes: what was drawn, by the key of its option.
        failed: why training gave up; empty if it did not.
    """

    trial: int
    seed: int
    validations: int
    loss: float
    auc: float | None
    gauc: float | None
    ended: bool
    seconds: float
    changes: dict[str, float]
    failed: str


@dataclass(frozen=True)
class Outcome:
    """Result of a search.

    Attributes:
        folder: of the search.
        trials: every run, in the order of trials and seeds.
        best, chosen: the trial of the lowest loss, and the one whose options ``file`` holds.
        gain: validation loss of the recipe less that of ``best``; means over the seeds that both have.
        notes: how far to believe it.
        signal: the signal that stopped the search; 0 if it came to its end.
        file: options for ``clickscale train --config``; None if the search was stopped.
    """

    folder: Path
    trials: list[TrialResult]
    best: int
    chosen: int
    gain: float
    notes: list[str]
    signal: int
    file: Path | None


@dataclass(frozen=True)
class _Verdict:
    """The trial to take, its gain over the recipe, and sentences about both."""

    chosen: int
    gain: float
    notes: list[str]


def judge(best: int, losses: Mapping[tuple[int, int], float], seeds: tuple[int, int]) -> _Verdict:
    """Compare the best trial of a search with the recipe, over both seeds if there are two.

    Args:
        losses: lowest validation loss by trial and seed.
        seeds: of the search, and the second one.
    """
    if best == 0:
        return _Verdict(0, 0.0, ["No trial was better than the recipe, so the recipe stays."])
    first, second = (losses.get((0, seed), math.nan) - losses.get((best, seed), math.nan) for seed in seeds)
    found = f"Trial {best} gains {first:.4f} over the recipe with seed {seeds[0]}"
    if math.isnan(second):
        note = f"{found}; the budget had no room for another seed, so this may be the noise of seeds."
        return _Verdict(best, first, [note])
    found += f", {second:.4f} with seed {seeds[1]}"
    gain = (first + second) / 2
    # The first seed chose the trial, so its gain flatters; the second one knows nothing of the choice.
    if second <= 0:
        return _Verdict(0, gain, [f"{found}: the gain does not last, so the recipe stays."])
    noise = max(abs(losses[trial, seeds[0]] - losses[trial, seeds[1]]) for trial in (0, best))
    how = "within" if gain <= noise else "beyond"
    note = f"{found}: {how} the noise of seeds, of which two of one trial differ by {noise:.4f}."
    return _Verdict(best, gain, [note])


def describe(changes: dict[str, float]) -> str:
    """Changes as ``--set`` takes them."""
    return " ".join(f"{key}={value:g}" for key, value in changes.items())


def write_toml(path: Path, candidate: Candidate, notes: list[str]) -> None:
    """Write the options of a candidate as ``clickscale train --config`` reads them."""
    model = candidate.config.model
    lines = [f"# {note}" for note in (f"Options of {model}: clickscale train {model} --config FILE", *notes)]
    lines += [f"{key} = {_toml(value)}" for key, value in _options(candidate.config).items()]
    replace_text(path, "".join(f"{line}\n" for line in lines))


def _options(config: TrainConfig) -> dict[str, Any]:
    """Options that differ from their defaults by dotted key, the model's after ``model.``."""
    given = _leaves(msgspec.to_builtins(config))
    usual = _leaves(msgspec.to_builtins(TrainConfig(model="", data="")))
    options = {k: v for k, v in given.items() if k not in _LEFT_OUT and v != usual[k]}
    return options | {f"model.{key}": value for key, value in split_assignments(config.model_options)}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested tables by dotted key."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        nested = isinstance(value, Mapping)
        leaves |= _leaves(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return leaves


def _toml(value: Any) -> str:
    """A text, number, truth value or list of them in TOML, which writes them as JSON does."""
    return json.dumps(value, ensure_ascii=False)
