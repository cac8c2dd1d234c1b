"""The search: with a made-up objective and clock, then on a tiny log."""

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from clickscale import workflow
from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.errors import DivergedError, RunError
from clickscale.training import train as training
from clickscale.training.objectives import ClickLoss
from clickscale.training.run.run_config import TrainConfig, train_config
from clickscale.training.run_state import RunResult
from clickscale.tuning import search
from clickscale.tuning.outcome import Outcome
from clickscale.tuning.search import tune
from tests.data.tiny import tiny_dataset, tiny_source
from tests.everyday import thinned
from tests.training.compared import differing

UNBOUNDED = 1e9
VALIDATIONS = 4  # of every made-up run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160))


def config_of(data: Path, *changes: str) -> TrainConfig:
    config = TrainConfig(model="mlp", data=str(data), grade="size-1", length=8, threads=1)
    return override(
        config, ["batch_size=16", "epochs.count=1", "model_options=['head.hidden=[8]']", *changes]
    )


class MadeUp:
    """Training that takes a second for a validation, and whose losses are a function of the options.

    Attributes:
        pieces: (folder, validations done) of every call.
        loss: of a run by its options and its validation.
    """

    def __init__(self, patch: pytest.MonkeyPatch, loss: Callable[[TrainConfig, int], float]) -> None:
        self.pieces: list[tuple[str, int]] = []
        self.loss, self._clock, self._done = loss, 0.0, dict[str, int]()
        patch.setattr(search, "train", self.train)
        patch.setattr(search, "evaluate", self.evaluate)
        patch.setattr(search, "time", SimpleNamespace(monotonic=lambda: self._clock))

    def train(
        self, config: TrainConfig, folder: Path, *, progress: bool | None, pause_after: int
    ) -> RunResult:
        done, end = self._done.get(str(folder), 0), pause_after or VALIDATIONS
        self._clock += end - done
        self._done[str(folder)] = end
        self.pieces.append((folder.name, end))
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        losses = [self.loss(config, number) for number in range(1, end + 1)]
        lines = [json.dumps({"step": n, "valid": {"loss": loss}}) for n, loss in enumerate(losses, 1)]
        (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return RunResult(folder, end, 0, {}, 0.0, 0, paused=end < VALIDATIONS)

    def evaluate(self, folder: Path, **options: Any) -> Any:
        assert options["part"] == "valid"
        metrics = {"auc": SimpleNamespace(value=0.75), "gauc": SimpleNamespace(value=math.nan)}
        return SimpleNamespace(labels=[SimpleNamespace(metrics=metrics)])


def by_rate(config: TrainConfig, number: int) -> float:
    """Losses that fall with every validation, and are lowest at a dense learning rate of 0.003."""
    noise = 0.001 * (config.seed == 1)
    return 0.5 + 0.1 * abs(math.log(config.optimizer.rate / 0.003)) + 0.1 / number + noise


def summary(outcome: Outcome) -> list[tuple[int, int, int, float]]:
    return [(line.trial, line.seed, line.validations, line.loss) for line in outcome.trials]


def test_the_recipe_comes_first_and_the_better_half_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUp(monkeypatch, by_rate)
    outcome = tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=16)
    assert made_up.pieces[0] == ("trial-000", 4)
    first_rung = [piece for piece in made_up.pieces if piece[1] == 1]
    second_rung = [piece for piece in made_up.pieces if piece[1] == 2]
    assert len(first_rung) == 16
    assert 1 <= len(second_rung) <= 12  # half of 16, and some that led while there were few
    whole = [line for line in outcome.trials if line.validations == 4 and line.seed == 0]
    assert len(whole) - 1 <= len(second_rung) / 2 + 1
    # The trial with the lowest loss of all is among those that were trained to their end.
    rates = {line.trial: by_rate_of(line.loss, line.validations) for line in outcome.trials if line.seed == 0}
    assert outcome.best == min(rates, key=lambda trial: (rates[trial], trial))
    assert outcome.chosen == outcome.best
    assert 0 < outcome.gain == pytest.approx(outcome.trials[0].loss - rates[outcome.best] - 0.525)
    assert "beyond the noise" in outcome.notes[0]
    assert f"among {16 + 1} trials" in outcome.notes[1]


