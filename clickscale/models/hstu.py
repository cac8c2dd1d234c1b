"""HSTU: Hierarchical Sequential Transduction Units (Zhai et al., ICML 2024), as a ranker.

The candidate stands at the end of the behavior sequence. Blocks attend without a softmax, so that the
strength of an interest survives, and gate what they read; `clickscale.models._pointwise` has the equations.

Resolutions: sums are divided by the model's length, not by a batch's, so that a score never depends on
padding or on the number of candidates; the bias reads the time between the two events of a pair, since the
target is appended and is not the next item; a behavior's token has its action, a candidate's zeros.
"""

from torch import Tensor

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.features import Features
from clickscale.layers.bias import Buckets, Sharing
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.models._base import CTRModel
from clickscale.models._pointwise import PointwiseStack, PointwiseState
from clickscale.models._sizes import DEBUG_TOWER, SIZES, SUAN_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding; the block's width D is d times the fields of a behavior.
        blocks: of the stack. heads: of each.
        bias: which heads and blocks share the tables of the attention bias.
        buckets: ranges of time that share an entry of the attention bias.
        time_of_week: add an embedding of hour and weekday to every token.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    blocks: int = 2
    heads: int = 2
    bias: Sharing = "blocks"
    buckets: Buckets = "octave"
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "blocks", "heads")


PRESETS = {
    name: ModelConfig(d=size.d, blocks=size.blocks, heads=size.heads) for name, size in SIZES.items()
} | {
    "paper": ModelConfig(blocks=2, heads=2, buckets="paper", head=SUAN_TOWER),
    "debug": ModelConfig(d=4, blocks=1, heads=1, head=DEBUG_TOWER),
}


class HSTU(CTRModel[PointwiseState]):
    """See the module docstring."""

    adds_hours = True

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = TimedInputs(features, items, config.d, config.numbers, time_of_week=config.time_of_week)
        self.stack = PointwiseStack(
            self.inputs.width,
            blocks=config.blocks,
            heads=config.heads,
            length=length,
            sharing=config.bias,
            buckets=config.buckets,
        )
        self.head = head_over(self.inputs, self.inputs.width, labels, config.head)

    def encode_user(self, user: UserSide) -> PointwiseState:
        """Keys and values of every block."""
        profile = self.inputs.profile(user)
        state = self.stack.begin(profile, profile.new_zeros(len(profile), 0, self.inputs.width))
        return self.stack.advance(state, self.inputs.timed_behaviors(user), user)

    def extend_user(self, state: PointwiseState, user: UserSide) -> PointwiseState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded.
        """
        return self.stack.extend(state, self.inputs.timed_behaviors(user), user)

    def score(self, state: PointwiseState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        rows = self.stack.candidates(state, self.inputs.timed_candidates(candidates), candidates)
        return self.head.over(rows, state.profile, self.inputs.context(candidates), candidates.mask)
