"""Multi-head attention of each candidate over behaviors that were chosen for it."""

import torch
from torch import Tensor, nn

from clickscale.layers.attention import split_heads


class TargetAttention(nn.Module):
    """Heads ``softmax_j(<q W_q, k_j W_k> / sqrt(width of a head)) k_j W_v``, joined.

    Args:
        query_width: of a candidate. key_width: of a behavior. width: of all heads together.
    """

    def __init__(self, query_width: int, key_width: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query = nn.Linear(query_width, width, bias=False)
        self.key_value = nn.Linear(key_width, 2 * width, bias=False)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """Read the behaviors.

        Args:
            query: (R, query width) candidates.
            keys: (R, K, key width) behaviors of each candidate.
            mask: (R, K) bool; a candidate without behaviors reads zeros.
            bias: (R, K), added to the scores of all heads.

        Returns:
            (R, width).
        """
        key, value = (split_heads(part, self.heads) for part in self.key_value(keys).chunk(2, dim=-1))
        asked = split_heads(self.query(query)[:, None], self.heads)  # (R, H, 1, width / H)
        scores = asked * self.scale @ key.transpose(-1, -2)  # (R, H, 1, K)
        if bias is not None:
            scores = scores + bias[:, None, None]
        return (masked_softmax(scores, mask[:, None, None]) @ value).flatten(1)  # (R, width)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis where the mask is True; zeros where nothing is."""
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return torch.where(mask.any(dim=-1, keepdim=True), weights, 0)
