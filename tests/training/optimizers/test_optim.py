import math
from typing import Literal

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from clickscale.batch import Batch
from clickscale.config_text import override
from clickscale.errors import ConfigError, DivergedError
from clickscale.features import Feature
from clickscale.layers.embedding import FusedEmbedding, SideEmbedding
from clickscale.layers.timed_inputs import TimeOfWeek
from clickscale.training.objectives import ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, Optimizers, StepResult, build_optimizer
from clickscale.training.optimizers.schedule import Schedule
from tests.training.toys import Toy, random_batch

FLAT = Schedule()
PLAIN = OptimizerConfig(
    schedule=FLAT,
    table_schedule=FLAT,
    max_grad_norm=0.0,
    weight_decay=0.0,
    learning_rate=0.01,
    table_learning_rate=0.01,
)


def toy(seed: int = 0) -> Toy:
    torch.manual_seed(seed)
    return Toy()


def step(model: nn.Module, optimizer: Optimizers, batch: Batch, number: int = 0) -> tuple[StepResult, Tensor]:
    loss = ClickLoss(model, ("click",))(batch)["loss"]
    loss.backward()
    return optimizer.step(loss, number), loss


def train(model: nn.Module, optimizer: Optimizers, steps: range) -> list[float]:
    return [step(model, optimizer, random_batch(number), number)[1].item() for number in steps]


def test_what_embeds_numbers_learns_at_the_rate_of_the_tables() -> None:
    table = FusedEmbedding((Feature(name="user", kind="categorical", size=3),), 2)
    side = SideEmbedding(
        (Feature(name="age", kind="numeric", width=1, edges=(0.0, 1.0)),), table, 2, "piecewise"
    )
    model = nn.ModuleDict({"side": side, "dense": nn.Linear(2, 1)})
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(model, override(PLAIN, ("table_learning_rate=0.05",)), 10)
    loss = model["dense"](side(table, torch.zeros(1, 0, dtype=torch.int64), torch.tensor([[0.5]]))).sum()
    loss.backward()
    optimizer.step(loss, 0)
    moved = {n: (p - before[n]).abs().max().item() for n, p in model.named_parameters()}
    assert moved["side.weight"] == pytest.approx(0.05)  # Adam's first step is the learning rate
    assert moved["side.bias"] == pytest.approx(0.05)
    assert moved["dense.weight"] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("is_field", "week_rate", "rate"),
    [(True, None, 0.05), (False, "table", 0.05), (False, "dense", 0.01), (False, None, 0.01)],
)
def test_an_hour_learns_at_the_rate_of_the_tables_as_a_field_or_by_choice(
    is_field: bool, week_rate: Literal["dense", "table"] | None, rate: float
) -> None:
    torch.manual_seed(0)
    week = TimeOfWeek(2, 3, is_field=is_field)
    before = {name: parameter.detach().clone() for name, parameter in week.named_parameters()}
    config = override(PLAIN, ("table_learning_rate=0.05",))
    optimizer = build_optimizer(week, replace(config, week_rate=week_rate), 10)
    loss = week(torch.tensor([3 * 86_400])).sum()  # the first hour of a Sunday
    loss.backward()
    optimizer.step(loss, 0)
    moved = {n: (p - before[n]).abs().max().item() for n, p in week.named_parameters()}
    assert moved["hour"] == pytest.approx(rate)
    assert moved["day"] == pytest.approx(rate)
    assert moved["project.weight"] == pytest.approx(0.01)


@pytest.mark.parametrize("table", ["adagrad", "adam"])
@pytest.mark.parametrize("dense", ["adamw", "adam"])
def test_training_lowers_the_loss(table: str, dense: str) -> None:
    model = toy()
    config = override(
        PLAIN, [f"table={table}", f"dense={dense}", "learning_rate=0.05", "table_learning_rate=0.1"]
    )
    losses = train(model, build_optimizer(model, config, 60), range(60))
    assert losses[-1] < 0.3 < losses[0]


