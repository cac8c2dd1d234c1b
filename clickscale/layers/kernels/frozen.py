"""Forms of layers for a model that does not learn any more.

What depends on weights alone is computed once, when an artifact is loaded, and not with every request. Large
products go to the faster library (`clickscale.layers.kernels.products`). The scores are the same but for
rounding.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.errors import ConfigError
from clickscale.layers.embedding import BINS, FusedEmbedding, SideEmbedding
from clickscale.layers.head import Head
from clickscale.layers.inputs import Inputs, ItemTable
from clickscale.layers.kernels.products import served_product
from clickscale.layers.norm import RMSNorm
from clickscale.layers.timed_inputs import TimeOfWeek

_PIECE = 1 << 16  # items that are embedded together where all are
_MOST_NUMBERS = 1 << 24  # of the embedded items (64 MB); of a larger table, a request embeds its own items


def freeze(model: nn.Module) -> None:
    """Let a model that does not learn any more score faster; it cannot be trained afterwards."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Inputs) and module.items.size * module.item_width <= _MOST_NUMBERS:
                _freeze_items(module.items, module.table)
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = _FrozenLinear
            elif type(module) is RMSNorm:
                module.__class__ = _FrozenRMSNorm
            elif type(module) is SideEmbedding and module.numbers and module.how == "piecewise":
                _freeze_numbers(module)
            elif type(module) is TimeOfWeek:
                module.register_buffer("frozen", module.week(), persistent=False)
                module.__class__ = _FrozenTimeOfWeek
            elif type(module) is Head and module.profile.stop:
                _freeze_head(module)


class _FrozenLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        """As of the base."""
        return served_product(x, self.weight, self.bias)


