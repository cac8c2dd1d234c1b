"""The loop on a tiny log. Runs are compared by every tensor of the last checkpoint and all logged numbers."""

import errno
import json
import math
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
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
from clickscale.errors import ConfigError, DivergedError, RunError
from clickscale.models.suan import SUAN
from clickscale.training import train as training
from clickscale.training.loop import validate
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.run import checkpoint
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.model import make_model
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.run_state import RunResult
from clickscale.training.train import train
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.everyday import thinned
from tests.forked_commands import CommandServer
from tests.training.compared import differing, last


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


# What the recipe would decide otherwise.
FIXED = (
    "grouping=timeline",
    "window=8",
    "early_stopping=false",
    "optimizer.table_learning_rate=0.03",
    "optimizer.table_l2=0.0",
    "optimizer.learning_rate=0.001",
)
SMALL = "model_options=['head.hidden=[8]', 'head.norm=batch']"


def config_of(data: Path, *changes: str) -> TrainConfig:
    config = TrainConfig(
        model="din", data=str(data), grade="size-1", length=8, batch_size=12, labels=("click", "like")
    )
    return override(config, ["log_every=3", "epochs.count=2", *FIXED, SMALL, *changes])


class Shaky(ClickLoss):
    """Drops out logits, so that a run depends on the random state, and counts its batches."""

    batches = 0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        type(self).batches += self.training
        losses = super().forward(batch)
        return losses | {LOSS: losses[LOSS] * functional.dropout(torch.ones(4), 0.5, self.training).mean()}


def stopping(at: int, number: int = signal.SIGTERM) -> type[ClickLoss]:
    """An objective during whose ``at``-th batch a signal comes."""

    class Stopping(Shaky):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            losses = super().forward(batch)
            if self.training and type(self).batches == at:
                signal.raise_signal(number)
            return losses

    return Stopping


def poisoned(bad: Callable[[int], bool]) -> type[ClickLoss]:
    """An objective that is not a number at some of its batches."""

    class Poisoned(Shaky):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            losses = super().forward(batch)
            return losses | {LOSS: losses[LOSS] * math.nan} if bad(type(self).batches) else losses

    return Poisoned


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with dropout that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "ClickLoss", Shaky)
        train(config_of(data, "validate_every=4"), out)
    return out


