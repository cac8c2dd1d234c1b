import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.errors import ConfigError
from clickscale.layers.head import BatchNorm
from clickscale.models import CTRModel, label_losses, model_names
from clickscale.training.objectives import (
    ClickLoss,
    OnlineDistillation,
    _soft_losses,
    _trains_otherwise,
)
from tests.models.toy import toy_batch as histories
from tests.models.toy import toy_model
from tests.training.toys import toy_batch


class Constant(nn.Module):
    """Gives the same logits for every batch."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, batch: Batch) -> Tensor:
        return self.logits


def test_the_loss_is_the_mean_over_known_labels_summed_over_labels() -> None:
    logits = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]])  # (1, 2, 2)
    labels = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    losses = ClickLoss(Constant(logits), ("click", "buy"))(toy_batch(labels=labels, label_mask=mask))
    click = (math.log(2) + math.log(1 + math.e)) / 2
    buy = math.log(1 + math.exp(2))
    assert list(losses) == ["loss", "loss.click", "loss.buy"]
    assert [x.item() for x in losses.values()] == pytest.approx([click + buy, click, buy])


def test_an_unknown_label_pulls_nothing() -> None:
    model = Constant(torch.tensor([[[3.0], [5.0]]]))
    mask = torch.tensor([[[True], [False]]])
    ClickLoss(model, ("click",))(toy_batch(labels=torch.zeros(1, 2, 1), label_mask=mask))["loss"].backward()
    assert model.logits.grad is not None
    assert model.logits.grad[0, 1].item() == 0
    assert model.logits.grad[0, 0].item() == pytest.approx(1 / (1 + math.exp(-3)))


def test_a_label_that_is_nowhere_known_adds_nothing() -> None:
    known = torch.zeros(1, 2, 2, dtype=torch.bool)
    known[..., 0] = True
    found = label_losses(torch.ones(1, 2, 2), torch.ones(1, 2, 2), known)
    assert found.tolist() == pytest.approx([math.log(1 + math.exp(-1)), 0.0])


def test_the_loss_of_half_precision_logits_is_computed_in_single_precision() -> None:
    logits = torch.full((1, 1, 1), 12.0, dtype=torch.bfloat16)
    found = label_losses(logits, torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(math.log1p(math.exp(-12)), rel=1e-5)


class WithOwnLoss(Constant, CTRModel[Any]):
    """A model that has a loss of its own."""

    def encode_user(self, user: UserSide) -> Any:
        return None

    def score(self, state: Any, candidates: CandidateSide) -> Tensor:
        return self.logits

    def auxiliary_loss(self, state: Any, batch: Batch) -> Tensor | None:
        return 3 * self.logits.sum()


def test_a_loss_of_the_models_own_is_trained_and_not_judged() -> None:
    """Validation compares models by their clicks."""
    batch = toy_batch(labels=torch.ones(1, 2, 1), label_mask=torch.ones(1, 2, 1, dtype=torch.bool))
    objective = ClickLoss(WithOwnLoss(torch.full((1, 2, 1), 0.5)), ("click",))
    trained, judged = objective(batch), objective.eval()(batch)
    assert trained["loss"].item() - trained["loss.click"].item() == pytest.approx(3.0)
    assert judged["loss"].item() == pytest.approx(trained["loss.click"].item())
    assert list(trained) == list(judged)


def test_losses_of_their_own_reach_student_and_teacher() -> None:
    batch = toy_batch(labels=torch.ones(1, 2, 1), label_mask=torch.ones(1, 2, 1, dtype=torch.bool))
    student, teacher = (WithOwnLoss(torch.full((1, 2, 1), value)) for value in (0.5, 0.25))
    plain = OnlineDistillation(Constant(student.logits), Constant(teacher.logits), ("click",))
    own = OnlineDistillation(student, teacher, ("click",))
    assert (own(batch)["loss"] - plain(batch)["loss"]).item() == pytest.approx(3 + 1.5)
    frozen = OnlineDistillation(student, teacher, ("click",), frozen=(0,))
    bare = OnlineDistillation(Constant(student.logits), Constant(teacher.logits), ("click",), frozen=(0,))
    assert (frozen(batch)["loss"] - bare(batch)["loss"]).item() == pytest.approx(3)


def test_an_objective_without_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="labels"):
        ClickLoss(Constant(torch.zeros(1, 1, 1)), ())


# --- online distillation (Lai et al. 2025, eq. 17)

STUDENT, TAUGHT = (0.8, -1.2, 0.3), (2.0, 0.5, -0.7)
CLICKS, KNOWN = (1.0, 0.0, 1.0), (True, True, False)


def logits(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1)


def clicked() -> Batch:
    """Three impressions, the last of which nobody knows the outcome of."""
    return toy_batch(labels=logits(CLICKS), label_mask=torch.tensor(KNOWN).view(1, 3, 1))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def log_loss(p: float, y: float) -> float:
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def gradient(model: nn.Module) -> list[float]:
    found = next(model.parameters()).grad
    assert found is not None
    return found.flatten().tolist()


@pytest.mark.parametrize(("temperature", "weight"), [(2.0, 2.0), (1.0, 0.5), (4.0, 3.0)])
def test_the_losses_of_a_distillation_are_those_of_the_equation(temperature: float, weight: float) -> None:
    objective = OnlineDistillation(
        Constant(logits(STUDENT)), Constant(logits(TAUGHT)), ("click",), temperature, weight
    )
    losses = objective(clicked())
    student = sum(log_loss(sigmoid(z), y) for z, y in zip(STUDENT, CLICKS, strict=True) if z != 0.3) / 2
    teacher = sum(log_loss(sigmoid(z), y) for z, y in zip(TAUGHT, CLICKS, strict=True) if z != -0.7) / 2
    soft = [
        (sigmoid(z / temperature), sigmoid(x / temperature)) for z, x in zip(STUDENT, TAUGHT, strict=True)
    ]
    distill = sum(log_loss(p, q) - log_loss(q, q) for p, q in soft[:2]) / 2
    assert list(losses) == ["loss", "loss.student.click", "loss.teacher.click", "loss.distill.click"]
    expected = [student + teacher + weight * distill, student, teacher, distill]
    assert [x.item() for x in losses.values()] == pytest.approx(expected, rel=1e-5)
    assert not any(x.requires_grad for name, x in losses.items() if name != "loss")


@pytest.mark.parametrize(("temperature", "weight"), [(2.0, 2.0), (1.0, 0.5), (4.0, 3.0)])
def test_a_student_is_drawn_by_the_gap_of_the_soft_rates_over_the_temperature(
    temperature: float, weight: float
) -> None:
    student = Constant(logits(STUDENT))
    objective = OnlineDistillation(student, Constant(logits(TAUGHT)), ("click",), temperature, weight)
    objective(clicked())["loss"].backward()
    expected = [
        (sigmoid(z) - y + weight * (sigmoid(z / temperature) - sigmoid(x / temperature)) / temperature) / 2
        for z, x, y in zip(STUDENT[:2], TAUGHT[:2], CLICKS[:2], strict=True)
    ]
    assert gradient(student) == pytest.approx([*expected, 0.0], abs=1e-6)


def test_the_soft_labels_pull_as_much_as_the_clicks_when_the_weight_is_the_temperature() -> None:
    student = Constant(logits(STUDENT))
    loss = (
        2.0 * _soft_losses(student.logits, logits(TAUGHT), torch.ones(1, 3, 1, dtype=torch.bool), 2.0).sum()
    )
    loss.backward()
    gaps = [(sigmoid(z / 2) - sigmoid(x / 2)) / 3 for z, x in zip(STUDENT, TAUGHT, strict=True)]
    assert gradient(student) == pytest.approx(gaps, abs=1e-6)


def taught_gradient() -> list[float]:
    """What moves the teacher of a distillation."""
    teacher = Constant(logits(TAUGHT))
    OnlineDistillation(Constant(logits(STUDENT)), teacher, ("click",))(clicked())["loss"].backward()
    return gradient(teacher)


def test_a_teacher_learns_from_the_clicks_alone_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Constant(logits(TAUGHT))
    ClickLoss(teacher, ("click",))(clicked())["loss"].backward()
    assert taught_gradient() == gradient(teacher)
    with monkeypatch.context() as patch:  # a mutant: without the detachment the teacher follows the student
        patch.setattr(Tensor, "detach", lambda self: self)
        assert taught_gradient() != gradient(teacher)


def test_a_student_that_agrees_has_nothing_left_to_learn_from_its_teacher() -> None:
    losses = OnlineDistillation(Constant(logits(TAUGHT)), Constant(logits(TAUGHT)), ("click",))(clicked())
    assert losses["loss.distill.click"].item() == pytest.approx(0.0, abs=1e-7)


def test_an_auxiliary_head_learns_from_the_teacher_and_the_main_one_from_the_clicks() -> None:
    student = Constant(torch.cat([logits(STUDENT), logits((0.1, 0.2, 0.4))], dim=-1))  # (1, 3, 2)
    objective = OnlineDistillation(student, Constant(logits(TAUGHT)), ("click",), head="aux")
    objective(clicked())["loss"].backward()
    main, aux = gradient(student)[::2], gradient(student)[1::2]
    assert main == pytest.approx([(sigmoid(0.8) - 1) / 2, sigmoid(-1.2) / 2, 0.0], abs=1e-6)
    soft = [(sigmoid(z / 2) - sigmoid(x / 2)) / 2 for z, x in zip((0.1, 0.2), TAUGHT[:2], strict=True)]
    assert aux == pytest.approx([*soft, 0.0], abs=1e-6)


def test_a_frozen_teacher_is_told_but_not_trained_and_stays_in_evaluation_mode() -> None:
    both = torch.cat([logits((9.0, 9.0, 9.0)), logits(TAUGHT)], dim=-1)  # predicts another label first
    student, teacher = Constant(logits(STUDENT)), Constant(both)
    objective = OnlineDistillation(student, teacher, ("click",), frozen=(1,)).train()
    assert (student.training, teacher.training) == (True, False)
    losses = objective(clicked())
    losses["loss"].backward()
    assert teacher.logits.grad is None
    trained = OnlineDistillation(Constant(logits(STUDENT)), Constant(logits(TAUGHT)), ("click",))(clicked())
    assert [losses[name].item() for name in list(losses)[1:]] == [
        trained[n].item() for n in list(trained)[1:]
    ]
    assert losses["loss"].item() == pytest.approx((trained["loss"] - trained["loss.teacher.click"]).item())
    assert objective.weights["loss.teacher.click"] == 0


def test_several_labels_are_told_apart() -> None:
    two = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[True, False]]).expand(2, 3, 2)
    batch = toy_batch(labels=(two > 0).float(), label_mask=known)
    losses = OnlineDistillation(Constant(two), Constant(-two), ("click", "like"), weight=3.0)(batch)
    parts = [
        f"loss.{part}.{label}" for part in ("student", "teacher", "distill") for label in ("click", "like")
    ]
    assert list(losses) == ["loss", *parts]
    assert all(losses[name].item() == 0 for name in parts if name.endswith("like"))
    expected = losses["loss.student.click"] + losses["loss.teacher.click"] + 3 * losses["loss.distill.click"]
    assert losses["loss"].item() == pytest.approx(expected.item())


class Width(nn.Module):
    """Remembers how many behaviors it was shown."""

    shown = 0

    def forward(self, batch: Batch) -> Tensor:
        self.shown = batch.user.items.shape[1]
        return torch.zeros(*batch.candidates.items.shape, 1)


def test_each_model_sees_its_own_number_of_behaviors() -> None:
    student, teacher = Width(), Width()
    OnlineDistillation(student, teacher, ("click",), lengths=(3, 0))(histories(length=8, full=True))
    assert (student.shown, teacher.shown) == (3, 8)
    OnlineDistillation(student, teacher, ("click",), lengths=(0, 5))(histories(length=8, full=True))
    assert (student.shown, teacher.shown) == (8, 5)


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (-1.0, 1.0), (2.0, -0.1), (math.inf, 1.0), (math.nan, 1.0)])
def test_an_impossible_temperature_or_weight_is_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="the first must be > 0"):
        OnlineDistillation(Width(), Width(), ("click",), *wrong)


def test_a_distillation_without_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="labels"):
        OnlineDistillation(Width(), Width(), ())


# --- the weight over the steps, and which pass of the teacher is followed


def loss_at(step: int, training: bool = True, ramp: int = 4) -> float:
    """Total loss of a student with weight 3 at a step."""
    objective = OnlineDistillation(
        Constant(logits(STUDENT)), Constant(logits(TAUGHT)), ("click",), weight=3.0, ramp=ramp
    ).train(training)
    return objective(objective.prepared(clicked(), step))["loss"].item()


def test_the_weight_rises_in_a_straight_line_and_stays() -> None:
    nothing, everything = loss_at(0), loss_at(0, ramp=0)
    assert everything > nothing
    shares = [(loss_at(step) - nothing) / (everything - nothing) for step in range(7)]
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1, 1], abs=1e-5)
    assert loss_at(5, ramp=0) == everything


def test_validation_counts_the_soft_labels_fully_at_every_step() -> None:
    assert loss_at(0, training=False) == loss_at(100) == pytest.approx(loss_at(0, ramp=0))


class Moody(nn.Module):
    """Gives other logits in training than in evaluation, and counts its passes; ``part`` says why."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.weight, self.passes = part, nn.Parameter(torch.ones(1, 3, 1)), []

    def forward(self, batch: Batch) -> Tensor:
        self.passes.append((self.training, torch.is_grad_enabled()))
        return self.weight * (2.0 if self.training else 0.5)


