"""Distillations on a tiny log: each model is compared with the same one trained alone, to the bit."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from clickscale.batch import Batch
from clickscale.data.dataset import open_dataset
from clickscale.data.loader import Loader
from clickscale.errors import ConfigError, RunError
from clickscale.models import build_model
from clickscale.training.distill import distillation
from clickscale.training.distill.distillation import _weights_hash, distill
from clickscale.training.distill.distilled_runs import _served
from clickscale.training.objectives import LOSS, OnlineDistillation
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import STUDENT, TEACHER, load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.model import make_model, start_at_rates
from clickscale.training.run_state import RunResult
from clickscale.training.train import train
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.everyday import thinned
from tests.forked_commands import CommandServer
from tests.training.compared import differing, last, numbers
from tests.training.pairs import SMALL, config_of, same, stopping, weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160, statistics=STATISTICS))


@pytest.fixture(scope="module")
def pair(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished distillation."""
    out = tmp_path_factory.mktemp("pair") / "run"
    distill(config_of(data, "validate_every=4"), out)
    return out


# --- the two models, together and alone


def _sum_rounded(line: dict[str, Any]) -> dict[str, Any]:
    changed = {LOSS: round(line[LOSS], 5)} if LOSS in line else {}
    return line | changed | ({"valid": _sum_rounded(line["valid"])} if "valid" in line else {})


