"""The only training loop."""

import itertools
import math
from functools import partial
from typing import Any

import torch

from clickscale.data.loader import Loader
from clickscale.training.objectives import LOSS, Objective
from clickscale.training.passes.epochs import Position
from clickscale.training.rate_shift import calibrate
from clickscale.training.run.interruption import Interruption
from clickscale.training.run.logs import RunReport
from clickscale.training.run_state import RunState


def take_steps(
    run: RunState,
    loader: Loader,
    validation: list[Loader],
    report: RunReport,
    interruption: Interruption,
    pause_at: int = 0,
) -> bool:
    """Take all steps that are left, until the last one, a signal or a pause; end with a checkpoint.

    Args:
        validation: loaders that together score the validation part; empty to leave it out.
        pause_at: step after which the run pauses; 0 never pauses it.

    Returns:
        True if the run came to its end.
    """
    config, watch = run.config, run.watch

    def over() -> bool:
        return run.stopping.over() or 0 < config.epochs.steps <= run.step

    if 0 < pause_at <= run.step and not over():
        return False  # it pauses there already
    run.objective.train()
    for start in config.epochs.remaining(run.position):
        again = start.epoch - config.epochs.count  # passes of the second training before this one
        if again >= 0 and not validation:
            break  # nothing tells whether it is better
        if again >= 0:
            _begin_again(run, start, loader, validation, report)
        if over() or (again > 0 and not run.stopping.promises()):
            continue  # to the second training, if there is one
        first_step = loader.steps(start.epoch)
        run.resets.begin(start, (first_step, loader.steps(start.epoch + 1) - first_step))
        for batches_taken, batch in enumerate(loader.batches(start.epoch, start.batch), start.batch + 1):
            samples = batch.samples  # counted before the copy: on a GPU the count would wait for it
            batch = run.objective.prepared(batch, run.step).to(run.device)
            watch.lap("load")
            with torch.autocast(run.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                losses = run.objective(batch)
            watch.lap("forward")
            losses[LOSS].backward()
            watch.lap("backward")
            results = run.move(losses)  # also forgets the gradients
            watch.lap("step")

            run.count(results, losses, samples, Position(start.epoch, batches_taken))
            report.move(run.step)
            if run.step % config.log_every == 0:
                report.log(run.step, _metrics(run))
            if validation and run.step % config.validate_every == 0:
                _validate(run, validation, report)
            # A run that ends here has nothing to pause for.
            paused = run.step == pause_at and not over()
            leaving = paused or interruption.number != 0
            if leaving or (config.checkpoint_every and run.step % config.checkpoint_every == 0):
                run.save()
            watch.lap("rest")
            if leaving:
                return False
            if over():
                break
    if run.meter.steps:
        report.log(run.step, _metrics(run))
    if validation and config.early_stopping and run.stopping.judged < run.step:
        _validate(run, validation, report)  # the last steps may be the best
    run.stopping.put_back(run.weights())
    if validation and config.early_stopping and config.calibrate:
        _calibrate(run, validation, report)
    run.save()
    return True


def _begin_again(
    run: RunState, start: Position, loader: Loader, validation: list[Loader], report: RunReport
) -> None:
    """Begin the second training, or a pass of it; the last weights of the pass before are judged first."""
    epochs = run.config.epochs
    if not start.batch and run.stopping.judged < run.step:
        _validate(run, validation, report)
    if run.begin_again(loader.steps(epochs.passes) - loader.steps(epochs.count)):
        report.say(f"step {run.step}: a second training begins from the first weights")


def _metrics(run: RunState) -> dict[str, Any]:
    """Values of one line of the log, for the steps since the last line."""
    assert run.last_results, "a line is due only after a step"
    values = {"epoch": run.position.epoch, "samples": run.samples, **run.meter.take()}
    for learner in run.learners:
        result = run.last_results[learner.name]
        values |= {
            learner.key("learning_rate"): result.learning_rate,
            learner.key("table_learning_rate"): result.table_learning_rate,
            learner.key("grad_norm"): result.norm,
            learner.key("skipped"): learner.optimizer.skipped,
        }
    return values | run.watch.take()


def _validate(run: RunState, validation: list[Loader], report: RunReport) -> None:
    """Measure and log the validation part; early stopping keeps the weights if they are the best so far."""
    losses = validate(run.objective, validation, run.device)
    early = run.config.early_stopping
    best = early and run.stopping.judge(run.step, run.judged_loss(losses), run.weights())
    kept = run.stopping.best if run.second_step and math.isfinite(run.stopping.best) else None
    report.log_validation(run.step, losses, kept)
    if best:
        report.say(f"step {run.step}: validation loss {run.stopping.best:.4f}, the lowest so far")


def _calibrate(run: RunState, validation: list[Loader], report: RunReport) -> None:
    """Let the last bias of each model that learns follow the rate of the validation part."""
    for learner in run.learners:
        shifts = calibrate(
            learner.model, partial(run.objective.logits, learner.model), validation, run.device
        )
        if any(shifts):
            moved = ", ".join(f"{shift:+.3f}" for shift in shifts)
            report.say(
                f"{learner.key('logits')} moved by {moved}: the rate of the validation part;"
                " --set calibrate=false does not"
            )
    run.objective.train()


def validate(objective: Objective, loaders: list[Loader], device: torch.device) -> dict[str, float]:
    """Losses over a part: each the mean over the impressions whose label is known; ``loss`` weighs them.

    A label that is unknown everywhere has no loss; if all are, ``loss`` is nan.
    """
    sums = dict.fromkeys(objective.weights, torch.zeros((), dtype=torch.float64))
    known = torch.zeros(())
    objective.eval()
    with torch.inference_mode():
        for batch in itertools.chain.from_iterable(loader.batches() for loader in loaders):
            counts = batch.label_mask.sum((0, 1)).double()  # (T,)
            losses = objective(batch.to(device))
            known = known + counts
            # A batch's loss is a mean over its own known labels, so it counts as often as there are.
            for index, name in enumerate(sums):
                sums[name] = sums[name] + losses[name].double().cpu() * counts[index % len(counts)]
    objective.train()
    totals = known.tolist()
    means = {
        name: float(total) / totals[index % len(totals)]
        for index, (name, total) in enumerate(sums.items())
        if totals[index % len(totals)]
    }
    weighted = [objective.weights[name] * mean for name, mean in means.items()]
    return {LOSS: sum(weighted) if weighted else math.nan} | means