def distance(teacher: nn.Module, **options: Any) -> float:
    """Divergence of a student from a teacher, in training mode."""
    objective = OnlineDistillation(Constant(logits((0.5, 0.5, 0.5))), teacher, ("click",), **options).train()
    losses = objective(clicked())
    losses["loss"].backward()
    assert teacher.training
    return losses["loss.distill.click"].item()


@pytest.mark.parametrize("part", [nn.Dropout(0.2), BatchNorm(3)], ids=["dropout", "batch statistics"])
def test_soft_labels_are_those_of_evaluation_where_they_differ(part: nn.Module) -> None:
    teacher = Moody(part)
    assert distance(teacher) == pytest.approx(0.0, abs=1e-7)
    assert teacher.passes == [(True, True), (False, False)]
    assert distance(Moody(part), soft_labels="training") > 0.01


def test_a_teacher_that_scores_alike_in_both_modes_is_asked_once() -> None:
    teacher = Moody(nn.Dropout(0.0))
    distance(teacher)
    assert teacher.passes == [(True, True)]


def test_a_second_pass_moves_nothing_of_the_teacher() -> None:
    with_both, with_one = Moody(nn.Dropout(0.2)), Moody(nn.Dropout(0.2))
    distance(with_both)
    distance(with_one, soft_labels="training")
    assert gradient(with_both) == gradient(with_one)


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("changes", [(), ("head.norm=batch",), ("head.dropout=0.3",)], ids=" ".join)
def test_a_model_is_asked_twice_only_if_its_modes_differ(name: str, changes: tuple[str, ...]) -> None:
    try:
        model = toy_model(name, *changes)
    except ConfigError:
        assert changes, "every model is built by default"
        return
    batch = histories()
    torch.manual_seed(0)
    with torch.no_grad():
        trained, evaluated = model.train()(batch), model.eval()(batch)
    differs = bool((trained - evaluated).abs().max() > 1e-4 * evaluated.abs().max())
    assert _trains_otherwise(model) == differs, "a layer with a mode of its own is not known"
    assert differs or not changes


