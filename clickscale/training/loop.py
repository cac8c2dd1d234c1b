"""The only training loop: it reads from top to bottom, and what varies enters as values."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.utils import deterministic as memory

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader
from clickscale.errors import ConfigError, RunError
from clickscale.files import replace_text
from clickscale.runtime import set_threads
from clickscale.training.early_stopping import EarlyStopping
from clickscale.training.epochs import Position
from clickscale.training.objectives import LOSS, ClickLoss, Objective
from clickscale.training.optim import Optimizers, StepResult, build_optimizer
from clickscale.training.recipe import decided_optimizer, facts_of, resolve, traits_of
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import (
    DONE,
    RunConfig,
    TrainConfig,
    load_run,
    make_model,
    open_folder,
    start_at_rates,
    trained_labels,
    write_environment,
)
from clickscale.training.run.interruption import Interruption
from clickscale.training.run.logs import Meter, ProgressLine, RunLog, Stopwatch
from clickscale.training.table_resets import TableResets, table_resets
from clickscale.training.warm_start import start_from


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: the run.
        step, samples: steps done and impressions seen, from the start of the run.
        seconds: wall time by stage (load, forward, backward, step, rest), earlier parts of the run included.
        cpu_seconds: processor time of all threads, earlier parts included.
        skipped: steps refused because a number was not finite.
        signal: the signal that stopped the run; 0 if it finished.
    """

    folder: Path
    step: int
    samples: int
    seconds: dict[str, float]
    cpu_seconds: float
    skipped: int
    signal: int = 0

    @property
    def samples_per_second(self) -> float:
        """Impressions per second of training; logs, validation and checkpoints left out."""
        return self.samples / max(sum(self.seconds.values()) - self.seconds["rest"], 1e-9)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.signal == 0

    @property
    def exit_code(self) -> int:
        """0 if finished, else 128 + signal as shells expect (SIGTERM 143, SIGINT 130)."""
        return 128 + self.signal if self.signal else 0


@dataclass(frozen=True)
class Learner:
    """A model that moves in a run, and what moves it.

    Attributes:
        name: tells the models of a run apart, in checkpoints, logs and losses; empty for the only one.
        said: what is worth telling of its start.
    """

    name: str
    model: nn.Module
    optimizer: Optimizers
    said: tuple[str, ...] = ()

    def key(self, what: str) -> str:
        """Name of something of this model among those of the run."""
        return f"{self.name}.{what}" if self.name else what

    def own_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of this model's own losses: what must be a number for it to take a step, whatever others do."""
        if not self.name:
            return losses[LOSS]
        return torch.stack([v for k, v in losses.items() if k.startswith(f"{LOSS}.{self.name}.")]).sum()


Assemble = Callable[[torch.device, int], tuple[Objective, list[Learner]]]


@dataclass(frozen=True)
class Plan:
    """What is about to be trained.

    Attributes:
        config: all options, decided.
        said: why they were decided so.
        assemble: makes objective and learners for a device and a number of steps.
    """

    config: RunConfig
    said: list[str]
    assemble: Assemble


