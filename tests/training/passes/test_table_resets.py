"""Tables that begin every epoch anew: to the bit, without touching anything else, resumed or not."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.data.dataset import open_dataset
from clickscale.errors import RunError
from clickscale.training import train as training
from clickscale.training.distill.distillation import distill
from clickscale.training.learner import Learner
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer
from clickscale.training.passes.epochs import Epochs, Position
from clickscale.training.passes.table_resets import FOLDER, TableResets, _table_name, table_resets
from clickscale.training.run.checkpoint import CheckpointStore, read_checkpoint
from clickscale.training.run.folder import load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.model import make_model
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.table_rows import tables_of
from clickscale.training.train import train
from tests.data.tiny import tiny_dataset, tiny_source
from tests.training import pairs
from tests.training.compared import differing
from tests.training.toys import Toy, random_batch

TABLE = "inputs.table.weight"
SPAN = (0, 10)  # steps of the schedule of the toys' tables


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=160))


def config_of(data: Path, *changes: str) -> TrainConfig:
    config = TrainConfig(model="din", data=str(data), grade="size-1", length=8, batch_size=20)
    common = (
        "epochs.count=3",
        "grouping=timeline",
        "window=8",
        "early_stopping=false",
        "threads=1",
        "model_options=['head.hidden=[8]']",
        "keep=99",
    )
    return override(config, [*common, *changes])


# --- the pieces, on toys


def learner(name: str, seed: int, table: str = "adam") -> Learner:
    torch.manual_seed(seed)
    model = Toy()
    return Learner(name, model, build_optimizer(model, OptimizerConfig(table=table), 10))  # type: ignore[arg-type]


def moved(each: Learner, steps: int = 2) -> None:
    objective = ClickLoss(each.model, ("click",))
    for step in range(steps):
        losses = objective(random_batch(step))
        losses[LOSS].backward()
        each.optimizer.step(losses[LOSS], step)


def everything(each: Learner) -> dict[str, Tensor]:
    """Copies of all weights, statistics and optimizer states."""
    state = {f"model.{k}": v for k, v in each.model.state_dict().items()} | each.optimizer.state_dict()
    return {name: tensor.clone() for name, tensor in state.items()}


def resets_of(epochs: Epochs, *learners: Learner) -> TableResets:
    start = {
        _table_name(one, name): table.weight.detach().clone()
        for one in learners
        for name, table in tables_of(one.model).items()
    }
    return TableResets(epochs, learners, start, seed=5)


@pytest.mark.parametrize("table", ["adam", "adagrad"])
def test_a_reset_returns_tables_and_clears_their_slots_and_touches_nothing_else(table: str) -> None:
    each = learner("", 0, table)
    resets = resets_of(Epochs(count=2, reset="snapshot"), each)
    moved(each)
    before = everything(each)
    assert any(before[name].any() for name in before if name.startswith("table."))
    resets.begin(Position(1, 0), SPAN)
    for name, tensor in everything(each).items():
        if name == "model.table.weight":
            assert torch.equal(tensor, resets.start["table.weight"])
            assert not torch.equal(tensor, before[name])
        elif name.startswith("table."):
            assert not tensor.any(), name
        else:
            assert torch.equal(tensor, before[name]), name


def test_the_starting_point_is_a_copy_that_training_cannot_move() -> None:
    each = learner("", 0)
    resets = resets_of(Epochs(count=3, reset="snapshot"), each)
    start = resets.start["table.weight"].clone()
    for epoch in (1, 2):
        moved(each)
        resets.begin(Position(epoch, 0), SPAN)
        assert torch.equal(each.model.table.weight, start)
        assert torch.equal(resets.start["table.weight"], start)


def test_after_a_reset_training_goes_as_from_fresh_tables() -> None:
    """A forgotten slot (Adam's count of steps, a moment) would change the very first step."""
    used, fresh = learner("", 0), learner("", 0)
    resets = resets_of(Epochs(count=2, reset="snapshot"), used)
    moved(used, 3)
    resets.begin(Position(1, 0), SPAN)
    for name, parameter in used.model.named_parameters():  # the same dense weights for both
        if name != "table.weight":
            dict(fresh.model.named_parameters())[name].data.copy_(parameter.data)
    fresh.model.norm.load_state_dict(used.model.norm.state_dict())
    for each in (used, fresh):
        moved(each, 1)
    assert torch.equal(used.model.table.weight, fresh.model.table.weight)


def test_random_rows_differ_by_epoch_and_model_and_repeat_by_seed() -> None:
    first, second = learner("student", 0), learner("teacher", 0)
    resets = resets_of(Epochs(count=3, reset="random"), first, second)
    seen = []
    for epoch in (1, 2, 1):
        state = torch.get_rng_state()
        resets.begin(Position(epoch, 0), SPAN)
        assert torch.equal(torch.get_rng_state(), state), "other random numbers go on as if nothing happened"
        seen += [first.model.table.weight.detach().clone(), second.model.table.weight.detach().clone()]
    for one in range(4):
        assert not any(torch.equal(seen[one], seen[other]) for other in range(one))
    assert torch.equal(seen[0], seen[4])
    assert torch.equal(seen[1], seen[5])
    assert not seen[0][[0, 1]].any(), "padding and unknown begin at zero"
    assert seen[0].std() == pytest.approx(0.05, rel=0.4)


@pytest.mark.parametrize(
    ("epochs", "position"),
    [
        (Epochs(count=2), Position(1, 0)),
        (Epochs(count=2, reset="snapshot"), Position(0, 0)),
        (Epochs(count=2, reset="snapshot"), Position(1, 3)),
        (Epochs(count=2, reset="random"), Position(0, 0)),
    ],
)
def test_nothing_is_reset_in_the_first_epoch_in_the_middle_or_without_being_asked(
    epochs: Epochs, position: Position
) -> None:
    each = learner("", 0)
    resets = resets_of(epochs, each)
    moved(each)
    before = everything(each)
    resets.begin(position, SPAN)
    assert all(torch.equal(tensor, before[name]) for name, tensor in everything(each).items())


def test_every_model_of_a_distillation_is_reset_to_its_own_start() -> None:
    both = [learner("student", 0), learner("teacher", 1)]
    resets = resets_of(Epochs(count=2, reset="snapshot"), *both)
    for each in both:
        moved(each)
    resets.begin(Position(1, 0), SPAN)
    for each in both:
        assert torch.equal(each.model.table.weight, resets.start[f"{each.name}.table.weight"])
    assert not torch.equal(both[0].model.table.weight, both[1].model.table.weight)


# --- in the loop


class Recording(ClickLoss):
    """Keeps the weights that each training batch meets, and drops out logits as a random state would."""

    seen: list[dict[str, Tensor]] = []
    stop_at = 0

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if self.training:
            type(self).seen.append({k: v.clone() for k, v in self.model.state_dict().items()})
            if len(type(self).seen) == type(self).stop_at:
                signal.raise_signal(signal.SIGTERM)
        losses = super().forward(batch)
        return losses | {LOSS: losses[LOSS] * functional.dropout(torch.ones(4), 0.5, self.training).mean()}


def recorded(config: TrainConfig, out: Path, stop_at: int = 0) -> list[dict[str, Tensor]]:
    """Train; the weights before every step."""
    kind = type("Recorded", (Recording,), {"seen": [], "stop_at": stop_at})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "ClickLoss", kind)
        train(config, out)
    return kind.seen  # type: ignore[attr-defined]


