"""The unified attention block of SUAN and LightSUAN (Lai et al. 2025, eq. 2-16) with its named variants.

The default block, for rows ``x`` (N, D) and the fields of the profile (n2, d)::

    x1 = norm_0(x)                                         # eq. 2
    query, key, value = x1 @ Wqkv                          # eq. 3
    x2 = norm_1(attention(query, key, value) @ Wo + x1)    # eq. 4-6
    cross = attention(x2 @ Wq, profile @ Wk, profile @ Wv) @ Wc          # eq. 7-9
    mean = running mean over rows of (x2 + cross) @ W1     # eq. 10, 11: the gate's input
    gate = sigmoid(relu(mean) @ (W2 - W3))                 # eq. 12, 13: a softmax over two branches
    x3 = norm_2(gate * x2 + (1 - gate) * cross + x2)       # eq. 14
    return (silu(x3 @ Wa) * (x3 @ Wb)) @ Wc + x3           # eq. 15, 16

A behavior row and a candidate row pass through the same weights. They differ in whom they attend to and in
the rows that their mean covers, so the block is three steps and its caller does what lies between them:
`AttentionBlock.enter`, attention, `AttentionBlock.meet_profile`, the mean, `AttentionBlock.leave`.

The mean is taken of ``(x2 + cross) @ W1``, a quarter as wide as ``x2 + cross``: a mean and a linear map can
change places.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.config import Config
from clickscale.layers.attention import attend_to_few, merge_heads, split_heads
from clickscale.layers.feedforward import ReLUFeedForward, SwiGLU
from clickscale.layers.kernels.products import is_trained_by_hand
from clickscale.layers.kernels.unified_block import enter_by_hand, leave_by_hand, meet_by_hand
from clickscale.layers.norm import RMSNorm


class BlockConfig(Config, frozen=True):
    """Named resolutions of what the paper leaves open, and its ablations.

    Attributes:
        residual: ``prenorm`` keeps an un-normalized stream; ``code`` follows the released code (the residual
            branch is the normalized input); ``postnorm`` is ablation G; ``literal`` has none, as the
            equations.
        scale: softmax scale by the ``head`` width, or by the ``paper``'s sqrt(D).
        fusion: ``afnet``; ``sum`` of self and cross attention (ablation C); ``self`` attention only (B).
        ffn: ``swiglu`` of hidden width 3D; ``relu`` of as many weights; ``none`` (A).
        norm: ``rms`` or ``layer`` (F).
    """

    residual: Literal["code", "prenorm", "postnorm", "literal"] = "code"
    scale: Literal["head", "paper"] = "head"
    fusion: Literal["afnet", "sum", "self"] = "afnet"
    ffn: Literal["swiglu", "relu", "none"] = "swiglu"
    norm: Literal["rms", "layer"] = "rms"


class _Entered(NamedTuple):
    """Rows on their way into self attention.

    Attributes:
        rows: (B, N, D) normalized input.
        query, key, value: (B, H, N, D / H).
    """

    rows: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


class _Met(NamedTuple):
    """Rows after self and cross attention, before the gate.

    Attributes:
        stream: (B, N, D) to which the result of fusion is added.
        own: (B, N, D) E_self of the paper (eq. 6).
        cross: (B, N, D) E_cross (eq. 9).
        averaged: (B, N, D / 4) inputs to the gate's mean over rows; width 0 without a gate.
    """

    stream: Tensor
    own: Tensor
    cross: Tensor
    averaged: Tensor

    def rows_from(self, first: int) -> "_Met":
        """The rows from ``first`` on."""
        return _Met(*(part[:, first:] for part in self)) if first else self


class _AdaptiveFusion(nn.Module):
    """AFNet (eq. 10-13): a gate over self and cross attention from the mean of both over what a row sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width // 4  # three matrices of D x D / 4: the 3/4 D^2 that the paper counts
        self.shrink = nn.Linear(width, hidden, bias=False)
        self.self_gate = nn.Linear(hidden, width, bias=False)
        self.cross_gate = nn.Linear(hidden, width, bias=False)

    def averaged(self, own: Tensor, cross: Tensor) -> Tensor:
        """Inputs to the gate's mean: (B, N, D) -> (B, N, D / 4)."""
        both = own + cross
        return self.shrink(both).to(both.dtype)  # running sums need the full precision under autocast

    def gates(self) -> Tensor:
        """(D, D / 4); a softmax over two branches is a sigmoid of their difference: one product, not two."""
        return self.self_gate.weight - self.cross_gate.weight

    def forward(self, own: Tensor, cross: Tensor, mean: Tensor) -> Tensor:
        """Own and cross (B, N, D), mean of `averaged` (B, N or 1, D / 4) -> (B, N, D)."""
        gate = functional.linear(torch.relu(mean), self.gates()).sigmoid()
        return torch.lerp(cross.to(own.dtype), own, gate.to(own.dtype))  # autocast mixes the types


