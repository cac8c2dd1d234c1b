"""Early stopping in the loop: a run ends with its best weights, a continued one is the same to the bit."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.data.dataset import open_dataset
from clickscale.data.loader import Loader
from clickscale.errors import RunError
from clickscale.evaluation.evaluate import predict
from clickscale.training import recipe
from clickscale.training import train as training
from clickscale.training.loop import validate
from clickscale.training.objectives import ClickLoss
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import load_run, read_config
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.training.compared import differing, last
from tests.training.test_loop import Shaky, config_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


EARLY = (
    "early_stopping=true",
    "validate_every=4",
    "patience=1",
    "epochs.count=20",
    "optimizer.learning_rate=0.1",
)


def validation_losses(run: Path) -> list[float]:
    return [line["valid"]["loss"] for line in read_metrics(run) if "valid" in line]


def test_a_run_stops_early_and_ends_with_its_best_weights(data: Path, tmp_path: Path) -> None:
    result = train(config_of(data, *EARLY), tmp_path / "run")
    losses = validation_losses(tmp_path / "run")
    assert len(losses) == losses.index(min(losses)) + 2  # one without a gain
    assert result.finished
    assert result.step == 4 * len(losses)
    run = load_run(tmp_path / "run")
    objective = ClickLoss(run.model, run.labels)
    found = validate(objective, [Loader(run.dataset, "valid", run.config.loader())], torch.device("cpu"))
    assert found["loss"] == pytest.approx(min(losses))


def test_the_last_step_is_validated_too(data: Path, tmp_path: Path) -> None:
    train(config_of(data, *EARLY, "epochs.count=1", "validate_every=1000"), tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1].keys() == {"step", "valid"}
    assert last(tmp_path / "run").facts["early_stopping"]["best_step"] == last(tmp_path / "run").step


def forget_best_weights(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith("best.")]:
        tensors[name].zero_()


def forget_best_loss(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    facts["early_stopping"]["best"] = 0.0


def forget_nothing(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    pass


@pytest.mark.parametrize("forget", [forget_nothing, forget_best_weights, forget_best_loss])
def test_a_run_that_stops_early_continues_to_the_bit_unless_its_best_is_forgotten(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[dict[str, Tensor], dict[str, Any]], None],
) -> None:
    config = config_of(data, *EARLY)
    train(config, tmp_path / "whole")
    best = last(tmp_path / "whole").facts["early_stopping"]["best_step"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "ClickLoss", halting(best + 1))
        assert not train(config, tmp_path / "run").finished
    kept = last(tmp_path / "run")
    tensors = {name: tensor.clone() for name, tensor in kept.tensors.items()}
    forget(tensors, kept.facts)
    CheckpointStore(tmp_path / "run/checkpoints").save(Checkpoint(kept.step, tensors, kept.facts))
    train(config, tmp_path / "run")
    assert bool(differing(tmp_path / "whole", tmp_path / "run")) == (forget is not forget_nothing)


def halting(at: int) -> type[ClickLoss]:
    """The plain objective, during whose ``at``-th training batch a signal comes."""

    class Halting(ClickLoss):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            type(self).batches += self.training
            if self.training and self.batches == at:
                signal.raise_signal(signal.SIGTERM)
            return super().forward(batch)

    return Halting


PAUSES = ("early_stopping=true", "validate_every=4", "patience=3", "epochs.count=3", "checkpoint_every=3")


@pytest.mark.wide
def test_a_run_that_pauses_after_every_validation_is_the_same_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "ClickLoss", Shaky)
    config = config_of(data, *PAUSES)
    whole = train(config, tmp_path / "whole")
    pauses = 0
    while (result := train(config, tmp_path / "run", pause_after=pauses + 1)).paused:
        pauses += 1
        assert (result.step, result.finished, result.exit_code) == (4 * pauses, False, 0)
        assert len(validation_losses(tmp_path / "run")) == pauses
        assert not (tmp_path / "run/done.json").exists()
    assert pauses >= 3
    assert result.finished
    assert result.step == whole.step
    assert differing(tmp_path / "whole", tmp_path / "run") == []


def test_a_run_goes_on_as_it_was_begun_where_the_recipe_would_now_decide_otherwise(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(model="din", data=str(data), length=4, threads=1)
    whole = train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "ClickLoss", halting(1))
        assert not train(config, tmp_path / "run").finished
    begun = read_config(tmp_path / "run")
    # As a later version might have it: more epochs, other batches, rates and L2.
    monkeypatch.setattr(recipe, "LARGE", 0)
    monkeypatch.setattr(recipe, "BATCHES", (16, 16))
    monkeypatch.setattr(recipe, "TABLE_RATE", 0.3)
    monkeypatch.setattr(recipe, "L2", {True: (7.0, 7.0, 7.0), False: (7.0, 7.0, 7.0)})
    result = train(config, tmp_path / "run")
    assert result.finished
    assert result.step == whole.step
    assert read_config(tmp_path / "run") == begun
    assert differing(tmp_path / "whole", tmp_path / "run") == []
    assert train(config, tmp_path / "run").step == whole.step  # also when it is finished
    assert train(config, tmp_path / "new").step != whole.step
    with pytest.raises(RunError, match="another run: batch_size is 64, not 16"):
        train(msgspec.structs.replace(config, batch_size=16), tmp_path / "run")


def test_a_run_that_pauses_already_takes_no_step(data: Path, tmp_path: Path) -> None:
    config = config_of(data, *PAUSES)
    train(config, tmp_path / "run", pause_after=2)
    before = last(tmp_path / "run")
    again = train(config, tmp_path / "run", pause_after=2)
    earlier = train(config, tmp_path / "run", pause_after=1)
    assert (again.paused, again.step, earlier.paused, earlier.step) == (True, 8, True, 8)
    assert last(tmp_path / "run").step == before.step


def test_early_stopping_ends_a_run_where_it_would_pause(data: Path, tmp_path: Path) -> None:
    whole = train(config_of(data, *EARLY), tmp_path / "whole")
    result = train(config_of(data, *EARLY), tmp_path / "run", pause_after=whole.step // 4)
    assert result.finished
    assert differing(tmp_path / "whole", tmp_path / "run") == []


# --- validation as served


def logged_validation(run: Path) -> dict[str, float]:
    return next(line["valid"] for line in read_metrics(run) if "valid" in line)


def served_losses(run: Path) -> list[float]:
    """Log-loss of each label over the validation part, scored as a server does."""
    trained = load_run(run)
    found = predict(
        trained.model,
        trained.dataset,
        "valid",
        length=trained.config.length,
        slack=trained.config.slack,
        labels=trained.labels,
    )
    logits, labels = torch.from_numpy(found.logits), torch.from_numpy(found.labels)
    losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    mask = torch.from_numpy(found.label_mask)
    return ((losses * mask).sum(0) / mask.sum(0)).tolist()


@pytest.mark.parametrize("model", ["suan", "din"])
@pytest.mark.parametrize("changes", [["window=2"], ["grouping=impression"], ["window=2", "slack=4"]])
def test_validation_is_as_served(data: Path, tmp_path: Path, model: str, changes: list[str]) -> None:
    whole_run = f"validate_every={10**6}"
    config = config_of(data, f"model={model}", "model_options=[]", "length=3", "epochs.count=1", *changes)
    stopping = ["early_stopping=true", "patience=1", "calibrate=false"]
    train(override(config, [whole_run, *stopping]), tmp_path / "run")
    logged = logged_validation(tmp_path / "run")
    assert list(logged.values())[1:] == pytest.approx(served_losses(tmp_path / "run"), rel=1e-5)


def test_validation_keeps_the_windows_of_training_where_they_cost_far_less(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, config = open_dataset(data), config_of(data, "model=suan", "model_options=[]")
    requests = training._validation(dataset, config, shared=1)
    monkeypatch.setattr(training, "_AS_SERVED", 0)
    (windows,) = training._validation(dataset, config, shared=1)
    assert windows.config.grouping == "timeline"
    assert {one.config.grouping for one in requests} == {"request"}
    assert windows.behaviors < sum(one.behaviors for one in requests)


# --- a bound of steps


@pytest.mark.parametrize("stopping", ["true", "false"])
def test_a_run_ends_at_its_bound_of_steps_with_its_schedule(
    data: Path, tmp_path: Path, stopping: str
) -> None:
    bounded = [*EARLY, "epochs.steps=7", "validate_every=5", f"early_stopping={stopping}", "log_every=1"]
    result = train(config_of(data, *bounded), tmp_path / "run")
    assert (result.finished, result.step) == (True, 7)
    rates = [line["learning_rate"] for line in read_metrics(tmp_path / "run") if "learning_rate" in line]
    assert len(rates) == 7
    assert rates[-1] < rates[1] / 5  # the cosine ends here and not with the epochs
    validated = [line["step"] for line in read_metrics(tmp_path / "run") if "valid" in line]
    assert validated == ([5, 7] if stopping == "true" else [5])
    assert train(config_of(data, *bounded), tmp_path / "run").step == 7


def test_a_bound_beyond_the_epochs_changes_nothing(data: Path, tmp_path: Path) -> None:
    plain = train(config_of(data), tmp_path / "plain")
    bounded = train(config_of(data, "epochs.steps=100000"), tmp_path / "bounded")
    assert bounded.step == plain.step
    assert differing(tmp_path / "plain", tmp_path / "bounded") == []
