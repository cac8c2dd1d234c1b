"""Options of a benchmark, and those of every run in it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from clickscale.benchmarking.options_file import claim_options, refuse_other_work
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError, unknown
from clickscale.models import model_config, model_names
from clickscale.training.run.run_config import TrainConfig, train_config

ALL, TREES = "all", "trees"
_FREE = ("models", "rates", "seeds", "data")  # more of them only adds cells, and the data may move


class BenchmarkConfig(Config, frozen=True, kw_only=True):
    """Options of a benchmark.

    Attributes:
        data: folder of a prepared data set with a validation part.
        models: names of models, and ``trees``; ``all`` is every one of them.
        reference: the model that RelaImpr is against and whose training operations the compute-matched table
            spends; it is trained even if ``models`` leaves it out.
        grade: preset of sizes; the width of embeddings and the head are those of the reference.
        length: behaviors that a candidate sees at most.
        label: label to train and to measure; the first one if empty.
        seeds: runs of each model with the learning rate that was chosen.
        rates: learning rates of dense weights, each tried with the first seed.
        sets: ``KEY=VALUE`` options of all runs, or ``MODEL.KEY=VALUE`` options of one model's runs.
    """

    data: str
    models: tuple[str, ...]
    reference: str = "din"
    grade: str = "size-2"
    length: int = 100
    label: str = ""
    seeds: int = 3
    rates: tuple[float, ...] = (0.001, 0.003)
    sets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_least(self, 1, "length", "seeds")
        if not self.models or not self.rates or not all(rate > 0 for rate in self.rates):
            raise ConfigError(
                f"A benchmark needs models and positive learning rates; it has models {list(self.models)} and"
                f" rates {list(self.rates)}."
            )
        if len(set(self.rates)) < len(self.rates):
            raise ConfigError(f"The rates {list(self.rates)} name one twice; leave it out.")
        if self.reference not in model_names():
            raise ConfigError(unknown("reference", self.reference, model_names()))
        for name in self.models:
            if name not in (*model_names(), TREES, ALL):
                raise ConfigError(unknown("model", name, [*model_names(), TREES, ALL]))

    @property
    def entrants(self) -> tuple[str, ...]:
        """The reference, then the others as they are named, each once."""
        every = [*model_names(), TREES] if ALL in self.models else self.models
        return tuple(dict.fromkeys([self.reference, *every]))

    def run(self, model: str) -> TrainConfig:
        """Options of the runs of a model, but for learning rate, seed and steps."""
        return train_config(
            model,
            Path(self.data),
            flags={"grade": self.grade, "length": self.length, "labels": [self.label] if self.label else []},
            sets=self.assignments(model),
        )

    def assignments(self, model: str) -> list[str]:
        """Texts for ``--set`` of the runs of a model; later ones win."""
        return [*self._equal(), *sets_of(model, self.sets)]

    def _equal(self) -> list[str]:
        """Width of embeddings and head of the reference, and what else all runs share."""
        tree = msgspec.to_builtins(model_config(self.reference, self.grade))
        hidden = ",".join(map(str, tree["head"]["hidden"]))
        # One checkpoint is enough to continue, and a benchmark has many runs.
        return [f"model.d={tree['d']}", f"model.head.hidden=[{hidden}]", "keep=1"]


def sets_of(model: str, sets: Sequence[str]) -> list[str]:
    """Those of the texts ``KEY=VALUE`` and ``MODEL.KEY=VALUE`` that reach a model, its own ones last."""
    own, common = [], []
    for text in sets:
        owner, _, rest = text.partition(".")
        if owner == model:
            own.append(rest)
        elif owner not in model_names():
            common.append(text)
    return [*common, *own]


def claim_folder(out: Path, config: BenchmarkConfig) -> None:
    """Begin a benchmark in ``out``, or continue the one there; more models, rates or seeds are welcome.

    Raises:
        RunError: the folder holds something else, or a benchmark with other options or data, or cannot be
            written.
    """
    claim_options(out, config, Path(config.data), what="benchmark", free=_FREE, more=_fewer_rates(config))


def refuse_other_benchmark(out: Path, config: BenchmarkConfig) -> None:
    """Raise where `claim_folder` would, and write nothing."""
    refuse_other_work(out, config, Path(config.data), what="benchmark", free=_FREE, more=_fewer_rates(config))


def _fewer_rates(config: BenchmarkConfig) -> Callable[[BenchmarkConfig], list[str]]:
    """Tells which rates of a stored benchmark ``config`` lacks; the weights of rates that lost are gone."""

    def fewer(stored: BenchmarkConfig) -> list[str]:
        gone = sorted(set(stored.rates) - set(config.rates))
        return [f"rates has {', '.join(f'{rate:g}' for rate in gone)} as well"] if gone else []

    return fewer