def test_every_parameter_belongs_to_exactly_one_optimizer() -> None:
    optimizer = build_optimizer(toy(), PLAIN, 1)
    assert list(optimizer.tables) == ["table.weight"]
    assert optimizer.names == ["norm.weight", "norm.bias", "out.weight", "out.bias"]


def test_the_padding_row_and_its_state_stay_zero() -> None:
    for table in ("adagrad", "adam"):
        model = toy()
        optimizer = build_optimizer(model, override(PLAIN, [f"table={table}"]), 5)
        for number in range(5):
            batch = random_batch(number)
            batch.candidates.items[:, 3:] = 0
            step(model, optimizer, batch, number)
        assert not model.table.weight[0].any()
        assert not any(s[0].any() for s in optimizer.tables["table.weight"].state().values() if s.dim())


def test_one_step_equals_a_dense_adam_over_all_parameters() -> None:
    ours, theirs = toy(), toy()
    step(ours, build_optimizer(ours, PLAIN, 1), random_batch(0))
    reference = torch.optim.Adam(theirs.parameters(), lr=0.01)
    ClickLoss(theirs, ("click",))(random_batch(0))["loss"].backward()
    for parameter in theirs.parameters():
        parameter.grad = parameter.grad.to_dense() if parameter.grad is not None else None
    reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_norm_covers_dense_and_summed_sparse_gradients() -> None:
    model = toy()
    result, _ = step(model, build_optimizer(model, PLAIN, 1), random_batch(0))
    same = toy()
    ClickLoss(same, ("click",))(random_batch(0))["loss"].backward()
    squares = [p.grad.to_dense().double().square().sum() for p in same.parameters() if p.grad is not None]
    assert result.norm == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)


def test_clipping_scales_all_gradients_alike() -> None:
    config = override(PLAIN, ["table=adagrad", "max_grad_norm=0.001", "dense=adam"])
    model = toy()
    optimizer = build_optimizer(model, config, 1)
    result, _ = step(model, optimizer, random_batch(0))
    assert result.norm > 0.001
    sums = optimizer.tables["table.weight"].state()[
        "sums"
    ]  # mean of squares of the scaled gradients, per row
    table = float(sums.sum() * 4)
    first = [s["exp_avg"] / 0.1 for s in optimizer._dense.state.values()]
    dense = sum(float(x.double().square().sum()) for x in first)
    assert math.sqrt(table + dense) == pytest.approx(0.001, rel=1e-4)


def test_weight_decay_pulls_matrices_only() -> None:
    model = toy()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    config = override(PLAIN, ["weight_decay=1.0", "learning_rate=0.1"])
    optimizer = build_optimizer(model, config, 1)
    loss = sum((p * 0).sum() for p in model.parameters() if p is not model.table.weight)
    assert isinstance(loss, Tensor)
    loss.backward()
    optimizer.step(loss, 0)
    after = dict(model.named_parameters())
    assert torch.allclose(after["out.weight"], before["out.weight"] * 0.9)
    for name in ("norm.weight", "norm.bias", "out.bias", "table.weight"):
        assert torch.equal(after[name], before[name])


def test_schedules_of_dense_weights_and_tables_are_separate() -> None:
    schedule, table = Schedule(decay="linear"), Schedule(warmup=0.5)
    config = OptimizerConfig(
        learning_rate=0.1, table_learning_rate=0.2, schedule=schedule, table_schedule=table
    )
    model = toy()
    result, _ = step(model, build_optimizer(model, config, 20), random_batch(0), number=4)
    assert result.learning_rate == pytest.approx(0.1 * 0.8)
    assert result.table_learning_rate == pytest.approx(0.2 * 0.5)


