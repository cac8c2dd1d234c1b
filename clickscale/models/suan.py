"""SUAN: Stacked Unified Attention Network (Lai et al., RecSys 2025).

The candidate stands at the end of the behavior sequence. Each unified attention block lets every position
attend to earlier ones with a learned bias of time and distance (self), lets it attend to the profile (cross),
fuses the two by a learned gate over the mean of what came before (AFNet), and ends in a SwiGLU.

Resolutions and deviations: the gate's mean is causal (with the paper's global mean the candidate would change
the behaviors, see `clickscale.models.suan_literal`); residual connections, absent from the equations, follow
``residual``; attention is scaled by the head's width; every candidate stands right after the last behavior it
sees, at its own time; no absolute positions.
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
from clickscale.models._suan.causal import AppendableState, CausalStack, CausalState, TokenState


class ModelConfig(Config, frozen=True):
    """Options; a grade is a preset of ``d``, ``blocks`` and ``heads`` (Table 4) and a length.

    Attributes:
        d: width of one feature's embedding; the block's width D is d times the fields of a behavior.
        blocks: attention blocks. heads: of each block.
        bias: which heads and blocks share the tables of the attention bias (the released code: all of them);
            ``none`` is ablation E.
        buckets: ranges of time and distance that share an entry of the attention bias.
        candidate: its missing behavior fields are zero (``zero_fill``), or a ``linear`` map of its item
            fields makes the token.
        time_of_week: add an embedding of hour and weekday to every token.
        numbers: embedding of a number: ``piecewise`` (a vector for each bin between quantiles, weighted by
            the share of the bin below the number), ``buckets`` (the vector of its bin), or ``linear`` (the
            number times a vector); see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    blocks: int = 2
    heads: int = 2
    block: BlockConfig = BlockConfig()
    bias: Sharing = "shared"
    buckets: Buckets = "octave"
    candidate: Literal["zero_fill", "linear"] = "zero_fill"
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "blocks", "heads")


PRESETS = {name: ModelConfig(d=size.d, blocks=size.blocks, heads=size.heads) for name, size in SIZES.items()}
PRESETS |= {
    "paper": ModelConfig(head=SUAN_TOWER),
    "debug": ModelConfig(d=4, blocks=1, heads=1, head=DEBUG_TOWER),
}


class SUAN(CTRModel[CausalState]):
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
        self.stack = CausalStack(
            width,
            config.d,
            blocks=config.blocks,
            heads=config.heads,
            block=config.block,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
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

    def scoring_state(self, state: CausalState) -> CausalState:
        """See `CTRModel`."""
        return self.stack.for_scoring(state)

    def score(self, state: CausalState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        tokens = self.inputs.timed_candidates(candidates)
        rows = self.last(self.stack.candidates(state, tokens, candidates))  # (B, C, D)
        return self.head.over(rows, state.profile, self.inputs.context(candidates), candidates.mask)
