"""The search: the recipe first, then draws that pause and go on by halving, until the budget is spent."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from clickscale.data.dataset import open_dataset
from clickscale.errors import DivergedError, RunError
from clickscale.files import remove_folder
from clickscale.locks import one_writer
from clickscale.training.run.folder import CHECKPOINTS
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from clickscale.tuning.halving import Standing, best_of, pauses, standing, to_continue
from clickscale.tuning.journal import Journal, Piece
from clickscale.tuning.outcome import TUNED, Outcome, TrialResult, describe, judge, write_toml
from clickscale.tuning.space import Candidate, Space
from clickscale.workflow import evaluate, run_results

DRAW = 0.5  # of a run: a quarter for every draw, a quarter for half of them, a half for a quarter of them
SECOND_SEED = 8  # runs that the budget must pay for before two of them are kept for another seed
_PLACES = ("a quarter", "half", "all")


def tune(
    config: TrainConfig,
    out: str | Path,
    *,
    budget: float,
    trials: int = 0,
    say: Callable[[str], None] = lambda text: None,
    progress: bool | None = None,
) -> Outcome:
    """Search around the recipe by the validation part, and write the options that were found.

    The folder ``out`` then holds ``tuned.toml``; see `clickscale.tuning.journal` for the rest. The same call
    continues a search that was stopped or killed, and one whose budget was raised.

    Args:
        config: options of a run; those left at their defaults are searched. The seed is also that of the
            draws.
        budget: seconds of wall time, all calls together. The recipe is trained to its end even beyond it.
        trials: draws at most; 0 sets no bound.
        say: told how the search proceeds.
        progress: show the progress lines of the runs; None does so on a terminal.

    Raises:
        RunError: ``out`` holds something else, or a search with other options, or is being written.
        ConfigError: there is no validation part, or nothing to search.
        DivergedError: the recipe itself diverged.
    """
    space = Space(config, open_dataset(config.data, portion=config.portion))
    with one_writer(Path(out), RunError):
        return _Search(space, config, Path(out), budget, trials, say, progress).run()


class _Search:
    """A search in progress; all that must survive it is in the journal and in the runs."""

    def __init__(
        self,
        space: Space,
        config: TrainConfig,
        out: Path,
        budget: float,
        trials: int,
        say: Callable[[str], None],
        progress: bool | None,
    ) -> None:
        self._space, self._out, self._budget, self._trials = space, out, budget, trials
        self._say, self._progress = say, progress
        self._seeds = config.seed, config.seed + 1
        self._journal = Journal(out, config)
        self._candidates: dict[int, Candidate] = {}
        self._signal = 0

    def run(self) -> Outcome:
        """Search, compare with another seed, clean up."""
        if self._standing(0) is None:
            self._say(f"{', '.join(sorted(self._space.keys))} are searched; trial 0 is the recipe itself")
        if self._to_end(0, self._seeds[0]):
            self._forecast()
            while self._step():
                pass
            self._confirm()
        return self._outcome()

    # --- time

    def _left(self) -> float:
        return self._budget - self._journal.seconds()

    def _run_seconds(self) -> float:
        """Wall time of the recipe's run."""
        return self._journal.seconds_of(0, self._seeds[0])

    def _reserve(self) -> float:
        """Time kept for two runs with another seed."""
        return 2 * self._run_seconds() if self._budget >= SECOND_SEED * self._run_seconds() else 0.0

    def _remaining(self, number: int) -> float:
        """Forecast of the time that a trial still needs."""
        now, whole = self._standing(number), self._run_seconds()
        if now is not None and now.losses:
            done = pauses(self._candidate(number).validations)[len(now.losses) - 1]
            share = done / self._candidate(number).validations
            return self._journal.seconds_of(number, self._seeds[0]) * (1 / share - 1)
        # Half the batch is up to twice the time.
        sizes = [self._candidate(one).config.batch_size for one in (0, number)]
        return whole * max(1.0, sizes[0] / sizes[1])

    def _forecast(self) -> None:
        """Say how far the budget goes."""
        whole, left = self._run_seconds(), self._left()
        free = left - self._reserve()
        count = int(free / (DRAW * whole)) if free >= whole else 0
        kept = ", two more runs for another seed kept" if self._reserve() else ""
        self._say(
            f"the recipe took {whole:.0f} s; the {max(left, 0):.0f} s that are left pay for about {count}"
            f" trials (half of a run each{kept})"
        )

    # --- trials

    def _candidate(self, number: int) -> Candidate:
        if number not in self._candidates:
            self._candidates[number] = self._space.candidate(number)
        return self._candidates[number]

    def _standing(self, number: int) -> Standing | None:
        piece = self._journal.last(number, self._seeds[0])
        if piece is None:
            return None
        losses = [math.inf if loss is None else loss for loss in piece.losses]
        return standing(number, losses, self._candidate(number).validations, piece.over)

    def _standings(self) -> list[Standing]:
        numbers = {piece.trial for piece in self._journal.pieces}
        return [found for number in sorted(numbers) if (found := self._standing(number)) is not None]

    def _step(self) -> bool:
        """Continue or begin a trial; whether the search goes on."""
        standings = self._standings()
        going = to_continue(standings)
        number = going.number if going else len(standings)
        drawn_all = going is None and self._trials and number > self._trials
        # A trial that could not come to its end could not win either.
        if drawn_all or self._remaining(number) > self._left() - self._reserve():
            return False
        rung = len(going.losses) if going else 0
        return self._advance(number, self._seeds[0], rung)

    def _to_end(self, number: int, seed: int) -> bool:
        """Train a run to its end; false if a signal stopped it."""
        piece = self._journal.last(number, seed)
        return (piece is not None and piece.over) or self._advance(number, seed, len(_PLACES) - 1)

    def _advance(self, number: int, seed: int, rung: int) -> bool:
        """Train a run up to a rung and write it down; false if a signal stopped it."""
        candidate = self._candidate(number)
        config, folder = replace(candidate.config, seed=seed), self._folder(number, seed)
        begun, failed, ended, auc, gauc = time.monotonic(), "", True, None, None
        try:
            pause = pauses(candidate.validations)[rung]
            result = train(config, folder, progress=self._progress, pause_after=pause)
            if result.signal:
                self._signal = result.signal
                return False
            ended = result.finished
        except DivergedError as error:
            if (number, seed) == (0, self._seeds[0]):  # nothing could be compared with it
                raise
            failed = str(error)
        losses = _validation_losses(folder)
        if ended and not failed:
            metrics = evaluate(folder, part="valid", slack=config.slack, bootstrap=0).labels[0].metrics
            auc, gauc = (_finite(metrics[name].value) for name in ("auc", "gauc"))
        if failed:
            losses = (None,) * max(len(losses), 1)
        seconds = time.monotonic() - begun
        self._journal.add(
            Piece(
                trial=number,
                seed=seed,
                losses=losses,
                over=ended,
                seconds=seconds,
                auc=auc,
                gauc=gauc,
                failed=failed,
            )
        )
        self._tell(number, seed, rung)
        self._remove_losers()
        return True

    def _tell(self, number: int, seed: int, rung: int) -> None:
        """Say what a piece found."""
        line = self._line(number, seed)
        which = f"trial {number}" + (f", seed {seed}" if seed != self._seeds[0] else "")
        place = _PLACES[len(_PLACES) - 1 if line.ended else rung]
        found = f"validation loss {line.loss:.4f} after {place} of its run"
        changes = describe(line.changes) or "the recipe"
        self._say(f"{which}: {'training diverged' if line.failed else found}; {changes}")

    def _confirm(self) -> None:
        """Train the best trial and the recipe with another seed, if there is time."""
        best = best_of(self._standings()).number
        runs = [
            number for number in dict.fromkeys((best, 0)) if not self._journal.last(number, self._seeds[1])
        ]
        needed = sum(self._journal.seconds_of(number, self._seeds[0]) for number in runs)
        if self._signal or best == 0 or needed > self._left():
            return
        for number in runs:
            if not self._to_end(number, self._seeds[1]):
                return

    # --- what stays

    def _folder(self, number: int, seed: int) -> Path:
        suffix = "" if seed == self._seeds[0] else f"-seed-{seed}"
        return self._out / f"trial-{number:03d}{suffix}"

    def _remove_losers(self, paused: bool = False) -> None:
        """Delete the checkpoints of runs that cannot win; those of paused trials when the search ends."""
        best = best_of(self._standings()).number
        for piece in self._journal.pieces:
            checkpoints = self._folder(piece.trial, piece.seed) / CHECKPOINTS
            wins = (piece.trial, piece.seed) == (best, self._seeds[0])
            last = self._journal.last(piece.trial, piece.seed)
            over = last is not None and last.over
            if not wins and (over or paused) and checkpoints.is_dir():
                remove_folder(checkpoints)

    def _line(self, number: int, seed: int) -> TrialResult:
        piece = self._journal.last(number, seed)
        assert piece is not None, "a run has a line once a piece of it is done"
        return TrialResult(
            trial=number,
            seed=seed,
            validations=len(piece.losses),
            loss=min((loss for loss in piece.losses if loss is not None), default=math.inf),
            auc=piece.auc,
            gauc=piece.gauc,
            ended=piece.over,
            seconds=self._journal.seconds_of(number, seed),
            changes=self._candidate(number).changes,
            failed=piece.failed,
        )

    def _outcome(self) -> Outcome:
        runs = sorted({(piece.trial, piece.seed) for piece in self._journal.pieces})
        lines = [self._line(*run) for run in runs]
        if self._signal:
            note = "The search was stopped; the same command continues it."
            return Outcome(self._out, lines, 0, 0, 0.0, [note], self._signal, None)
        self._remove_losers(paused=True)
        best = best_of(self._standings()).number
        losses = {(line.trial, line.seed): line.loss for line in lines if line.ended}
        verdict = judge(best, losses, self._seeds)
        searched = sum(seed == self._seeds[0] for _, seed in runs) - 1
        measured = sum(line.validations for line in lines)
        chosen = [
            *verdict.notes,
            f"The validation part was measured {measured} times and chose among {searched + 1} trials, so its"
            " losses flatter the best of them; the test part was not read.",
        ]
        alone = (
            f"The search had no room for a trial beside the recipe, which took {self._run_seconds():.0f} s;"
            " the same command with a larger --budget continues it."
        )
        notes = [
            *(chosen if searched else [alone]),
            f"Trial 0 is the recipe measured every {self._candidate(0).config.validate_every} steps: each run"
            " takes the best of at least four weights, where train alone may look less often.",
        ]
        notes += self._warnings(verdict.chosen)
        write_toml(self._out / TUNED, self._candidate(verdict.chosen), notes)
        return Outcome(self._out, lines, best, verdict.chosen, verdict.gain, notes, 0, self._out / TUNED)

    def _warnings(self, number: int) -> list[str]:
        """Warnings of the evaluation of a trial, such as that item popularity is better."""
        folder = self._folder(number, self._seeds[0])
        # A trial that diverged was never evaluated.
        found = run_results(folder, "valid") if (folder / "evaluation-valid.json").is_file() else []
        return [f"Warning: {warning}" for result in found[:1] for warning in result.warnings]


def _validation_losses(folder: Path) -> tuple[float | None, ...]:
    """Losses over the validation part; in a second training, those of the weights that are kept."""
    lines = [line for line in read_metrics(folder) if "valid" in line]
    return tuple(line.get("kept", line["valid"]["loss"]) for line in lines)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
