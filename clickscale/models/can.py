"""CAN: Co-Action Network (Bian et al., WSDM 2022).

The candidate's id has a second embedding, which is the weights of a small network. That network runs over a
second embedding of every behavior, so that each pair of items interacts without a weight per pair::

    h_0 = u_j ** c,   h_l = tanh(h_{l-1} W_l(candidate)),   the last layer without tanh
    out = sum over the visible j of [h_1, ..., h_n]         # for c = 1, ..., orders, side by side

The same is done for the first attribute of the items, such as their category, if there is one. The tower
reads the results beside DIN's sum of behaviors.

Resolutions: rows of both second tables start small (0.01), since powers of large numbers explode; padding is
left out after the small network, whose biases would make something of nothing.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from clickscale.batch import CandidateSide, UserSide, sees_columns
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features, categorical
from clickscale.layers.embedding import FusedEmbedding, Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns, ItemTable
from clickscale.layers.local_activation import LocalActivation
from clickscale.models._base import CTRModel, State
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER

_SMALL = 0.01  # standard deviation of the initial rows of both second tables


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        widths: of the small network: its input, and each of its layers.
        bias: of the layers of the small network.
        orders: powers of the input.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    widths: tuple[int, ...] = (16, 8, 4)
    bias: bool = False
    orders: int = 3
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "orders")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"widths is {list(self.widths)}; an input and at least one layer are needed.")


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))} | {
    "16-8-4": ModelConfig(),
    "4x8-bias": ModelConfig(widths=(4,) * 9, bias=True),
    "paper": ModelConfig(head=SUAN_TOWER),
    "debug": ModelConfig(d=4, widths=(4, 2), orders=2, head=DEBUG_TOWER),
}


@dataclass(frozen=True)
class _CANState(State):
    """Mask (B, L), behavior tokens (B, L, D), inputs of the small networks (B, L, F w_0), profile."""

    GROWS = {"mask": 1, "tokens": 1, "entered": 1}
    mask: Tensor
    tokens: Tensor
    entered: Tensor
    profile: Tensor


class CAN(CTRModel[_CANState]):
    """See the module docstring."""

    shares = False

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = Inputs(features, items, config.d, config.numbers)
        fields = categorical(features.item)[:2]  # the item id, and the first attribute
        pairs = list(pairwise(config.widths))
        weights = sum((enter + config.bias) * leave for enter, leave in pairs)
        self.shapes, self.fields = pairs, len(fields)
        self.weight_table = FusedEmbedding(fields, weights, _SMALL)
        self.weights = ItemTable(fields, items, self.weight_table, weights)
        self.entered_table = FusedEmbedding(fields, config.widths[0], _SMALL)
        self.entered = ItemTable(fields, items, self.entered_table, config.widths[0])
        self.activation = LocalActivation(self.inputs.width)
        made = len(fields) * config.orders * sum(config.widths[1:])
        read = self.inputs.width + self.inputs.item_width + made
        self.head = head_over(self.inputs, read, labels, config.head)

    def encode_user(self, user: UserSide) -> _CANState:
        """Look-ups only: the small networks belong to the candidates."""
        entered = self.entered(self.entered_table, user.items)
        return _CANState(user.mask, self.inputs.behaviors(user), entered, self.inputs.profile(user))

    def extend_user(self, state: _CANState, user: UserSide) -> _CANState:
        """State of the longer history; every row gains the behaviors of ``user``."""
        new = self.encode_user(user)
        mask = torch.cat([state.mask, new.mask], dim=1)  # (B, L + N)
        tokens = torch.cat([state.tokens, new.tokens], dim=1)  # (B, L + N, D)
        entered = torch.cat([state.entered, new.entered], dim=1)  # (B, L + N, F w_0)
        return _CANState(mask, tokens, entered, state.profile)

    def score(self, state: _CANState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        own = self.inputs.candidates(candidates)  # (B, C, D)
        tokens = state.tokens.to(own.dtype)
        seen = sees_columns(candidates.oldest, candidates.visible, state.mask)  # (B, C, L)
        interest = self.activation(own, tokens, seen) @ tokens  # (B, C, D)
        read = [interest, own[..., : self.inputs.item_width], self._co_action(state, candidates, seen)]
        context = self.inputs.context(candidates)
        return self.head.over(torch.cat(read, dim=-1), state.profile, context, candidates.mask)

    def _co_action(self, state: _CANState, candidates: CandidateSide, seen: Tensor) -> Tensor:
        """(B, C, fields * orders * sum of widths) of all small networks."""
        weights = self.weights(self.weight_table, candidates.items).chunk(self.fields, dim=-1)
        entered = state.entered.to(weights[0].dtype).chunk(self.fields, dim=-1)
        counted = seen.to(weights[0].dtype)[..., None, :]  # (B, C, 1, L)
        made = []
        for weight, x in zip(weights, entered, strict=True):
            layers = self._layers(weight)
            for order in range(1, self.config.orders + 1):
                made += _outputs(layers, x**order, counted)
        return torch.cat(made, dim=-1)

    def _layers(self, weight: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Weights (B, C, enter, leave) and bias (B, C, 1, leave) of each layer."""
        layers, place = [], 0
        for enter, leave in self.shapes:
            end = place + enter * leave
            matrix = weight[..., place:end].view(*weight.shape[:2], enter, leave)
            place = end + leave * self.config.bias
            layers.append((matrix, weight[..., None, end:place] if self.config.bias else None))
        return layers


def _outputs(layers: list[tuple[Tensor, Tensor | None]], x: Tensor, counted: Tensor) -> list[Tensor]:
    """Sums (B, C, width) over the counted behaviors of every layer, for inputs (B, L, w_0)."""
    made = []
    hidden = x[:, None]  # (B, 1, L, w_0)
    for index, (matrix, bias) in enumerate(layers):
        if index == len(layers) - 1:
            # The last layer is linear, so the sum may be taken before it.
            total = counted @ hidden @ matrix  # (B, C, 1, width)
            if bias is not None:
                total = total + bias * counted.sum(dim=-1, keepdim=True)
        else:
            hidden = hidden @ matrix if bias is None else hidden @ matrix + bias  # (B, C, L, width)
            hidden = hidden.tanh()
            total = counted @ hidden  # (B, C, 1, width)
        made.append(total[..., 0, :])
    return made
