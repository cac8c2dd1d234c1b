"""Lightweight cross-attention (LCA) and its block (Liu et al. 2026, sections 5.1-5.3).

N tokens (profile, context, candidate) query two sequences: the user's recent behaviors, which do not depend
on a candidate, and the behaviors retrieved for each candidate. Tokens never attend to each other, and
behaviors never attend to tokens. For one candidate, with one head:

    behaviors = concatenate(recent, retrieved)              # (M, D), normalized
    keys, values = behaviors @ W_key, behaviors @ W_value   # (M, D), weights shared by both sequences
    for n in range(N):                                      # every token has weights of its own
        query = tokens[n] @ W_query[n]                      # (D,)
        logits = keys @ query / sqrt(D) + bias              # (M,), bias by time and distance
        weights = softmax(logits)                           # one softmax over both sequences
        tokens[n] += (weights @ values) @ W_out[n]

This file computes the same for all candidates at once. Keys and values of a user's behaviors are made once
and never copied to its candidates: the queries of all tokens and candidates of a user form one matrix.

A row of the token side is a pair of user and candidate: R = U * C rows, C candidates for each of U users.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clickscale.layers.feedforward import SwiGLU
from clickscale.layers.norm import RMSNorm
from clickscale.layers.per_token import PerTokenLinear, PerTokenSwiGLU
from clickscale.models._est.content_attention import Neighbors, gather_neighbors

# Logit of a behavior that is not seen. Finite: with -inf, a row that sees nothing would become NaN.
LOW = -1e30


@dataclass(frozen=True)
class KeyValues:
    """Keys and values of one sequence in one block, which tokens read.

    Attributes:
        key, value: (G, H, M, D / H) of G groups of rows. A group is a user with all its candidates (G = U),
            or a single candidate (G = R).
        bias: (G, 1, R / G or 1, M) added to the logits, `LOW` where a behavior is not seen.
    """

    key: Tensor
    value: Tensor
    bias: Tensor

    @property
    def groups(self) -> int:
        """G."""
        return self.key.shape[0]


@dataclass(frozen=True)
class BehaviorSequence:
    """One sequence after all blocks, as candidates see it.

    Attributes:
        blocks: what tokens read of it in each block.
        total: (R, D) sum of the last block's rows that each row sees.
        count: (R, 1) how many that are.
    """

    blocks: tuple[KeyValues, ...]
    total: Tensor
    count: Tensor


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
        return self.split(self.key_value(rows))

    def split(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs (G, M, 2 D) of ``key_value`` -> keys and values (G, H, M, D / H)."""
        groups, count, width = projected.shape
        pair = projected.view(groups, count, 2, self.heads, width // 2 // self.heads)  # (G, M, 2, H, D / H)
        key, value = pair.permute(2, 0, 3, 1, 4).unbind()  # (G, H, M, D / H) each
        return key, value

    def forward(self, x: Tensor, sequences: tuple[KeyValues, ...], seen: Tensor) -> Tensor:
        """Attention of tokens over the union of the sequences.

        Args:
            x: (N, R, D) normalized tokens.
            sequences: one or more.
            seen: (R, 1) bool, whether a row sees any behavior; the result is zero where it does not.

        Returns:
            (N, R, D).
        """
        # Sequences of one user and of one candidate meet in one softmax, so their logits take one layout,
        # that of the larger groups: (U, H, N, C, M). For these it is what their product gives; only the
        # logits of smaller groups are copied.
        users = min(sequence.groups for sequence in sequences)
        query = self.query(x) * self.scale  # (N, R, D)
        parts = [self._logits(query, sequence, users) for sequence in sequences]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)  # (U, H, N, C, all M)
        lengths = [sequence.key.shape[2] for sequence in sequences]
        weights = torch.split(logits.softmax(dim=-1), lengths, dim=-1)
        gathered = [self._gather(part, sequence) for part, sequence in zip(weights, sequences, strict=True)]
        return self.out(sum(gathered[1:], gathered[0]) * seen)

    def _logits(self, query: Tensor, sequence: KeyValues, users: int) -> Tensor:
        """Queries (N, R, D) times the keys of a sequence, plus its bias: (U, H, N, C, M)."""
        tokens, rows, _ = query.shape
        groups, heads, count, size = sequence.key.shape
        per_group = rows // groups
        apart = query.view(tokens, groups, per_group, heads, size)  # (N, G, R/G, H, D/H)
        grouped = apart.permute(1, 3, 0, 2, 4).flatten(2, 3)  # (G, H, N * R/G, D/H)
        key = sequence.key.to(query.dtype)  # a state may be in half precision
        logits = grouped @ key.transpose(-1, -2)  # (G, H, N * R/G, M)
        logits = logits.view(groups, heads, tokens, per_group, count)  # (G, H, N, R/G, M)
        logits = logits + sequence.bias[:, :, None]  # the bias is the same for every token
        if groups == users:
            return logits
        apart = logits.view(users, groups // users, heads, tokens, count)  # (U, C, H, N, M)
        return apart.permute(0, 2, 3, 1, 4)  # (U, H, N, C, M)

    def _gather(self, weights: Tensor, sequence: KeyValues) -> Tensor:
        """Weights (U, H, N, C, M) times the values of a sequence: (N, R, D)."""
        users, heads, tokens, per_user, count = weights.shape
        value = sequence.value.to(weights.dtype)  # (G, H, M, D/H)
        if sequence.groups == users:
            grouped = weights.reshape(users, heads, tokens * per_user, count)  # (U, H, N * C, M)
        else:
            by_row = weights.permute(0, 3, 1, 2, 4)  # (U, C, H, N, M)
            grouped = by_row.reshape(users * per_user, heads, tokens, count)  # (R, H, N, M)
        gathered = grouped @ value  # (G, H, N * R/G, D/H)
        gathered = gathered.view(sequence.groups, heads, tokens, -1, value.shape[3])  # (G, H, N, R/G, D/H)
        return gathered.permute(2, 0, 3, 1, 4).reshape(tokens, users * per_user, -1)  # (N, R, D)


class LightBlock(nn.Module):
    """One block of tokens and behaviors: pre-norm, residual; all behaviors share one feed-forward.

    Tokens read the behaviors that enter the block, not those that leave it, so both sub-layers may run in
    either order.

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

    def behaviors(self, x: Tensor, normalized: Tensor, neighbors: Neighbors | None) -> Tensor:
        """Behaviors (G, M, D) through the block.

        Args:
            normalized: (G, P + M, D) rows that a behavior may gather: P earlier ones, then these, all after
                ``row_norm``.
            neighbors: which of them each behavior gathers by content; None for none.
        """
        if neighbors is not None:
            x = x + gather_neighbors(normalized, neighbors)
        return x + self.row_ffn(self.row_ffn_norm(x))

    def tokens(self, x: Tensor, sequences: tuple[KeyValues, ...], seen: Tensor) -> Tensor:
        """Tokens (N, R, D) over the behaviors of all sequences -> (N, R, D)."""
        x = x + self.attention(self.token_norm(x), sequences, seen)
        return x + self.token_ffn(self.token_ffn_norm(x))
