"""MTGR (Han et al., CIKM 2025): a generative ranker that keeps the features of the user and the candidate.

Every profile field is a token before the sequence, every behavior is a token, and a candidate's token is made
of its item and of everything known of the impression, such as statistics of user and item. HSTU blocks
(`clickscale.models._pointwise`) run over them with norms of their own for each kind of token, and the tower
reads the candidate's row.

Resolutions: queries, keys, values and gates are linear (``uvqk_silu``: with SiLU, as in HSTU); sums are
divided by the model's length.

Deviations: behaviors see earlier ones only, and the profile sees itself only, so that behaviors can be
appended and impressions of one timeline can share a state (the paper lets both see each other); a user has
one behavior sequence, so the newest behaviors are not a kind of their own.
"""

import torch
from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.bias import Buckets, Sharing
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.models._base import CTRModel
from clickscale.models._papers import DEBUG_TOWER, EST_TOWER
from clickscale.models._pointwise import PointwiseStack, PointwiseState
from clickscale.models._sizes import SIZES


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        width: D of a token.
        blocks: of the stack. heads: of each.
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
    uvqk_silu: bool = False
    bias: Sharing = "blocks"
    buckets: Buckets = "octave"
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "blocks", "heads")


PRESETS = {
    name: ModelConfig(d=size.d, width=8 * size.d, blocks=size.blocks, heads=size.heads)
    for name, size in SIZES.items()
} | {
    "paper": ModelConfig(d=16, width=128, blocks=6, heads=2, bias="none", time_of_week=False, head=EST_TOWER),
    "debug": ModelConfig(d=4, width=8, blocks=1, heads=1, head=DEBUG_TOWER),
}


class MTGR(CTRModel[PointwiseState]):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = TimedInputs(features, items, config.d, config.numbers, time_of_week=config.time_of_week)
        width, context = config.width, self.inputs.context_tokens * config.d
        self.profile_tokens = nn.Linear(config.d, width)
        self.behavior_tokens = _mlp(self.inputs.width, width)
        self.candidate_tokens = _mlp(self.inputs.width + context, width)
        self.stack = PointwiseStack(
            width,
            blocks=config.blocks,
            heads=config.heads,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
            kinds=3,
            silu=config.uvqk_silu,
        )
        self.head = head_over(self.inputs, width, labels, config.head)

    def encode_user(self, user: UserSide) -> PointwiseState:
        """Keys and values of every block, for the profile and for the behaviors."""
        profile = self.inputs.profile(user)
        state = self.stack.begin(profile, self.profile_tokens(profile))
        return self.stack.advance(state, self.behavior_tokens(self.inputs.timed_behaviors(user)), user)

    def extend_user(self, state: PointwiseState, user: UserSide) -> PointwiseState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded.
        """
        return self.stack.extend(state, self.behavior_tokens(self.inputs.timed_behaviors(user)), user)

    def score(self, state: PointwiseState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        context = self.inputs.context(candidates)
        known = torch.cat([self.inputs.timed_candidates(candidates), context], dim=-1)
        rows = self.stack.candidates(state, self.candidate_tokens(known), candidates)  # (B, C, D)
        return self.head.over(rows, state.profile, context, candidates.mask)


def _mlp(width: int, out: int) -> nn.Sequential:
    """Two layers from the fields of an event to its token."""
    return nn.Sequential(nn.Linear(width, out), nn.SiLU(), nn.Linear(out, out))