def test_a_teacher_takes_the_very_steps_that_it_takes_alone(data: Path, pair: Path, tmp_path: Path) -> None:
    alone = config_of(data, "validate_every=4").own_run(TEACHER)
    assert alone.window == 8
    train(alone, tmp_path / "alone")
    assert same(weights(pair / "teacher"), weights(tmp_path / "alone"))
    for mine, theirs in zip(numbers(pair / "teacher"), numbers(tmp_path / "alone"), strict=True):
        # The sum over the labels is taken in another precision; all else is equal to the bit.
        assert _sum_rounded(mine) == _sum_rounded(theirs)
    together = {k.removeprefix("teacher."): v for k, v in last(pair).tensors.items() if "teacher." in k}
    moments = {k: v for k, v in last(tmp_path / "alone").tensors.items() if k.startswith("optimizer.")}
    assert all(torch.equal(together[name], tensor) for name, tensor in moments.items())


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")
def test_a_teacher_that_hears_its_student_would_be_seen(
    data: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant: soft labels that are not detached."""
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "detach", lambda self: self)
        distill(config_of(data, "log_every=100"), tmp_path / "run")
    assert not same(weights(pair / "teacher"), weights(tmp_path / "run" / "teacher"))


def test_a_student_that_is_not_drawn_takes_the_steps_that_it_takes_alone(data: Path, tmp_path: Path) -> None:
    config = config_of(data, "weight=0.0", "student.length=8")
    distill(config, tmp_path / "pair")
    train(config.own_run(STUDENT), tmp_path / "alone")
    assert same(weights(tmp_path / "pair" / "student"), weights(tmp_path / "alone"))


@pytest.mark.parametrize("head", ["same", "aux"])
def test_a_student_starts_from_the_weights_that_it_has_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    config, dataset = config_of(data, f"head={head}"), open_dataset(data)
    starts: list[dict[str, Tensor]] = []

    class Watched(OnlineDistillation):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            if not starts:
                starts.append({k: v.clone() for k, v in self.student.state_dict().items()})
            return super().forward(batch)

    monkeypatch.setattr(distillation, "OnlineDistillation", Watched)
    distill(config, tmp_path / "run")
    torch.manual_seed(config.seed)
    alone = make_model(config.own_run(STUDENT), dataset)
    start_at_rates(alone, dataset, ("click", "like"))
    assert same(_served(starts[0], alone), alone.state_dict())
    wider = [name for name, tensor in alone.state_dict().items() if starts[0][name].shape != tensor.shape]
    assert len(wider) == (2 if head == "aux" else 0)


@thinned(
    "changes",
    [
        ("grouping=request",),
        ("grouping=impression",),
        ("student.model=lightsuan", "student.model_options=['head.hidden=[8]','r=3']"),
        ("student.length=9", "teacher.length=3"),
        ("student.model=mlp", "student.model_options=[]", "teacher.grade=size-2"),
        ("teacher.model=suan_literal", "grouping=request", "batch_size=40"),
        ("head=aux", "temperature=4.0", "epochs.count=2", "precision=bf16"),
    ],
    ids=" ".join,
)
def test_any_two_models_of_any_grades_learn_in_any_grouping(
    data: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    config = config_of(data, *changes)
    assert distill(config, tmp_path / "run").finished
    for name in (STUDENT, TEACHER):
        run = load_run(tmp_path / "run" / name)
        assert run.config == config.own_run(name)
        assert run.labels == ("click", "like")


def test_each_model_has_an_optimizer_of_its_own(data: Path, tmp_path: Path) -> None:
    changes = (
        "student.optimizer.learning_rate=0.5",
        "teacher.optimizer.max_grad_norm=0.001",
        "student.optimizer.table=adagrad",
    )
    distill(config_of(data, *changes), tmp_path / "run")
    line = read_metrics(tmp_path / "run")[-2]
    assert line["student.learning_rate"] > 100 * line["teacher.learning_rate"]
    names = {
        name.rpartition(".")[2] for name in last(tmp_path / "run").tensors if ".optimizer.table." in name
    }
    assert names == {"sums", "means", "squares", "steps"}


def test_a_step_that_a_student_must_skip_leaves_its_teacher_alone(
    data: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Poisoned(OnlineDistillation):
        batches = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            type(self).batches += self.training
            if not (self.training and self.batches == 2):
                return super().forward(batch)
            score = self.student.score
            self.student.score = lambda state, candidates: score(state, candidates) * torch.nan
            losses = super().forward(batch)
            del self.student.score
            return losses

    monkeypatch.setattr(distillation, "OnlineDistillation", Poisoned)
    result = distill(config_of(data, "log_every=1"), tmp_path / "run")
    assert result.skipped == 1
    line = read_metrics(tmp_path / "run")[1]
    assert (line["student.skipped"], line["teacher.skipped"], "loss" in line) == (1, 0, False)
    assert same(weights(pair / "teacher"), weights(tmp_path / "run" / "teacher"))
    assert [
        json.loads((tmp_path / "run" / x / "done.json").read_text())["skipped"] for x in (STUDENT, TEACHER)
    ] == [1, 0]


# --- what is written


def test_a_line_of_the_log_tells_every_loss_apart(pair: Path) -> None:
    line = next(line for line in read_metrics(pair) if "loss" in line)
    parts = [f"{part}.{label}" for part in ("student", "teacher", "distill") for label in ("click", "like")]
    assert {f"loss.{part}" for part in parts} <= set(line)
    weighed = sum(line[f"loss.{part}"] * (2.0 if part.startswith("distill") else 1.0) for part in parts)
    assert line["loss"] == pytest.approx(weighed)
    assert {
        f"{name}.{x}"
        for name in (STUDENT, TEACHER)
        for x in ("learning_rate", "table_learning_rate", "grad_norm", "skipped")
    } <= set(line)
    valid = next(line["valid"] for line in read_metrics(pair) if "valid" in line)
    assert valid["loss"] == pytest.approx(
        sum(valid[f"loss.{part}"] * (2.0 if part.startswith("distill") else 1.0) for part in parts)
    )


def test_the_folder_of_each_model_is_a_run_like_any_other(data: Path, pair: Path) -> None:
    for name in (STUDENT, TEACHER):
        run = load_run(pair / name)
        assert _weights_hash(run.model) == _weights_hash(load_run(pair / name, data).model)
        assert run.step == last(pair).step
        assert {"done.json", "environment.json", "dataset.json"} <= {
            path.name for path in (pair / name).iterdir()
        }
        line = read_metrics(pair / name)[0]
        assert line["loss"] == pytest.approx(line["loss.click"] + line["loss.like"])
    assert json.loads((pair / "student/teacher.json").read_text())["teacher"] == "suan:size-1:8"
    assert not (pair / "teacher/teacher.json").exists()


def test_what_is_kept_of_a_student_is_what_is_kept_of_one_trained_alone(data: Path, tmp_path: Path) -> None:
    config = config_of(data, "head=aux")
    distill(config, tmp_path / "run")
    train(config.own_run(STUDENT), tmp_path / "alone")
    taught, alone = weights(tmp_path / "run/student"), weights(tmp_path / "alone")
    assert {k: v.shape for k, v in taught.items()} == {k: v.shape for k, v in alone.items()}
    wide = {
        k.removeprefix("student."): v for k, v in last(tmp_path / "run").tensors.items() if ".model." in k
    }
    assert all(
        torch.equal(wide[name][: len(tensor)] if tensor.dim() else wide[name], tensor)
        for name, tensor in taught.items()
    )
    assert {k for k in taught if wide[k].shape != taught[k].shape} == {
        name for name in taught if name.startswith("model.head.tower.") and wide[name].shape[:1] == (4,)
    }


@pytest.mark.parametrize("changes", [(), ("head.logit_norm=true",)], ids=["plain", "logit norm"])
def test_a_widened_head_scores_as_before(data: Path, changes: tuple[str, ...]) -> None:
    dataset = open_dataset(data)
    model = build_model(
        "din",
        dataset.features,
        dataset.item_columns(),
        labels=("click", "like"),
        overrides=(*SMALL, *changes),
    ).eval()
    batch = next(Loader(dataset, "train", config_of(data).loader()).batches())
    before = model(batch)
    model.head.double_labels()
    after = model(batch)
    assert after.shape[-1] == 2 * before.shape[-1] == 4
    assert torch.allclose(after[..., :2], before, atol=1e-7)
    assert not torch.allclose(after[..., 2:], before, atol=1e-3)


def test_a_model_without_the_shared_head_has_no_auxiliary_one() -> None:
    with pytest.raises(ConfigError, match="use head=same"):
        distillation._add_teacher_labels(nn.Linear(2, 2))


# --- stopped and continued


@pytest.fixture(scope="module")
def half(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `pair`, stopped in the middle of an interval of the log."""
    out = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "OnlineDistillation", stopping(5))
        result = distill(config_of(data, "validate_every=4"), out)
    assert (result.step, result.finished, result.exit_code) == (5, False, 143)
    assert not (out / "student").exists()
    return out


