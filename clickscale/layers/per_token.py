"""Layers with weights of their own for every token, in token-major layout (N, R, D).

With the tokens first, one batched product of N matrices serves all tokens, whatever the number of rows R, and
nothing is transposed between the layers of a stack.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.features import Feature, categorical, content, numeric


class PerTokenLinear(nn.Module):
    """``x_n W_n (+ b_n)`` for token n (phi of Liu et al. 2026).

    Args:
        tokens: N. width, out: of a token before and after.
    """

    def __init__(self, tokens: int, width: int, out: int, bias: bool = False) -> None:
        super().__init__()
        bound = width**-0.5  # as nn.Linear
        self.weight = nn.Parameter(torch.empty(tokens, width, out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(tokens, 1, out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Tokens ``first`` and the following, (n, R, width) -> (n, R, out)."""
        weight = self.weight[first : first + len(x)]
        if self.bias is None:
            return torch.bmm(x, weight)
        return torch.baddbmm(self.bias[first : first + len(x)], x, weight)


class PerTokenSwiGLU(nn.Module):
    """``(SiLU(x_n A_n) * x_n B_n) C_n`` for token n, without biases (Shazeer 2020)."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.enter = PerTokenLinear(tokens, width, 2 * hidden)  # A and B in one product
        self.leave = PerTokenLinear(tokens, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, R, D) -> (N, R, D)."""
        gate, value = self.enter(x).chunk(2, dim=-1)
        return self.leave(functional.silu(gate) * value)


class FieldTokens(nn.Module):
    """One tokenizer for each field of profile, context and candidate, and for each histogram.

    Attributes:
        names: of all N tokens, in order.

    Args:
        fields: names of the fields of all sides. histograms: names of the histograms.
        dim: d, width of an embedded field. bins: of a histogram. width: D of a token.
    """

    def __init__(
        self, fields: Sequence[str], histograms: Sequence[str], dim: int, bins: int, width: int
    ) -> None:
        super().__init__()
        self.names = (*fields, *histograms)
        self.fields = PerTokenLinear(len(fields), dim, width, bias=True)
        if histograms:
            self.histograms = PerTokenLinear(len(histograms), bins, width, bias=True)

    def profile(self, fields: Tensor) -> Tensor:
        """Tokens (B, n, D) of the profile's fields (B, n, d), which are the first fields."""
        return self.fields(fields.transpose(0, 1)).transpose(0, 1)  # (B, n, D)

    def forward(self, profile: Tensor, fields: Tensor, histograms: list[Tensor]) -> Tensor:
        """All tokens of each candidate.

        Args:
            profile: (B, n, D) tokens. fields: (B, C, m, d) of context and candidate.
            histograms: each (B, C, bins).

        Returns:
            (N, B * C, D).
        """
        count = fields.shape[1]
        known = profile.transpose(0, 1)[:, :, None].expand(-1, -1, count, -1).flatten(1, 2)  # (n, R, D)
        others = self.fields(fields.flatten(0, 1).transpose(0, 1), len(known))  # (m, R, D)
        parts = [known.to(others.dtype), others]  # a state may be kept in half precision
        if histograms:
            bins = torch.stack([histogram.flatten(0, 1) for histogram in histograms])  # (histograms, R, bins)
            parts.append(self.histograms(bins).to(others.dtype))
        return torch.cat(parts)


def token_names(*sides: tuple[Feature, ...]) -> tuple[str, ...]:
    """Names of the tokens that `SideEmbedding` and `ItemTable` make of the features of sides, in order."""
    kinds = [kind for side in sides for kind in (categorical(side), numeric(side), content(side))]
    return tuple(feature.name for kind in kinds for feature in kind)