def by_rate_of(loss: float, validations: int) -> float:
    """The part of a made-up loss that depends on the options."""
    return loss - 0.5 - 0.1 / validations


def test_another_seed_is_trained_for_the_best_and_the_recipe_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUp(monkeypatch, by_rate)
    outcome = tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=8)
    names = [f"trial-{outcome.best:03d}-seed-1", "trial-000-seed-1"]
    assert made_up.pieces[-2:] == [(name, 4) for name in names]
    assert {(line.trial, line.seed) for line in outcome.trials if line.seed} == {(outcome.best, 1), (0, 1)}


def test_the_recipe_stays_if_another_seed_takes_the_gain_back(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lucky(config: TrainConfig, number: int) -> float:
        return by_rate(config, number) if config.seed == 0 else 0.9 - by_rate(config, number) / 10

    MadeUp(monkeypatch, lucky)
    outcome = tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=8)
    assert outcome.best != outcome.chosen == 0
    assert "does not last" in outcome.notes[0]
    assert outcome.file is not None
    file = train_config("mlp", data, file=outcome.file)
    assert file.optimizer.learning_rate == 1e-3


def test_only_the_best_keeps_its_weights(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MadeUp(monkeypatch, by_rate)
    outcome = tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=8)
    kept = [path.parent.name for path in (tmp_path / "out").glob("*/checkpoints")]
    assert kept == [f"trial-{outcome.best:03d}"]


def test_a_trial_that_diverges_loses(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = MadeUp(monkeypatch, by_rate)

    def shaky(config: TrainConfig, folder: Path, **options: Any) -> RunResult:
        result = made_up.train(config, folder, **options)
        if folder.name == "trial-001":
            raise DivergedError("not finite")
        return result

    monkeypatch.setattr(search, "train", shaky)
    outcome = tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=4)
    line = outcome.trials[1] if outcome.trials[1].trial == 1 else outcome.trials[2]
    assert (line.failed, line.loss, line.ended) == ("not finite", math.inf, True)
    assert outcome.best != 1
    assert sum(name == "trial-001" for name, _ in made_up.pieces) == 1


def test_a_recipe_that_diverges_ends_the_search(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hopeless(config: TrainConfig, folder: Path, **options: Any) -> RunResult:
        raise DivergedError("not finite")

    MadeUp(monkeypatch, by_rate)
    monkeypatch.setattr(search, "train", hopeless)
    with pytest.raises(DivergedError):
        tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=4)


def test_a_best_trial_that_diverges_with_another_seed_is_not_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUp(monkeypatch, by_rate)

    def shaky(config: TrainConfig, folder: Path, **options: Any) -> RunResult:
        if folder.name.endswith("seed-1") and "000" not in folder.name:
            raise DivergedError("not finite")
        return made_up.train(config, folder, **options)

    monkeypatch.setattr(search, "train", shaky)
    outcome = tune(config_of(data), tmp_path / "out", budget=UNBOUNDED, trials=8)
    assert (outcome.best != 0, outcome.chosen) == (True, 0)


# --- the budget


