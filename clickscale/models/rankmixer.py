"""RankMixer (Zhu et al., 2025).

Tokens mix by exchanging slices, without weights, and every token has a feed-forward network of its own::

    x_t  = W_t (slice t of all embeddings) + b_t             # T tokens of width D
    S    = LN(mix(X) + X)                                    # token t of mix(X): slice t of every token
    x_t' = LN(W2_t gelu(W1_t s_t + b1_t) + b2_t + s_t)       # hidden width kD

With ``experts`` above 0, the network of a token is a sum of that many, each as large, by gates without a
softmax, so that as many experts are at work as a token needs::

    v_t  = sum_j relu(s_t R_t + r_t)_j expert_tj(s_t)

Training is dense and serving sparse: each block has two routers. Training scores with one and, as a second
task, with the other; the gates of the latter are held near the share ``active`` by an L1 penalty whose weight
follows that share. Evaluation and serving use the second router, and compute an expert only for the rows that
open its gate.

The tower reads the mean of the tokens. D must be a multiple of T. Embeddings that cannot be cut into T equal
slices are filled up with zeros.

Resolutions: the router that serves learns from the clicks as well; by the penalty alone all its gates would
shut. Deviations: the history enters as pooled fields; the tower is the head of all models here.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import Batch, CandidateSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.per_token import PerTokenLinear
from clickscale.models._fields import FieldConfig, FieldInputs
from clickscale.models._history import HistoryModel, HistoryState
from clickscale.models._losses import label_losses
from clickscale.models._papers import EST_TOWER
from clickscale.models._sizes import DEBUG_TOWER

_FIRST_STRENGTH = 1e-3  # weight of the penalty on gates before it follows their share
_FOLLOW = 0.01  # how fast its logarithm follows


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        tokens: T. width: D of a token, a multiple of T.
        blocks: of mixing and feed-forward.
        expansion: k, hidden width of the feed-forward networks in units of D.
        experts: networks of each token, chosen by gates; 0 is the dense form with one.
        active: share of the experts that serving is to use.
        pool: the tower reads the ``mean`` of the tokens, or all ``tokens``.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
        inputs: how the history enters.
    """

    d: int = 8
    tokens: int = 8
    width: int = 64
    blocks: int = 2
    expansion: int = 2
    experts: int = 0
    active: float = 0.25
    pool: Literal["mean", "tokens"] = "mean"
    numbers: Numbers = "piecewise"
    inputs: FieldConfig = FieldConfig()
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "tokens", "width", "blocks", "expansion")
        check_least(self, 0, "experts")
        if not 0 < self.active <= 1:
            raise ConfigError(f"active is {self.active}; it must be a share above 0 and up to 1.")
        if self.width % self.tokens:
            raise ConfigError(
                f"width is {self.width} and tokens is {self.tokens}: mixing needs a width that is a multiple."
            )


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, tokens=tokens, width=width, blocks=blocks)
    for i, (d, tokens, width, blocks) in enumerate(
        ((8, 4, 32, 1), (8, 8, 64, 2), (16, 8, 128, 2), (32, 16, 256, 4), (144, 16, 768, 6))
    )
} | {
    "paper": ModelConfig(
        d=16,
        tokens=64,
        width=128,
        blocks=6,
        expansion=4,
        pool="tokens",
        inputs=FieldConfig(simtier=True),
        head=EST_TOWER,
    ),
    "debug": ModelConfig(d=4, tokens=2, width=8, blocks=1, head=DEBUG_TOWER),
}


