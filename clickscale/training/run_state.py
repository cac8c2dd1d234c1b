"""A run in motion: how far it is, and how it is saved, restored and summed up."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clickscale.files import checksum
from clickscale.sealed import read_document, write_document
from clickscale.training.early_stopping import EarlyStopping
from clickscale.training.learner import Learner
from clickscale.training.objectives import LOSS, Objective
from clickscale.training.optimizers.optim import StepResult
from clickscale.training.passes.epochs import Position
from clickscale.training.passes.second_training import SecondTraining
from clickscale.training.passes.table_resets import TableResets
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore, with_prefix, without_prefix
from clickscale.training.run.folder import ADVICE, DONE
from clickscale.training.run.logs import LOG_HASH, METRICS, Meter, Stopwatch
from clickscale.training.run.run_config import RunConfig


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        folder: the run.
        step, samples: steps done and impressions seen, from the start of the run.
        seconds: wall time by stage (load, forward, backward, step, rest), earlier parts of the run included.
        cpu_seconds: processor time of all threads, earlier parts included.
        skipped: steps refused because a number was not finite.
        signal: the signal that stopped the run; 0 if none did.
        paused: whether it waits to be continued because its caller asked for a pause.
    """

    folder: Path
    step: int
    samples: int
    seconds: dict[str, float]
    cpu_seconds: float
    skipped: int
    signal: int = 0
    paused: bool = False

    @property
    def samples_per_second(self) -> float:
        """Impressions per second of training, without the time of logs, validation and checkpoints."""
        return self.samples / max(sum(self.seconds.values()) - self.seconds["rest"], 1e-9)

    @property
    def finished(self) -> bool:
        """True if all steps are done."""
        return self.signal == 0 and not self.paused

    @property
    def exit_code(self) -> int:
        """0 unless a signal stopped the run, else 128 + signal as shells expect (SIGTERM 143, SIGINT 130)."""
        return 128 + self.signal if self.signal else 0


@dataclass
class RunState:
    """The parts of a run, and its progress.

    Attributes:
        step, samples: steps done and impressions seen, from the start of the run.
        stopping: the best weights so far, and whether training is over.
        second: what a second training begins with; None if there is none.
        second_step: steps before it; 0 until it begins.
        position: the next batch.
        last_results: result of each learner's last step, by name.
        meter, watch: losses and times since the last line of the log.
    """

    config: RunConfig
    device: torch.device
    objective: Objective
    learners: list[Learner]
    store: CheckpointStore
    resets: TableResets
    stopping: EarlyStopping
    second: SecondTraining | None = None
    second_step: int = 0
    step: int = 0
    samples: int = 0
    position: Position = Position()
    last_results: dict[str, StepResult] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    watch: Stopwatch = field(default_factory=Stopwatch)
    _cpu_before: float = field(default_factory=lambda: -time.process_time())

    def weights(self) -> dict[str, Tensor]:
        """Live weights of all models by name."""
        return {
            learner.key(name): tensor
            for learner in self.learners
            for name, tensor in learner.model.state_dict().items()
        }

    def judged_loss(self, losses: Mapping[str, float]) -> float:
        """The validation loss that early stopping goes by: that of the first model."""
        name = self.learners[0].name
        if not name:
            return losses[LOSS]
        return sum(loss for key, loss in losses.items() if key.startswith(f"{LOSS}.{name}."))

    def begin_again(self, steps: int) -> bool:
        """Begin the second training of at most ``steps`` steps, or go on with it; whether it begins."""
        assert self.second, "the recipe or the options ask for a second training"
        begins = not self.second_step
        if begins:
            self.second_step = self.step
            self.stopping.begin_again()
        self.second.begin(self.learners, (self.second_step, steps), first=begins)
        return begins

    def move(self, losses: dict[str, Tensor]) -> dict[str, StepResult]:
        """Let every learner take its step."""
        return {
            learner.name: learner.optimizer.step(learner.own_loss(losses), self.step)
            for learner in self.learners
        }

    def count(
        self, results: dict[str, StepResult], losses: dict[str, Tensor], samples: int, position: Position
    ) -> None:
        """Count one step of ``samples`` impressions, after which the run stands at ``position``."""
        self.step += 1
        self.samples += samples
        self.position, self.last_results = position, results
        self.watch.samples += samples
        if not any(result.skipped for result in results.values()):
            self.meter.add(losses)

    def save(self) -> None:
        """Write a checkpoint from which the run continues bit for bit."""
        tensors = with_prefix("meter", self.meter.sums)
        tensors |= with_prefix("random", _random_state(self.device))
        facts: dict[str, Any] = {
            "epoch": self.position.epoch,
            "batch": self.position.batch,
            "samples": self.samples,
            "second_step": self.second_step,
            "meter_steps": self.meter.steps,
            "seconds": self.watch.total,
            "cpu_seconds": self._cpu_seconds(),
        }
        for learner in self.learners:
            tensors |= with_prefix(learner.key("model"), learner.model.state_dict())
            tensors |= with_prefix(learner.key("optimizer"), learner.optimizer.state_dict())
            result = self.last_results.get(learner.name)
            facts[learner.key("last")] = asdict(result) if result else None
        tensors |= with_prefix("best", self.stopping.weights)
        facts["early_stopping"] = self.stopping.facts()
        self.store.save(Checkpoint(self.step, tensors, facts))

    def restore(self) -> list[str]:
        """Continue from the newest sound checkpoint, if there is one; returns messages for the log."""
        checkpoint, notes = self.store.load()
        if checkpoint is None:
            return notes
        tensors, facts = checkpoint.tensors, checkpoint.facts
        for learner in self.learners:
            learner.model.load_state_dict(without_prefix(learner.key("model"), tensors))
            learner.optimizer.load_state_dict(without_prefix(learner.key("optimizer"), tensors))
            if last := facts[learner.key("last")]:
                self.last_results[learner.name] = StepResult(**last)
        self.stopping.restore(without_prefix("best", tensors), facts["early_stopping"])
        self.meter.sums, self.meter.steps = without_prefix("meter", tensors), facts["meter_steps"]
        _set_random_state(without_prefix("random", tensors), self.device)
        self.step, self.samples = checkpoint.step, facts["samples"]
        self.second_step = facts["second_step"]
        self.position = Position(facts["epoch"], facts["batch"])
        self.watch.total = facts["seconds"]
        self._cpu_before += facts["cpu_seconds"]
        return [*notes, f"continuing after step {self.step}"]

    def result(self, folder: Path, signal: int, paused: bool) -> RunResult:
        """Summary of the run so far; ``signal`` is the one that stopped it, or 0."""
        return RunResult(
            folder,
            self.step,
            self.samples,
            self.watch.total,
            self._cpu_seconds(),
            sum(learner.optimizer.skipped for learner in self.learners),
            signal,
            paused,
        )

    def _cpu_seconds(self) -> float:
        return self._cpu_before + time.process_time()


def write_done(result: RunResult) -> None:
    """Mark the folder of a run as finished."""
    facts = asdict(result) | {"samples_per_second": round(result.samples_per_second, 1)}
    del facts["folder"], facts["paused"]
    write_document(result.folder / DONE, facts | {LOG_HASH: checksum(result.folder / METRICS)})


def read_done(folder: Path) -> RunResult:
    """Result of a finished run."""
    facts = read_document(folder / DONE, ADVICE)
    names = ("step", "samples", "seconds", "cpu_seconds", "skipped")
    return RunResult(folder, *(facts[name] for name in names))


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's random numbers."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
