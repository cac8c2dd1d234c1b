"""The unified attention block of SUAN and LightSUAN (Lai et al. 2025, eq. 2-16) with its named variants."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.config import Config
from clickscale.layers.attention import attend, merge_heads, split_heads
from clickscale.layers.feedforward import ReLUFeedForward, SwiGLU
from clickscale.layers.norm import RMSNorm

# Self attention once it is known who sees whom: query, key, value (B, H, N, D / H), scale -> the like.
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]
Pool = Callable[[Tensor], Tensor]  # what the gate of a row sees: (B, N, D) -> (B, N, D) or (B, 1, D)


class BlockConfig(Config, frozen=True):
    """Named resolutions of what the paper leaves open, and its ablations.

    Attributes:
        residual: ``prenorm`` keeps an un-normalized stream; ``code`` follows the released code (the residual
            branch is the normalized input); ``postnorm`` is ablation G; ``literal`` has none, as the
            equations.
        scale: softmax scale by the ``head`` width, or by the ``paper``'s sqrt(D).
        fusion: ``afnet``; ``sum`` of self and cross attention (ablation C); ``self`` attention alone (B).
        ffn: ``swiglu`` of hidden width 3D; ``relu`` of as many weights; ``none`` (A).
        norm: ``rms`` or ``layer`` (F).
    """

    residual: Literal["code", "prenorm", "postnorm", "literal"] = "code"
    scale: Literal["head", "paper"] = "head"
    fusion: Literal["afnet", "sum", "self"] = "afnet"
    ffn: Literal["swiglu", "relu", "none"] = "swiglu"
    norm: Literal["rms", "layer"] = "rms"


class AdaptiveFusion(nn.Module):
    """AFNet (eq. 10-13): a gate over self and cross attention from the mean of both over what a row sees."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = width // 4  # three matrices of D x D / 4: the 3/4 D^2 that the paper counts
        self.shrink = nn.Linear(width, hidden, bias=False)
        self.self_gate = nn.Linear(hidden, width, bias=False)
        self.cross_gate = nn.Linear(hidden, width, bias=False)

    def forward(self, own: Tensor, cross: Tensor, mean: Tensor) -> Tensor:
        """Own and cross (B, N, D), mean (B, N or 1, D) -> (B, N, D)."""
        # The softmax over two branches is a sigmoid of their difference: one product instead of two.
        difference = self.self_gate.weight - self.cross_gate.weight
        gate = functional.linear(torch.relu(self.shrink(mean)), difference).sigmoid()
        return torch.lerp(cross.to(own.dtype), own, gate.to(own.dtype))  # autocast mixes the types


class AttentionBlock(nn.Module):
    """One unified attention block.

    A behavior row and a candidate row pass through the same weights; they differ only in how they attend and
    in which mean their gate sees, so those two come in as arguments.
    """

    def __init__(self, width: int, heads: int, profile_dim: int, config: BlockConfig) -> None:
        super().__init__()
        self.config, self.heads = config, heads
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
            self.fusion = AdaptiveFusion(width)
        if config.ffn != "none":
            self.ffn = (
                SwiGLU(width, 3 * width) if config.ffn == "swiglu" else ReLUFeedForward(width, 9 * width // 2)
            )

    def behaviors(
        self, x: Tensor, profile: Tensor, attention: Attend, past: tuple[Tensor, Tensor] | None, pool: Pool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of behaviors.

        Args:
            x: (B, L, D) rows to compute.
            profile: (B, n2, d).
            attention: of L queries over P + L keys.
            past: keys and values (B, H, P, D / H) of the P earlier behaviors, or None.
            pool: the mean that each row's gate sees.

        Returns:
            New rows (B, L, D), and the keys and values (B, H, P + L, D / H).
        """
        entered, query, key, value = self._extend(x, past)
        seen = self.out(merge_heads(attention(query, key, value, self.scale)))
        return self._leave(x, entered, seen, profile, pool), key, value

    def last_behaviors(
        self, x: Tensor, profile: Tensor, attention: Attend, past: tuple[Tensor, Tensor] | None, pool: Pool
    ) -> tuple[Tensor, Tensor]:
        """Keys and values as of `behaviors`, where nobody reads the rows; a gate still calls ``pool``."""
        entered, query, key, value = self._extend(x, past)
        if self.config.fusion == "afnet":
            seen = self.out(merge_heads(attention(query, key, value, self.scale)))
            own = self._own(x, entered, seen)
            pool(own + self._cross(own, profile))
        return key, value

    def _extend(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalized rows, their queries, and the keys and values of earlier and new rows."""
        entered = self._enter(x)
        query, key, value = self._project(entered)
        if past is not None:
            key = torch.cat([past[0].to(key.dtype), key], dim=2)
            value = torch.cat([past[1].to(value.dtype), value], dim=2)
        return entered, query, key, value

    def candidates(self, x: Tensor, profile: Tensor, attention: Attend, pool: Pool) -> Tensor:
        """Rows of candidates (B, C, D); ``attention`` is given their own keys and values."""
        entered = self._enter(x)
        seen = attention(*self._project(entered), self.scale)
        return self._leave(x, entered, self.out(merge_heads(seen)), profile, pool)

    def _enter(self, x: Tensor) -> Tensor:
        return x if self.config.residual == "postnorm" else self.norms[0](x)

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        return split_heads(query, self.heads), split_heads(key, self.heads), split_heads(value, self.heads)

    def _cross(self, x: Tensor, profile: Tensor) -> Tensor:
        """Attention of every row over the profile fields (eq. 7-9)."""
        key, value = self.cross_key_value(profile.to(x.dtype)).chunk(2, dim=-1)
        heads = [split_heads(part, self.heads) for part in (self.cross_query(x), key, value)]
        return self.cross_out(merge_heads(attend(heads[0], heads[1], heads[2], None, self.scale)))

    def _fuse(self, own: Tensor, profile: Tensor, pool: Pool) -> Tensor:
        """Self attention's result and the profile's, as one."""
        if self.config.fusion == "self":
            return own
        cross = self._cross(own, profile)
        if self.config.fusion == "sum":
            return own + cross
        return self.fusion(own, cross, pool(own + cross))

    def _feed(self, x: Tensor) -> Tensor:
        return self.ffn(x) if self.config.ffn != "none" else torch.zeros_like(x)

    def _leave(self, x: Tensor, entered: Tensor, attention: Tensor, profile: Tensor, pool: Pool) -> Tensor:
        """From the attention's result to the block's, by the chosen residual."""
        residual = self.config.residual
        own = self._own(x, entered, attention)
        fused = self._fuse(own, profile, pool)
        if residual == "literal":
            return self._feed(fused) if self.config.ffn != "none" else fused
        if residual == "prenorm":
            stream = x + attention + fused
            return stream + self._feed(self.norms[2](stream))
        if residual == "code":
            fused = self.norms[2](fused + own)
            return self._feed(fused) + fused
        fused = self.norms[1](own + fused)
        return self.norms[2](fused + self._feed(fused))

    def _own(self, x: Tensor, entered: Tensor, attention: Tensor) -> Tensor:
        """E_self of the paper (eq. 6): what self attention hands to fusion, by the chosen residual."""
        residual = self.config.residual
        if residual == "literal":
            return attention
        if residual == "postnorm":
            return self.norms[0](x + attention)
        return self.norms[1](attention + (x if residual == "prenorm" else entered))
