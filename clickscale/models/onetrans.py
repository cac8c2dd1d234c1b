"""OneTrans (Zhang et al., 2025): one transformer over behaviors and fields.

Behaviors are tokens that share their weights (S); profile, item and context become n tokens with weights of
their own (NS), by one map whose result is cut into n. They stand in the order S, NS::

    z  = x + attention(RMS(x))            # a behavior sees earlier ones; NS token i sees all S and NS up to i
    x' = z + W2 gelu(W1 RMS(z))

The tower reads the NS tokens. Behaviors do not depend on the candidate, so their keys and values are computed
once per user, can be appended to, and serve any number of candidates.

With ``retrieved``, a search takes the behaviors of the whole timeline that concern the candidate (B_c), as in
the comparison of Liu et al. (2026, section 6.1): they become one more NS token, their ``mean`` or their sum
weighted by ``din`` (OneTrans-D), or ``all`` of them are S tokens behind the user's (OneTrans-F). Of these
every candidate has its own, so they are computed per candidate in every layer.

Resolutions: tokens of the user come before those of the candidate, with the token of B_c between them. With
``pyramid=true``, layer n lets a token see the newest behaviors only, fewer with each layer; the window of a
behavior counts from the behavior itself, so that states stay exact when behaviors are appended. A retrieved
behavior sees what its candidate sees, and the retrieved ones before it.

Deviations: there is one behavior sequence, ordered by time.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from msgspec.structs import replace
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
from clickscale.layers.local_activation import LocalActivation
from clickscale.layers.norm import RMSNorm
from clickscale.layers.per_token import PerTokenLinear
from clickscale.layers.timed_inputs import TimedInputs
from clickscale.layers.visibility import Visibility, take_columns
from clickscale.models._base import CTRModel, State, require_unpadded
from clickscale.models._papers import EST_TOWER
from clickscale.models._search import CandidateSearch
from clickscale.models._sizes import DEBUG_TOWER


class ModelConfig(Config, frozen=True):
    """Options.

    Attributes:
        d: width of one feature's embedding.
        width: D of a token.
        blocks: layers. heads: of each.
        user_tokens, candidate_tokens: NS tokens made of the profile, and of item and context.
        expansion: hidden width of the feed-forward layers in units of D.
        pyramid: let deeper layers see fewer behaviors.
        retrieved: how behaviors found for the candidate enter: not, as one token that is their ``mean`` or
            DIN's sum of them (``din``), or as ``all`` tokens of their own.
        kept: K, behaviors that the search keeps of all that the candidate sees.
        search: relevance by ``content`` cosine, or by shared values of an item ``field``.
        field: that a search by field compares; the first attribute of the item if empty.
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
    retrieved: Literal["none", "mean", "din", "all"] = "none"
    kept: int = 50
    search: Literal["content", "field"] = "field"
    field: str = ""
    time_of_week: bool = True
    numbers: Numbers = "piecewise"
    head: HeadConfig = HeadConfig()

    def __post_init__(self) -> None:
        counts = ("d", "width", "blocks", "heads", "user_tokens", "candidate_tokens", "expansion", "kept")
        check_least(self, 1, *counts)
        if self.width % self.heads:
            raise ConfigError(f"width is {self.width}, which heads={self.heads} does not divide.")


_PAPER = ModelConfig(
    d=16,
    width=128,
    blocks=6,
    heads=4,
    user_tokens=24,
    candidate_tokens=24,
    expansion=1,
    retrieved="mean",
    search="content",
    time_of_week=False,
    head=EST_TOWER,
)
PRESETS = {
    f"size-{i + 1}": ModelConfig(d=d, width=6 * d, blocks=blocks, heads=heads)
    for i, (d, blocks, heads) in enumerate(((8, 1, 2), (8, 2, 2), (16, 3, 4), (32, 4, 4), (144, 6, 8)))
} | {
    # Liu et al. 2026, table 3: OneTrans, OneTrans-D and OneTrans-F.
    "paper": _PAPER,
    "paper-d": replace(_PAPER, retrieved="din"),
    "paper-f": replace(_PAPER, retrieved="all"),
    "debug": ModelConfig(
        d=4, width=8, blocks=1, heads=1, user_tokens=1, candidate_tokens=1, expansion=1, head=DEBUG_TOWER
    ),
}


@dataclass(frozen=True)
class _OneTransState(State):
    """Keys and values of a user's behaviors.

    Attributes:
        items, times: (B, L).
        tokens: (B, L, width of a behavior), which a search reads; of width 0 without one.
        profile: (B, n2, d).
        keys, values: per block (B, H, L, D / H).
    """

    GROWS = {"items": 1, "times": 1, "tokens": 1, "keys": 2, "values": 2}

    items: Tensor
    times: Tensor
    tokens: Tensor
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


