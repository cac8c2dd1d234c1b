"""SUAN: Scalable Unified Attention Network (Lai et al., RecSys 2025).

The candidate stands at the end of the behavior sequence. Each unified attention block lets every position
attend to earlier ones with a learned bias of time and distance (self), lets it attend to the profile (cross),
fuses the two by a learned gate over the mean of what came before (AFNet), and ends in a SwiGLU.

Resolutions and deviations, each an option: the gate's mean is causal (``pooling="prefix"``: with the paper's
global mean the candidate would change the behaviors); residual connections, absent from the equations, follow
``residual``; attention is scaled by the head's width; every candidate stands right after the last behavior it
sees, at its own time; no absolute positions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config
from clickscale.errors import ConfigError, InputError
from clickscale.layers.bias import AttentionBias, Buckets, Sharing
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.norm import RMSNorm
from clickscale.layers.pooling import BehaviorMean, running_sum, sum_between
from clickscale.layers.tokenizer import Inputs, ItemColumns, TimeOfWeek
from clickscale.layers.unified import AttentionBlock, BlockConfig
from clickscale.models._base import CTRModel, State
from clickscale.schema import Features


class ModelConfig(Config, frozen=True):
    """Options; a grade is a preset of ``d``, ``blocks`` and ``heads`` (Table 4) and a length.

    Attributes:
        d: width of one feature's embedding; the block's width D is d times the fields of a behavior.
        bias: who shares the tables of the attention bias (the code: all); ``none`` is ablation E.
        pooling: what the gate averages: ``prefix`` (each row what it sees), ``split`` (behaviors the mean of
            all behaviors, candidates that and themselves), ``behaviors`` (all rows the behaviors' mean),
            ``global`` (eq. 11 literally, candidate included; nothing is shared among candidates).
        target: the candidate ends the ``sequence``, or enters the ``head`` only (ablation D), which then
            reads the row of the last visible behavior.
        candidate: its missing behavior fields are zero (``zero_fill``), or a ``linear`` map of its item
            fields makes the token.
        time_of_week: add an embedding of hour and weekday to every token.
    """

    d: int = 8
    blocks: int = 2
    heads: int = 2
    block: BlockConfig = BlockConfig()
    bias: Sharing = "shared"
    buckets: Buckets = "octave"
    pooling: Literal["prefix", "split", "behaviors", "global"] = "prefix"
    target: Literal["sequence", "head"] = "sequence"
    candidate: Literal["zero_fill", "linear"] = "zero_fill"
    time_of_week: bool = True
    head: HeadConfig = HeadConfig()


_SIZES = ((8, 1, 1), (8, 2, 2), (16, 4, 4), (32, 8, 8), (144, 12, 12))
PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, blocks=blocks, heads=heads)
    for i, (d, blocks, heads) in enumerate(_SIZES)
}
ABLATIONS = {
    "A": ("block.ffn=none",),
    "B": ("block.fusion=self",),
    "C": ("block.fusion=sum",),
    "D": ("target=head",),
    "E": ("bias=none",),
    "F": ("block.norm=layer",),
    "G": ("block.residual=postnorm",),
}


@dataclass(frozen=True)
class SUANState(State):
    """What candidates need of the behaviors.

    Attributes:
        mask, times: (B, L).
        profile: (B, n2, d).
        keys, values: per block (B, H, L, D / H).
        sums: per block (B, L + 1, D), running sums of what the gate averages.
        rows: (B, L, D) of the last block (``target="head"``), the input tokens (``pooling="global"``), or
            (B, 0, D).
    """

    mask: Tensor
    times: Tensor
    profile: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]
    rows: Tensor


class SUAN(CTRModel):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.causal = config.pooling == "prefix"
        self.inputs = Inputs(features, items, config.d)
        width = self.width = self.inputs.width
        if width % config.heads:
            raise ConfigError(
                f"The width of a block, {width}, is no multiple of heads={config.heads}; change d."
            )
        self.week = TimeOfWeek(config.d, width) if config.time_of_week else None
        self.linear = (
            nn.Linear(self.inputs.item_width, width, bias=False) if config.candidate == "linear" else None
        )
        self.blocks = nn.ModuleList(
            AttentionBlock(width, config.heads, config.d, config.block) for _ in range(config.blocks)
        )
        self.bias = AttentionBias(config.bias, config.blocks, config.heads, length, config.buckets)
        self.last = RMSNorm(width) if config.block.residual == "prenorm" else nn.Identity()
        tokens = self.inputs.profile_tokens + self.inputs.context_tokens
        read = width + (width if config.target == "head" else 0)
        self.head = Head(read + tokens * config.d, labels, config.head)

    def encode_user(self, user: UserSide) -> SUANState:
        """Keys, values and running sums of every block."""
        empty = user.times.new_zeros((len(user.times), 0))
        none = self.inputs.table.weight.new_zeros((len(user.times), 0, self.width))
        start = SUANState(empty.bool(), empty, self.inputs.profile(user), (), (), (), none)
        return self._advance(start, user)

    def extend_user(self, state: SUANState, user: UserSide) -> SUANState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded, or the model is not causal.
        """
        if not self.causal or not bool(user.mask.all()):
            raise InputError(
                "extend_user needs a causal model and rows that all gain the same number of behaviors."
            )
        return self._advance(state, user)

    def _blocks(self) -> list[AttentionBlock]:
        return [block for block in self.blocks if isinstance(block, AttentionBlock)]

    def _tokens(self, x: Tensor, times: Tensor) -> Tensor:
        return x if self.week is None else x + self.week(times)

    def _advance(self, state: SUANState, user: UserSide) -> SUANState:
        """Compute the rows of ``user``'s behaviors on top of a state."""
        x = self._tokens(self.inputs.behaviors(user), user.times)
        mask, times = torch.cat([state.mask, user.mask], dim=1), torch.cat([state.times, user.times], dim=1)
        if self.config.pooling == "global":
            return SUANState(mask, times, state.profile, (), (), (), x)
        past = state.mask.shape[1]
        column = torch.arange(mask.shape[1], device=mask.device)
        distance = column[past:, None] - column  # (L, P + L)
        allowed = (distance == 0) | (
            (distance > 0) & mask[:, None]
        )  # padding sees itself, so no row is empty
        biases = self.bias(times[:, past:, None] - times[:, None], distance, allowed)
        counts = running_sum(mask[..., None].to(x.dtype))  # (B, P + L + 1, 1)
        keys, values, sums = [], [], []
        for number, block in enumerate(self._blocks()):
            mean = BehaviorMean(user.mask, counts, state.sums[number] if past else None, self.causal)
            before = (state.keys[number], state.values[number]) if past else None
            given = (x, state.profile, biases[number], before, mean)
            if number < len(biases) - 1 or self.config.target == "head":
                x, key, value = block.behaviors(*given)
            else:
                key, value = block.last_behaviors(*given)  # candidates read no rows
            keys.append(key)
            values.append(value)
            sums.append(mean.sums)
        rows = torch.cat([state.rows.to(x.dtype), x], dim=1) if self.config.target == "head" else state.rows
        return SUANState(mask, times, state.profile, tuple(keys), tuple(values), tuple(sums), rows)

    def score(self, state: SUANState, candidates: CandidateSide) -> Tensor:  # type: ignore[override]
        """Logits (B, C, T)."""
        if self.config.target == "head":
            rows = torch.cat([self._newest(state, candidates), self.inputs.candidates(candidates)], dim=-1)
        elif self.config.pooling == "global":
            rows = self.last(self._together(state, candidates))
        else:
            rows = self.last(self._shared(state, candidates))
        profile = state.profile.to(rows.dtype).flatten(1)[:, None].expand(-1, rows.shape[1], -1)
        return self.head(torch.cat([rows, profile, self.inputs.context(candidates)], dim=-1), candidates.mask)

    def _candidate_tokens(self, candidates: CandidateSide) -> Tensor:
        """(B, C, D)."""
        if self.linear is None:
            return self._tokens(self.inputs.candidates(candidates), candidates.times)
        return self._tokens(self.linear(self.inputs.candidate_items(candidates)), candidates.times)

    def _shared(self, state: SUANState, candidates: CandidateSide) -> Tensor:
        """Last rows (B, C, D) of all candidates over one encoded history (section 3.3.1)."""
        x = self._candidate_tokens(candidates)
        column = torch.arange(state.mask.shape[1], device=x.device)
        oldest, visible = candidates.oldest[..., None], candidates.visible[..., None]
        allowed = (column >= oldest) & (column < visible) & state.mask[:, None]  # (B, C, L)
        delta = candidates.times[..., None] - state.times[:, None]
        biases = self.bias(delta, visible - column, allowed)
        count = allowed.sum(dim=-1, keepdim=True)
        alone = self.config.pooling == "behaviors"

        for number, block in enumerate(self._blocks()):

            def mean(own: Tensor, sums: Tensor = state.sums[number]) -> Tensor:
                total = sum_between(sums.to(own.dtype), candidates.oldest, candidates.visible)
                return total / count.clamp(min=1) if alone else (total + own) / (count + 1)

            key, value = state.keys[number], state.values[number]
            x = block.candidates(
                x, state.profile, key, value, biases[number], self.bias.own(number, x.device), mean
            )
        return x

    def _together(self, state: SUANState, candidates: CandidateSide) -> Tensor:
        """Last rows (B, C, D) when the candidate enters the gate's mean: one sequence per candidate."""
        own = self._candidate_tokens(candidates).flatten(0, 1)[:, None]  # (BC, 1, D)
        count = candidates.items.shape[1]
        repeat = [
            part.repeat_interleave(count, dim=0)
            for part in (state.rows, state.times, state.mask, state.profile)
        ]
        x = torch.cat([repeat[0].to(own.dtype), own], dim=1)  # (BC, L + 1, D)
        times = torch.cat([repeat[1], candidates.times.reshape(-1, 1)], dim=1)
        mask = torch.cat([repeat[2], torch.ones_like(repeat[2][:, :1])], dim=1)
        column = torch.arange(mask.shape[1], device=x.device)
        distance = column[:, None] - column
        allowed = (distance == 0) | ((distance > 0) & mask[:, None])
        biases = self.bias(times[..., None] - times[:, None], distance, allowed)
        counts = running_sum(mask[..., None].to(x.dtype))
        for number, block in enumerate(self._blocks()):
            mean = BehaviorMean(mask, counts, None, causal=False)
            x, _, _ = block.behaviors(x, repeat[3], biases[number], None, mean)
        return x[:, -1].view(*candidates.items.shape, -1)

    def _newest(self, state: SUANState, candidates: CandidateSide) -> Tensor:
        """(B, C, D): last block's row of the last behavior that each candidate sees, or zeros."""
        rows = self.last(functional.pad(state.rows, (0, 0, 1, 0)))  # column i + 1 holds behavior i
        newest = rows.gather(1, candidates.visible[..., None].expand(-1, -1, rows.shape[2]))
        shown = functional.pad(state.mask, (1, 0)).gather(1, candidates.visible)  # padding may hold anything
        return newest * (shown & (candidates.visible > candidates.oldest))[..., None]
