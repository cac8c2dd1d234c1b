"""What training minimizes: modules that take a batch and return named losses.

An objective holds the model, so the loop and a wrapper for several processes see one module. Every loss is a
tensor on the model's device and nothing here waits for that device.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from clickscale.batch import Batch
from clickscale.errors import ConfigError

LOSS = "loss"


class ClickLoss(nn.Module):
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

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses, each of shape (): ``loss`` to minimize, then ``loss.NAME`` for each label."""
        losses = label_losses(self.model(batch), batch.labels, batch.label_mask)  # (T,)
        return {LOSS: losses.sum()} | {
            f"{LOSS}.{name}": loss.detach() for name, loss in zip(self.labels, losses.unbind(), strict=True)
        }


def label_losses(logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean log-loss of each label over the impressions where it is known, (T,) float32; 0 where none is.

    Args:
        logits: (B, C, T) of any floating type.
        labels: (B, C, T) float32 in {0, 1}.
        mask: (B, C, T) bool, True where the label is known.
    """
    known = mask.float()
    losses = F.binary_cross_entropy_with_logits(logits.float(), labels, weight=known, reduction="none")
    return losses.sum((0, 1)) / known.sum((0, 1)).clamp(min=1)
