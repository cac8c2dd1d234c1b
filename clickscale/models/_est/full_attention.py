"""Full self-attention over tokens and behaviors in one sequence, with blocks that can be masked.

What lightweight cross-attention is compared with (Liu et al. 2026, section 4 and table 4): every token and
every behavior attends to all of them, so everything has to be computed for each candidate.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.layers.attention import merge_heads, split_heads
from clickscale.layers.feedforward import SwiGLU
from clickscale.layers.norm import RMSNorm
from clickscale.layers.per_token import PerTokenLinear, PerTokenSwiGLU

Blocks = Literal["NN", "NB", "BN", "BB"]  # query, key: N tokens, B behaviors


def visible_pairs(tokens: int, seen: Tensor, masked: tuple[Blocks, ...]) -> Tensor:
    """Who sees whom: (R, 1, 1 or T, T) bool of T = N + M places; everyone sees itself.

    Args:
        seen: (R, M) bool, the behaviors that are there.
        masked: pairs of kinds that are cut.
    """
    rows, count = seen.shape
    keys = torch.cat([seen.new_ones((rows, tokens)), seen], dim=1)[:, None]  # (R, 1, T)
    if not masked:
        return keys[:, None]
    kinds = ["N"] * tokens + ["B"] * count
    names = {kind: torch.tensor([k == kind for k in kinds], device=seen.device) for kind in "NB"}
    cut = torch.zeros((tokens + count, tokens + count), dtype=torch.bool, device=seen.device)
    for query, key in masked:
        cut |= names[query][:, None] & names[key]
    return (keys & ~cut | torch.eye(tokens + count, dtype=torch.bool, device=seen.device))[:, None]


class FullBlock(nn.Module):
    """As `LightBlock`, with self-attention over everything: tokens have queries and outputs of their own.

    Keys and values of tokens and behaviors come from one shared projection, as do the behaviors' queries and
    outputs.
    """

    def __init__(self, tokens: int, width: int, heads: int, token_hidden: int, row_hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.token_norm, self.token_ffn_norm = RMSNorm(width), RMSNorm(width)
        self.row_norm, self.row_ffn_norm = RMSNorm(width), RMSNorm(width)
        self.token_query, self.token_out = (PerTokenLinear(tokens, width, width) for _ in range(2))
        self.row_query, self.row_out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.token_ffn = PerTokenSwiGLU(tokens, width, token_hidden)
        self.row_ffn = SwiGLU(width, row_hidden)

    def project(self, rows: Tensor) -> Tensor:
        """Queries, keys and values (..., 3 D) of behaviors (..., D)."""
        entered = self.row_norm(rows)
        return torch.cat([self.row_query(entered), self.key_value(entered)], dim=-1)

    def forward(
        self, tokens: Tensor, rows: Tensor, projected: Tensor, pairs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One block.

        Args:
            tokens: (N, R, D). rows: (R, M, D). projected: (R, M, 3 D) of `project`.
            pairs: of `visible_pairs`.

        Returns:
            New tokens and rows.
        """
        query, key, value = self._heads(tokens, projected)
        seen = merge_heads(functional.scaled_dot_product_attention(query, key, value, attn_mask=pairs))
        first, rest = seen[:, : len(tokens)], seen[:, len(tokens) :]
        tokens = tokens + self.token_out(first.transpose(0, 1))
        rows = rows + self.row_out(rest)
        tokens = tokens + self.token_ffn(self.token_ffn_norm(tokens))
        return tokens, rows + self.row_ffn(self.row_ffn_norm(rows))

    def weights(self, tokens: Tensor, projected: Tensor, pairs: Tensor) -> Tensor:
        """What everything pays to everything in `forward`: (R, H, T, T), each row adding up to 1."""
        query, key, _ = self._heads(tokens, projected)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        return logits.masked_fill(~pairs, -torch.inf).softmax(dim=-1)

    def _heads(self, tokens: Tensor, projected: Tensor) -> list[Tensor]:
        """Queries, keys and values (R, H, T, D / H) of tokens and behaviors."""
        entered = self.token_norm(tokens)
        query = self.token_query(entered).transpose(0, 1)  # (R, N, D)
        own = torch.cat([query, self.key_value(entered).transpose(0, 1)], dim=-1)
        joined = torch.cat([own, projected.to(own.dtype)], dim=1).chunk(3, dim=-1)  # 3 of (R, T, D)
        return [split_heads(part, self.heads) for part in joined]


class FullStack(nn.Module):
    """Blocks of full attention; what a block's first projection makes of behaviors can be shared."""

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        blocks: int,
        hidden: tuple[int, int],
        masked: tuple[Blocks, ...],
    ) -> None:
        super().__init__()
        self.masked = masked
        self.blocks = nn.ModuleList(FullBlock(tokens, width, heads, *hidden) for _ in range(blocks))

    def each(self) -> list[FullBlock]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, FullBlock)]

    def project(self, rows: Tensor) -> Tensor:
        """What the first block reads of behaviors (..., D): (..., 3 D)."""
        return self.each()[0].project(rows)

    def forward(self, tokens: Tensor, rows: Tensor, projected: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, R, D) through all blocks, and the mean (R, D) of the last rows.

        Args:
            rows: (R, M, D) behaviors of both sequences; ``projected`` (R, M, 3 D) of `project`.
            seen: (R, M) bool.
        """
        pairs = visible_pairs(len(tokens), seen, self.masked)
        for number, block in enumerate(self.each()):
            tokens, rows = block(tokens, rows, projected if not number else block.project(rows), pairs)
        mask = seen[..., None]
        return tokens, (rows * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
