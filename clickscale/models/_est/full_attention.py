"""Full self-attention over tokens and behaviors in one sequence, with blocks that can be masked.

Lightweight cross-attention is compared with it (Liu et al. 2026, section 4 and table 4). For one candidate,
with N tokens and M behaviors, T = N + M, and one head:

    normalized = concatenate(token_norm(tokens), row_norm(behaviors))       # (T, D)
    queries = concatenate([n @ W_query[n] for n in tokens], behaviors @ W_query)
    keys, values = normalized @ W_key, normalized @ W_value                 # shared by tokens and behaviors
    logits = queries @ keys.T / sqrt(D)                                     # (T, T)
    logits[~visible] = -inf                                                 # padding, cut pairs of kinds
    gathered = softmax(logits) @ values
    tokens[n] += gathered[n] @ W_out[n]; behaviors += gathered[N:] @ W_out
    each += its feed-forward

Behaviors read the candidate's tokens, so everything is computed for each candidate; only the first block's
projections of behaviors are shared (`FullStack.project`).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.layers.attention import merge_heads, split_heads
from clickscale.layers.feedforward import SwiGLU
from clickscale.layers.norm import RMSNorm
from clickscale.layers.per_token import PerTokenLinear, PerTokenSwiGLU

PairKind = Literal["NN", "NB", "BN", "BB"]  # query, key: N tokens, B behaviors


def _visible_pairs(tokens: int, seen: Tensor, masked: tuple[PairKind, ...]) -> Tensor:
    """Pairs of query and key that may attend: (R, 1, 1 or T, T) bool; with cuts each still sees itself.

    Args:
        seen: (R, M) bool, the behaviors that are not padding.
        masked: pairs of kinds that are cut.
    """
    rows, count = seen.shape
    keys = torch.cat([seen.new_ones((rows, tokens)), seen], dim=1)[:, None]  # (R, 1, T)
    if not masked:
        return keys[:, None]  # the same for every query: (R, 1, 1, T)
    kinds = ["N"] * tokens + ["B"] * count
    names = {kind: torch.tensor([k == kind for k in kinds], device=seen.device) for kind in "NB"}
    cut = torch.zeros((tokens + count, tokens + count), dtype=torch.bool, device=seen.device)
    for query, key in masked:
        cut |= names[query][:, None] & names[key]
    # A query whose keys are all cut would become NaN, so each keeps itself.
    own = torch.eye(tokens + count, dtype=torch.bool, device=seen.device)
    return (keys & ~cut | own)[:, None]  # (R, 1, T, T)


class FullBlock(nn.Module):
    """One block: pre-norm, residual.

    Tokens have queries, outputs and feed-forwards of their own, as in `LightBlock`. Keys and values of tokens
    and behaviors come from one projection.
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
            pairs: of `_visible_pairs`.

        Returns:
            New tokens and rows.
        """
        query, key, value = self._heads(tokens, projected)
        seen = merge_heads(functional.scaled_dot_product_attention(query, key, value, attn_mask=pairs))
        first, rest = seen[:, : len(tokens)], seen[:, len(tokens) :]  # (R, N, D), (R, M, D)
        tokens = tokens + self.token_out(first.transpose(0, 1))  # (N, R, D)
        rows = rows + self.row_out(rest)
        tokens = tokens + self.token_ffn(self.token_ffn_norm(tokens))
        return tokens, rows + self.row_ffn(self.row_ffn_norm(rows))

    def weights(self, tokens: Tensor, projected: Tensor, pairs: Tensor) -> Tensor:
        """The weights that `forward` computes inside one fused operation: (R, H, T, T), rows add up to 1."""
        query, key, _ = self._heads(tokens, projected)
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # (R, H, T, T)
        return logits.masked_fill(~pairs, -torch.inf).softmax(dim=-1)

    def _heads(self, tokens: Tensor, projected: Tensor) -> list[Tensor]:
        """Queries, keys and values (R, H, T, D / H) of tokens and behaviors."""
        entered = self.token_norm(tokens)
        query = self.token_query(entered).transpose(0, 1)  # (R, N, D)
        own = torch.cat([query, self.key_value(entered).transpose(0, 1)], dim=-1)  # (R, N, 3 D)
        joined = torch.cat([own, projected.to(own.dtype)], dim=1).chunk(3, dim=-1)  # 3 of (R, T, D)
        return [split_heads(part, self.heads) for part in joined]


class FullStack(nn.Module):
    """Blocks of full attention."""

    def __init__(
        self,
        tokens: int,
        width: int,
        heads: int,
        blocks: int,
        hidden: tuple[int, int],
        masked: tuple[PairKind, ...],
    ) -> None:
        super().__init__()
        self.masked = masked
        self.blocks = nn.ModuleList(FullBlock(tokens, width, heads, *hidden) for _ in range(blocks))

    def typed_blocks(self) -> list[FullBlock]:
        """The blocks, in order."""
        return [block for block in self.blocks if isinstance(block, FullBlock)]

    def project(self, rows: Tensor) -> Tensor:
        """First block's queries, keys and values (..., 3 D) of behaviors (..., D)."""
        return self.typed_blocks()[0].project(rows)

    def forward(self, tokens: Tensor, rows: Tensor, projected: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, R, D) through all blocks, and the mean (R, D) of the last rows.

        Args:
            rows: (R, M, D) behaviors of both sequences; ``projected`` (R, M, 3 D) of `project`.
            seen: (R, M) bool.
        """
        pairs = _visible_pairs(len(tokens), seen, self.masked)
        for index, block in enumerate(self.typed_blocks()):
            if index > 0:  # the first block's are given
                projected = block.project(rows)
            tokens, rows = block(tokens, rows, projected, pairs)
        mask = seen[..., None]  # (R, M, 1)
        return tokens, (rows * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
