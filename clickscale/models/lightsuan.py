"""LightSUAN: SUAN with sparse attention, the student that is served (Lai et al., RecSys 2025, section 3.3.1).

A position sees the ``k`` newest behaviors before it and every ``r``-th one, so a history of L costs
L (k + L / r) instead of L^2, and a candidate reads k + L / r rows of the state. In the paper all heads read
the same behaviors; here, by default, each head of each block begins to count at another one (``phase``). All
else is SUAN: the same blocks, bias and fusion, with the causal mean that parallel inference needs. ``r = 1``
is SUAN.
"""

from typing import Literal

from torch import Tensor, nn

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.bias import Buckets, Sharing
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.norm import RMSNorm
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.models._base import CTRModel, require_unpadded
from clickscale.models._sizes import DEBUG_TOWER, SIZES, SUAN_TOWER
from clickscale.models._suan.block import BlockConfig
from clickscale.models._suan.causal import (
    AppendableState,
    CausalStack,
    CausalState,
    ScoringState,
    TokenState,
)
from clickscale.models._suan.patterns import Phase, staggered


class ModelConfig(Config, frozen=True):
    """Options; those that SUAN has mean the same there.

    Attributes:
        d: width of one feature's embedding; the block's width D is d times the fields of a behavior.
        blocks: attention blocks. heads: of each block.
        bias: which heads and blocks share the tables of the attention bias; ``none`` leaves it out.
        buckets: ranges of time and distance that share an entry of the attention bias.
        candidate: its missing behavior fields are zero (``zero_fill``), or a ``linear`` map of its item
            fields makes the token.
        time_of_week: add an embedding of hour and weekday to every token.
        numbers: embedding of a number: ``piecewise`` (a vector for each bin between quantiles, weighted by
            the share of the bin below the number), ``buckets`` (the vector of its bin), or ``linear`` (the
            number times a vector); see `clickscale.layers.embedding.SideEmbedding`.
        k: behaviors of the local window, the position itself included.
        r: dilation: beyond the window every ``r``-th behavior is seen; 1 sees all.
        phase: ``paper`` lets all heads see the same behaviors; by ``head``, or by ``block_head`` (head and
            block), each begins to count at another one, so that together they see more at the same cost.
        candidates_read: the ``pattern``, as behaviors do, or ``all`` behaviors.
    """

    d: int = 8
    blocks: int = 2
    heads: int = 2
    k: int = 2
    r: int = 4
    phase: Phase = "block_head"
    candidates_read: Literal["pattern", "all"] = "all"
    block: BlockConfig = BlockConfig()
    bias: Sharing = "shared"
    buckets: Buckets = "octave"
    candidate: Literal["zero_fill", "linear"] = "zero_fill"
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "blocks", "heads", "k", "r")


PRESETS = {name: ModelConfig(d=size.d, blocks=size.blocks, heads=size.heads) for name, size in SIZES.items()}
PRESETS |= {
    "paper": ModelConfig(head=SUAN_TOWER),
    "debug": ModelConfig(d=4, blocks=1, heads=1, head=DEBUG_TOWER),
}


class LightSUAN(CTRModel[CausalState]):
    """See the module docstring."""

    adds_hours = True

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = TimedInputs(
            features,
            items,
            config.d,
            config.numbers,
            time_of_week=config.time_of_week,
            candidate=config.candidate,
        )
        width = self.inputs.width
        patterns = staggered(config.k, config.r, config.phase, config.blocks, config.heads)
        self.stack = CausalStack(
            width,
            config.d,
            blocks=config.blocks,
            heads=config.heads,
            block=config.block,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
            patterns=patterns,
            reads=patterns if config.candidates_read == "pattern" else None,
        )
        # Only an un-normalized stream needs a norm before the head; the released code has none.
        self.last = RMSNorm(width) if config.block.residual == "prenorm" else nn.Identity()
        self.head = head_over(self.inputs, width, labels, config.head)

    def encode_user(self, user: UserSide) -> AppendableState | TokenState:
        """Keys, values and running sums of every block; in training, the tokens of the behaviors."""
        tokens = self.inputs.timed_behaviors(user)
        return self.stack.encode(self.inputs.profile(user), tokens, user.times, user.mask)

    def extend_user(self, state: CausalState, user: UserSide) -> AppendableState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded, or the state was kept for scoring.
        """
        require_unpadded(user)
        tokens = self.inputs.timed_behaviors(user)
        return self.stack.advance(self.stack.appendable(state), tokens, user.times, user.mask)

    def appendable_state(self, state: CausalState) -> AppendableState:
        """See `CTRModel`; keys and values of all behaviors stay, of the running sums only the last."""
        return self.stack.without_sums(state)

    def scoring_state(self, state: CausalState) -> ScoringState:
        """See `CTRModel`; of L behaviors, k - 1 + L / r keep their keys and values."""
        return self.stack.for_scoring(state)

    def score(self, state: CausalState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        tokens = self.inputs.timed_candidates(candidates)
        rows = self.last(self.stack.candidates(state, tokens, candidates))  # (B, C, D)
        return self.head.over(rows, state.profile, self.inputs.context(candidates), candidates.mask)
