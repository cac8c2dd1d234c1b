"""Losses that training minimizes: modules that take a batch and return named losses.

An objective holds its models, so the loop and a wrapper for several processes see one module. Every loss is a
tensor on the models' device; nothing here waits for that device but the cut of a batch to a shorter history.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clickscale.batch import Batch, CandidateSide
from clickscale.errors import ConfigError
from clickscale.models import CTRModel, label_losses

LOSS = "loss"
_STREAM = 1_000_003  # keeps the seeds of the steps of one run apart from those of another


class Objective(nn.Module):
    """Takes a batch and returns named losses: first ``loss``, which is minimized, then its parts.

    Attributes:
        weights: how much each part counts in ``loss``. Parts come label by label, in blocks of all labels.
    """

    weights: Mapping[str, float]

    def prepared(self, batch: Batch, step: int) -> Batch:
        """The batch for step number ``step`` (from 0), before it is moved to a device.

        Most objectives take it as it is, whatever the step.
        """
        return batch

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits (B, C, T) that a model of this objective gives of the clicks of a batch."""
        raise TypeError(f"{type(self).__name__} does not define logits")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses, each of shape (); only ``loss`` has gradients."""
        raise TypeError(f"{type(self).__name__} does not define forward")


class ClickLoss(Objective):
    """Log-loss of the model's logits, in float32 whatever the precision of the model.

    Each label's loss is the mean over the impressions of the batch where that label is known; the losses of
    all labels are added. A batch in which a label is nowhere known adds nothing for it.
    """

    def __init__(self, model: nn.Module, labels: tuple[str, ...]) -> None:
        """Wrap a model whose logits (B, C, T) belong to these T labels, in this order.

        Raises:
            ConfigError: no label is named.
        """
        super().__init__()
        if not labels:
            raise ConfigError("ClickLoss needs the names of the labels that the model was built for.")
        self.model = model
        self.labels = labels
        self.weights = {f"{LOSS}.{label}": 1.0 for label in labels}

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective`."""
        return cast(Tensor, model(batch))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses, each of shape (): ``loss`` to minimize, then ``loss.NAME`` for each label.

        In training, ``loss`` holds the model's own loss (`CTRModel.auxiliary_loss`) as well.
        """
        logits, own = _judged(self.model, batch)
        losses = label_losses(logits, batch.labels, batch.label_mask)  # (T,)
        total = losses.sum() if own is None else losses.sum() + own
        return {LOSS: total} | dict(zip(self.weights, losses.detach().unbind(), strict=True))


class OnlineDistillation(Objective):
    """Trains a student together with its teacher (Lai et al. 2025, eq. 17).

    With logits ``z`` of the student, ``z'`` of the teacher, and the soft label ``q = sigmoid(z' / t)``::

        loss = BCE(z, y) + BCE(z', y) + weight * (CE(sigmoid(z / t), q) - H(q))

    Each part is a mean over the impressions of the batch whose label is known. The soft label is a constant:
    the teacher learns only from the clicks, exactly as without a student. Hence the entropy H(q) moves no
    weight; it is subtracted so that the last part is the divergence from student to teacher, 0 when they
    agree. Per impression, that part has the gradient ``weight * (sigmoid(z / t) - q) / t`` for ``z``.

    The weight may rise from 0 over the first steps, while an untrained teacher has nothing to tell. Losses in
    evaluation mode count the last part with its full weight, so that they compare over the whole run. What a
    student draws at random (dropout) has a stream of its own, so that its teacher draws as without it.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        labels: tuple[str, ...],
        temperature: float = 2.0,
        weight: float = 2.0,
        *,
        ramp: int = 0,
        soft_labels: Literal["evaluation", "training"] = "evaluation",
        head: Literal["same", "aux"] = "same",
        lengths: tuple[int, int] = (0, 0),
        frozen: tuple[int, ...] = (),
        seed: int = 0,
        more: Callable[[Batch, int], Batch] | None = None,
    ) -> None:
        """Put two models together.

        Args:
            student: gives logits (B, C, T), or (B, C, 2T) if ``head`` is ``aux``.
            teacher: gives logits (B, C, T).
            labels: names of the T labels.
            temperature: t, divides the logits of both in the last part.
            weight: of the last part; the paper sets it to t, which gives the gradient ``sigmoid(z / t) - q``.
            ramp: steps over which the weight rises from 0 in a straight line; 0: it is constant.
            soft_labels: take them from the teacher in ``evaluation`` mode, or from the pass in ``training``
                mode from which it learns. They differ only for a teacher with dropout or statistics of the
                batch; only then is it asked a second time.
            head: with ``same`` all logits of the student learn from the soft label too; with ``aux`` only its
                last T logits do, and the first T learn from the clicks (Khani et al. 2024).
            lengths: behaviors that a candidate of the student and of the teacher sees at most; 0: all of the
                batch.
            frozen: for a teacher that is trained already: indices of the labels among its logits. It stays in
                evaluation mode, and its log-loss is reported but is not a part of ``loss``.
            seed: of what the student draws at random.
            more: adds candidates that nobody labelled to the batch of a step, behind the others. The student
                learns their soft labels too, as a mean of their own.

        Raises:
            ConfigError: no label, or a temperature or weight out of range.
        """
        super().__init__()
        if not labels:
            raise ConfigError("OnlineDistillation needs the names of the labels that both models predict.")
        check_distillation(temperature, weight)
        self.student, self.teacher, self.labels = student, teacher, labels
        self.temperature, self.weight, self.head = temperature, weight, head
        self.lengths, self.frozen = lengths, frozen
        self.ramp, self.seed, self.more = ramp, seed, more
        self._step = self._labelled = 0
        other_mode = soft_labels == "evaluation" and not frozen
        self._asks_twice = other_mode and _trains_otherwise(teacher)
        self._student_draws = _draws(student)
        counts = {"student": 1.0, "teacher": 0.0 if frozen else 1.0, "distill": weight}
        self.weights = {f"{LOSS}.{part}.{label}": counts[part] for part in counts for label in labels}
        if frozen:
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> "OnlineDistillation":
        """Set the mode; a frozen teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.train(mode and not self.frozen)
        return self

    def prepared(self, batch: Batch, step: int) -> Batch:
        """See `Objective`; the weight, random numbers and unlabelled candidates follow the step."""
        self._step, self._labelled = step, batch.rows.shape[1]
        return self.more(batch, step) if self.more else batch

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective`; each model sees the history of its own length."""
        length = self.lengths[0 if model is self.student else 1]
        logits = model(
            batch.shortened(length) if length else batch
        )  # (B, C, T), or (B, C, 2T) with an own head
        return cast(Tensor, logits[..., : len(self.labels)])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses, each of shape (): ``loss``, then ``loss.PART.LABEL``; PART: student, teacher, distill."""
        for_student, for_teacher = (batch.shortened(length) if length else batch for length in self.lengths)
        told, taught, of_teacher = self._teach(for_teacher)
        with self._own_random_numbers(batch.rows.device):
            logits, of_student = _judged(self.student, for_student)  # (B, C, T) or (B, C, 2T)
        count, mask, labels = len(self.labels), batch.label_mask, batch.labels
        soft = logits if self.head == "same" else logits[..., count:]
        distill = _soft_losses(soft, taught, mask, self.temperature)  # (T,)
        if self.training and self.more:
            drawn = (batch.candidates.mask & (batch.rows < 0))[..., None].expand_as(mask)  # (B, C, T)
            distill = distill + _soft_losses(soft, taught, drawn, self.temperature)
            shown = self._labelled
            logits, labels, mask = logits[:, :shown], labels[:, :shown], mask[:, :shown]
        student = label_losses(logits[..., :count], labels, mask)  # (T,)
        teacher = label_losses(told, labels, mask)
        loss = student.sum() + self._present_weight() * distill.sum()
        for own in (of_student, of_teacher):
            loss = loss if own is None else loss + own
        parts = torch.cat([student, teacher, distill]).detach()
        return {LOSS: loss if self.frozen else loss + teacher.sum()} | dict(
            zip(self.weights, parts.unbind(), strict=True)
        )

    def _teach(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Logits of the teacher that it learns from, all soft labels, and the loss of its own.

        The pass that it learns from holds labelled candidates only, so that its steps are those of a teacher
        without a student, to the bit.
        """
        if self.frozen:
            with torch.no_grad():
                soft: Tensor = self.teacher(batch)[..., self.frozen]  # (B, C, T)
            return (soft[:, : self._labelled] if self.training and self.more else soft), soft, None
        if self.training and self._asks_twice:
            told, own = _judged(self.teacher, self._labelled_part(batch))
            self.teacher.eval()
            with torch.no_grad():
                soft = self.teacher(batch)
            self.teacher.train()
            return told, soft, own
        if not (self.training and self.more):
            told, own = _judged(self.teacher, batch)
            return told, told.detach(), own
        assert isinstance(self.teacher, CTRModel), "only models that keep the contract score in two passes"
        state, labelled = self.teacher.encode_user(batch.user), self._labelled_part(batch)
        told = self.teacher.score(state, labelled.candidates)
        with torch.no_grad():
            drawn = self.teacher.score(state, _candidate_columns(batch.candidates, self._labelled, None))
        own = self.teacher.auxiliary_loss(state, labelled)
        return told, torch.cat([told.detach(), drawn], 1), own

    def _labelled_part(self, batch: Batch) -> Batch:
        """The batch without the candidates that nobody labelled."""
        if not self.more:
            return batch
        shown = self._labelled
        return replace(
            batch,
            candidates=_candidate_columns(batch.candidates, 0, shown),
            labels=batch.labels[:, :shown],
            label_mask=batch.label_mask[:, :shown],
            rows=batch.rows[:, :shown],
        )

    def _present_weight(self) -> float:
        """Weight of the soft labels at this step."""
        if not (self.training and self.ramp):
            return self.weight
        return self.weight * min(self._step / self.ramp, 1.0)

    @contextmanager
    def _own_random_numbers(self, device: torch.device) -> Iterator[None]:
        """Let the student draw numbers that depend on the seed and the step only."""
        if not (self.training and self._student_draws):
            yield
            return
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(_STREAM * (self.seed + 1) + self._step)
            yield


