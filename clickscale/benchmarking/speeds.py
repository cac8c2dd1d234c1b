"""Speed and operations of a model, measured over a few steps of its training."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from msgspec.structs import replace

from clickscale.batch import Batch
from clickscale.config import Config
from clickscale.config_text import load_json, to_json
from clickscale.costs.flops import count_operations
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import SCORED_PAIRS, Loader, served_loaders
from clickscale.errors import ClickscaleError
from clickscale.files import replace_text
from clickscale.runtime import set_threads
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import build_optimizer
from clickscale.training.recipe import decided_optimizer, facts_of, resolve, shaped, traits_of
from clickscale.training.run.model import make_model, trained_labels
from clickscale.training.run.run_config import TrainConfig

_STEPS = 8  # of the measurement, after one that warms up
_FEWEST = 2  # steps that are measured, however slow they are
_SECONDS = 6.0  # after which no further step begins
_COUNTED = 32  # batches whose operations are counted: a few may hold short histories only
_SCORED = 512  # impressions in a batch that is scored, about
_BACKWARD = 2  # times the operations of the forward pass
SPEEDS = "speeds.json"


class Speed(Config, frozen=True):
    """Speed and operations of one model in one benchmark.

    Attributes:
        steps: of its epochs.
        samples: impressions that these steps see.
        validations: of the validation part.
        training, scoring: seconds for an impression, on the clock.
        cpu: processor seconds for an impression of training.
        operations: for an impression of training, that of the backward pass counted as two forward passes.
    """

    steps: int
    samples: int
    validations: int
    training: float
    scoring: float
    cpu: float
    operations: float

    @property
    def budget(self) -> float:
        """Operations of training for all epochs."""
        return self.operations * self.samples

    def matched(self, budget: float) -> int:
        """Steps that ``budget`` operations pay for: at least one, at most those of the epochs."""
        each = self.budget / self.steps
        return max(min(int(budget / each), self.steps), 1)


class _Speeds(Config, frozen=True):
    """Measured speeds by model."""

    models: dict[str, Speed]


def read_speeds(out: Path, name: str = SPEEDS) -> dict[str, Speed]:
    """Speeds that an earlier call measured, so that matched steps stay the same."""
    path = out / name
    return dict(load_json(path.read_bytes(), _Speeds, str(path)).models) if path.is_file() else {}


def write_speeds(out: Path, speeds: dict[str, Speed], name: str = SPEEDS) -> None:
    """Keep speeds for later calls."""
    replace_text(out / name, to_json(_Speeds(models=speeds)))


def measure_speed(config: TrainConfig, dataset: Dataset) -> Speed:
    """Take a few steps of a training on the first batches, and score a few batches as validation does.

    Nothing is written. The number of threads is that of torch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _Trial(config, dataset).speed()


def training_operations(config: TrainConfig, dataset: Dataset) -> float:
    """Operations for an impression of training, counted on the first batches; the same at every call."""
    with torch.random.fork_rng(devices=[]):
        trial = _Trial(config, dataset)
        return trial.operations([])


def measure_speeds(
    asked: Mapping[str, tuple[TrainConfig, Dataset]],
    known: Mapping[str, Speed],
    say: Callable[[str], None],
) -> tuple[dict[str, Speed], dict[str, str]]:
    """Measure the trainings whose speed is not known yet.

    Returns:
        Speeds by name, and by name why a model cannot be trained on its data; ``say`` is told of these.
    """
    set_threads(0)
    speeds: dict[str, Speed] = {}
    failed: dict[str, str] = {}
    for name, (config, dataset) in asked.items():
        try:
            speeds[name] = known.get(name) or measure_speed(config, dataset)
        except ClickscaleError as error:
            failed[name] = str(error)
            say(f"{name} is left out: {error}")
    return speeds, failed