@dataclass
class _Run:
    """A run in motion: what it is made of, and what it has done."""

    config: RunConfig
    device: torch.device
    objective: Objective
    learners: list[Learner]
    store: CheckpointStore
    resets: TableResets
    stopping: EarlyStopping
    step: int = 0
    samples: int = 0
    position: Position = Position()
    last: dict[str, StepResult] = field(default_factory=dict)
    meter: Meter = field(default_factory=Meter)
    watch: Stopwatch = field(default_factory=Stopwatch)
    cpu_before: float = field(default_factory=lambda: -time.process_time())

    def move(self, losses: dict[str, Tensor]) -> dict[str, StepResult]:
        """Let every model take its step."""
        return {each.name: each.optimizer.step(each.own_loss(losses), self.step) for each in self.learners}

    def done(
        self, last: dict[str, StepResult], losses: dict[str, Tensor], samples: int, position: Position
    ) -> None:
        """Count one step, after which the run stands at ``position``."""
        self.step, self.samples, self.position, self.last = (
            self.step + 1,
            self.samples + samples,
            position,
            last,
        )
        self.watch.samples += samples
        if not any(result.skipped for result in last.values()):
            self.meter.add(losses)

    def save(self) -> None:
        """Write a checkpoint from which the run continues bit for bit."""
        tensors = _with_prefix("meter", self.meter.sums)
        tensors |= _with_prefix("random", _random_state(self.device))
        facts: dict[str, Any] = {
            "epoch": self.position.epoch,
            "batch": self.position.batch,
            "samples": self.samples,
            "meter_steps": self.meter.steps,
            "seconds": self.watch.total,
            "cpu_seconds": self.cpu_seconds,
        }
        for each in self.learners:
            tensors |= _with_prefix(each.key("model"), each.model.state_dict())
            tensors |= _with_prefix(each.key("optimizer"), each.optimizer.state_dict())
            facts[each.key("last")] = asdict(self.last[each.name]) if self.last else None
        tensors |= _with_prefix("best", self.stopping.weights)
        facts["early_stopping"] = self.stopping.facts()
        self.store.save(Checkpoint(self.step, tensors, facts))

    def restore(self) -> list[str]:
        """Continue from the newest sound checkpoint, if there is one; returns what is worth saying."""
        checkpoint, said = self.store.load()
        if checkpoint is None:
            return said
        tensors, facts = checkpoint.tensors, checkpoint.facts
        for each in self.learners:
            each.model.load_state_dict(_without_prefix(each.key("model"), tensors))
            each.optimizer.load_state_dict(_without_prefix(each.key("optimizer"), tensors))
            if last := facts[each.key("last")]:
                self.last[each.name] = StepResult(**last)
        self.stopping.restore(_without_prefix("best", tensors), facts["early_stopping"])
        self.meter.sums, self.meter.steps = _without_prefix("meter", tensors), facts["meter_steps"]
        _set_random_state(_without_prefix("random", tensors), self.device)
        self.step, self.samples = checkpoint.step, facts["samples"]
        self.position = Position(facts["epoch"], facts["batch"])
        self.watch.total = facts["seconds"]
        self.cpu_before += facts["cpu_seconds"]
        return [*said, f"continuing after step {self.step}"]

    def judged(self, losses: Mapping[str, float]) -> float:
        """The validation loss that early stopping goes by: that of the first model."""
        name = self.learners[0].name
        if not name:
            return losses[LOSS]
        return sum(loss for key, loss in losses.items() if key.startswith(f"{LOSS}.{name}."))

    def weights(self) -> dict[str, Tensor]:
        """Live weights of all models by name."""
        return {each.key(name): t for each in self.learners for name, t in each.model.state_dict().items()}

    @property
    def cpu_seconds(self) -> float:
        return self.cpu_before + time.process_time()

    def result(self, folder: Path, signal: int) -> RunResult:
        """How the run stands."""
        return RunResult(
            folder,
            self.step,
            self.samples,
            self.watch.total,
            self.cpu_seconds,
            sum(each.optimizer.skipped for each in self.learners),
            signal,
        )


