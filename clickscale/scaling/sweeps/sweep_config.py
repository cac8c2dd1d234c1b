"""Options of a sweep: a grid of models, sizes, lengths, fractions of the data and seeds."""

import itertools
import json
import shlex
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from clickscale.benchmarking.benchmark_config import sets_of
from clickscale.benchmarking.options_file import claim_options, refuse_other_work, stored_options
from clickscale.config import Config, check_least
from clickscale.data.dataset import Dataset
from clickscale.data.portion import Portion
from clickscale.errors import ConfigError, DataError, RunError, unknown
from clickscale.models import model_config, model_names, presets
from clickscale.scaling.points import Cell
from clickscale.training.passes.epochs import Epochs
from clickscale.training.recipe import Traits, facts_of, resolve
from clickscale.training.run.run_config import TrainConfig, train_config

# More values of an axis only add cells, the data may move, and latencies may be measured later.
_FREE = ("data", "models", "sizes", "lengths", "fractions", "seeds", "latency")
_EARLIER = {"epochs": 1}  # of sweeps that were begun before this was an option
_AXES = {  # options of a run that name its cell, and the option of a sweep that varies them
    "model": "models",
    "grade": "sizes",
    "length": "lengths",
    "portion.fraction": "fractions",
    "portion.by": "by",
    "seed": "seeds",
    "labels": "label",
}


class SweepConfig(Config, frozen=True, kw_only=True):
    """Options of a sweep: every combination of its axes is a run.

    Attributes:
        data: folder of a prepared data set with a validation part.
        models: names of models.
        sizes: grades, which every model must have.
        lengths: behaviors that a candidate sees at most.
        fractions: shares of the training impressions.
        by: how a fraction is taken; see `clickscale.data.portion.Portion`.
        seeds: runs of each combination.
        epochs: passes of every run over its data; more than one end early where the validation loss no longer
            falls. 0 takes as many as the recipe takes on all of the data, or as the sweep was begun with.
        part: the part on which runs are measured.
        label: label to train and to measure; the first one if empty.
        latency: also measure the latency of each model, size and length, when all runs are done.
        sets: ``KEY=VALUE`` options of all runs, or ``MODEL.KEY=VALUE`` options of one model's runs.
    """

    data: str
    models: tuple[str, ...]
    sizes: tuple[str, ...] = ("size-1", "size-2")
    lengths: tuple[int, ...] = (50,)
    fractions: tuple[float, ...] = (1.0,)
    by: Literal["time", "users"] = "time"
    seeds: int = 3
    epochs: int = 0
    part: Literal["valid", "test"] = "test"
    label: str = ""
    latency: bool = True
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_least(self, 1, "seeds")
        check_least(self, 0, "epochs")
        for axis in ("models", "sizes", "lengths", "fractions"):
            if not getattr(self, axis):
                raise ConfigError(f"A sweep needs {axis}; it has none.")
        for model in self.models:
            if model not in model_names():
                raise ConfigError(unknown("model", model, model_names()))
            for size in self.sizes:
                if size not in presets(model):
                    raise ConfigError(f"Model {model!r}: {unknown('size', size, presets(model))}")
        if min(self.lengths) < 1:
            raise ConfigError(f"lengths has {min(self.lengths)}; a candidate sees at least 1 behavior.")
        for fraction in self.fractions:
            Portion(fraction=fraction)
        self._check_sets()

    @property
    def cells(self) -> list[Cell]:
        """Every combination, each once."""
        axes = (self.models, self.sizes, self.lengths, self.fractions, range(self.seeds))
        return list({(cell := Cell(*one)).name: cell for one in itertools.product(*axes)}.values())

    def cell(self, name: str) -> Cell:
        """The cell of a name.

        Raises:
            ConfigError: the sweep has no such cell.
        """
        known = {cell.name: cell for cell in self.cells}
        if name not in known:
            raise ConfigError(unknown("cell", name, known))
        return known[name]

    def run(self, cell: Cell) -> TrainConfig:
        """Options of the run of a cell, in a sweep that is `settled`."""
        assert self.epochs, "the number of epochs is settled before a cell runs"
        flags = {
            "grade": cell.grade,
            "length": cell.length,
            "seed": cell.seed,
            "labels": [self.label] if self.label else [],
            "portion.fraction": cell.fraction,
            "portion.by": self.by,
        }
        sets = [*self._comparable(cell), *sets_of(cell.model, self.sets)]
        return train_config(cell.model, Path(self.data), flags=flags, sets=sets)

    def _comparable(self, cell: Cell) -> list[str]:
        """Options that make cells comparable; those of the sweep win over them.

        Left to itself, each fraction would have its own number of epochs, and ``size-2`` its own width of
        embeddings. One thread keeps sums the same however many runs go on at the same time.
        """
        width = msgspec.to_builtins(model_config(cell.model, cell.grade))["d"]
        passes = [f"epochs.count={self.epochs}"]
        # A second epoch may learn by heart what is in a small fraction; a single one cannot.
        stops = f"early_stopping={'true' if self.epochs > 1 else 'false'}"
        return [*passes, stops, f"model.d={width}", "threads=1", "keep=1"]

    def _check_sets(self) -> None:
        """Refuse options that would give a run another place in the grid than its cell says."""
        for model in self.models:
            for text in sets_of(model, self.sets):
                key = text.partition("=")[0].strip()
                if key in _AXES:
                    raise ConfigError(f"{text!r} sets an axis of the sweep; name its values in {_AXES[key]}.")