def continued(data: Path, run: Path) -> RunResult:
    return distill(config_of(data, "validate_every=4"), run)


def test_a_stopped_distillation_continues_to_the_bit(
    data: Path, pair: Path, half: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(half, tmp_path / "run"))
    assert continued(data, run).finished
    assert differing(pair, run) == []
    for name in (STUDENT, TEACHER):
        assert differing(pair / name, run / name) == []


def test_ctrl_c_exits_with_130(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distillation, "OnlineDistillation", stopping(2, signal.SIGINT))
    assert distill(config_of(data), tmp_path / "run").exit_code == 130


@thinned(
    "prefix",
    [
        "student.optimizer.dense.",
        "teacher.optimizer.dense.",
        "student.optimizer.table.",
        "teacher.model.head.",
    ],
)
def test_whatever_a_checkpoint_forgets_of_either_model_is_seen(
    data: Path, pair: Path, half: Path, tmp_path: Path, prefix: str
) -> None:
    """Mutants of the checkpoint: the comparison of the test above must fail for each."""
    run = Path(shutil.copytree(half, tmp_path / "run"))
    kept = last(run)
    tensors = {k: torch.zeros_like(v) if k.startswith(prefix) else v.clone() for k, v in kept.tensors.items()}
    CheckpointStore(run / "checkpoints").save(Checkpoint(kept.step, tensors, kept.facts))
    continued(data, run)
    assert differing(pair, run)


KILLED = """
import os, sys
from pathlib import Path
from clickscale.config_text import load_json
from clickscale.training.distill import distillation
from clickscale.training.distill.distill_config import DistillConfig

class Deadly(distillation.OnlineDistillation):
    batches = 0
    def forward(self, batch):
        type(self).batches += 1
        if self.batches == 5:
            os._exit(9)
        return super().forward(batch)

distillation.OnlineDistillation = Deadly
config = load_json(Path(sys.argv[1]).read_text(), DistillConfig, "test")
distillation.distill(config, Path(sys.argv[2]))
"""


def test_a_killed_distillation_continues_from_its_last_checkpoint_to_the_bit(
    data: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    config = config_of(data, "checkpoint_every=3", "log_every=1", "head=aux")
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    given = (str(tmp_path / "config.json"), str(tmp_path / "killed"))
    assert command_server.run_program(KILLED, *given).returncode == 9
    assert CheckpointStore(tmp_path / "killed/checkpoints").steps() == [3]
    distill(config, tmp_path / "killed")
    distill(config, tmp_path / "whole")
    assert differing(tmp_path / "whole", tmp_path / "killed") == []
    assert differing(tmp_path / "whole/student", tmp_path / "killed/student") == []


def test_a_finished_distillation_is_not_trained_again(
    data: Path, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(pair, tmp_path / "run"))
    shutil.rmtree(run / "teacher")  # killed before all folders were written
    monkeypatch.setattr(distillation, "OnlineDistillation", stopping(1))
    assert continued(data, run).finished
    assert differing(pair / "teacher", run / "teacher") == []


def test_another_distillation_is_refused_by_the_names_of_what_differs(data: Path, pair: Path) -> None:
    other = config_of(data, "teacher.optimizer.learning_rate=0.5", "temperature=3.0")
    with pytest.raises(RunError, match=r"temperature is 2\.0, not 3\.0") as refused:
        distill(other, pair)
    assert "teacher.optimizer.learning_rate is 0.003, not 0.5" in str(refused.value)
    with pytest.raises(RunError, match="already holds a run"):
        distill(config_of(data, "validate_every=4"), pair, resume=False)


def test_a_distillation_is_no_run_of_one_model_nor_the_other_way_round(data: Path, pair: Path) -> None:
    with pytest.raises(RunError, match=r"its models are .*student and .*teacher"):
        train(config_of(data).own_run(STUDENT), pair)
    with pytest.raises(RunError, match="its models are"):
        load_run(pair)
    with pytest.raises(RunError, match="holds the run of one model"):
        distill(config_of(data), pair / "student")


def test_a_folder_of_two_models_does_not_teach(data: Path, pair: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(config_of(data), teacher=None, teacher_run=str(pair))
    with pytest.raises(RunError, match="its models are"):
        distill(config, tmp_path / "run")
