"""Lightweight cross-attention and its block (Liu et al. 2026, sections 5.1-5.3).

N tokens (profile, context, candidate) query two sequences: the user's recent behaviors, which know no
candidate, and the behaviors retrieved for each candidate. Tokens never attend to each other, behaviors never
to tokens. So the recent behaviors' keys and values are computed once and never copied: one softmax joins the
logits of both halves, and each half is weighed by its own part of it.

A row of the token side is a pair of user and candidate: R = U * C rows, C candidates for each of U users.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clickscale.layers.attention import split_heads
from clickscale.layers.feedforward import SwiGLU
from clickscale.layers.norm import RMSNorm
from clickscale.layers.per_token import PerTokenLinear, PerTokenSwiGLU
from clickscale.models._est.content_attention import Neighbors, gather_neighbors

LOW = -1e30  # masked logits: finite, so that a row that sees nothing is no NaN


@dataclass(frozen=True)
class Half:
    """One of the two sequences that tokens query.

    Attributes:
        key, value: (G, H, M, D / H) of G groups of rows: users, or rows themselves.
        bias: (G, 1, R / G or 1, M) additive, `LOW` where not seen.
    """

    key: Tensor
    value: Tensor
    bias: Tensor


class CrossAttention(nn.Module):
    """Token-specific queries and outputs over shared keys and values (eq. 5-7)."""

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query = PerTokenLinear(tokens, width, width)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = PerTokenLinear(tokens, width, width)

    def keys_values(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Normalized behaviors (G, M, D) -> keys and values (G, H, M, D / H)."""
        key, value = self.key_value(rows).chunk(2, dim=-1)
        return split_heads(key, self.heads), split_heads(value, self.heads)

    def forward(self, x: Tensor, halves: tuple[Half, ...], seen: Tensor) -> Tensor:
        """What tokens gather from both halves.

        Args:
            x: (N, R, D) normalized tokens.
            seen: (R, 1) bool, whether a row sees any behavior; zeros where not.

        Returns:
            (N, R, D).
        """
        tokens, rows = x.shape[:2]
        query = (self.query(x) * self.scale).view(tokens, rows, self.heads, -1)
        parts = [self._logits(query, half) for half in halves]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)  # (N, R, H, all M)
        weights = torch.split(logits.softmax(dim=-1), [half.key.shape[2] for half in halves], dim=-1)
        gathered = [self._gather(part, half) for part, half in zip(weights, halves, strict=True)]
        return self.out(sum(gathered[1:], gathered[0]) * seen)

    def _logits(self, query: Tensor, half: Half) -> Tensor:
        """(N, R, H, M)."""
        tokens, rows = query.shape[:2]
        groups, _, columns, _ = half.key.shape
        grouped = query.view(tokens, groups, rows // groups, self.heads, -1).permute(1, 3, 0, 2, 4)
        logits = grouped.flatten(2, 3) @ half.key.to(query.dtype).transpose(-1, -2)  # (G, H, N R / G, M)
        logits = logits.view(groups, self.heads, tokens, rows // groups, columns) + half.bias[:, :, None]
        return logits.permute(2, 0, 3, 1, 4).reshape(tokens, rows, self.heads, columns)

    def _gather(self, weights: Tensor, half: Half) -> Tensor:
        """(N, R, D)."""
        tokens, rows, heads, columns = weights.shape
        groups = half.key.shape[0]
        each = rows // groups
        grouped = weights.view(tokens, groups, each, heads, columns).permute(1, 3, 0, 2, 4)
        value = half.value.to(weights.dtype)
        gathered = grouped.reshape(groups, heads, tokens * each, columns) @ value  # (G, H, N R / G, D / H)
        return (
            gathered.view(groups, heads, tokens, each, value.shape[3])
            .permute(2, 0, 3, 1, 4)
            .reshape(tokens, rows, -1)
        )


class LightBlock(nn.Module):
    """Both sub-layers read the block's input; pre-norm, residual; behaviors share one feed-forward.

    Args:
        token_hidden, row_hidden: hidden widths of the feed-forwards of tokens and of behaviors.
    """

    def __init__(self, tokens: int, width: int, heads: int, token_hidden: int, row_hidden: int) -> None:
        super().__init__()
        self.attention = CrossAttention(tokens, width, heads)
        self.token_norm, self.token_ffn_norm = RMSNorm(width), RMSNorm(width)
        self.row_norm, self.row_ffn_norm = RMSNorm(width), RMSNorm(width)
        self.token_ffn = PerTokenSwiGLU(tokens, width, token_hidden)
        self.row_ffn = SwiGLU(width, row_hidden)

    def behaviors(
        self, x: Tensor, neighbors: Neighbors | None, earlier: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows of behaviors.

        Args:
            x: (G, M, D) rows to compute.
            neighbors: what each row gathers by content, of ``earlier`` rows and these together; or None.
            earlier: (G, P, D) normalized rows before these.

        Returns:
            New rows (G, M, D), and the normalized input (G, P + M, D), which `CrossAttention` reads.
        """
        entered = self.row_norm(x)
        known = entered if earlier is None else torch.cat([earlier.to(entered.dtype), entered], dim=1)
        if neighbors is not None:
            x = x + gather_neighbors(known, neighbors)
        return x + self.row_ffn(self.row_ffn_norm(x)), known

    def tokens(self, x: Tensor, halves: tuple[Half, ...], seen: Tensor) -> Tensor:
        """Tokens (N, R, D) over the behaviors of both halves -> (N, R, D)."""
        x = x + self.attention(self.token_norm(x), halves, seen)
        return x + self.token_ffn(self.token_ffn_norm(x))
