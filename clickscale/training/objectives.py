"""Losses that training minimizes: modules that take a batch and return named losses.

An objective holds its models, so the loop and a wrapper for several processes see one module. Every loss is a
tensor on the models' device; nothing here waits for that device but the cut of a batch to a shorter history.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clickscale.batch import Batch
from clickscale.errors import ConfigError
from clickscale.models import CTRModel, label_losses

LOSS = "loss"


class Objective(nn.Module):
    """Takes a batch and returns named losses: first ``loss``, which is minimized, then its parts.

    Attributes:
        weights: how much each part counts in ``loss``. Parts come label by label, in blocks of all labels.
    """

    weights: Mapping[str, float]

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
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        labels: tuple[str, ...],
        temperature: float = 2.0,
        weight: float = 2.0,
        *,
        head: Literal["same", "aux"] = "same",
        lengths: tuple[int, int] = (0, 0),
        frozen: tuple[int, ...] = (),
    ) -> None:
        """Put two models together.

        Args:
            student: gives logits (B, C, T), or (B, C, 2T) if ``head`` is ``aux``.
            teacher: gives logits (B, C, T).
            labels: names of the T labels.
            temperature: t, divides the logits of both in the last part.
            weight: of the last part; the paper sets it to t, which gives the gradient ``sigmoid(z / t) - q``.
            head: with ``same`` all logits of the student learn from the soft label too; with ``aux`` only its
                last T logits do, and the first T learn from the clicks (Khani et al. 2024).
            lengths: behaviors that a candidate of the student and of the teacher sees at most; 0: all of the
                batch.
            frozen: for a teacher that is trained already: indices of the labels among its logits. It stays in
                evaluation mode, and its log-loss is reported but is not a part of ``loss``.

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
        counts = {"student": 1.0, "teacher": 0.0 if frozen else 1.0, "distill": weight}
        self.weights = {f"{LOSS}.{part}.{label}": counts[part] for part in counts for label in labels}
        if frozen:
            teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> "OnlineDistillation":
        """Set the mode; a frozen teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.train(mode and not self.frozen)
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses, each of shape (): ``loss``, then ``loss.PART.LABEL``; PART: student, teacher, distill."""
        for_student, for_teacher = (batch.shortened(length) if length else batch for length in self.lengths)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            taught, of_teacher = _judged(self.teacher, for_teacher)  # (B, C, T), or more labels if frozen
        taught = taught[..., self.frozen] if self.frozen else taught
        logits, of_student = _judged(self.student, for_student)  # (B, C, T) or (B, C, 2T)
        count, mask = len(self.labels), batch.label_mask
        soft = logits if self.head == "same" else logits[..., count:]
        student = label_losses(logits[..., :count], batch.labels, mask)  # (T,)
        teacher = label_losses(taught, batch.labels, mask)
        distill = _soft_losses(soft, taught.detach(), mask, self.temperature)
        loss = student.sum() + self.weight * distill.sum()
        for own in (of_student, None if self.frozen else of_teacher):
            loss = loss if own is None else loss + own
        parts = torch.cat([student, teacher, distill]).detach()
        return {LOSS: loss if self.frozen else loss + teacher.sum()} | dict(
            zip(self.weights, parts.unbind(), strict=True)
        )


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