class OneTrans(CTRModel[_OneTransState]):
    """See the module docstring."""

    adds_hours = True

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
        self.search = None
        if config.retrieved != "none":
            self.search = CandidateSearch(
                features, items, self.inputs.item_width, config.search, config.kept, config.field
            )
        one = config.retrieved in ("mean", "din")  # one token of them all
        self.activation = LocalActivation(self.inputs.width) if config.retrieved == "din" else None
        self.pooled = nn.Linear(self.inputs.width, width) if one else None
        self.tokens = config.user_tokens + one + config.candidate_tokens
        last = config.blocks - 1
        self.shared = nn.ModuleList(_Shared(width, hidden, i == last) for i in range(config.blocks))
        self.own = nn.ModuleList(_OfTokens(self.tokens, width, hidden) for _ in range(config.blocks))
        self.last = RMSNorm(width)
        self.head = Head(self.tokens * width, labels, config.head)

    def encode_user(self, user: UserSide) -> _OneTransState:
        """Keys and values of the behaviors in every layer."""
        profile = self.inputs.profile(user)
        none = user.items[:, :0]
        empty = profile.new_zeros(len(profile), self.config.heads, 0, self.config.width // self.config.heads)
        many = (empty,) * self.config.blocks
        tokens = profile.new_zeros(len(profile), 0, self.inputs.width if self.search else 0)
        return self._advance(_OneTransState(none, none, tokens, profile, many, many), user)

    def extend_user(self, state: _OneTransState, user: UserSide) -> _OneTransState:
        """State of the longer history, exactly; every row must gain equally many behaviors (no padding).

        Raises:
            InputError: a row of ``user`` is padded.
        """
        require_unpadded(user)
        return self._advance(state, user)

    def _advance(self, state: _OneTransState, user: UserSide) -> _OneTransState:
        items = torch.cat([state.items, user.items], dim=1)  # (B, P + N)
        times = torch.cat([state.times, user.times], dim=1)  # (B, P + N)
        column = torch.arange(items.shape[1], device=items.device)
        distance = column[state.items.shape[1] :, None] - column  # (N, P + N)
        entered = self.inputs.timed_behaviors(user)  # (B, N, width)
        x = self.behavior(entered)  # (B, N, D)
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
        tokens = torch.cat([state.tokens.to(entered.dtype), entered[..., : state.tokens.shape[-1]]], dim=1)
        return _OneTransState(items, times, tokens, state.profile, tuple(keys), tuple(values))

    def _window(self, index: int) -> int:
        """Behaviors that a token of a layer sees."""
        if not self.config.pyramid:
            return 1 << 62
        return max(self.length - index * self.length // self.config.blocks, 1)

    def score(self, state: _OneTransState, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T)."""
        own, context = self.inputs.timed_candidates(candidates), self.inputs.context(candidates)
        shown = Visibility.of(candidates, state.items, state.times)
        found = self._found(state, shown, own)
        x = self._tokens(state, own, context, found)  # (n, R, D)
        column = torch.arange(state.items.shape[1], device=x.device)
        distance = shown.visible[..., None] - column  # (B, C', L)
        batch, count = candidates.items.shape
        order = torch.arange(self.tokens, device=x.device)
        earlier = _bias(order <= order[:, None])  # (n, n)
        retrieved = None
        if self.config.retrieved == "all":
            assert found is not None, "a search gives what is retrieved"
            retrieved = _Retrieved.of(
                self.behavior(found.tokens), found.mask, (batch, count), self.config.heads
            )
        for index, layer in enumerate(self.own):
            assert isinstance(layer, _OfTokens)
            bias = _bias(shown.seen & (distance <= self._window(index)))[..., None, :]  # (B, 1, C', 1, L)
            query, key, value = (self._heads(y, batch) for y in layer.qkv(layer.norms[0](x)).chunk(3, dim=-1))
            query = query * self.scale  # (B, H, C, n, D / H)
            held, read = (part[index].to(x.dtype)[:, :, None] for part in (state.keys, state.values))
            parts = [(query @ held.transpose(-1, -2) + bias, read)]  # scores (B, H, C, n, L)
            if retrieved is not None:
                shared = self.shared[index]
                assert isinstance(shared, _Shared), "layers of shared weights"
                own_key, own_value, retrieved = retrieved.through(shared, held, read, bias, self.scale)
                parts.append((query @ own_key.transpose(-1, -2) + retrieved.bias, own_value))
            parts.append((query @ key.transpose(-1, -2) + earlier, value))  # scores (B, H, C, n, n)
            x = layer.finish(x, _read(parts).permute(3, 0, 2, 1, 4).reshape(x.shape))  # (n, R, D)
        flat = self.last(x).transpose(0, 1).reshape(batch, count, -1)  # (B, C, n D)
        return self.head(flat, candidates.mask)

    def _found(self, state: _OneTransState, shown: Visibility, own: Tensor) -> "_Found | None":
        """Behaviors that the search finds for each candidate."""
        if self.search is None:
            return None
        tokens = state.tokens.to(own.dtype)
        result = self.search.find(shown, own, tokens)
        found = shown.select(result.columns, result.mask)
        return _Found(take_columns(tokens, found.columns), found.row_mask)

    def _heads(self, x: Tensor, batch: int) -> Tensor:
        """(n, R, D) -> (B, H, C, n, D / H)."""
        return x.view(self.tokens, batch, -1, self.config.heads, x.shape[-1] // self.config.heads).permute(
            1, 3, 2, 0, 4
        )

    def _tokens(self, state: _OneTransState, own: Tensor, context: Tensor, found: "_Found | None") -> Tensor:
        """NS tokens (n, R, D), those of the user first."""
        profile = state.profile.to(own.dtype).flatten(1)  # (B, n2 d)
        profile = functional.pad(profile, (0, self.user.in_features - profile.shape[1]))
        made = [self.user(profile)[:, None].expand(-1, own.shape[1], -1)]  # (B, C, tokens D)
        if self.pooled is not None:
            assert found is not None, "a search gives what is pooled"
            made.append(self.pooled(self._sum(own, found)).view(*own.shape[:2], -1))  # (B, C, D)
        made.append(self.candidate(torch.cat([own, context], dim=-1)))
        tokens = torch.cat(made, dim=-1)
        return tokens.view(-1, self.tokens, self.config.width).transpose(0, 1).contiguous()  # (n, R, D)

    def _sum(self, own: Tensor, found: "_Found") -> Tensor:
        """(R, width) of the retrieved behaviors: DIN's sum, or their mean."""
        if self.activation is not None:
            weights = self.activation(own.flatten(0, 1)[:, None], found.tokens, found.mask[:, None])
            return (weights @ found.tokens)[:, 0]  # (R, width)
        counted = found.mask[..., None].to(found.tokens.dtype)
        return (found.tokens * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


@dataclass(frozen=True)
class _Found:
    """Retrieved behaviors of each candidate: tokens (R, K, width), and which of them there are (R, K)."""

    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True)
class _Retrieved:
    """Retrieved behaviors as S tokens behind those of the user.

    Attributes:
        rows: (R, K, D). bias: (B, 1, C, 1, K), -inf where there is none.
        causal: (B, 1, C, K, K), of the behaviors among themselves.
        shape: (B, C).
    """

    rows: Tensor
    bias: Tensor
    causal: Tensor
    shape: tuple[int, int]
    heads: int

    @classmethod
    def of(cls, rows: Tensor, mask: Tensor, shape: tuple[int, int], heads: int) -> "_Retrieved":
        """Rows (R, K, D), of which those in the mask (R, K) are behaviors."""
        order = torch.arange(rows.shape[1], device=rows.device)
        itself = order == order[:, None]  # a place without a behavior sees itself, so that no row is empty
        causal = itself | ((order <= order[:, None]) & mask[:, None])  # (R, K, K)
        bias = _bias(mask.view(*shape, 1, mask.shape[1]))
        return cls(rows, bias, _bias(causal.view(*shape, *causal.shape[1:])), shape, heads)

    def through(
        self, layer: "_Shared", held: Tensor, read: Tensor, bias: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, "_Retrieved"]:
        """Keys and values (B, H, C, K, D / H) in a layer, and the rows after it.

        Args:
            held, read: (B, H, 1, L, D / H), keys and values of the user's behaviors.
            bias: (B, 1, C', 1, L), which of them each candidate sees.
        """
        normed = layer.norm(self.rows)
        key, value = (self._split(part) for part in layer.key_value(normed).chunk(2, dim=-1))
        if layer.rest is None:
            return key, value, self
        query = self._split(layer.rest.query(normed)) * scale
        parts = [
            (query @ held.transpose(-1, -2) + bias, read),
            (query @ key.transpose(-1, -2) + self.causal, value),
        ]
        seen = _read(parts).permute(0, 2, 3, 1, 4).reshape(self.rows.shape)  # (R, K, D)
        after = layer.rest.finish(self.rows, seen)
        return key, value, _Retrieved(after, self.bias, self.causal, self.shape, self.heads)

    def _split(self, x: Tensor) -> Tensor:
        """(R, K, D) -> (B, H, C, K, D / H)."""
        parts = x.view(*self.shape, x.shape[1], self.heads, x.shape[2] // self.heads)
        return parts.permute(0, 3, 1, 2, 4)  # (B, H, C, K, D / H)


def _read(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attention over keys in several tensors: scores (..., n, N) and values (..., N, D / H) of each."""
    weights = torch.cat([scores for scores, _ in parts], dim=-1).softmax(dim=-1)
    pieces = torch.split(weights, [scores.shape[-1] for scores, _ in parts], dim=-1)
    products = [piece @ value for piece, (_, value) in zip(pieces, parts, strict=True)]
    return reduce(torch.add, products)


def _bias(allowed: Tensor) -> Tensor:
    """Additive bias (..., 1 more axis for heads) of pairs: 0 where allowed, else -inf."""
    bias = torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, -torch.inf)
    return bias if bias.dim() == 2 else bias[:, None]
