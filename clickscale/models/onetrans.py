"""OneTrans (Zhang et al., 2025): one transformer over behaviors and fields.

Behaviors are tokens that share their weights (S); profile, item and context become n tokens with weights of
their own (NS), by one map whose result is cut into n. They stand in the order S, NS::

    z  = x + attention(RMS(x))            # a behavior sees earlier ones; NS token i sees all S and NS up to i
    x' = z + W2 gelu(W1 RMS(z))

The tower reads the NS tokens. Behaviors do not depend on the candidate, so their keys and values are computed
once per user, can be appended to, and serve any number of candidates.

Resolutions: tokens of the user come before those of the candidate. With ``pyramid=true``, layer n lets a
token see the newest behaviors only, fewer with each layer; the window of a behavior counts from the behavior
itself, so that states stay exact when behaviors are appended.

Deviations: there is one behavior sequence, ordered by time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clickscale.batch import CandidateSide, UserSide
from clickscale.config import Config, check_least
from clickscale.errors import ConfigError
from clickscale.features import Features
from clickscale.layers.attention import merge_heads, plain_attend, split_heads
from clickscale.layers.embedding import Numbers
from clickscale.layers.head import Head, HeadConfig
from clickscale.layers.inputs import ItemColumns
from clickscale.layers.norm import RMSNorm
from clickscale.layers.per_token import PerTokenLinear
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.layers.visibility import Visibility
from clickscale.models._base import CTRModel, State, require_unpadded


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        width: D of a token.
        blocks: layers. heads: of each.
        user_tokens, candidate_tokens: NS tokens made of the profile, and of item and context.
        expansion: hidden width of the feed-forward layers in units of D.
        pyramid: let deeper layers see fewer behaviors.
        time_of_week: add an embedding of hour and weekday to every behavior and candidate.
        numbers: embedding of a number, see `clickscale.layers.embedding.SideEmbedding`.
    """

    d: int = 8
    width: int = 48
    blocks: int = 2
    heads: int = 2
    user_tokens: int = 2
    candidate_tokens: int = 4
    expansion: int = 2
    pyramid: bool = False
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        check_least(self, 1, "d", "width", "blocks", "heads", "user_tokens", "candidate_tokens", "expansion")
        if self.width % self.heads:
            raise ConfigError(f"width is {self.width}, which heads={self.heads} does not divide.")


PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, width=6 * d, blocks=blocks, heads=heads)
    for i, (d, blocks, heads) in enumerate(((8, 1, 2), (8, 2, 2), (16, 3, 4), (32, 4, 4), (144, 6, 8)))
}


@dataclass(frozen=True)
class OneTransState(State):
    """Keys and values of a user's behaviors.

    Attributes:
        items, times: (B, L).
        profile: (B, n2, d).
        keys, values: per block (B, H, L, D / H).
    """

    GROWS = {"items": 1, "times": 1, "keys": 2, "values": 2}

    items: Tensor
    times: Tensor
    profile: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class _Shared(nn.Module):
    """Weights of one layer that all behaviors share; the last layer needs keys and values alone."""

    def __init__(self, width: int, hidden: int, last: bool) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.rest = None if last else _Rest(width, hidden)


