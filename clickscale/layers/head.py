"""The prediction tower, shared by all models: it owns the dimension of labels."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.config import Config
from clickscale.errors import ConfigError
from clickscale.layers.inputs import Inputs
from clickscale.layers.kernels.hidden_layer import through_tower
from clickscale.layers.kernels.products import is_trained_by_hand
from clickscale.layers.norm import RMSNorm


class HeadConfig(Config, frozen=True):
    """Tower of the head.

    Attributes:
        hidden: widths of the hidden layers (the SUAN comparisons use 1024, 512, 256).
        norm: normalization before each activation: ``rms`` sees one candidate at a time, ``batch`` is the
            papers' and needs statistics of batches.
        activation: of the hidden layers. ``batch_dice`` is the papers' Dice, by statistics of batches;
            ``dice`` has the same form with a gate of the unit itself.
        dropout: share of the hidden units that training drops.
        logit_norm: also normalize the logit, as the SUAN code does; it couples calibration to running
            statistics, hence off.
    """

    hidden: tuple[int, ...] = (256, 128)
    norm: Literal["rms", "batch", "none"] = "rms"
    activation: Literal["dice", "batch_dice", "relu"] = "dice"
    dropout: float = 0.0
    logit_norm: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"head.dropout is {self.dropout}; it must be a share of at least 0 and below 1."
            )
        if min(self.hidden, default=1) < 1:
            raise ConfigError(f"head.hidden is {list(self.hidden)}; every width must be at least 1.")


class BatchNorm(nn.Module):
    """Batch normalization over rows (N, D); a single row in training uses the running statistics.

    Running statistics are plain averages over the first batches, and move by ``momentum`` from then on: they
    never remember the zeros and ones that they start with.

    Attributes:
        batches: batches seen, as a floating number, so that a refused step takes it back with the rest.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, width: int, affine: bool = True, eps: float = 1e-5, momentum: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("batches", torch.zeros(()))
        self.eps, self.momentum = eps, momentum

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        batch = self.training and x.shape[0] > 1
        if batch:
            self.batches += 1
        share = max(self.momentum, 1 / float(self.batches)) if batch else 0.0
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, batch, share, self.eps
        )


class BatchDice(nn.Module):
    """``x * (p + (1 - p) * alpha)`` with ``p = sigmoid(normalized x)`` (Zhou et al. 2018, section 5.3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm(width, affine=False, eps=1e-8)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        gate = self.norm(x).sigmoid()
        return x * torch.lerp(self.alpha.to(gate.dtype), torch.ones_like(gate), gate)


class Dice(nn.Module):
    """`BatchDice` without statistics: ``p = sigmoid(x)``, for units that are normalized already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, D)."""
        return torch.lerp(functional.silu(x), x, self.alpha.to(x.dtype))  # x p + alpha (x - x p)


def _norm(kind: str, width: int) -> list[nn.Module]:
    if kind == "none":
        return []
    return [RMSNorm(width) if kind == "rms" else BatchNorm(width)]


def _activation(kind: str, width: int) -> nn.Module:
    if kind == "relu":
        return nn.ReLU()
    return Dice(width) if kind == "dice" else BatchDice(width)


class Head(nn.Module):
    """Tower from the features of each candidate to one logit per label.

    Only real candidates enter the tower, so padding costs nothing and never touches batch statistics.
    """

    def __init__(self, width: int, labels: int, config: HeadConfig, profile: slice = slice(0, 0)) -> None:
        super().__init__()
        self.profile = profile  # columns of the features that the candidates of a row share, see `over`
        layers: list[nn.Module] = []
        for hidden in config.hidden:
            layers.append(nn.Linear(width, hidden))
            layers += [*_norm(config.norm, hidden), _activation(config.activation, hidden)]
            if config.dropout:
                layers.append(nn.Dropout(config.dropout))
            width = hidden
        layers.append(nn.Linear(width, labels))
        if config.logit_norm:
            layers.append(BatchNorm(labels))
        self.tower = nn.Sequential(*layers)
        self.usual = config == HeadConfig(hidden=config.hidden) and len(layers) > 1
        self.labels = labels

    def start_at(self, rates: Sequence[float]) -> None:
        """Let the last bias be the logit of the rate of each label, so that training starts calibrated."""
        bias = self.tower[-1].bias
        assert isinstance(bias, nn.Parameter), "the last layer is linear or a norm, and both have a bias"
        with torch.no_grad():
            bias.copy_(torch.tensor(rates, dtype=torch.float64).logit())

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features (B, C, width) and mask (B, C) -> logits (B, C, T), 0 at padding."""
        by_hand = self.usual and is_trained_by_hand(x, next(self.tower.parameters()))
        tower = partial(through_tower, self.tower) if by_hand else self.tower
        if bool(mask.all()):
            return tower(x.flatten(0, 1)).float().view(*mask.shape, self.labels)  # (B, C, T)
        logits = tower(x[mask]).float()  # (real candidates, T)
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

    def over(self, read: Tensor, profile: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, C, T) over what a model read, the profile and the context; see `head_over`.

        Args:
            read: (B, C, R), what the model made of each candidate and its history.
            profile: (B, n2, d) or (B, n2 * d) of the row, which its candidates share.
            context: (B, C, n3 * d).
            mask: (B, C) bool, True where there is a candidate.
        """
        shared = profile.to(read.dtype).flatten(1)[:, None].expand(-1, read.shape[1], -1)  # (B, C, n2 * d)
        return self(torch.cat([read, shared, context], dim=-1), mask)


def head_over(inputs: Inputs, read: int, labels: int, config: HeadConfig) -> Head:
    """Head over ``read`` numbers per candidate, the profile of its user and its context."""
    profile = slice(read, read + inputs.profile_tokens * inputs.dim)
    return Head(profile.stop + inputs.context_tokens * inputs.dim, labels, config, profile)


def _extended(layer: nn.Module, wide: nn.Module) -> nn.Module:
    """The wide layer, whose first outputs have the weights of ``layer``."""
    weights = wide.state_dict()
    for name, tensor in layer.state_dict().items():
        own = weights[name][: len(tensor)] if tensor.dim() else weights[name]  # a norm counts its batches
        own.copy_(tensor)
    return wide.train(layer.training)