class _FrozenRMSNorm(RMSNorm):
    """In operations of which none keeps anything for a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """As of the base."""
        if torch.is_grad_enabled() or x.dtype != self.gain.dtype:
            return super().forward(x)
        rms = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5)  # (..., 1)
        return (x * rms.add_(self.eps).reciprocal_()).mul_(self.gain)


class _FrozenTimeOfWeek(TimeOfWeek):
    frozen: Tensor

    def week(self) -> Tensor:
        """As of the base."""
        return self.frozen

    def train(self, mode: bool = True) -> Any:
        """As of the base, in evaluation mode."""
        return _evaluating(self, mode)


# --- items


class _FrozenItems(ItemTable):
    """All items are embedded already.

    Attributes:
        frozen: (items, n * d).
    """

    frozen: Tensor

    def forward(self, table: FusedEmbedding, items: Tensor) -> Tensor:
        """As of the base."""
        return functional.embedding(items, self.frozen)  # (..., n * d)

    def train(self, mode: bool = True) -> Any:
        """As of the base, in evaluation mode."""
        return _evaluating(self, mode)


def _freeze_items(items: ItemTable, table: FusedEmbedding) -> None:
    every = torch.split(torch.arange(items.size, device=items.rows.device), _PIECE)
    items.register_buffer("frozen", torch.cat([items(table, piece) for piece in every]), persistent=False)
    items.__class__ = _FrozenItems


# --- numbers


class _FrozenNumbers(SideEmbedding):
    """Piecewise numbers: one look-up of the line that a number lies on, instead of its shares of all bins.

    Attributes:
        bounds: (F, T), left edges of the bins.
        frozen: (F * (T + 2), 2d + 2), the lines. A line is its start (d), its rise (d), and the left edge and
            the slope of the share of its rise. Line 0 is that of numbers below all edges, line t that of bin
            t, and the last one that of missing numbers.
        first_line: (F,) of each field.
    """

    bounds: Tensor
    frozen: Tensor
    first_line: Tensor

    def rows(self, indices: Tensor) -> Tensor:
        """As of the base."""
        return super().rows(indices) if self.values else indices

    def embed_numbers(self, numbers: Tensor) -> Tensor:
        """As of the base."""
        x, dim = torch.nan_to_num(numbers), self.bias.shape[1]
        columns = x.reshape(-1, self.numbers).T.contiguous()  # (F, N)
        place = torch.searchsorted(self.bounds, columns, right=True).T.view(x.shape)  # (..., F)
        place = place.masked_fill(numbers.isnan(), BINS + 1) + self.first_line  # (..., F)
        found = functional.embedding(place, self.frozen)  # (..., F, 2d + 2)
        share = ((x - found[..., -2]) * found[..., -1]).clamp_(max=1)  # (..., F)
        return torch.addcmul(found[..., :dim], share[..., None], found[..., dim:-2])

    def train(self, mode: bool = True) -> Any:
        """As of the base, in evaluation mode."""
        return _evaluating(self, mode)


def _freeze_numbers(side: SideEmbedding) -> None:
    bias = side.bias[:, None]  # (F, 1, d)
    before = bias + side.weight.cumsum(dim=1)[:, :-1]  # (F, T - 1, d): all of the bins to the left
    start = torch.cat([bias, bias, before, side.missing[:, None]], dim=1)  # (F, T + 2, d)
    share = torch.stack([side.edges, side.slopes], dim=-1)  # (F, T, 2)
    rise = functional.pad(torch.cat([side.weight, share], dim=-1), (0, 0, 1, 1))  # (F, T + 2, d + 2)
    lines = torch.cat([start, rise], dim=-1).flatten(0, 1)  # (F * (T + 2), 2d + 2)
    bounds = torch.where(side.slopes > 0, side.edges, torch.inf)  # no number lies in a missing bin
    first = torch.arange(side.numbers, device=lines.device) * (BINS + 2)
    for name, buffer in (("frozen", lines), ("bounds", bounds), ("first_line", first)):
        side.register_buffer(name, buffer, persistent=False)
    side.__class__ = _FrozenNumbers


# --- the head


class _FrozenHead(Head):
    """Candidates share the product of the first layer with the profile of their user.

    Attributes:
        frozen: (width, hidden), the weights of the first layer, those of the profile last.
    """

    frozen: Tensor

    def over(self, read: Tensor, profile: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """As of the base."""
        if not bool(mask.all()):
            return super().over(read, profile, context, mask)
        own = torch.cat([read, context], dim=-1)  # (B, C, R + n3 * d)
        first, *layers = self.tower
        assert isinstance(first, nn.Linear), "a tower begins with a linear layer"
        shared = profile.to(read.dtype).flatten(1)  # (B, n2 * d)
        added = torch.addmm(first.bias, shared, self.frozen[own.shape[-1] :])  # (B, hidden)
        weight = self.frozen[: own.shape[-1]].T
        x = (
            served_product(own, weight, added[0])
            if len(own) == 1
            else served_product(own, weight, None) + added[:, None]
        )
        x = x.flatten(0, 1)  # (B * C, hidden)
        for layer in layers:
            x = layer(x)
        return x.float().view(*mask.shape, self.labels)  # (B, C, T)

    def train(self, mode: bool = True) -> Any:
        """As of the base, in evaluation mode."""
        return _evaluating(self, mode)


def _freeze_head(head: Head) -> None:
    first, columns = head.tower[0], head.profile
    assert isinstance(first, nn.Linear), "a tower begins with a linear layer"
    before, profile, after = first.weight.tensor_split((columns.start, columns.stop), dim=1)
    weight = torch.cat([before, after, profile], dim=1).T.contiguous()  # (width, hidden)
    head.register_buffer("frozen", weight, persistent=False)
    head.__class__ = _FrozenHead


def _evaluating(module: nn.Module, mode: bool) -> nn.Module:
    """Refuse training, after which what was computed from the weights would be outdated."""
    if mode:
        raise ConfigError("The model was loaded to be served; build one by build_model to train it.")
    return nn.Module.train(module, mode)