class _Rest(nn.Module):
    """What turns behaviors of one layer into those of the next."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = RMSNorm(width)
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """Rows (B, N, D) and what they read (B, N, D) -> rows."""
        x = x + self.out(seen)
        fed: Tensor = self.leave(functional.gelu(self.enter(self.norm(x))))
        return x + fed


class _OfTokens(nn.Module):
    """Weights of one layer of which each of n tokens has its own, in token-major layout (n, R, D)."""

    def __init__(self, tokens: int, width: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(2))
        self.qkv = PerTokenLinear(tokens, width, 3 * width, bias=True)
        self.out = PerTokenLinear(tokens, width, width, bias=True)
        self.enter = PerTokenLinear(tokens, width, hidden, bias=True)
        self.leave = PerTokenLinear(tokens, hidden, width, bias=True)

    def finish(self, x: Tensor, seen: Tensor) -> Tensor:
        """Tokens (n, R, D) and what they read (n, R, D) -> tokens."""
        x = x + self.out(seen)
        fed: Tensor = self.leave(functional.gelu(self.enter(self.norms[1](x))))
        return x + fed


class OneTrans(CTRModel[OneTransState]):
    """See the module docstring."""

    def __init__(
        self, features: Features, items: ItemColumns, config: ModelConfig, length: int, labels: int
    ) -> None:
        super().__init__()
        self.config, self.length = config, length
        self.inputs = TimedInputs(features, items, config.d, config.numbers, time_of_week=config.time_of_week)
        width, hidden = config.width, config.expansion * config.width
        self.scale = (width // config.heads) ** -0.5
        self.behavior = nn.Linear(self.inputs.width, width)
        self.user = nn.Linear(max(self.inputs.profile_tokens, 1) * config.d, config.user_tokens * width)
        known = self.inputs.width + self.inputs.context_tokens * config.d
        self.candidate = nn.Linear(known, config.candidate_tokens * width)
        self.tokens = config.user_tokens + config.candidate_tokens
        last = config.blocks - 1
        self.shared = nn.ModuleList(_Shared(width, hidden, i == last) for i in range(config.blocks))
        self.own = nn.ModuleList(_OfTokens(self.tokens, width, hidden) for _ in range(config.blocks))
        self.last = RMSNorm(width)
        self.head = Head(self.tokens * width, labels, config.head)

    def encode_user(self, user: UserSide) -> OneTransState:
        """Keys and values of the behaviors in every layer."""
        profile = self.inputs.profile(user)
        none = user.items[:, :0]
        empty = profile.new_zeros(len(profile), self.config.heads, 0, self.config.width // self.config.heads)
        many = (empty,) * self.config.blocks
        return self._advance(OneTransState(none, none, profile, many, many), user)

    def extend_user(self, state: OneTransState, user: UserSide) -> OneTransState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded.
        """
        require_unpadded(user)
        return self._advance(state, user)

    def _advance(self, state: OneTransState, user: UserSide) -> OneTransState:
        items = torch.cat([state.items, user.items], dim=1)  # (B, P + N)
        times = torch.cat([state.times, user.times], dim=1)  # (B, P + N)
        column = torch.arange(items.shape[1], device=items.device)
        distance = column[state.items.shape[1] :, None] - column  # (N, P + N)
        x = self.behavior(self.inputs.timed_behaviors(user))  # (B, N, D)
        keys, values = [], []
        for index, layer in enumerate(self.shared):
            assert isinstance(layer, _Shared)
            normed = layer.norm(x)
            key, value = (split_heads(y, self.config.heads) for y in layer.key_value(normed).chunk(2, dim=-1))
            keys.append(torch.cat([state.keys[index].to(key.dtype), key], dim=2))
            values.append(torch.cat([state.values[index].to(value.dtype), value], dim=2))
            if layer.rest is None:
                break
            near = (distance >= 0) & (distance < self._window(index))
            allowed = (distance == 0) | (near & (items > 0)[:, None])  # padding sees itself
            query = split_heads(layer.rest.query(normed), self.config.heads)
            seen = plain_attend(query, keys[-1], values[-1], _bias(allowed), self.scale)
            x = layer.rest.finish(x, merge_heads(seen))
        return OneTransState(items, times, state.profile, tuple(keys), tuple(values))

    def _window(self, index: int) -> int:
        """Behaviors that a token of a layer sees."""
        if not self.config.pyramid:
            return 1 << 62
        return max(self.length - index * self.length // self.config.blocks, 1)

    def score(self, state: OneTransState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        x = self._tokens(state, candidates)  # (n, R, D)
        shown = Visibility.of(candidates, state.items, state.times)
        column = torch.arange(state.items.shape[1], device=x.device)
        distance = shown.visible[..., None] - column  # (B, C', L)
        batch, count = candidates.items.shape
        order = torch.arange(self.tokens, device=x.device)
        earlier = _bias(order <= order[:, None])  # (n, n)
        for index, layer in enumerate(self.own):
            assert isinstance(layer, _OfTokens)
            bias = _bias(shown.seen & (distance <= self._window(index)))[..., None, :]  # (B, 1, C', 1, L)
            query, key, value = (self._heads(y, batch) for y in layer.qkv(layer.norms[0](x)).chunk(3, dim=-1))
            query = query * self.scale  # (B, H, C, n, D / H)
            held, read = (part[index].to(x.dtype)[:, :, None] for part in (state.keys, state.values))
            of_behaviors = query @ held.transpose(-1, -2) + bias  # (B, H, C, n, L)
            of_tokens = query @ key.transpose(-1, -2) + earlier  # (B, H, C, n, n)
            weights = torch.cat([of_behaviors, of_tokens], dim=-1).softmax(dim=-1)
            seen = weights[..., : held.shape[-2]] @ read + weights[..., held.shape[-2] :] @ value
            x = layer.finish(x, seen.permute(3, 0, 2, 1, 4).reshape(x.shape))  # (n, R, D)
        flat = self.last(x).transpose(0, 1).reshape(batch, count, -1)  # (B, C, n D)
        return self.head(flat, candidates.mask)

    def _heads(self, x: Tensor, batch: int) -> Tensor:
        """(n, R, D) -> (B, H, C, n, D / H)."""
        return x.view(self.tokens, batch, -1, self.config.heads, x.shape[-1] // self.config.heads).permute(
            1, 3, 2, 0, 4
        )

    def _tokens(self, state: OneTransState, candidates: CandidateSide) -> Tensor:
        """NS tokens (n, R, D), those of the user first."""
        own, context = self.inputs.timed_candidates(candidates), self.inputs.context(candidates)
        profile = state.profile.to(own.dtype).flatten(1)  # (B, n2 d)
        profile = functional.pad(profile, (0, self.user.in_features - profile.shape[1]))
        user = self.user(profile)[:, None].expand(-1, own.shape[1], -1)  # (B, C, tokens D)
        made = torch.cat([user, self.candidate(torch.cat([own, context], dim=-1))], dim=-1)
        return made.view(-1, self.tokens, self.config.width).transpose(0, 1).contiguous()  # (n, R, D)


def _bias(allowed: Tensor) -> Tensor:
    """Additive bias (..., 1 more axis for heads) of pairs: 0 where allowed, else -inf."""
    bias = torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, -torch.inf)
    return bias if bias.dim() == 2 else bias[:, None]