class _Block(nn.Module):
    """One block over tokens in token-major layout: (T, R, D) -> (T, R, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        tokens, width, hidden = config.tokens, config.width, config.expansion * config.width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.experts = _Experts(tokens, width, hidden, config.experts) if config.experts else None
        self.enter = None if config.experts else PerTokenLinear(tokens, width, hidden, bias=True)
        self.leave = None if config.experts else PerTokenLinear(tokens, hidden, width, bias=True)

    def forward(self, x: Tensor, dense: bool = False) -> tuple[Tensor, Tensor | None]:
        """Tokens, and the gates (T, R, E) of experts; ``dense`` takes the router of training."""
        x = self.norms[0](_mix(x) + x)
        if self.experts is not None:
            fed, gates = self.experts(x, dense)
            return self.norms[1](fed + x), gates
        assert self.enter is not None, "the dense form has one network for each token"
        assert self.leave is not None, "the dense form has one network for each token"
        return self.norms[1](self.leave(functional.gelu(self.enter(x))) + x), None


class _Experts(nn.Module):
    """Networks of each token, summed by gates."""

    def __init__(self, tokens: int, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.count = experts
        # The experts of a token stand side by side, as if they were tokens.
        self.enter = PerTokenLinear(tokens * experts, width, hidden, bias=True)
        self.leave = PerTokenLinear(tokens * experts, hidden, width, bias=True)
        self.routers = nn.ModuleList(PerTokenLinear(tokens, width, experts, bias=True) for _ in range(2))
        for router in self.routers:
            nn.init.constant_(router.bias, 1 / experts)  # type: ignore[arg-type]  # all gates begin open

    def forward(self, x: Tensor, dense: bool) -> tuple[Tensor, Tensor]:
        """Tokens (T, R, D) -> sums (T, R, D) and gates (T, R, E)."""
        gates = torch.relu(self.routers[0 if dense else 1](x))
        if not self.training:
            return self._sparse(x, gates), gates
        made = self.leave(functional.gelu(self.enter(x.repeat_interleave(self.count, dim=0))))  # (T E, R, D)
        made = made.view(len(x), self.count, *made.shape[1:])  # (T, E, R, D)
        return (made * gates.permute(0, 2, 1)[..., None]).sum(dim=1), gates

    def _sparse(self, x: Tensor, gates: Tensor) -> Tensor:
        """The same sums, each expert over the rows that open its gate."""
        out = torch.zeros_like(x)
        assert self.enter.bias is not None, "made with a bias"
        assert self.leave.bias is not None, "made with a bias"
        for token in range(len(x)):
            for expert in range(self.count):
                rows = (gates[token, :, expert] > 0).nonzero()[:, 0]
                place = token * self.count + expert
                hidden = torch.addmm(self.enter.bias[place], x[token, rows], self.enter.weight[place])
                made = torch.addmm(self.leave.bias[place], functional.gelu(hidden), self.leave.weight[place])
                out[token] = out[token].index_add(0, rows, made * gates[token, rows, expert, None])
        return out


def _mix(x: Tensor) -> Tensor:
    """Token t gets slice t of every token: (T, R, D) -> (T, R, D)."""
    slices = x.view(*x.shape[:2], len(x), -1)  # (T, R, T, D / T)
    return slices.permute(2, 1, 0, 3).flatten(2)  # (T, R, D)


class RankMixer(HistoryModel):
    """See the module docstring.

    Attributes:
        strength: logarithm of the weight of the penalty on gates; training moves it.
    """

    inputs: FieldInputs
    strength: Tensor

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        inputs = FieldInputs(features, items, config.d, config.numbers, config.inputs)
        super().__init__(inputs, length)
        self.config = config
        self.slice = -(-inputs.count * config.d // config.tokens)  # rounded up
        self.enter = PerTokenLinear(config.tokens, self.slice, config.width, bias=True)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        read = config.width * (config.tokens if config.pool == "tokens" else 1)
        self.head = Head(read, labels, config.head)
        if config.experts:
            self.register_buffer("strength", torch.tensor(math.log(_FIRST_STRENGTH)))

    def score(self, state: HistoryState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        return self._scored(state, candidates, dense=self.training)[0]

    def auxiliary_loss(self, state: HistoryState, batch: Batch) -> Tensor | None:
        """Log-loss by the router that serves, and the penalty on its gates; None for the dense form."""
        if not self.config.experts:
            return None
        logits, gates = self._scored(state, batch.candidates, dense=False)
        real = batch.candidates.mask.flatten()
        opened = torch.stack([gate[:, real] for gate in gates])  # (blocks, T, real rows, E)
        share = (opened.detach() > 0).float().mean()
        penalty = self.strength.exp() * opened.sum(dim=-1).mean()
        # Of a penalty that is too weak, too many gates stay open, and it grows.
        self.strength += _FOLLOW * (share - self.config.active)
        served = logits[..., : batch.labels.shape[-1]]  # a student may have further logits, of soft labels
        return label_losses(served, batch.labels, batch.label_mask).sum() + penalty

    def _scored(
        self, state: HistoryState, candidates: CandidateSide, dense: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, C, T), and the gates (T, R, E) of each block."""
        flat = self.inputs.tokens(state, candidates).flatten(2).flatten(0, 1)  # (R, n d)
        filled = functional.pad(flat, (0, self.slice * self.config.tokens - flat.shape[1]))
        slices = filled.view(len(flat), self.config.tokens, -1).transpose(0, 1)  # (T, R, slice)
        x, gates = self.enter(slices), []
        for block in self.blocks:
            x, opened = block(x, dense)
            gates += [] if opened is None else [opened]
        read = (
            x.transpose(0, 1).flatten(1) if self.config.pool == "tokens" else x.mean(dim=0)
        )  # (R, T D or D)
        return self.head(read.view(*candidates.items.shape, -1), candidates.mask), gates