def test_a_budget_below_a_run_still_trains_the_recipe(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUp(monkeypatch, by_rate)
    said: list[str] = []
    outcome = tune(config_of(data), tmp_path / "out", budget=3, say=said.append)
    assert made_up.pieces == [("trial-000", 4)]
    assert outcome.chosen == 0
    assert any("pay for about 0 trials" in text for text in said)
    assert outcome.notes[0].startswith(
        "The search had no room for a trial beside the recipe, which took 4 s;"
    )
    assert not any("chose among" in note or "better than the recipe" in note for note in outcome.notes)


@pytest.mark.parametrize("budget", [9, 16, 40, 100])
def test_a_budget_is_kept_and_used(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    made_up = MadeUp(monkeypatch, by_rate)
    said: list[str] = []
    outcome = tune(config_of(data, "batch_size=16"), tmp_path / "out", budget=budget, say=said.append)
    spent = sum(line.seconds for line in outcome.trials)
    assert budget - 8 - 4 <= spent <= budget  # a run of 4 s, or two of them for another seed
    assert len(made_up.pieces) > 1
    assert any("the recipe took 4 s" in text for text in said)
    seconds = {line.seed for line in outcome.trials}
    assert seconds == ({0, 1} if budget >= 32 else {0})


def test_a_longer_budget_continues_the_same_search(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MadeUp(monkeypatch, by_rate)
    tune(config_of(data), tmp_path / "whole", budget=60)
    parts = MadeUp(monkeypatch, by_rate)
    for budget in (5, 12, 25, 60):
        tune(config_of(data), tmp_path / "parts", budget=budget)
    searched = [piece for piece in parts.pieces if "seed" not in piece[0]]
    expected = [piece for piece in whole.pieces if "seed" not in piece[0]]
    assert searched == expected[: len(searched)]
    assert len(searched) >= len(expected) - 6


# --- a tiny log


def small(data: Path) -> TrainConfig:
    return config_of(data, "embedding_dropout=0.1")


@pytest.fixture(scope="module")
def found(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A search that nobody stopped."""
    return tune(small(data), tmp_path_factory.mktemp("found") / "out", budget=UNBOUNDED, trials=4)


def best_folder(outcome: Outcome) -> Path:
    return outcome.folder / f"trial-{outcome.best:03d}"


def test_a_search_writes_options_that_train_the_best_trial_again(
    data: Path, found: Outcome, tmp_path: Path
) -> None:
    assert found.file is not None
    ended = [line for line in found.trials if line.ended]
    assert all(line.auc is not None and 0 <= line.auc <= 1 for line in ended)
    config = train_config("mlp", data, file=found.file, flags={"threads": 1})
    assert workflow.train(config, tmp_path / "run").finished
    chosen = found.folder / f"trial-{found.chosen:03d}"
    if found.chosen == found.best:  # else its weights are deleted
        assert differing(chosen, tmp_path / "run") == []
    logged = (chosen / "metrics.jsonl").read_text().splitlines()
    again = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    validations = [line for line in logged if "valid" in line]
    assert validations == [line for line in again if "valid" in line] != []


class Killed(BaseException):
    """Ends a process as far as a search can tell."""


def dying(at: int, how: Callable[[], None]) -> type[ClickLoss]:
    """The plain objective; at its ``at``-th training batch something happens."""

    class Dying(ClickLoss):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            type(self).batches += self.training
            if self.training and type(self).batches == at:
                how()
            return super().forward(batch)

    return Dying


def die() -> None:
    raise Killed


@thinned("at", [2, 9, 11, 13])
def test_a_killed_search_continues_as_if_nothing_had_happened(
    data: Path, found: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "ClickLoss", dying(at, die))
        with pytest.raises(Killed):
            tune(small(data), tmp_path / "out", budget=UNBOUNDED, trials=4)
    outcome = tune(small(data), tmp_path / "out", budget=UNBOUNDED, trials=4)
    assert summary(outcome) == summary(found)
    assert (outcome.best, outcome.chosen, outcome.gain) == (found.best, found.chosen, found.gain)
    assert differing(best_folder(outcome), best_folder(found)) == []
    assert outcome.file is not None
    assert found.file is not None
    assert outcome.file.read_text() == found.file.read_text()


def test_a_search_stopped_by_a_signal_says_so_and_continues(
    data: Path, found: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(training, "ClickLoss", dying(13, lambda: signal.raise_signal(signal.SIGTERM)))
        stopped = tune(small(data), tmp_path / "out", budget=UNBOUNDED, trials=4)
    assert (stopped.signal, stopped.file) == (signal.SIGTERM, None)
    assert not (tmp_path / "out/tuned.toml").exists()
    assert summary(tune(small(data), tmp_path / "out", budget=UNBOUNDED, trials=4)) == summary(found)


def test_a_finished_search_answers_again_without_training(
    data: Path, found: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "train", None)
    assert tune(small(data), found.folder, budget=UNBOUNDED, trials=4) == found


def test_a_search_with_other_options_is_refused(data: Path, found: Outcome) -> None:
    with pytest.raises(RunError, match="another search: length is 8, not 9"):
        tune(override(small(data), ["length=9"]), found.folder, budget=UNBOUNDED, trials=4)