def train(config: TrainConfig, out: Path, *, resume: bool = True, progress: bool | None = None) -> RunResult:
    """Train a model, or continue its run, in the folder ``out``.

    On a CPU the same options and number of threads give the same run bit for bit, stopped in between or not.

    Args:
        config: all options.
        out: folder of the run; see `clickscale.training.run.folder`.
        resume: continue the run in ``out`` if there is one; otherwise refuse it.
        progress: show a progress line; None does so on a terminal.

    Returns:
        A result whose ``finished`` is false if SIGTERM or SIGINT stopped the run, after a checkpoint.

    Raises:
        RunError: ``out`` holds something else than this run, or cannot be written (a full disk).
        DivergedError: too many steps in a row were not finite.
    """

    def plan(dataset: Dataset) -> Plan:
        torch.manual_seed(config.seed)
        model, labels = make_model(config, dataset), trained_labels(dataset, config)
        decided, why = resolve(config, facts_of(dataset), traits_of([model], config.length))
        optimizer, more = decided_optimizer(decided.optimizer, decided)
        decided = replace(decided, optimizer=optimizer)
        start_at_rates(model, dataset, labels)

        def assemble(device: torch.device, steps: int) -> tuple[Objective, list[Learner]]:
            said: tuple[str, ...] = ()
            stored = out / "checkpoints"
            if config.warm_start and not (stored.is_dir() and CheckpointStore(stored).steps()):
                said = (start_from(model, dataset, labels, load_run(Path(config.warm_start))),)
            model.to(device)
            learner = Learner("", model, build_optimizer(model, decided.optimizer, steps), said)
            return ClickLoss(model, labels), [learner]

        return Plan(decided, why + more, assemble)

    return run_training(config, plan, out, resume=resume, progress=progress)


def run_training(
    config: RunConfig,
    plan: Callable[[Dataset], Plan],
    out: Path,
    *,
    resume: bool = True,
    progress: bool | None = None,
) -> RunResult:
    """Train what ``plan`` makes of the data set; see `train`."""
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), Interruption() as interruption:
            return _train(config, plan, out, resume, progress, interruption)
    except OSError as error:
        raise RunError(
            f"Run {out} stopped: {error}. Its checkpoints are untouched; make room on the disk or repair the"
            " path, then continue with --resume."
        ) from error


def _train(
    given: RunConfig,
    plan: Callable[[Dataset], Plan],
    out: Path,
    resume: bool,
    progress: bool | None,
    interruption: Interruption,
) -> RunResult:
    """Make everything, take up what was done, take the steps, say how it ended."""
    device = _device(given.device)
    threads = set_threads(given.threads)
    dataset = open_dataset(given.data)
    planned = plan(dataset)
    config = planned.config
    loader = Loader(dataset, "train", config.loader())
    validation = Loader(dataset, "valid", config.loader()) if config.validate_every else None
    steps = loader.steps(config.epochs.count)
    objective, learners = planned.assemble(device, steps)
    resets = table_resets(config.epochs, learners, dataset.encoder, out, config.seed)

    open_folder(out, config, dataset, resume)
    if (out / DONE).is_file():
        return _read_done(out)
    write_environment(out, threads, device)
    store = CheckpointStore(out / "checkpoints", config.keep)
    resets.keep(out)
    stopping = EarlyStopping(config.patience if config.early_stopping else 0)
    run = _Run(config, device, objective, learners, store, resets, stopping)
    said = [
        threads,
        *planned.said,
        *(text for each in learners for text in each.said),
        *resets.said,
        *run.restore(),
    ]
    log, line = RunLog(out, run.step), ProgressLine(steps, run.step, progress)
    for sentence in said:
        line.say(sentence)
    try:
        with _deterministic(device):
            _steps(run, loader, validation, log, line, interruption)
    finally:
        log.close()
        line.close()
    result = run.result(out, interruption.number)
    if result.finished:
        _write_done(result)
    return result