class _Trial:
    """A training that takes a few steps only."""

    def __init__(self, config: TrainConfig, dataset: Dataset) -> None:
        if dataset.portion != config.portion:
            dataset = open_dataset(dataset.path, dataset.split, config.portion)
        facts = facts_of(dataset)
        config, _ = shaped(config, facts)
        model = make_model(config, dataset)
        decided, _ = resolve(config, facts, traits_of([model], config.length))
        optimizer, _ = decided_optimizer(decided.optimizer, decided, facts, type(model))
        gpu = config.device != "cpu" and torch.cuda.is_available()
        self._device = torch.device("cuda" if gpu else "cpu")
        self._objective = ClickLoss(model.to(self._device), trained_labels(dataset, config))
        loader = Loader(dataset, "train", replace(decided.loader(), prefetch=0))
        passes = decided.epochs.count + bool(decided.epochs.again)  # most second trainings end after one
        planned = loader.steps(passes)
        self._steps = decided.epochs.bounded(planned)
        self._samples = round(loader.samples * passes * self._steps / planned)
        self._validations = -(-self._steps // decided.validate_every) if decided.validate_every else 0
        self._optimizer = build_optimizer(model, optimizer, self._steps)
        self.batches = loader.batches()
        shared = config.length if model.causal and model.shares else 0
        scored = replace(decided.loader(), batch_size=_SCORED, pairs=SCORED_PAIRS, prefetch=0)
        self._served = served_loaders(dataset, "valid", scored, shared) if facts.valid else []

    def speed(self) -> Speed:
        """Measure training, then scoring."""
        batches, samples, seconds, cpu = self._train()
        return Speed(
            steps=self._steps,
            samples=self._samples,
            validations=self._validations,
            training=seconds / samples,
            scoring=self._scoring(),
            cpu=cpu / samples,
            operations=self.operations(batches),
        )

    def _train(self) -> tuple[list[Batch], int, float, float]:
        """Take steps; returns their batches, and the impressions, seconds and processor seconds of them.

        Building a batch counts, as it does in a training on one core. The median step stands for all: one
        that pays for code that is loaded late would halve the speed of so few.
        """
        taken: list[Batch] = []
        walls, cpus = [], []  # seconds for an impression, by step
        samples, begun = 0, time.perf_counter()
        wall, cpu = begun, time.process_time()
        for number, batch in enumerate(itertools.islice(self.batches, _STEPS + 1)):
            loss = self._objective(batch.to(self._device))[LOSS]
            loss.backward()
            self._optimizer.step(loss, number)
            float(loss.detach())  # waits for a GPU
            ended, used = time.perf_counter(), time.process_time()
            if number:  # the first pays for memory
                walls.append((ended - wall) / batch.samples)
                cpus.append((used - cpu) / batch.samples)
                samples += batch.samples
            else:
                begun = ended
            wall, cpu = ended, used
            taken.append(batch)
            if len(taken) > _FEWEST and ended - begun > _SECONDS:
                break
        samples = max(samples, 1)  # a log of a single batch has nothing but the step that warms up
        return taken, samples, samples * _median(walls), samples * _median(cpus)

    def _scoring(self) -> float:
        """Seconds for an impression of the validation part; 0 if there is none."""
        samples, seconds = 0, 0.0
        self._objective.eval()
        with torch.inference_mode():
            for batch in (next(iter(loader.batches())) for loader in self._served):
                begun = time.perf_counter()
                float(self._objective(batch.to(self._device))[LOSS])
                seconds, samples = seconds + time.perf_counter() - begun, samples + batch.samples
        self._objective.train()
        return seconds / max(samples, 1)

    def operations(self, taken: list[Batch]) -> float:
        """Operations of training for an impression of the first batches, those that were taken included."""
        counted, samples = 0, 0
        with torch.no_grad():
            for batch in (*taken, *itertools.islice(self.batches, _COUNTED - len(taken))):
                found, _ = count_operations(partial(self._objective, batch.to(self._device)))
                counted, samples = counted + found, samples + batch.samples
        return (1 + _BACKWARD) * counted / samples


def _median(values: list[float]) -> float:
    """Median of some values; 0 if there are none."""
    return statistics.median(values) if values else 0.0
