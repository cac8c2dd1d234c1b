"""RankMixer (Zhu et al., 2025).

Tokens mix by exchanging slices, without weights, and every token has a feed-forward network of its own::

    x_t  = W_t (slice t of all embeddings) + b_t             # T tokens of width D
    S    = LN(mix(X) + X)                                    # token t of mix(X): slice t of every token
    x_t' = LN(W2_t gelu(W1_t s_t + b1_t) + b2_t + s_t)       # hidden width kD

The tower reads the mean of the tokens. D must be a multiple of T. Embeddings that cannot be cut into T equal
slices are filled up with zeros.

Deviations: the dense form only, without experts; the history enters as pooled fields; the tower is the head
of all models here.
"""

from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.per_token import PerTokenLinear
from clickscale.models._fields import FieldConfig, FieldInputs
from clickscale.models._history import HistoryModel, HistoryState


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        tokens: T. width: D of a token, a multiple of T.
        blocks: of mixing and feed-forward.
        expansion: k, hidden width of the feed-forward networks in units of D.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    tokens: int = 8
    width: int = 64
    blocks: int = 2
    expansion: int = 2
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "tokens", "width", "blocks", "expansion")
        if self.width % self.tokens:
            raise ConfigError(
                f"width is {self.width} and tokens is {self.tokens}: mixing needs a width that is a multiple."
            )


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, tokens=tokens, width=width, blocks=blocks)
    for i, (d, tokens, width, blocks) in enumerate(
        ((8, 4, 32, 1), (8, 8, 64, 2), (16, 8, 128, 2), (32, 16, 256, 4), (144, 16, 768, 6))
    )
}


class _Block(nn.Module):
    """One block over tokens in token-major layout: (T, R, D) -> (T, R, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        tokens, width, hidden = config.tokens, config.width, config.expansion * config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.enter = PerTokenLinear(tokens, width, hidden, bias=True)
        self.leave = PerTokenLinear(tokens, hidden, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](_mix(x) + x)
        fed: Tensor = self.norms[1](self.leave(functional.gelu(self.enter(x))) + x)
        return fed


def _mix(x: Tensor) -> Tensor:
    """Token t gets slice t of every token: (T, R, D) -> (T, R, D)."""
    slices = x.view(*x.shape[:2], len(x), -1)  # (T, R, T, D / T)
    return slices.permute(2, 1, 0, 3).flatten(2)  # (T, R, D)


class RankMixer(HistoryModel):
    """See the module docstring."""

    inputs: FieldInputs

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        self.slice = -(-inputs.count * config.d // config.tokens)  # rounded up
        self.enter = PerTokenLinear(config.tokens, self.slice, config.width, bias=True)
        self.blocks = nn.Sequential(*(_Block(config) for _ in range(config.blocks)))
        self.head = Head(config.width, labels, config.head)

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        flat = self.inputs.tokens(state, candidates).flatten(2).flatten(0, 1)  # (R, n d)
        filled = functional.pad(flat, (0, self.slice * self.config.tokens - flat.shape[1]))
        slices = filled.view(len(flat), self.config.tokens, -1).transpose(0, 1)  # (T, R, slice)
        mixed = self.blocks(self.enter(slices)).mean(dim=0)  # (R, D)
        return self.head(mixed.view(*candidates.items.shape, -1), candidates.mask)