def test_an_epoch_begins_with_the_tables_of_the_start_and_the_dense_weights_of_the_one_before(
    data: Path, tmp_path: Path
) -> None:
    config = config_of(data, "epochs.reset=snapshot", "checkpoint_every=1")
    seen = recorded(config, tmp_path / "run")
    each = len(seen) // 3
    saved = read_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{each:08d}").tensors
    for begin in (each, 2 * each):
        assert torch.equal(seen[begin][TABLE], seen[0][TABLE])
    for name, tensor in seen[each].items():
        if name != TABLE:
            assert torch.equal(tensor, saved[f"model.{name}"]), name
    assert not torch.equal(saved[f"model.{TABLE}"], seen[0][TABLE]), "saved are the tables of the epoch's end"
    after = read_checkpoint(tmp_path / "run" / "checkpoints" / f"step-{each + 1:08d}").tensors
    assert int(after[f"optimizer.table.{TABLE}.steps"]) == 1
    assert all(
        int(tensor) == each + 1
        for name, tensor in after.items()
        if name.startswith("optimizer.dense.") and name.endswith(".step")
    )
    assert not torch.equal(load_run(tmp_path / "run").model.inputs.table.weight, seen[0][TABLE])


def test_the_first_epoch_and_the_dense_rates_are_those_of_plain_epochs(data: Path, tmp_path: Path) -> None:
    even = ("optimizer.table_schedule.decay=constant", "optimizer.table_schedule.warmup=0.0")
    plain = recorded(config_of(data, *even), tmp_path / "plain")
    again = recorded(config_of(data, *even, "epochs.reset=snapshot"), tmp_path / "again")
    each = len(plain) // 3
    for one, other in zip(plain[:each], again[:each], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(plain[each][TABLE], again[each][TABLE])
    assert not (tmp_path / "plain" / FOLDER).exists()
    rates = [[line["learning_rate"] for line in read_metrics(tmp_path / name)] for name in ("plain", "again")]
    assert rates[0] == rates[1]


def test_the_rate_of_the_tables_runs_through_its_schedule_in_every_epoch(data: Path, tmp_path: Path) -> None:
    config = config_of(data, "epochs.reset=snapshot", "log_every=1", "epochs.count=2")
    seen = recorded(config, tmp_path / "run")
    each = len(seen) // 2
    rates = [line["table_learning_rate"] for line in read_metrics(tmp_path / "run")]
    schedule = config.optimizer.table_schedule
    expected = [config.optimizer.table_rate * schedule.factor(step, each) for step in range(each)]
    assert rates == pytest.approx(expected * 2)


@pytest.mark.parametrize("reset", ["snapshot", "random"])
def test_a_run_stopped_anywhere_continues_to_the_bit(data: Path, tmp_path: Path, reset: str) -> None:
    config = config_of(data, f"epochs.reset={reset}", "epochs.count=2", "log_every=1", "keep=1")
    each = len(recorded(config, tmp_path / "whole")) // 2
    for stop in (1, each, each + 1, each + 2):
        out = tmp_path / str(stop)
        assert len(recorded(config, out, stop)) == stop
        recorded(config, out)
        assert differing(tmp_path / "whole", out) == [], f"stopped at batch {stop} of 2 x {each}"


def test_a_continued_run_returns_to_the_kept_start_whatever_a_new_model_would_have(
    data: Path, tmp_path: Path
) -> None:
    config = config_of(data, "epochs.reset=snapshot", "epochs.count=2")
    seen = recorded(config, tmp_path / "run", 2)
    store = CheckpointStore(tmp_path / "run" / FOLDER)
    kept, _ = store.load()
    assert kept is not None
    assert torch.equal(kept.tensors[TABLE], seen[0][TABLE])
    kept.tensors[TABLE] += 1
    store.save(kept)
    later = recorded(config, tmp_path / "run")
    begin = len(later) // 2 - 1  # two batches of the first epoch were done
    starts = [torch.equal(one[TABLE], kept.tensors[TABLE]) for one in later]
    assert starts.count(True) == 1
    assert starts.index(True) >= begin - 1


@pytest.mark.wide
def test_both_models_of_a_distillation_begin_every_epoch_anew(data: Path, tmp_path: Path) -> None:
    changes = ("epochs.count=2", "epochs.reset=snapshot", "checkpoint_every=1", "keep=99", "labels=['click']")
    distill(pairs.config_of(data, *changes), tmp_path / "run")
    start = CheckpointStore(tmp_path / "run" / FOLDER).load()[0]
    assert start is not None
    assert sorted(start.tensors) == [f"student.{TABLE}", f"teacher.{TABLE}"]
    for name in start.tensors:
        who = name.split(".")[0]
        counts = [
            int(read_checkpoint(path).tensors[f"{who}.optimizer.table.{TABLE}.steps"])
            for path in sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
        ]
        assert counts == [*range(1, len(counts) // 2 + 1)] * 2


# --- the tables of an earlier run


@pytest.fixture(scope="module")
def earlier(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("earlier") / "run"
    train(config_of(data, "epochs.count=1"), out)
    return out


def test_a_run_begins_every_epoch_with_the_tables_of_an_earlier_one(
    data: Path, earlier: Path, tmp_path: Path
) -> None:
    old = load_run(earlier).model.inputs.table.weight
    config = config_of(data, "epochs.reset=snapshot", f"epochs.snapshot={earlier}", "seed=9")
    seen = recorded(config, tmp_path / "run")
    for begin in (0, len(seen) // 3, 2 * len(seen) // 3):
        assert torch.equal(seen[begin][TABLE], old)
    assert torch.equal(load_run(earlier).model.inputs.table.weight, old)


def test_a_continued_run_needs_no_earlier_run(data: Path, earlier: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(earlier, gone)
    config = config_of(data, "epochs.count=2", "epochs.reset=snapshot", f"epochs.snapshot={gone}")
    recorded(config, tmp_path / "whole")
    recorded(config, tmp_path / "run", 3)
    shutil.rmtree(gone)
    recorded(config, tmp_path / "run")
    assert differing(tmp_path / "whole", tmp_path / "run") == []


def test_rows_follow_their_values_to_a_data_set_that_numbers_them_otherwise(
    data: Path, earlier: Path, tmp_path: Path
) -> None:
    other = tiny_dataset(tmp_path, tiny_source(impressions=160, users=11, items=20, seed=3))
    model = make_model(config_of(other), open_dataset(other))
    each = Learner("", model, build_optimizer(model, OptimizerConfig(), 1))
    fresh = model.inputs.table.weight.detach().clone()
    epochs = Epochs(reset="snapshot", snapshot=str(earlier))
    resets = table_resets(epochs, [each], open_dataset(other).encoder, tmp_path / "run", 0)
    old, rows = load_run(earlier), resets.start[TABLE]
    new_table, old_table = model.inputs.table, old.model.inputs.table
    carried = 0
    for name in ("user_id", "item_id", "gender", "genre", "action", "position"):
        here = open_dataset(other).encoder.vocabulary(name).values.to_pylist()
        there = old.dataset.encoder.vocabulary(name).values.to_pylist()
        for index, value in enumerate(here, 2):
            row = rows[new_table.offsets[name] + index]
            if value in there:
                carried += 1
                assert torch.equal(row, old_table.weight[old_table.offsets[name] + 2 + there.index(value)])
            else:
                assert torch.equal(row, fresh[new_table.offsets[name] + index])
    assert resets.notes == [f"{carried + 6} of {len(rows)} rows of {TABLE} are of {earlier}"]
    assert not torch.equal(fresh, rows)
    assert torch.equal(model.inputs.table.weight, fresh), "the model itself changes when the epoch begins"
    assert not (tmp_path / "run").exists()


def test_tables_that_do_not_fit_are_refused_before_a_folder_is_made(
    data: Path, earlier: Path, tmp_path: Path
) -> None:
    begin = ("epochs.reset=snapshot", f"epochs.snapshot={earlier}")
    with pytest.raises(RunError, match=r"table 'inputs\.table' of width 5, the earlier one one of width \d+"):
        train(config_of(data, *begin, "model_options=['d=5']"), tmp_path / "run")
    with pytest.raises(RunError, match="is not a run"):
        train(config_of(data, begin[0], f"epochs.snapshot={tmp_path / 'no'}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seeds_of_random_rows_are_not_sums_of_their_parts() -> None:
    """Epoch 2 of seed 1 must not be epoch 1 of seed 2."""
    each = learner("", 0)
    weights = []
    for seed, epoch in ((1, 2), (2, 1)):
        TableResets(Epochs(count=3, reset="random"), [each], {}, seed).begin(Position(epoch, 0), SPAN)
        weights.append(each.model.table.weight.detach().numpy().copy())
    assert not np.array_equal(*weights)
