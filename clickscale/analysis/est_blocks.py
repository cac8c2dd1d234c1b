"""Measure which blocks of full attention matter in a trained `est_full` (Liu et al. 2026, section 4).

Tokens (N) and behaviors (B, of which B_u are recent and B_c retrieved) attend to everything. A block
<query, key> is the attention that one kind pays to another. `block_effects` cuts one block after the other
while the model scores (table 1 of the paper, without training again). `attention_of` averages the attention
itself, and how far from rank 1 it is (figure 3).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clickscale.arrays import Ints, Progress
from clickscale.data.dataset import Dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.data.windows import Grouping, make_windows
from clickscale.errors import ConfigError
from clickscale.evaluation.evaluate import with_facts
from clickscale.evaluation.label_report import LabelComparison, compare_predictions
from clickscale.evaluation.predictions import Predictions
from clickscale.models import CTRModel
from clickscale.models._est.full_attention import FullBlock
from clickscale.models.est_full import ESTFull
from clickscale.schema import select_labels

TOKENS, BEHAVIORS, RECENT, KEPT = "N", "B", "B_u", "B_c"
Block = tuple[str, str]  # kinds of the query and of the key
Step = Callable[[int, FullBlock, tuple[Tensor, ...], Tensor], Tensor]
_BATCH = 128  # candidates at once: a block holds a matrix of pairs for each


@dataclass(frozen=True)
class _Places:
    """Positions of each kind in the sequence: ``tokens``, then ``recent`` and ``kept`` behaviors."""

    tokens: int
    recent: int
    kept: int

    @property
    def total(self) -> int:
        """T, positions of all kinds."""
        return self.tokens + self.recent + self.kept

    def of(self, kind: str) -> slice:
        """Positions of one kind."""
        border = self.tokens + self.recent
        return {
            TOKENS: slice(0, self.tokens),
            BEHAVIORS: slice(self.tokens, self.total),
            RECENT: slice(self.tokens, border),
            KEPT: slice(border, self.total),
        }[kind]

    def within(self, larger: "_Places") -> Tensor:
        """(T,) positions of the same in a longer sequence; a kind's newest behaviors stand last in both."""
        first = larger.tokens + larger.recent - self.recent
        parts = [(0, self.tokens), (first, self.recent), (larger.total - self.kept, self.kept)]
        return torch.cat([torch.arange(start, start + count) for start, count in parts])


@dataclass(frozen=True)
class Effect:
    """Measures of one label with a block cut, less those of the whole model, tested over users."""

    block: Block
    comparison: LabelComparison

    def to_dict(self) -> dict[str, Any]:
        """Values and differences."""
        found = self.comparison
        measures = {
            name: {
                "whole": found.b[name],
                "cut": found.a[name],
                "change": found.bootstrap[name].delta,
                "low": found.bootstrap[name].low,
                "high": found.bootstrap[name].high,
                "p_value": found.bootstrap[name].p_value,
                "resamples": found.bootstrap[name].resamples,
                "reason": found.bootstrap[name].reason or None,
            }
            for name in ("auc", "gauc", "log_loss")
        }
        return {"block": block_name(self.block), "label": found.label, **measures}