def _draws(model: nn.Module) -> bool:
    """True if a model draws random numbers in training: for dropout."""
    shares = (
        part.p if isinstance(part, nn.Dropout) else getattr(part, "dropout", 0.0) for part in model.modules()
    )
    return any(shares)


def _trains_otherwise(model: nn.Module) -> bool:
    """True if logits in training are not those of evaluation: dropout, or statistics of the batch."""
    # A layer with statistics counts the batches that they follow.
    counts = (name.rpartition(".")[2] == "batches" for name, _ in model.named_buffers())
    return _draws(model) or any(counts)


def _candidate_columns(side: CandidateSide, start: int, stop: int | None) -> CandidateSide:
    """Some columns of the candidates of a batch."""
    return CandidateSide(**{field.name: getattr(side, field.name)[:, start:stop] for field in fields(side)})


def check_distillation(temperature: float, weight: float) -> None:
    """Refuse a temperature that is not positive, or a negative weight of the soft labels."""
    if not (0 < temperature < math.inf and 0 <= weight < math.inf):
        raise ConfigError(
            f"temperature is {temperature} and weight {weight}; the first must be > 0, the second >= 0."
        )


def _judged(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Logits of a model, and the loss of its own that training adds."""
    if not (model.training and isinstance(model, CTRModel)):
        return model(batch), None
    state = model.encode_user(batch.user)  # as `CTRModel.forward`; the model's own loss reads the state, too
    return model.score(state, batch.candidates), model.auxiliary_loss(state, batch)


def _soft_losses(logits: Tensor, taught: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Mean divergence from the soft labels of a teacher over the impressions with a known label, (T,).

    ``CE(p, q) - H(q)`` with ``p = sigmoid(logits / t)`` and ``q = sigmoid(taught / t)``: the Kullback-Leibler
    divergence of p from q, in nats. Computed in float32.

    Args:
        logits: (B, C, T) of the student.
        taught: (B, C, T) of the teacher, without gradients.
        mask: (B, C, T) bool, True where the label is known.
    """
    known, teacher = mask.float(), taught.float() / temperature
    soft = teacher.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits.float() / temperature, soft, known, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher, soft, known, reduction="none")
    return (cross - entropy).sum((0, 1)) / known.sum((0, 1)).clamp(min=1)
