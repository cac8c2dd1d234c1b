"""MTGR (Han et al., CIKM 2025): a generative ranker that keeps the features of the user and the candidate.

Every profile field is a token before the sequence, every behavior is a token, and a candidate's token is made
of its item and of everything known of the impression, such as statistics of user and item. HSTU blocks
(`clickscale.models._pointwise`) run over them with norms of their own for each kind of token, and the tower
reads the candidate's row.

With ``visible=paper``, profile and older behaviors see each other in both directions, and the newest ones are
a kind with an MLP and norms of its own: they see the older ones and, among themselves, what was before. A
candidate sees all of them and itself. The sequence is then computed once per request, for all of its
candidates; nothing can be appended to it.

Resolutions: queries, keys, values and gates are linear (``uvqk_silu``: with SiLU, as in HSTU); sums are
divided by the model's length.

Deviations: with ``visible=causal``, behaviors see earlier ones only, and the profile sees itself only, so
that behaviors can be appended and impressions of one timeline can share a state.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.bias import Buckets, Sharing
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.layers.visibility import Visibility, take_columns
from clickscale.models._base import CTRModel
from clickscale.models._history import HistoryState
from clickscale.models._papers import EST_TOWER
from clickscale.models._pointwise import BEHAVIOR, PREFIX, RECENT, PointwiseStack, PointwiseState
from clickscale.models._sizes import DEBUG_TOWER, SIZES


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        width: D of a token.
        blocks: of the stack. heads: of each.
        visible: behaviors see what was before (``causal``), or as the ``paper`` has it.
        recent: newest behaviors that are a kind of their own with ``visible=paper``.
        uvqk_silu: apply SiLU to queries, keys, values and gates.
        bias: which heads and blocks share the tables of the attention bias; ``none`` leaves it out.
        buckets: ranges of time that share an entry of the attention bias.
        time_of_week: add an embedding of hour and weekday to every token.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    width: int = 64
    blocks: int = 2
    heads: int = 2
    visible: Literal["causal", "paper"] = "causal"
    recent: int = 20
    uvqk_silu: bool = False
    bias: Sharing = "blocks"
    buckets: Buckets = "octave"
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "blocks", "heads", "recent")
        if self.visible == "paper" and self.bias != "none":
            raise ConfigError(
                f"visible=paper has no attention bias, and bias is {self.bias}; set bias=none, or"
                " visible=causal."
            )


PRESETS = {
    name: ModelConfig(d=size.d, width=8 * size.d, blocks=size.blocks, heads=size.heads)
    for name, size in SIZES.items()
} | {
    "paper": ModelConfig(
        d=16,
        width=128,
        blocks=6,
        heads=2,
        visible="paper",
        recent=100,
        bias="none",
        time_of_week=False,
        head=EST_TOWER,
    ),
    "debug": ModelConfig(d=4, width=8, blocks=1, heads=1, head=DEBUG_TOWER),
}


class MTGR(CTRModel[PointwiseState | HistoryState]):
    """See the module docstring."""

    adds_hours = True

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.causal = config.visible == "causal"
        self.inputs = TimedInputs(features, items, config.d, config.numbers, time_of_week=config.time_of_week)
        width, context = config.width, self.inputs.context_tokens * config.d
        self.profile_tokens = nn.Linear(config.d, width)
        self.behavior_tokens = _mlp(self.inputs.width, width)
        self.recent_tokens = None if self.causal else _mlp(self.inputs.width, width)
        self.candidate_tokens = _mlp(self.inputs.width + context, width)
        self.stack = PointwiseStack(
            width,
            blocks=config.blocks,
            heads=config.heads,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
            kinds=3 if self.causal else 4,
            silu=config.uvqk_silu,
        )
        self.head = head_over(self.inputs, width, labels, config.head)

    def encode_user(self, user: UserSide) -> PointwiseState | HistoryState:
        """Keys and values of every block, for the profile and for the behaviors; or look-ups only."""
        profile = self.inputs.profile(user)
        if not self.causal:
            return HistoryState(user.items, user.times, self.inputs.timed_behaviors(user), profile)
        state = self.stack.begin(profile, self.profile_tokens(profile))
        return self.stack.advance(state, self.behavior_tokens(self.inputs.timed_behaviors(user)), user)

    def extend_user(self, state: PointwiseState | HistoryState, user: UserSide) -> PointwiseState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            ConfigError: the model is not causal.
            InputError: a row of ``user`` is padded.
        """
        self.require_causal("nothing can be appended to its states; encode the user again")
        assert isinstance(state, PointwiseState), "a causal model has this form only"
        return self.stack.extend(state, self.behavior_tokens(self.inputs.timed_behaviors(user)), user)

    def score(self, state: PointwiseState | HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        context = self.inputs.context(candidates)
        known = torch.cat([self.inputs.timed_candidates(candidates), context], dim=-1)
        own = self.candidate_tokens(known)  # (B, C, D)
        if isinstance(state, PointwiseState):
            rows = self.stack.candidates(state, own, candidates)
        else:
            rows = self._at_once(state, own, candidates)
        return self.head.over(rows, state.profile, context, candidates.mask)

    def _at_once(self, state: HistoryState, own: Tensor, candidates: CandidateSide) -> Tensor:
        """Rows (B, C, D) of candidates, the sequence computed once per moment: V = B * C' of them."""
        assert self.recent_tokens is not None, "made for this form"
        shown = Visibility.of(candidates, state.items, state.times)
        width = min(self.length, state.items.shape[1])
        column = shown.visible[..., None] + torch.arange(-width, 0, device=own.device)  # (B, C', W)
        held = (column >= shown.oldest[..., None].clamp(min=0)).flatten(0, 1)  # (V, W)
        column = column.clamp(min=0)
        held = held & (take_columns(state.items, column) > 0)
        tokens = take_columns(state.tokens.to(own.dtype), column)  # (V, W, width of a behavior)
        older = max(width - self.config.recent, 0)
        profile = self.profile_tokens(state.profile.to(own.dtype))  # (B, n2, D)
        profile = profile[:, None].expand(-1, shown.visible.shape[1], -1, -1).flatten(0, 1)  # (V, n2, D)
        rows = [
            (profile, PREFIX),
            (self.behavior_tokens(tokens[:, :older]), BEHAVIOR),
            (self.recent_tokens(tokens[:, older:]), RECENT),
        ]
        there = functional.pad(held, (profile.shape[1], 0), value=True)  # (V, N)
        order = torch.arange(there.shape[1], device=own.device)
        newest = order >= profile.shape[1] + older
        # All see profile and older behaviors; the newest are seen by those of them that are not older.
        allowed = there[:, None] & (~newest | (newest[:, None] & (order <= order[:, None])))  # (V, N, N)
        side_by_side = own.view(len(held), -1, own.shape[-1])  # (V, C / C', D)
        return self.stack.at_once(rows, allowed, there, side_by_side).view(own.shape)


def _mlp(width: int, out: int) -> nn.Sequential:
    """Two layers from the fields of an event to its token."""
    return nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))
