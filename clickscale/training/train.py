"""Training from options to a finished run folder: assemble all parts, then let the loop take the steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from torch.utils import deterministic as memory

from clickscale.arrays import Array
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import SCORED_PAIRS, Loader, served_loaders
from clickscale.errors import ConfigError, RunError
from clickscale.features import label_of
from clickscale.files import system_error
from clickscale.locks import one_writer
from clickscale.runtime import set_threads, survive_forks
from clickscale.training.early_stopping import EarlyStopping
from clickscale.training.learner import Learner, Plan, Planner
from clickscale.training.loop import take_steps
from clickscale.training.objectives import ClickLoss, Objective
from clickscale.training.optimizers.optim import build_optimizer
from clickscale.training.passes.second_training import SecondTraining
from clickscale.training.passes.table_resets import table_resets
from clickscale.training.recipe import decided_optimizer, facts_of, resolve, shaped, traits_of
from clickscale.training.run.checkpoint import CheckpointStore
from clickscale.training.run.environment import write_environment
from clickscale.training.run.folder import (
    CHECKPOINTS,
    CONFIG,
    DONE,
    as_begun,
    load_run,
    open_folder,
    read_config,
    write_decided,
)
from clickscale.training.run.interruption import Interruption
from clickscale.training.run.logs import RunReport
from clickscale.training.run.model import make_model, start_at_rates, trained_labels
from clickscale.training.run.run_config import RunConfig, TrainConfig
from clickscale.training.run_state import RunResult, RunState, read_done, write_done
from clickscale.training.warm_start import start_from

_SCORED = 512  # impressions in a batch of the validation part, at least
_AS_SERVED = 2  # validation encodes at most so many times the behaviors that windows of training would


def train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = True,
    progress: bool | None = None,
    pause_after: int = 0,
    whose: str = "",
) -> RunResult:
    """Train a model, or continue its run, in the folder ``out``.

    On a CPU the same options and number of threads give the same run bit for bit, stopped in between or not.

    Args:
        config: all options.
        out: folder of the run; see `clickscale.training.run.folder`.
        resume: continue the run in ``out`` if there is one; otherwise refuse it.
        progress: show a progress line; None does so on a terminal.
        pause_after: pause, with a checkpoint, when the validation part was measured so often since the start
            of the run; 0 never pauses. The same call with a larger number or 0 continues it.
        whose: begins every message, such as ``teacher`` where a student is trained next.

    Returns:
        A result whose ``finished`` is false if SIGTERM or SIGINT stopped the run, after a checkpoint, or if
        it is ``paused``.

    Raises:
        RunError: ``out`` holds something else than this run, is written by another process, or cannot be
            written (a full disk).
        DivergedError: too many steps in a row were not finite.
    """

    def plan(dataset: Dataset) -> Plan:
        torch.manual_seed(config.seed)
        facts = facts_of(dataset)
        sized, wide = shaped(as_begun(config, out), facts, _earlier(config, out))
        model, labels = make_model(sized, dataset), trained_labels(dataset, sized)
        start_at_rates(model, dataset, labels)
        decided, reasons = resolve(sized, facts, traits_of([model], sized.length))
        optimizer, more = decided_optimizer(decided.optimizer, decided, facts, type(model))

        def assemble(device: torch.device, steps: int) -> tuple[Objective, list[Learner]]:
            notes: tuple[str, ...] = ()
            # A continued run has weights of its own, and may outlive the run that it started from.
            if config.warm_start and not _has_checkpoint(out):
                notes = (start_from(model, dataset, labels, load_run(Path(config.warm_start))),)
            model.to(device)
            return ClickLoss(model, labels), [
                Learner("", model, build_optimizer(model, optimizer, steps), notes)
            ]

        shared = config.length if model.causal and model.shares else 0
        return Plan(replace(decided, optimizer=optimizer), [*wide, *reasons, *more], assemble, shared, whose)

    return run_training(config, plan, out, resume=resume, progress=progress, pause_after=pause_after)


def run_training(
    config: RunConfig,
    planner: Planner,
    out: Path,
    *,
    resume: bool = True,
    progress: bool | None = None,
    pause_after: int = 0,
) -> RunResult:
    """Train the models that ``planner`` makes for the data set; see `train`."""
    try:
        with (
            one_writer(out, RunError),
            torch.random.fork_rng(range(torch.cuda.device_count())),
            Interruption() as interruption,
        ):
            return _train(config, planner, out, resume, progress, pause_after, interruption)
    except OSError as error:
        raise RunError(
            f"Run {out} stopped: {system_error(error)}. Its checkpoints are untouched; make room on the disk"
            " or repair the path, then continue with --resume."
        ) from error


def _train(
    requested: RunConfig,
    planner: Planner,
    out: Path,
    resume: bool,
    progress: bool | None,
    pause_after: int,
    interruption: Interruption,
) -> RunResult:
    """Make all parts of a run, restore its progress, take the steps, and mark it as finished."""
    device = _device(requested.device)
    survive_forks()
    threads = set_threads(requested.threads)
    dataset = open_dataset(requested.data, portion=requested.portion)
    plan = planner(dataset)
    config = plan.config
    loader = Loader(dataset, "train", replace(config.loader(), unknown_users=config.unknown_users))
    validation: list[Loader] = []
    unmeasured: list[str] = []
    if config.validate_every and _is_labelled(dataset, config):
        validation = _validation(dataset, config, plan.shared)
    elif config.validate_every:
        unmeasured = ["no validation and no early stopping: no label is known in the validation part"]
    steps = config.epochs.bounded(loader.steps(config.epochs.count))
    objective, learners = plan.assemble(device, steps)
    second = SecondTraining.of(learners) if config.epochs.again else None
    steps += loader.steps(config.epochs.passes) - loader.steps(config.epochs.count)
    resets = table_resets(config.epochs, learners, dataset.encoder, out, config.seed)

    # Nothing that stays is written before this line: options that cannot work leave no folder behind.
    open_folder(out, config, dataset, resume)
    if (out / DONE).is_file():
        return read_done(out)
    write_decided(out, requested, config)
    write_environment(out, threads, device)
    store = CheckpointStore(out / CHECKPOINTS, config.keep)
    resets.keep(out)
    stopping = _stopping(dataset, config)
    run = RunState(config, device, objective, learners, store, resets, stopping, second)
    notes = [
        threads,
        *plan.notes,
        *unmeasured,
        *(note for learner in learners for note in learner.notes),
        *resets.notes,
        *run.restore(),
    ]
    with RunReport(out, steps, run.step, progress, plan.whose) as report, _deterministic(device):
        for note in notes:
            report.say(note)
        pause_at = pause_after * config.validate_every
        ended = take_steps(run, loader, validation, report, interruption, pause_at)
    result = run.result(out, interruption.number, paused=not ended and not interruption.number)
    if result.finished:
        write_done(result)
    return result


def _is_labelled(dataset: Dataset, config: RunConfig) -> bool:
    """False if no label that is trained is known anywhere in the validation part."""
    labels = _judging_labels(dataset, config)
    return not len(labels[0]) or any(bool((label >= 0).any()) for label in labels)


def _stopping(dataset: Dataset, config: RunConfig) -> EarlyStopping:
    """Early stopping that knows the loss of the constant rates, labels added, and how rare outcomes are."""
    known = [label[label >= 0] for label in _judging_labels(dataset, config)]
    rates = np.array([label.mean() for label in known if len(label)])
    either = np.stack([rates, 1 - rates])
    constant = float(-(either * np.log(np.maximum(either, np.finfo(float).tiny))).sum())
    rarer = max((int(min((label == 1).sum(), (label == 0).sum())) for label in known), default=0)
    return EarlyStopping(config.patience if config.early_stopping else 0, constant, rarer)


def _judging_labels(dataset: Dataset, config: RunConfig) -> list[Array]:
    """Labels that are trained, of the validation part; below 0 where unknown."""
    rows = dataset.part("valid")
    return [np.asarray(dataset.impressions[label_of(n)])[rows] for n in trained_labels(dataset, config)]


def _validation(dataset: Dataset, config: RunConfig, shared: int) -> list[Loader]:
    """Loaders of the validation part, whose batches are scored as a server does unless that costs too much.

    If requests have few candidates and long histories, the windows of training encode far less. What deep
    layers see there beyond the length hardly moves a mean loss.
    """
    options = config.loader()
    options = replace(
        options,
        placeholders=0,
        batch_size=max(options.batch_size, _SCORED),
        pairs=options.pairs or SCORED_PAIRS,
    )
    served = served_loaders(dataset, "valid", options, shared)
    if not shared or config.slack or config.grouping != "timeline":
        return served
    loader = Loader(dataset, "valid", options)
    cheap = sum(one.behaviors for one in served) <= _AS_SERVED * loader.behaviors
    return served if cheap else [loader]


def _earlier(config: TrainConfig, out: Path) -> TrainConfig | None:
    """Options of the run in ``out`` or, if there is none, of the run that gives the first weights."""
    for folder in (str(out), config.warm_start, config.epochs.snapshot):
        if folder and (Path(folder) / CONFIG).is_file():
            return read_config(Path(folder))
    return None


def _has_checkpoint(out: Path) -> bool:
    """True if the run in ``out`` would be continued; writes nothing, as opening its store would."""
    folder = out / CHECKPOINTS
    return folder.is_dir() and bool(CheckpointStore(folder).steps())


def _device(name: str) -> torch.device:
    """Device of a name; ``auto`` is a GPU if there is one.

    Raises:
        ConfigError: a GPU is asked for and torch finds none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch finds no GPU; use device=cpu or device=auto.")
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask for sums in a fixed order on a CPU, where the price is small; leave a GPU as it is."""
    # The other switch, use_deterministic_algorithms, imports torch's compiler, which nothing here needs.
    before = torch.get_deterministic_debug_mode()
    fill = memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else before)
    memory.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # else all is written twice
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        memory.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