def settled(config: SweepConfig, out: Path, dataset: Dataset) -> SweepConfig:
    """The options with a number of epochs: that of the sweep in ``out``, or the recipe's on all of the data.

    One number for all cells: a step from one epoch to two along an axis would look like a law, or hide one.
    """
    if config.epochs:
        return config
    if stored := stored_options(out, SweepConfig, earlier=_EARLIER):
        return replace(config, epochs=stored.epochs)
    whole = replace(config, epochs=1).run(replace(config.cells[0], fraction=1.0))
    # Causal or not, a model has the epochs of the data.
    left_open, traits = replace(whole, epochs=Epochs()), Traits(True, True, whole.length)
    return replace(config, epochs=resolve(left_open, facts_of(dataset), traits)[0].epochs.count)


def claim_sweep(out: Path, config: SweepConfig) -> str:
    """Begin a sweep in ``out``, or continue the one there with any axes; the hash of the data's manifest.

    Raises:
        RunError: the folder holds something else, or a sweep with other options or data.
    """
    return claim_options(out, config, Path(config.data), what="sweep", free=_FREE, earlier=_EARLIER)


def refuse_other_sweep(out: Path, config: SweepConfig) -> None:
    """Raise where `claim_sweep` would, and write nothing.

    Raises:
        RunError: the folder holds something else, or a sweep with other options or data.
    """
    refuse_other_work(out, config, Path(config.data), what="sweep", free=_FREE, earlier=_EARLIER)


def read_sweep(out: Path) -> SweepConfig:
    """Options of the sweep in ``out``.

    Raises:
        RunError: there is none.
    """
    stored = stored_options(out, SweepConfig, earlier=_EARLIER)
    if stored is None:
        raise RunError(f"{out} holds no sweep; begin one with --data and --models.")
    return stored


def sweep_commands(folder: Path) -> list[str]:
    """Commands that make the sweep in a folder and its laws; those of the laws alone without its options.

    Raises:
        DataError: the file of its options is damaged.
    """
    laws = shlex.join(["clickscale", "laws", "--sweep", str(folder)])
    options = folder / "options.json"
    if not options.is_file():
        return [laws]
    try:
        asked = {**_EARLIER, **json.loads(options.read_text("utf-8"))["config"]}
        words = ["clickscale", "sweep", "--data", str(asked["data"]), "--models", ",".join(asked["models"])]
        for axis in ("sizes", "lengths", "fractions"):
            words += [
                f"--{axis}",
                ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in asked[axis]),
            ]
        words += ["--by", str(asked["by"]), "--seeds", str(asked["seeds"])]
        words += ["--epochs", str(asked["epochs"]), "--part", str(asked["part"])]
        words += [word for text in asked["sets"] for word in ("--set", str(text))]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{options} holds no options of a sweep: {error}; continue the sweep.") from error
    return [shlex.join([*words, "--out", str(folder)]), laws]