@pytest.fixture(scope="module")
def half(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped by SIGTERM in the middle of an epoch and of an interval of the log."""
    out = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "ClickLoss", stopping(5))
        result = train(config_of(data, "validate_every=4"), out)
    assert (result.step, result.finished, result.exit_code) == (5, False, 143)
    return out


def continued(half: Path, out: Path, data: Path, patch: pytest.MonkeyPatch) -> RunResult:
    if out != half:
        shutil.copytree(half, out)
    patch.setattr(training, "ClickLoss", Shaky)
    return train(config_of(data, "validate_every=4"), out)


def test_a_finished_run_has_seen_every_impression_in_every_epoch(data: Path, whole: Path) -> None:
    impressions = len(open_dataset(data).part("train"))
    facts = json.loads((whole / "done.json").read_text())
    assert facts["samples"] == 2 * impressions
    assert facts["samples_per_second"] > 0
    assert facts["step"] == last(whole).step == read_metrics(whole)[-1]["step"]


def test_a_line_of_the_log_has_losses_rates_and_the_division_of_time(whole: Path) -> None:
    line = read_metrics(whole)[0]
    assert line["step"] == 3
    assert {
        "loss",
        "loss.click",
        "loss.like",
        "learning_rate",
        "table_learning_rate",
        "grad_norm",
        "skipped",
        "epoch",
    } <= set(line)
    assert set(line["seconds"]) == {"load", "forward", "backward", "step", "rest"}
    assert any("valid" in line for line in read_metrics(whole))


def test_a_stopped_run_continues_to_the_bit(
    data: Path, whole: Path, half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = continued(half, tmp_path / "run", data, monkeypatch)
    assert result.finished
    assert differing(whole, tmp_path / "run") == []


def forget_random(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    tensors["random.cpu"] = torch.Generator().manual_seed(9).get_state()


def forget_dense_moments(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    for name in [name for name in tensors if name.startswith("optimizer.dense.")]:
        del tensors[name]


def forget_table_moments(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        if name.startswith("optimizer.table."):
            tensor.zero_()


def forget_running_statistics(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    for name, tensor in tensors.items():
        if "running" in name:
            tensor.fill_(0.5)


def forget_position(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    facts["batch"] -= 1


def forget_meter(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    facts["meter_steps"] = 0
    for name in [name for name in tensors if name.startswith("meter.")]:
        del tensors[name]


@thinned(
    "forget",
    [
        forget_random,
        forget_dense_moments,
        forget_table_moments,
        forget_running_statistics,
        forget_position,
        forget_meter,
    ],
)
def test_whatever_a_checkpoint_forgets_is_seen(
    data: Path,
    whole: Path,
    half: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[dict[str, Tensor], dict[str, Any]], None],
) -> None:
    """Mutants of the checkpoint: the comparison of the test above must fail for each."""
    shutil.copytree(half, tmp_path / "run")
    kept = last(tmp_path / "run")
    tensors = {name: tensor.clone() for name, tensor in kept.tensors.items()}
    forget(tensors, kept.facts)
    CheckpointStore(tmp_path / "run/checkpoints").save(Checkpoint(kept.step, tensors, kept.facts))
    continued(tmp_path / "run", tmp_path / "run", data, monkeypatch)
    assert differing(whole, tmp_path / "run")


def test_a_forgotten_step_is_seen(
    data: Path, whole: Path, half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(half, tmp_path / "run")
    kept = last(tmp_path / "run")
    CheckpointStore(tmp_path / "run/checkpoints", keep=1).save(
        Checkpoint(kept.step + 1, kept.tensors, kept.facts)
    )
    continued(tmp_path / "run", tmp_path / "run", data, monkeypatch)
    assert differing(whole, tmp_path / "run")  # the learning rate is a function of the step


KILLED = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from clickscale.config_text import load_json
from clickscale.training import train as training
from clickscale.training.run.run_config import TrainConfig

class Deadly(training.ClickLoss):
    batches = 0
    def forward(self, batch):
        type(self).batches += 1
        if self.batches == 8:
            os._exit(9)
        return super().forward(batch)

training.ClickLoss = Deadly
training.train(load_json(Path(sys.argv[1]).read_text(), TrainConfig, "test"), Path(sys.argv[2]))
"""


def test_a_killed_run_continues_from_its_last_checkpoint_to_the_bit(
    data: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    config = config_of(
        data, "checkpoint_every=3", "log_every=1", "model='suan'", "length=6", "model_options=[]"
    )
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    given = (str(tmp_path / "config.json"), str(tmp_path / "killed"))
    assert command_server.run_program(KILLED, *given).returncode == 9
    assert CheckpointStore(tmp_path / "killed/checkpoints").steps() == [3, 6]
    assert read_metrics(tmp_path / "killed")[-1]["step"] == 7  # beyond the checkpoint: must be written anew
    train(config, tmp_path / "killed")
    train(config, tmp_path / "whole")
    assert differing(tmp_path / "whole", tmp_path / "killed") == []


def test_a_damaged_checkpoint_is_passed_over_and_the_run_still_ends_the_same(
    data: Path, tmp_path: Path
) -> None:
    config = config_of(data, "checkpoint_every=4")
    train(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "hurt")
    (tmp_path / "hurt/done.json").unlink()
    name = (tmp_path / "hurt/checkpoints/latest").read_text()
    (tmp_path / "hurt/checkpoints" / name / "state.json").write_text("{}")
    train(config, tmp_path / "hurt")
    assert differing(tmp_path / "whole", tmp_path / "hurt") == []


def test_the_seed_alone_decides_a_run(data: Path, tmp_path: Path) -> None:
    for name, change in (("a", "seed=3"), ("b", "seed=3"), ("c", "seed=4")):
        torch.rand(len(name) + 1)  # what happened before does not matter
        train(config_of(data, change), tmp_path / name)
    assert differing(tmp_path / "a", tmp_path / "b") == []
    assert "metrics" in differing(tmp_path / "a", tmp_path / "c")


def test_batches_built_ahead_give_the_same_run(data: Path, tmp_path: Path) -> None:
    for ahead in (0, 1, 3):
        train(config_of(data, f"prefetch={ahead}"), tmp_path / str(ahead))
    assert differing(tmp_path / "0", tmp_path / "1") == differing(tmp_path / "0", tmp_path / "3") == []


def test_two_threads_give_the_same_run_twice_and_nearly_that_of_one(data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    for name, threads in (("one", 1), ("two", 2), ("again", 2)):
        train(
            config_of(data, f"threads={threads}", "log_every=1", "batch_size=60", "epochs.count=1"),
            tmp_path / name,
        )
    torch.set_num_threads(before)
    assert differing(tmp_path / "two", tmp_path / "again") == []
    losses = [[line["loss"] for line in read_metrics(tmp_path / name)] for name in ("one", "two")]
    assert losses[0][0] == pytest.approx(losses[1][0], abs=1e-6)
    # Adam divides by the size of a gradient, so the last bits of gradients that are nearly zero do matter.
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)


def test_training_leaves_the_random_state_and_the_signal_handlers_alone(data: Path, tmp_path: Path) -> None:
    state, handlers = torch.get_rng_state(), [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    train(config_of(data, "epochs.count=1"), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not torch.are_deterministic_algorithms_enabled()


def test_ctrl_c_saves_and_exits_with_130(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "ClickLoss", stopping(2, signal.SIGINT))
    result = train(config_of(data), tmp_path / "run")
    assert (result.step, result.exit_code) == (2, 130)
    assert last(tmp_path / "run").step == 2
    assert not (tmp_path / "run/done.json").exists()


def test_a_second_signal_ends_the_process_at_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(ClickLoss):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return super().forward(batch)

    monkeypatch.setattr(training, "ClickLoss", Impatient)
    with pytest.raises(KeyboardInterrupt):
        train(config_of(data), tmp_path / "run")


def test_a_finished_run_is_not_trained_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(config_of(data), tmp_path / "run")
    monkeypatch.setattr(training, "ClickLoss", poisoned(lambda batch: True))
    again = train(config_of(data), tmp_path / "run")
    assert again.finished
    assert (again.step, again.samples, again.seconds) == (first.step, first.samples, first.seconds)


def test_a_step_that_is_not_a_number_is_skipped_and_counted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "ClickLoss", poisoned(lambda batch: batch in (2, 4, 5, 6)))
    result = train(config_of(data, "log_every=1"), tmp_path / "run")
    assert result.skipped == 4
    lines = {line["step"]: line for line in read_metrics(tmp_path / "run")}
    assert [lines[step]["skipped"] for step in range(1, 8)] == [0, 1, 1, 2, 3, 4, 4]
    assert "loss" not in lines[2]
    assert lines[2]["grad_norm"] is None
    for name, tensor in last(tmp_path / "run").tensors.items():
        assert not tensor.is_floating_point() or tensor.isfinite().all(), name


def test_a_run_that_stays_wrong_ends_with_its_checkpoints_sound(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "ClickLoss", poisoned(lambda batch: batch > 4))
    with pytest.raises(DivergedError, match="max_skipped is 3"):
        train(config_of(data, "optimizer.max_skipped=3", "checkpoint_every=2"), tmp_path / "run")
    assert last(tmp_path / "run").step == 6  # four batches later the run gave up
    assert not (tmp_path / "run/done.json").exists()


@pytest.mark.wide
def test_bfloat16_trains_and_keeps_weights_in_single_precision(data: Path, tmp_path: Path) -> None:
    for model in ("mlp", "din", "suan"):
        run = tmp_path / model
        config = override(config_of(data, "precision='bf16'"), [f"model={model}", "model_options=[]"])
        assert train(config, run).skipped == 0
        assert all(t.dtype == torch.float32 for n, t in last(run).tensors.items() if n.endswith("weight"))
    train(override(config_of(data), ["model=suan", "model_options=[]"]), tmp_path / "fp32")
    halves, whole = read_metrics(tmp_path / "suan")[-1]["loss"], read_metrics(tmp_path / "fp32")[-1]["loss"]
    assert halves != whole
    assert halves == pytest.approx(whole, abs=0.05)


def test_validation_is_the_mean_over_the_known_impressions_of_the_part(data: Path) -> None:
    dataset, config = open_dataset(data), config_of(data)
    objective = ClickLoss(make_model(config, dataset), ("click", "like")).train()
    found = validate(objective, [Loader(dataset, "valid", config.loader())], torch.device("cpu"))
    everything = override(config, ["batch_size=100000", "grouping=request"]).loader()
    (batch,) = Loader(dataset, "valid", everything).batches()
    objective.eval()
    expected = {name: float(loss.detach()) for name, loss in objective(batch).items()}
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_label_that_is_unknown_in_validation_has_no_loss_there(data: Path) -> None:
    dataset, config = open_dataset(data), config_of(data)
    objective = ClickLoss(make_model(config, dataset), ("click", "like")).train()
    loader = Loader(dataset, "valid", config.loader())
    both = validate(objective, [loader], torch.device("cpu"))
    unknown = SimpleNamespace(batches=lambda: (without(batch, 1) for batch in loader.batches()))
    found = validate(objective, [unknown], torch.device("cpu"))  # type: ignore[list-item]
    assert found == pytest.approx({"loss": both["loss.click"], "loss.click": both["loss.click"]})
    nothing = SimpleNamespace(batches=lambda: (without(without(b, 1), 0) for b in loader.batches()))
    assert math.isnan(validate(objective, [nothing], torch.device("cpu"))["loss"])  # type: ignore[list-item]


def without(batch: Batch, label: int) -> Batch:
    """The batch with one label unknown everywhere."""
    mask = batch.label_mask.clone()
    mask[..., label] = False
    return replace(batch, label_mask=mask)


def test_a_run_is_read_back_with_the_weights_of_its_last_step(data: Path, tmp_path: Path) -> None:
    train(config_of(data), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.config == config_of(data)
    assert run.labels == ("click", "like")
    assert not run.model.training
    stored = last(tmp_path / "run").tensors
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, stored[f"model.{name}"])


def test_validation_does_not_change_the_run(data: Path, tmp_path: Path) -> None:
    train(config_of(data), tmp_path / "without")
    train(config_of(data, "validate_every=2"), tmp_path / "with")
    assert differing(tmp_path / "without", tmp_path / "with") == ["metrics"]


def test_a_model_that_is_not_causal_is_not_trained_on_timelines(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SUAN, "causal", False)
    config = override(config_of(data), ["model=suan", "model_options=[]"])
    with pytest.raises(ConfigError, match="--grouping"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_is_shown_only_when_asked_for_or_on_a_terminal(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(config_of(data), tmp_path / "silent")
    assert capfd.readouterr().err == ""
    train(config_of(data), tmp_path / "shown", progress=True)
    shown = capfd.readouterr().err
    assert "samples/s" in shown
    assert "thread" in shown


def test_the_log_needs_no_tensorboard(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(config_of(data), tmp_path / "with")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(config_of(data), tmp_path / "without")
    assert list((tmp_path / "with").glob("events*"))
    assert not list((tmp_path / "without").glob("events*"))
    assert differing(tmp_path / "with", tmp_path / "without") == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Not a directory"):
        train(config_of(data), tmp_path / "file" / "run")


def test_a_full_disk_stops_the_run_and_it_continues_to_the_bit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(data, "checkpoint_every=2")
    train(config, tmp_path / "whole")
    write, calls = checkpoint.save_file, iter(range(1, 100))

    def full(tensors: dict[str, Tensor], path: Path) -> None:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(RunError, match="No space left"):
        train(config, tmp_path / "run")
    assert last(tmp_path / "run").step == 4
    train(config, tmp_path / "run")
    assert differing(tmp_path / "whole", tmp_path / "run") == []