def _steps(
    run: _Run,
    loader: Loader,
    validation: Loader | None,
    log: RunLog,
    line: ProgressLine,
    interruption: Interruption,
) -> None:
    """All steps that are left, until the last one or a signal; ends with a checkpoint."""
    config, watch = run.config, run.watch
    run.objective.train()
    for start in config.epochs.remaining(run.position):
        if run.stopping.over():
            break
        begun = loader.steps(start.epoch)
        span = begun, loader.steps(start.epoch + 1) - begun
        if config.epochs.schedule == "epoch":
            for each in run.learners:
                each.optimizer.span = each.optimizer.table_steps = span
        run.resets.begin(start, span)
        for number, batch in enumerate(loader.batches(start.epoch, start.batch), start.batch + 1):
            samples = batch.samples
            batch = batch.to(run.device)
            watch.lap("load")
            with torch.autocast(run.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                losses = run.objective(batch)
            watch.lap("forward")
            losses[LOSS].backward()
            watch.lap("backward")
            last = run.move(losses)
            watch.lap("step")

            run.done(last, losses, samples, Position(start.epoch, number))
            line.move(run.step)
            if run.step % config.log_every == 0:
                _log(run, log, line)
            if validation is not None and run.step % config.validate_every == 0:
                _judge(run, validation, log, line)
            if interruption.number or (config.checkpoint_every and run.step % config.checkpoint_every == 0):
                run.save()
            watch.lap("rest")
            if interruption.number:
                return
            if run.stopping.over():
                break
    if run.meter.steps:
        _log(run, log, line)
    if validation is not None and config.early_stopping and run.stopping.judged < run.step:
        _judge(run, validation, log, line)
    run.stopping.put_back(run.weights())
    run.save()


def _judge(run: _Run, validation: Loader, log: RunLog, line: ProgressLine) -> None:
    """Measure the validation part, and remember the weights if they are the best so far."""
    losses = validate(run.objective, validation, run.device)
    log.write(run.step, {"valid": losses})
    if run.config.early_stopping and run.stopping.judge(run.step, run.judged(losses), run.weights()):
        line.say(f"step {run.step}: validation loss {run.stopping.best:.4f}, the lowest so far")


def _log(run: _Run, log: RunLog, line: ProgressLine) -> None:
    """One line of metrics for the steps since the last one."""
    assert run.last, "a line is due only after a step"
    values = {"epoch": run.position.epoch, "samples": run.samples, **run.meter.take()}
    for each in run.learners:
        last = run.last[each.name]
        values |= {
            each.key("learning_rate"): last.learning_rate,
            each.key("table_learning_rate"): last.table_learning_rate,
            each.key("grad_norm"): last.norm,
            each.key("skipped"): each.optimizer.skipped,
        }
    values |= run.watch.take()
    log.write(run.step, values)
    line.tell(values)


def validate(objective: Objective, loader: Loader, device: torch.device) -> dict[str, float]:
    """Losses over a part: each the mean over the impressions whose label is known; ``loss`` weighs them."""
    sums = dict.fromkeys(objective.weights, torch.zeros((), dtype=torch.float64))
    known = torch.zeros(())
    objective.eval()
    with torch.inference_mode():
        for batch in loader.batches():
            counts = batch.label_mask.sum((0, 1)).double()  # (T,)
            losses = objective(batch.to(device))
            known = known + counts
            for place, name in enumerate(sums):
                sums[name] = sums[name] + losses[name].double().cpu() * counts[place % len(counts)]
    objective.train()
    totals = known.clamp(min=1).tolist()
    means = {name: float(x) / totals[place % len(totals)] for place, (name, x) in enumerate(sums.items())}
    return {LOSS: sum(objective.weights[name] * mean for name, mean in means.items())} | means


def _device(name: str) -> torch.device:
    """``auto`` is a GPU if there is one.

    Raises:
        ConfigError: a GPU is asked for and torch finds none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no GPU; use device=cpu or device=auto.")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask for sums in a fixed order on a CPU, where the price is small; leave a GPU as it is."""
    before = torch.are_deterministic_algorithms_enabled()
    fill = memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # else all is written twice
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's random numbers."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _write_done(result: RunResult) -> None:
    facts = asdict(result) | {"samples_per_second": round(result.samples_per_second, 1)}
    del facts["folder"]
    replace_text(result.folder / DONE, json.dumps(facts, indent=2, sort_keys=True))


def _read_done(folder: Path) -> RunResult:
    facts = json.loads((folder / DONE).read_text("utf-8"))
    names = ("step", "samples", "seconds", "cpu_seconds", "skipped")
    return RunResult(folder, *(facts[name] for name in names))
