"""SUAN: Scalable Unified Attention Network (Lai et al., RecSys 2025).

The candidate stands at the end of the behavior sequence. Each unified attention block lets every position
attend to earlier ones with a learned bias of time and distance (self), lets it attend to the profile (cross),
fuses the two by a learned gate over the mean of what came before (AFNet), and ends in a SwiGLU.

Resolutions and deviations, each an option: the gate's mean is causal (``pooling="prefix"``: with the paper's
global mean the candidate would change the behaviors); residual connections, absent from the equations, follow
``residual``; attention is scaled by the head's width; every candidate stands right after the last behavior it
sees, at its own time; no absolute positions.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.layers.bias import Buckets, Sharing
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns, TimedInputs
from clickscale.layers.norm import RMSNorm
from clickscale.models._base import CTRModel
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import AppendableState, CausalStack, CausalState, without_padding
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
        numbers: how numbers enter, see `clickscale.layers.embedding.SideEmbedding`.
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
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "blocks", "heads")


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


class SUAN(CTRModel[CausalState]):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.causal = config.pooling == "prefix"
        self.inputs = TimedInputs(
            features,
            items,
            config.d,
            config.numbers,
            time_of_week=config.time_of_week,
            candidate=config.candidate,
        )
        width = self.inputs.width
        self.stack = CausalStack(
            width,
            config.d,
            blocks=config.blocks,
            heads=config.heads,
            block=config.block,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
            pooling="behaviors" if config.pooling == "global" else config.pooling,
        )
        self.last = RMSNorm(width) if config.block.residual == "prenorm" else nn.Identity()
        tokens = self.inputs.profile_tokens + self.inputs.context_tokens
        read = width + (width if config.target == "head" else 0)
        self.head = Head(read + tokens * config.d, labels, config.head)

    def encode_user(self, user: UserSide) -> AppendableState:
        """Keys, values and running sums of every block."""
        return self._advance(self.stack.empty(self.inputs.profile(user)), user)

    def extend_user(self, state: CausalState, user: UserSide) -> AppendableState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded, or the model is not causal.
        """
        self.require_causal("nothing can be appended to its states; pooling=prefix makes it causal")
        return self._advance(without_padding(state, user), user)

    def _advance(self, state: AppendableState, user: UserSide) -> AppendableState:
        tokens = self.inputs.timed_behaviors(user)
        if self.config.pooling == "global":  # nothing can be computed before the candidate is known
            return AppendableState(user.mask, user.times, state.profile, (), (), (), tokens)
        reads_rows = self.config.target == "head"
        return self.stack.advance(state, tokens, user.times, user.mask, keep_rows=reads_rows)

    def appendable_state(self, state: CausalState) -> AppendableState:
        """See `CTRModel`; keys and values of all behaviors stay, of the running sums only the last."""
        return self.stack.without_sums(state)

    def scoring_state(self, state: CausalState) -> CausalState:
        """See `CTRModel`."""
        literal = self.config.target == "head" or self.config.pooling == "global"
        return state if literal else self.stack.for_scoring(state)

    def score(self, state: CausalState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        rows = self._candidate_rows(state, candidates)
        profile = state.profile.to(rows.dtype).flatten(1)[:, None].expand(-1, rows.shape[1], -1)
        return self.head(torch.cat([rows, profile, self.inputs.context(candidates)], dim=-1), candidates.mask)

    def _candidate_rows(self, state: CausalState, candidates: CandidateSide) -> Tensor:
        """(B, C, D or 2D)."""
        if isinstance(state, AppendableState) and self.config.target == "head":
            return torch.cat([self._newest(state, candidates), self.inputs.candidates(candidates)], dim=-1)
        tokens = self.inputs.timed_candidates(candidates)
        if isinstance(state, AppendableState) and self.config.pooling == "global":
            return self.last(self._together(state, tokens, candidates))
        return self.last(self.stack.candidates(state, tokens, candidates))

    def _together(self, state: AppendableState, tokens: Tensor, candidates: CandidateSide) -> Tensor:
        """Last rows (B, C, D) when the candidate enters the gate's mean: one sequence per candidate."""
        count = tokens.shape[1]
        parts = (state.rows, state.times, state.mask, state.profile)
        behaviors, times, mask, profile = (part.repeat_interleave(count, dim=0) for part in parts)
        x = torch.cat([behaviors.to(tokens.dtype), tokens.flatten(0, 1)[:, None]], dim=1)  # (BC, L + 1, D)
        times = torch.cat([times, candidates.times.reshape(-1, 1)], dim=1)
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        done = self.stack.advance(self.stack.empty(profile), x, times, mask, keep_rows=True)
        return done.rows[:, -1].view(tokens.shape)

    def _newest(self, state: AppendableState, candidates: CandidateSide) -> Tensor:
        """(B, C, D): last block's row of the last behavior that each candidate sees, or zeros."""
        rows = self.last(functional.pad(state.rows, (0, 0, 1, 0)))  # column i + 1 holds behavior i
        newest = rows.gather(1, candidates.visible[..., None].expand(-1, -1, rows.shape[2]))
        shown = functional.pad(state.mask, (1, 0)).gather(1, candidates.visible)  # padding may hold anything
        return newest * (shown & (candidates.visible > candidates.oldest))[..., None]