@pytest.mark.parametrize("poison", ["loss", "dense", "table"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_a_step_that_is_not_finite_changes_nothing(poison: str, value: float) -> None:
    model = toy()
    optimizer = build_optimizer(model, PLAIN, 9)
    train(model, optimizer, range(2))
    before = {name: t.clone() for name, t in (model.state_dict() | optimizer.state_dict()).items()}
    loss = ClickLoss(model, ("click",))(random_batch(5))["loss"]  # moves the running statistics
    loss.backward()
    if poison == "loss":
        loss = loss.detach() * (value if value != 1e38 else math.inf)
    elif poison == "dense":
        assert model.out.weight.grad is not None
        model.out.weight.grad.fill_(value)
    else:
        assert model.table.weight.grad is not None
        model.table.weight.grad._values()[0] = value
    assert optimizer.step(loss, 2).skipped
    after = model.state_dict() | optimizer.state_dict()
    assert after.pop("skipped").tolist() == [1, 1]
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), name


def test_a_sound_step_ends_the_row_of_skipped_ones() -> None:
    model = toy()
    optimizer = build_optimizer(model, PLAIN, 9)
    for number, bad in enumerate([True, False, True]):
        loss = ClickLoss(model, ("click",))(random_batch(number))["loss"]
        loss.backward()
        optimizer.step(loss * math.nan if bad else loss, number)
    assert (optimizer.skipped, optimizer.skipped_in_a_row) == (2, 1)


def test_too_many_skipped_steps_in_a_row_end_training() -> None:
    model = toy()
    optimizer = build_optimizer(model, override(PLAIN, ["max_skipped=2"]), 9)
    with torch.no_grad():
        model.table.weight[1:] = math.nan
    train(model, optimizer, range(2))
    with pytest.raises(DivergedError, match="3 steps in a row"):
        train(model, optimizer, range(2, 3))


@pytest.mark.parametrize("table", ["adagrad", "adam"])
def test_a_restored_optimizer_continues_to_the_bit(table: str) -> None:
    config = OptimizerConfig(table=table)  # type: ignore[arg-type]
    whole = toy()
    optimizer = build_optimizer(whole, config, 8)
    train(whole, optimizer, range(4))
    weights = {name: t.clone() for name, t in whole.state_dict().items()}
    moments = {name: t.clone() for name, t in optimizer.state_dict().items()}
    expected = train(whole, optimizer, range(4, 8))

    half = toy(seed=1)
    half.load_state_dict(weights)
    restored = build_optimizer(half, config, 8)
    restored.load_state_dict(moments)
    assert train(half, restored, range(4, 8)) == expected
    for name, tensor in half.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name])


def test_the_state_of_another_optimizer_is_refused() -> None:
    adam = build_optimizer(toy(), PLAIN, 1)
    adagrad = build_optimizer(toy(), override(PLAIN, ["table=adagrad"]), 1)
    with pytest.raises(ConfigError, match="sums"):
        adagrad.load_state_dict(adam.state_dict())
    with pytest.raises(ConfigError, match="extra"):
        adam.load_state_dict(adam.state_dict() | {"extra": torch.zeros(1)})


def test_impossible_options_are_refused() -> None:
    for wrong in (
        "learning_rate=0.0",
        "table_learning_rate=-1.0",
        "max_grad_norm=-1.0",
        "betas=[0.9, 1.0]",
        "max_skipped=-1",
    ):
        with pytest.raises(ConfigError):
            override(OptimizerConfig(), [wrong])


def test_l2_adds_the_touched_rows_to_their_gradient() -> None:
    """Adagrad by hand: a row w with gradient g moves by learning_rate (g + l2 w) / rms(g + l2 w)."""
    model, config = toy(), override(PLAIN, ["table=adagrad", "table_learning_rate=0.5", "table_l2=0.1"])
    before, other = model.table.weight.detach().clone(), toy()
    batch = random_batch(0)
    ClickLoss(other, ("click",))(batch)["loss"].backward()
    gradient = other.table.weight.grad.to_dense()
    step(model, build_optimizer(model, config, 9), batch)
    touched = gradient.abs().sum(1) > 0
    assert touched.sum() > 1
    pulled = gradient + 0.1 * before
    expected = before - 0.5 * pulled / pulled.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(model.table.weight[touched], expected[touched])
    assert torch.equal(model.table.weight[~touched], before[~touched])


def test_a_rate_that_nobody_decided_is_a_thousandth() -> None:
    assert OptimizerConfig().rate == 0.001
    assert OptimizerConfig(learning_rate=0.5).rate == 0.5
