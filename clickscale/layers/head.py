"""The prediction tower, shared by all models: it owns the dimension of labels."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.config import Config
from clickscale.errors import ConfigError


class HeadConfig(Config, frozen=True):
    """Tower of the head.

    Attributes:
        hidden: widths of the hidden layers (the SUAN comparisons use 1024, 512, 256).
        norm: batch normalization before each activation, or none.
        activation: of the hidden layers.
        logit_norm: also normalize the logit, as the SUAN code does; it couples calibration to running
            statistics, hence off.
    """

    hidden: tuple[int, ...] = (256, 128)
    norm: Literal["batch", "none"] = "batch"
    activation: Literal["dice", "relu"] = "dice"
    logit_norm: bool = False

    def __post_init__(self) -> None:
        if min(self.hidden, default=1) < 1:
            raise ConfigError(f"head.hidden is {list(self.hidden)}; every width must be at least 1.")


class BatchNorm(nn.Module):
    """Batch normalization over rows (N, D); a single row in training uses the running statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, affine: bool = True, eps: float = 1e-5, momentum: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        batch = self.training and x.shape[0] > 1
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, batch, self.momentum, self.eps
        )


class Dice(nn.Module):
    """``x * (p + (1 - p) * alpha)`` with ``p = sigmoid(normalized x)`` (Zhou et al. 2018, section 5.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm(width, affine=False, eps=1e-8)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        gate = self.norm(x).sigmoid()
        return x * torch.lerp(self.alpha.to(gate.dtype), torch.ones_like(gate), gate)


class Head(nn.Module):
    """Tower from the features of each candidate to one logit per label.

    Only real candidates enter the tower, so padding costs nothing and never touches batch statistics.
    """

    def __init__(self, width: int, labels: int, config: HeadConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for hidden in config.hidden:
            layers.append(nn.Linear(width, hidden))
            if config.norm == "batch":
                layers.append(BatchNorm(hidden))
            layers.append(Dice(hidden) if config.activation == "dice" else nn.ReLU())
            width = hidden
        layers.append(nn.Linear(width, labels))
        if config.logit_norm:
            layers.append(BatchNorm(labels))
        self.tower = nn.Sequential(*layers)
        self.labels = labels

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features (B, C, width) and mask (B, C) -> logits (B, C, T), 0 at padding."""
        if bool(mask.all()):
            return self.tower(x.flatten(0, 1)).float().view(*mask.shape, self.labels)
        logits = self.tower(x[mask]).float()  # (real candidates, T)
        return logits.new_zeros((*mask.shape, self.labels)).masked_scatter(
            mask[..., None].expand(-1, -1, self.labels), logits
        )

    def double_labels(self) -> None:
        """Add as many logits as there are; the first ones keep their weights, the new ones are fresh."""
        last = max(index for index, layer in enumerate(self.tower) if isinstance(layer, nn.Linear))
        layer, labels = self.tower[last], 2 * self.labels
        assert isinstance(layer, nn.Linear), "the index is that of a linear layer"
        self.tower[last] = _extended(layer, nn.Linear(layer.in_features, labels))
        if last + 1 < len(self.tower):  # the norm of the logits
            self.tower[last + 1] = _extended(self.tower[last + 1], BatchNorm(labels))
        self.labels = labels


def _extended(layer: nn.Module, wide: nn.Module) -> nn.Module:
    """The wide layer, whose first outputs have the weights of ``layer``."""
    weights = wide.state_dict()
    for name, tensor in layer.state_dict().items():
        weights[name][: len(tensor)] = tensor
    return wide.train(layer.training)
