"""Options of a run."""

from typing import Literal

from clickscale.config import Config, check_least
from clickscale.data.loader import Grouping, LoaderConfig
from clickscale.training.epochs import Epochs
from clickscale.training.optim import OptimizerConfig

# May change between the start of a run and its continuation: they do not touch what is learned. (The data may
# move; its hash may not change. Another number of threads may change the last bits of a sum.)
FREE = frozenset(
    {
        "data",
        "threads",
        "recompute",
        "prefetch",
        "log_every",
        "checkpoint_every",
        "keep",
        "validate_every",
        "teacher_run",  # may move; what it has learned is compared
        "epochs.snapshot",  # may move; the tables taken from it are kept
    }
)


class RunConfig(Config, frozen=True, kw_only=True):
    """Options of every run, whatever it trains.

    Attributes:
        data: folder of a prepared data set.
        grouping, window, slack, batch_size, pairs, placeholders, prefetch: see
            `clickscale.data.loader.LoaderConfig`. A finished run measures its validation part with its slack.
        labels: labels to train; the first one of the data set if empty.
        seed: of the initial weights, of dropout and of the order of the data.
        precision: ``bf16`` computes the forward pass in bfloat16 where that is safe; weights stay float32.
        device: ``auto`` takes a GPU if there is one.
        threads: per operation; 0 lets clickscale choose.
        recompute: compute blocks of a causal stack again in the backward pass: less memory, the same numbers.
        log_every, checkpoint_every, validate_every: in steps; 0 never validates (or saves only at the end).
        keep: checkpoints that stay.
    """

    data: str
    grouping: Grouping = "timeline"
    window: int = 0
    slack: int = 0
    batch_size: int = 1024
    pairs: int = 0
    placeholders: int = 0
    labels: tuple[str, ...] = ()
    seed: int = 0
    epochs: Epochs = Epochs()
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    recompute: bool = False
    prefetch: int = 2
    log_every: int = 20
    checkpoint_every: int = 1000
    keep: int = 2
    validate_every: int = 0

    def __post_init__(self) -> None:
        check_least(self, 1, "log_every", "keep")
        check_least(self, 0, "checkpoint_every", "validate_every")

    def loader(self) -> LoaderConfig:
        """Options of the training loader."""
        raise TypeError(f"{type(self).__name__} does not define loader")

    def loader_of(self, length: int) -> LoaderConfig:
        """Options of a loader of ``length`` behaviors."""
        return LoaderConfig(
            grouping=self.grouping,
            length=length,
            window=self.window,
            slack=self.slack,
            batch_size=self.batch_size,
            pairs=self.pairs,
            placeholders=self.placeholders,
            seed=self.seed,
            labels=self.labels,
            prefetch=self.prefetch,
        )


class TrainConfig(RunConfig, frozen=True, kw_only=True):
    """All options of a run that trains one model.

    Attributes:
        model: name of a model.
        grade: preset of model sizes.
        model_options: ``a.b=c`` changes of that preset.
        length: behaviors that a candidate sees at most (L).
        warm_start: folder of a run whose weights are the start (`clickscale.training.warm_start`).
    """

    model: str
    grade: str = "size-2"
    model_options: tuple[str, ...] = ()
    length: int = 100
    optimizer: OptimizerConfig = OptimizerConfig()
    warm_start: str = ""

    def loader(self) -> LoaderConfig:
        """Options of the training loader."""
        return self.loader_of(self.length)