class AttentionBlock(nn.Module):
    """One unified attention block, see the module docstring."""

    def __init__(self, width: int, heads: int, profile_dim: int, config: BlockConfig) -> None:
        super().__init__()
        self.config, self.heads = config, heads
        self.usual = config == BlockConfig(scale=config.scale)
        self.scale = (width if config.scale == "paper" else width // heads) ** -0.5
        make = RMSNorm if config.norm == "rms" else nn.LayerNorm
        self.norms = nn.ModuleList(make(width) for _ in range(1 if config.residual == "literal" else 3))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        if config.fusion != "self":
            self.cross_query = nn.Linear(width, width, bias=False)
            self.cross_key_value = nn.Linear(profile_dim, 2 * width, bias=False)
            self.cross_out = nn.Linear(width, width, bias=False)
        if config.fusion == "afnet":
            self.fusion = _AdaptiveFusion(width)
        if config.ffn != "none":
            self.ffn = (
                SwiGLU(width, 3 * width) if config.ffn == "swiglu" else ReLUFeedForward(width, 9 * width // 2)
            )

    # --- the three steps

    def enter(self, x: Tensor) -> _Entered:
        """Normalize rows (B, N, D) and project them to queries, keys and values (eq. 2, 3)."""
        if self._by_hand(x):
            return _Entered(*enter_by_hand(self, x))
        rows = x if self.config.residual == "postnorm" else self.norms[0](x)
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(rows).chunk(3, dim=-1))
        return _Entered(rows, query, key, value)

    def meet_profile(self, x: Tensor, entered: _Entered, seen: Tensor, profile: Tensor) -> _Met:
        """Cross attention over the profile, and the inputs of the gate's mean (eq. 5-10).

        Args:
            x: (B, N, D) the rows that entered.
            seen: (B, H, N, D / H) result of self attention.
            profile: (B, n2, d).
        """
        if self._by_hand(x):
            own, cross, averaged = meet_by_hand(self, entered.rows, seen, profile)
            return _Met(own, own, cross, averaged)
        attention = self.out(merge_heads(seen))
        own = self._own(x, entered.rows, attention)
        cross = own if self.config.fusion == "self" else self._cross(own, profile)
        gated = self.config.fusion == "afnet"
        averaged = self.fusion.averaged(own, cross) if gated else own[..., :0]
        return _Met(x + attention if self.config.residual == "prenorm" else own, own, cross, averaged)

    def leave(self, met: _Met, mean: Tensor) -> Tensor:
        """Fuse, and feed forward (eq. 11-16).

        Args:
            mean: (B, N or 1, D / 4) mean of ``met.averaged`` over what each row sees.

        Returns:
            (B, N, D).
        """
        if self._by_hand(met.own):
            return leave_by_hand(self, met.own, met.cross, mean)
        fused = self._fuse(met, mean)
        residual = self.config.residual
        if residual == "literal":
            return self._feed(fused) if self.config.ffn != "none" else fused
        fused = fused + met.stream
        if residual == "prenorm":
            return fused + self._feed(self.norms[2](fused))
        if residual == "code":
            fused = self.norms[2](fused)
            return self._feed(fused) + fused
        fused = self.norms[1](fused)
        return self.norms[2](fused + self._feed(fused))

    # --- parts of the steps

    def _by_hand(self, x: Tensor) -> bool:
        """True in training of the default block in one precision, where fewer operations take less time."""
        return self.usual and is_trained_by_hand(x, self.qkv.weight)

    def _own(self, x: Tensor, rows: Tensor, attention: Tensor) -> Tensor:
        """E_self of the paper (eq. 6): what self attention hands to fusion, by the chosen residual."""
        residual = self.config.residual
        if residual == "literal":
            return attention
        if residual == "postnorm":
            return self.norms[0](x + attention)
        return self.norms[1](attention + (x if residual == "prenorm" else rows))

    def _cross(self, x: Tensor, profile: Tensor) -> Tensor:
        """Attention of every row over the profile fields (eq. 7-9)."""
        key, value = self.cross_key_value(profile.to(x.dtype)).chunk(2, dim=-1)
        query, key, value = (split_heads(part, self.heads) for part in (self.cross_query(x), key, value))
        return self.cross_out(merge_heads(attend_to_few(query, key, value, self.scale)))

    def _fuse(self, met: _Met, mean: Tensor) -> Tensor:
        """Self attention's result and the profile's, as one."""
        if self.config.fusion == "self":
            return met.own
        if self.config.fusion == "sum":
            return met.own + met.cross
        return self.fusion(met.own, met.cross, mean)

    def _feed(self, x: Tensor) -> Tensor:
        return self.ffn(x) if self.config.ffn != "none" else torch.zeros_like(x)