@dataclass(frozen=True)
class _BlockAttention:
    """The attention of one block in one layer, a mean over heads and over the samples that have both kinds.

    Attributes:
        rank: effective rank in (0, 1], see `_effective_rank`; nan if there is nothing to measure.
        least: what the rank would be if all queries attended alike: the mean of 1 / max(m, n).
        share: part of the attention of the block's queries that goes to its keys.
        samples: impressions that have both kinds.
    """

    layer: int
    block: Block
    rank: float
    least: float
    share: float
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; layers count from 1."""
        reason = None if self.samples else "no impression has both kinds"
        facts = {"effective_rank": self.rank, "least": self.least, "share": self.share, "reason": reason}
        return {"layer": self.layer + 1, "block": block_name(self.block), **facts, "samples": self.samples}


@dataclass(frozen=True)
class Attention:
    """Attention of all layers.

    Attributes:
        places: of the maps.
        names: of the tokens.
        maps: (layers, T, T) float32, queries by keys: the mean over heads and over the samples that have the
            query; a key that a sample lacks counts as 0 in it.
        blocks: every block of every layer.
    """

    places: _Places
    names: tuple[str, ...]
    maps: npt.NDArray[np.float32]
    blocks: tuple[_BlockAttention, ...]


def block_name(block: Block) -> str:
    """``<query, key>``, as in the paper."""
    return f"<{block[0]}, {block[1]}>"


def full_attention_model(model: CTRModel[Any], name: str) -> ESTFull:
    """Return the model of the run ``name`` if it has full attention.

    Raises:
        ConfigError: it is another model.
    """
    if isinstance(model, ESTFull):
        return model
    raise ConfigError(
        f"{name} holds {type(model).__name__}; only est_full has blocks of full attention that can be cut."
        " Train one with clickscale train est_full --grouping request."
    )


def _blocks_of(model: ESTFull) -> tuple[Block, ...]:
    """Blocks of a model: of tokens and behaviors, then with B_u and B_c apart if it has both."""
    coarse, fine = (TOKENS, BEHAVIORS), (TOKENS, RECENT, KEPT)
    pairs = [(query, key) for query in coarse for key in coarse]
    if model.config.kept > 0:
        pairs += [(query, key) for query in fine for key in fine]
    return tuple(dict.fromkeys(pairs))  # <N, N> is in both


def _cut_pairs(pairs: Tensor, places: _Places, block: Block) -> Tensor:
    """Pairs that may attend without a block. Each still sees itself, so that no query is left without a key.

    Args:
        pairs: (R, 1, 1 or T, T) bool.

    Returns:
        (R, 1, T, T) bool.
    """
    own = torch.eye(places.total, dtype=torch.bool, device=pairs.device)
    cut = torch.zeros_like(own)
    cut[places.of(block[0]), places.of(block[1])] = True
    return pairs & ~cut | own


def _effective_rank(weights: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """||H||_F^2 / ||H||_2^2 / max(m, n) of each attention matrix: 1 / max(m, n) if its rows are alike.

    Args:
        weights: (R, H, m', n').
        queries, keys: (R, m') and (R, n') bool: the m rows and n columns that count.

    Returns:
        (R, H); nan where nothing is left.
    """
    x = (weights * queries[:, None, :, None] * keys[:, None, None]).double()
    if x.shape[-2] > x.shape[-1]:
        x = x.transpose(-1, -2)
    # The largest singular value is the root of the largest eigenvalue of the smaller Gram matrix.
    largest = torch.linalg.eigvalsh(x @ x.transpose(-1, -2))[..., -1]
    size = torch.maximum(queries.sum(dim=-1), keys.sum(dim=-1))[:, None]
    return torch.where(largest > 0, x.square().sum(dim=(-1, -2)) / largest / size, torch.nan)


# --- cutting blocks


def block_effects(
    model: ESTFull,
    dataset: Dataset,
    part: str,
    *,
    length: int,
    labels: tuple[str, ...] = (),
    users: int = 0,
    bootstrap: int = 200,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Effect, ...]:
    """Score a part as served, whole and with each block cut, and test the differences.

    Args:
        length: a candidate sees the last ``length`` behaviors.
        users: number of the part's users, drawn at random; 0 for all.
        bootstrap: resamples of the users for the intervals.

    Raises:
        DataError: the part has no impressions.
    """
    rows = dataset.part(part)
    chosen = _rows_of_users(dataset, rows, users, seed)
    loader = _loader(dataset, part, chosen, "request", length, labels)
    blocks = _blocks_of(model)
    logits: dict[Block | None, list[Tensor]] = {block: [] for block in (None, *blocks)}
    places: list[Tensor] = []
    with torch.inference_mode():
        for batch in loader.batches():
            real = batch.rows >= 0
            places.append(batch.rows[real])
            moved = batch.to(next(model.parameters()).device)
            state = model.encode_user(moved.user)
            where = _places_of(model, state.items.shape[1])
            for block, found in logits.items():
                with _cutting(model, where, block):
                    found.append(model.score(state, moved.candidates).float().cpu()[real])
            if progress:
                progress("scoring without each block", sum(map(len, places)), len(chosen))
    order = torch.cat(places).argsort()
    names = tuple(dataset.labels[place] for place in select_labels(dataset.labels, labels))

    def predictions(block: Block | None) -> Predictions:
        scores = torch.cat(logits[block])[order].numpy()
        return with_facts(dataset, rows[chosen], scores, names, part, "request")

    whole = predictions(None)
    tests = [compare_predictions(predictions(b), whole, bootstrap=bootstrap, seed=seed) for b in blocks]
    return tuple(
        Effect(block, label) for block, test in zip(blocks, tests, strict=True) for label in test.labels
    )


def _places_of(model: ESTFull, behaviors: int) -> _Places:
    """Positions of the kinds when rows hold so many behaviors."""
    config = model.config
    return _Places(len(model.inputs.names), min(config.recent, behaviors), min(config.kept, behaviors))


def _rows_of_users(dataset: Dataset, rows: Ints, users: int, seed: int) -> Ints:
    """Positions in ``rows`` of the impressions of some users, or of all."""
    user = np.asarray(dataset.impressions["user"][rows])
    known = np.unique(user)
    if not users or users >= len(known):
        return np.arange(len(rows), dtype=np.int64)
    some = np.random.default_rng(seed).choice(known, users, replace=False)
    return np.flatnonzero(np.isin(user, some)).astype(np.int64)


def _loader(
    dataset: Dataset, part: str, chosen: Ints, grouping: Grouping, length: int, labels: tuple[str, ...]
) -> Loader:
    """Batches of the ``chosen`` impressions of a part only (whole users, or one impression each)."""
    windows = make_windows(dataset, dataset.part(part)[chosen], grouping, length)
    if len(chosen):  # of an empty part there is nothing to place, and the loader says so
        windows = replace(windows, first=chosen[windows.first])
    config = LoaderConfig(grouping=grouping, length=length, batch_size=_BATCH, labels=labels)
    return Loader(dataset, part, config, windows=windows)


@contextmanager
def _stepping_in(model: ESTFull, step: Step) -> Iterator[None]:
    """Call ``step`` before each block attends. The block then uses the pairs that ``step`` returns.

    ``step`` is given the number of the block, the block, its inputs (see `FullBlock.forward`), and a mask of
    the behaviors (R, M).
    """
    there: list[Tensor] = []

    def enter(stack: nn.Module, given: tuple[Tensor, ...]) -> None:
        there[:] = [given[3]]

    def attend(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(block: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            assert isinstance(block, FullBlock), "the stack of full attention holds its blocks"
            return (*given[:3], step(number, block, given, there[0]))

        return hook

    hooks = [model.full.register_forward_pre_hook(enter)]
    hooks += [b.register_forward_pre_hook(attend(i)) for i, b in enumerate(model.full.typed_blocks())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _cutting(model: ESTFull, places: _Places, block: Block | None) -> AbstractContextManager[None]:
    """Let the model score without a block in every layer."""

    def step(number: int, layer: FullBlock, given: tuple[Tensor, ...], there: Tensor) -> Tensor:
        return given[3] if block is None else _cut_pairs(given[3], places, block)

    return _stepping_in(model, step)


# --- looking at attention


def attention_of(
    model: ESTFull,
    dataset: Dataset,
    part: str,
    *,
    length: int,
    samples: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attention:
    """Mean attention and effective ranks over impressions of a part, drawn at random.

    Args:
        length: a candidate sees the last ``length`` behaviors.
        samples: impressions, at most.

    Raises:
        ConfigError: no impression is asked for.
        DataError: the part has no impressions.
    """
    if samples < 1:
        raise ConfigError(f"samples is {samples}; give at least 1.")
    count = len(dataset.part(part))
    drawn = np.random.default_rng(seed).permutation(count)[:samples]
    loader = _loader(dataset, part, np.sort(drawn).astype(np.int64), "impression", length, ())
    means = _Means(model, length)
    done = 0
    with torch.inference_mode():
        for batch in loader.batches():
            moved = batch.to(next(model.parameters()).device)
            state = model.encode_user(moved.user)
            with means.adding(state.items.shape[1]):
                model.score(state, moved.candidates)
            done += batch.samples
            if progress:
                progress("looking at attention", done, min(samples, count))
    return means.result()


class _Means:
    """Sums over samples, and the means made of them."""

    def __init__(self, model: ESTFull, length: int) -> None:
        self.model, self.places, self.blocks = model, _places_of(model, length), _blocks_of(model)
        layers, total = len(model.full.typed_blocks()), self.places.total
        self.maps = torch.zeros((layers, total, total), dtype=torch.float64)
        self.queries = torch.zeros((layers, total), dtype=torch.float64)
        # Per layer and block, of each sample: effective rank, the least it can be, share.
        self.facts: list[dict[Block, list[Tensor]]] = [{b: [] for b in self.blocks} for _ in range(layers)]

    def adding(self, behaviors: int) -> AbstractContextManager[None]:
        """Add every sample that the model scores while the context is open; rows hold so many behaviors."""
        where = _places_of(self.model, behaviors)
        target = where.within(self.places)

        def step(number: int, layer: FullBlock, given: tuple[Tensor, ...], there: Tensor) -> Tensor:
            tokens, _, projected, pairs = given
            seen = torch.cat([there.new_ones((len(there), where.tokens)), there], dim=1)  # (R, T)
            weights = layer.weights(tokens, projected, pairs) * seen[:, None, :, None]
            self.maps[number][target[:, None], target] += weights.mean(dim=1).sum(dim=0).double().cpu()
            self.queries[number][target] += seen.sum(dim=0).cpu()
            self._add_blocks(number, weights, seen, where)
            return pairs

        return _stepping_in(self.model, step)

    def _add_blocks(self, layer: int, weights: Tensor, seen: Tensor, where: _Places) -> None:
        for block in self.blocks:
            query, key = (where.of(kind) for kind in block)
            both = seen[:, query].any(dim=1) & seen[:, key].any(dim=1)
            if not bool(both.any()):
                continue
            part = weights[both][:, :, query, key]
            queries, keys = seen[both, query], seen[both, key]
            m, n = queries.sum(dim=1), keys.sum(dim=1)
            ranks = _effective_rank(part, queries, keys).mean(dim=1)
            shares = part.sum(dim=(-1, -2)).mean(dim=1) / m
            facts = torch.stack([ranks, 1 / torch.maximum(m, n), shares], dim=1)  # (R', 3)
            self.facts[layer][block].append(facts.double().cpu())

    def result(self) -> Attention:
        """The means."""
        maps = self.maps / self.queries.clamp(min=1)[..., None]
        blocks = []
        for layer, found in enumerate(self.facts):
            for block, parts in found.items():
                facts = torch.cat([torch.empty((0, 3), dtype=torch.float64), *parts])
                rank, least, share = facts.nanmean(dim=0).tolist()
                blocks.append(_BlockAttention(layer, block, rank, least, share, len(facts)))
        return Attention(self.places, self.model.inputs.names, maps.float().numpy(), tuple(blocks))
