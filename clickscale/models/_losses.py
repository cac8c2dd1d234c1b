"""Log-loss of labels, for training and for the losses that models have of their own."""

from torch import Tensor
from torch.nn import functional


def label_losses(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean log-loss of each label over the impressions where it is known, (T,) float32; 0 where none is.

    Args:
        logits: (B, C, T) of any floating type.
        labels: (B, C, T) float32 in {0, 1}.
        mask: (B, C, T) bool, True where the label is known.
    """
    known = mask.float()
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), labels, weight=known, reduction="none"
    )
    return losses.sum((0, 1)) / known.sum((0, 1)).clamp(min=1)
