"""DIEN: Deep Interest Evolution Network (Zhou et al., AAAI 2019).

A recurrent network turns behaviors into interests. A second one follows how the interest in the candidate
evolved: its update gate is scaled by attention, so that behaviors that do not concern the candidate leave it
as it was::

    h_t  = GRU(e_t, h_{t-1})                                  # of the user alone
    a_t  = softmax over the visible t of <h_t W, e_candidate>
    h'_t = (1 - a_t u_t) h'_{t-1} + a_t u_t n_t               # gate u_t and proposal n_t of a GRU over h_t

The tower reads the last h'. The second network runs per candidate and step by step, so it is the slowest
model here. With ``auxiliary`` above 0, training asks each h_t to tell the next behavior from a random e'::

    loss += -auxiliary * mean of log sigmoid(h_t . e_{t+1}) + log sigmoid(-h_t . e'_{t+1})

Resolutions: the random behavior is one of the same batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import HeadConfig, head_over
from clickscale.layers.inputs import Inputs, ItemColumns
from clickscale.layers.target_attention import masked_softmax
from clickscale.layers.visibility import Visibility, take_columns
from clickscale.models._base import CTRModel, State, require_unpadded
from clickscale.models._sizes import DEBUG_TOWER, SUAN_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        hidden: units of both recurrent networks; 0 takes the width of a behavior.
        auxiliary: weight of the loss of the next behavior; it needs ``hidden=0``.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    hidden: int = 0
    auxiliary: float = 0.0
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d")
        check_least(self, 0, "hidden", "auxiliary")
        if self.auxiliary and self.hidden:
            raise ConfigError(
                f"auxiliary={self.auxiliary} compares interests with behaviors, so both must be as wide; set"
                f" hidden=0 instead of {self.hidden}, or auxiliary=0."
            )


PRESETS = {f"size-{i + 1}": ModelConfig(d=d) for i, d in enumerate((8, 8, 16, 32, 144))} | {
    "paper": ModelConfig(auxiliary=1.0, head=SUAN_TOWER),
    "debug": ModelConfig(d=4, hidden=8, head=DEBUG_TOWER),
}


@dataclass(frozen=True)
class _DIENState(State):
    """Items and times (B, L), interests (B, L, hidden) and the profile (B, n2, d) of each user."""

    GROWS = {"items": 1, "times": 1, "interests": 1}
    items: Tensor
    times: Tensor
    interests: Tensor
    profile: Tensor


class DIEN(CTRModel[_DIENState]):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = Inputs(features, items, config.d, config.numbers)
        width = config.hidden or self.inputs.width
        self.extractor = nn.GRU(self.inputs.width, width)
        self.attention = nn.Linear(self.inputs.item_width, width, bias=False)
        self.enter, self.recur = nn.Linear(width, 3 * width), nn.Linear(width, 3 * width)
        self.head = head_over(self.inputs, width + self.inputs.item_width, labels, config.head)

    def encode_user(self, user: UserSide) -> _DIENState:
        """Interests after each behavior."""
        tokens, length = self.inputs.behaviors(user), user.items.shape[1]
        if not length:
            none = tokens.new_zeros(len(tokens), 0, self.extractor.hidden_size)
            return _DIENState(user.items, user.times, none, self.inputs.profile(user))
        # Padding stands on the left, where the network would turn it into interests. So rows are turned until
        # it stands behind the behaviors, and back.
        padding = (~user.mask).sum(dim=1, keepdim=True)  # (B, 1)
        column = torch.arange(length, device=tokens.device)
        turned = take_columns(tokens, ((column + padding) % length)[:, None])  # (B, L, D)
        interests, _ = self.extractor(turned.transpose(0, 1))  # (L, B, hidden), steps first
        interests = interests.transpose(0, 1)  # (B, L, hidden)
        back = take_columns(interests, ((column - padding) % length)[:, None])  # (B, L, hidden)
        interests = back * user.mask[..., None]
        return _DIENState(user.items, user.times, interests, self.inputs.profile(user))

    def extend_user(self, state: _DIENState, user: UserSide) -> _DIENState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded.
        """
        require_unpadded(user)
        if not state.items.shape[1]:
            return self.encode_user(user)
        tokens = self.inputs.behaviors(user)
        last = state.interests[None, :, -1].to(tokens.dtype).contiguous()  # (1, B, hidden)
        new, _ = self.extractor(tokens.transpose(0, 1), last)  # (N, B, hidden)
        return _DIENState(
            torch.cat([state.items, user.items], dim=1),
            torch.cat([state.times, user.times], dim=1),
            torch.cat([state.interests, new.transpose(0, 1)], dim=1),
            state.profile,
        )

    def score(self, state: _DIENState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        items = self.inputs.candidate_items(candidates)  # (B, C, item width)
        evolved = self._evolved(state, items, candidates)  # (B, C, hidden)
        read = torch.cat([evolved, items], dim=-1)
        return self.head.over(read, state.profile, self.inputs.context(candidates), candidates.mask)

    def auxiliary_loss(self, state: _DIENState, batch: Batch) -> Tensor | None:
        """See the module docstring."""
        present, tokens = batch.user.mask, self.inputs.behaviors(batch.user)
        follows = present[:, 1:] & present[:, :-1]  # (B, L - 1), behaviors with one before them
        if not self.config.auxiliary or not bool(follows.any()):
            return None
        interests, following = state.interests[:, :-1][follows], tokens[:, 1:][follows]  # (N, D)
        every = tokens[present]
        others = every[torch.randint(len(every), (len(following),), device=every.device)]
        told = (interests * following).sum(dim=-1), -(interests * others).sum(dim=-1)  # (N,)
        return -self.config.auxiliary * functional.logsigmoid(torch.stack(told).float()).mean(dim=1).sum()

    def _evolved(self, state: _DIENState, items: Tensor, candidates: CandidateSide) -> Tensor:
        """(B, C, hidden) of the second network after the last behavior that each candidate sees."""
        interests = state.interests.to(items.dtype)
        shown = Visibility.of(candidates, state.items, state.times)
        scores = self.attention(items) @ interests.transpose(1, 2)  # (B, C, L)
        weights = masked_softmax(scores, shown.seen)  # 0 where not seen, and such a step changes nothing
        entered = self.enter(interests)  # (B, L, 3 hidden), once for all candidates
        hidden = items.new_zeros(*items.shape[:2], interests.shape[-1])
        for step in range(interests.shape[1]):
            reset, update, proposal = entered[:, step, None].chunk(3, dim=-1)  # (B, 1, hidden)
            of_reset, of_update, of_proposal = self.recur(hidden).chunk(3, dim=-1)  # (B, C, hidden)
            gate = (update + of_update).sigmoid() * weights[..., step, None]
            proposed = (proposal + (reset + of_reset).sigmoid() * of_proposal).tanh()
            hidden = torch.lerp(hidden, proposed, gate)
        return hidden