class Drawing(nn.Module):
    """Logits that are drawn at random, as dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.drawn = nn.Dropout(0.5), []

    def forward(self, batch: Batch) -> Tensor:
        drawn = torch.rand(3).view(1, 3, 1)
        self.drawn.append(drawn.flatten().tolist())
        return drawn


def drawn(steps: Sequence[int]) -> tuple[list[list[float]], list[list[float]]]:
    """Numbers that student and teacher draw at some steps."""
    student, teacher = Drawing(), Drawing()
    objective = OnlineDistillation(student, teacher, ("click",), soft_labels="training", seed=3).train()
    torch.manual_seed(0)
    for step in steps:
        objective(objective.prepared(clicked(), step))
    return student.drawn, teacher.drawn


def test_a_teacher_draws_as_without_a_student() -> None:
    torch.manual_seed(0)
    alone = [torch.rand(3).tolist() for _ in range(2)]
    assert drawn((0, 1))[1] == alone
    with pytest.MonkeyPatch.context() as patch:  # a mutant: one stream for both
        patch.setattr("clickscale.training.objectives._draws", lambda model: False)
        assert drawn((0, 1))[1] != alone


def test_what_a_student_draws_depends_on_the_step_and_not_on_the_steps_before() -> None:
    whole, _ = drawn((0, 1, 2))
    assert drawn((2,))[0] == whole[2:]
    assert whole[0] != whole[1]
