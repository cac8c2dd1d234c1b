"""Semantic ids: items as short tuples of codes, by residual k-means over their content vectors.

Level 1 clusters the vectors, level l + 1 the residuals that the centroids of the levels before leave
(residual quantization, as in QARM, Luo et al. 2024; EST's table 2 takes the codes as categorical features). A
code of level l has a meaning only within the codes before it, so the feature of level l is the whole prefix
(c_1, ..., c_l) unless ``prefix`` is off.

Codebooks and vocabularies are fitted on the items of the training part. Later items are assigned to the
nearest centroids. A prefix that no item of the training part has is unknown, and so is an item without a
vector. The same vectors, seed and machine give the same ids.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_matrix

from clickscale.arrays import Floats32, Ints, Progress
from clickscale.config import Config
from clickscale.data.columns import blocks, write_column
from clickscale.data.content.extend import (
    Addition,
    add_item_features,
    as_index_column,
    item_vectors,
    new_names,
    write_facts,
)
from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import Vocabulary
from clickscale.data.features.values import MISSING
from clickscale.errors import ConfigError, DataError
from clickscale.features import FIRST, UNKNOWN, column_of
from clickscale.schema import Field

Codebooks = list[Floats32]
_PER_CODE = 256  # vectors per code on which a codebook is fitted; more are sampled
_BLOCK = 1 << 14  # vectors whose distances are in memory at a time


class _Level(Config, frozen=True):
    """One level of semantic ids.

    Attributes:
        codes: centroids; fewer than the option says if there are fewer distinct residuals.
        ids: distinct values of the feature among the items it was fitted on.
        unexplained: share of the variance of those items that this level and earlier ones leave, in [0, 1].
        unknown: items with a vector whose value of this level does not occur in the training part.
    """

    name: str
    codes: int
    ids: int
    unexplained: float
    unknown: int


class _SemanticIds(Config, frozen=True):
    """Result of `add_semantic_ids`.

    Attributes:
        items: items of the data set.
        fitted: items on which the codebooks were fitted.
        missing: items without a vector.
    """

    items: int
    fitted: int
    missing: int
    levels: tuple[_Level, ...]


def add_semantic_ids(
    dataset: Dataset,
    content: str,
    out: Path,
    *,
    name: str = "sid",
    levels: int = 3,
    codes: int = 64,
    prefix: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> _SemanticIds:
    """Add categorical item features ``NAME_1`` to ``NAME_levels``; ``out`` becomes the new data set.

    Args:
        content: the content feature that is clustered.
        out: see `clickscale.data.content.extend`.
        codes: centroids per level.
        prefix: the feature of level l holds all codes up to l, instead of the l-th only.

    Raises:
        SchemaError: the content feature does not exist, or a name is taken.
        ConfigError: levels or codes are out of range.
        DataError: the training part has fewer items with a vector than codes.
    """
    vectors = item_vectors(dataset, content)
    if levels < 1 or codes < 2 or codes**levels >= 2**62:
        raise ConfigError(
            f"levels={levels} and codes={codes}; take 1 level or more, 2 codes or more, and at most 2**62"
            " combinations of codes."
        )
    names = [f"{name}_{level}" for level in range(1, levels + 1)]
    new_names(dataset.schema, *names)
    has = np.concatenate([vectors[rows].any(axis=1) for rows in blocks(len(vectors))])
    fitted = np.flatnonzero(has & _items_of_training(dataset))
    if len(fitted) < codes:
        raise DataError(
            f"{len(fitted)} items of the training part have a vector {content!r}; {codes} codes need as many"
            " or more. Take fewer with --codes."
        )
    books = _fit_codebooks(vectors, fitted, levels, codes, seed, progress)
    present = np.flatnonzero(has)
    assigned, errors = _assign(vectors, present, books)
    keys = np.full((len(vectors), levels), MISSING, np.int64)
    keys[present] = _prefixes(assigned, codes) if prefix else assigned
    vocabularies = [Vocabulary("int", pa.array(np.unique(keys[fitted, level]))) for level in range(levels)]
    columns = [as_index_column(vocabularies[level], keys[:, level]) for level in range(levels)]
    left = _unexplained(vectors, fitted, errors[np.searchsorted(present, fitted)])
    shown = tuple(
        _Level(
            name=names[level],
            codes=len(books[level]),
            ids=vocabularies[level].size - FIRST,
            unexplained=left[level],
            unknown=int((columns[level][present] == UNKNOWN).sum()),
        )
        for level in range(levels)
    )

    def write(folder: Path) -> Addition:
        for field, column in zip(names, columns, strict=True):
            write_column(folder / "items" / f"{column_of(field)}.npy", column)
        settings = {"content": content, "codes": codes, "prefix": prefix, "seed": seed}
        write_facts(folder, name, {"made_by": "ids", **settings, "levels": levels, "fitted": len(fitted)})
        fields = tuple(Field(name=field, dtype="int") for field in names)
        return Addition(fields, dict(zip(names, vocabularies, strict=True)))

    add_item_features(dataset, out, write, overwrite=overwrite)
    missing = int((~has[FIRST:]).sum())
    return _SemanticIds(items=len(vectors) - FIRST, fitted=len(fitted), missing=missing, levels=shown)


def _items_of_training(dataset: Dataset) -> npt.NDArray[np.bool_]:
    """(items,) True for items that the training part may know.

    With a split by moments, these are the items first seen, as a behavior or a candidate, before the
    validation part begins. With any other split, they are the items of the training part's impressions.
    """
    known = np.zeros(dataset.features.items, bool)
    if len(dataset.boundaries) == 2:  # given parts may have a moment for valid only
        seen = dataset.items["first_seen"]
        known[:] = (seen >= 0) & (seen < dataset.boundaries[0])
    else:
        known[dataset.impressions["item"][dataset.part("train")]] = True
    known[:FIRST] = False
    return known


# --- residual k-means


def _fit_codebooks(
    vectors: npt.NDArray[Any], rows: Ints, levels: int, codes: int, seed: int, progress: Progress | None
) -> Codebooks:
    """Fit one codebook (codes, width) per level on ``rows``, or on a sample of many rows."""
    random = np.random.default_rng(seed)
    if len(rows) > _PER_CODE * codes:
        rows = np.sort(random.choice(rows, _PER_CODE * codes, replace=False))
    left = np.asarray(vectors[rows], np.float32)
    books: Codebooks = []
    for level in range(levels):
        books.append(_kmeans(left, codes, random))
        left = left - books[-1][_nearest(left, books[-1])]
        if progress:
            progress("cluster", level + 1, levels)
    return books


# Why not scipy.cluster.vq.kmeans2? It ends with the same error, but it takes 10 to 20 times as long on 16,384
# vectors of 384 floats and 64 codes: it does not multiply matrices, and it runs every round.


def _kmeans(points: Floats32, codes: int, random: np.random.Generator, rounds: int = 50) -> Floats32:
    """Centroids (codes or fewer, width) by Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007).

    A centroid that loses all its points moves to the point that is farthest from its own centroid.
    """
    centroids = _spread(points, codes, random)
    labels = _nearest(points, centroids)
    for _ in range(rounds):
        centroids = _means(points, labels, centroids)
        before, labels = labels, _nearest(points, centroids)
        if np.array_equal(before, labels):
            break
    return centroids


def _spread(points: Floats32, codes: int, random: np.random.Generator) -> Floats32:
    """Choose centroids by k-means++: points, drawn in proportion to their squared distances."""
    chosen = [int(random.integers(len(points)))]
    distance = _squares(points, points[chosen[0]])
    while len(chosen) < codes and distance.max() > 0:
        drawn = np.searchsorted(np.cumsum(distance), random.random() * distance.sum(), side="right")
        chosen.append(int(min(drawn, len(points) - 1)))
        distance = np.minimum(distance, _squares(points, points[chosen[-1]]))
    return points[chosen].copy()


def _squares(points: Floats32, center: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Compute (N,) squared distances; exactly 0 for equal points."""
    parts = [
        np.square(points[rows] - center).sum(-1, dtype=np.float64) for rows in blocks(len(points), _BLOCK)
    ]
    return np.concatenate(parts)


def _nearest(points: Floats32, centroids: Floats32) -> Ints:
    """Find (N,) the centroid with the least distance; the first of equal ones."""
    half = np.square(centroids).sum(1) / 2
    parts = [np.argmin(half - points[rows] @ centroids.T, axis=1) for rows in blocks(len(points), _BLOCK)]
    return np.concatenate(parts)


def _means(points: Floats32, labels: Ints, centroids: Floats32) -> Floats32:
    """Compute the mean of the points of each centroid."""
    count = np.bincount(labels, minlength=len(centroids))
    shape = (len(centroids), len(points))
    sums = csr_matrix((np.ones(len(points), np.float32), (labels, np.arange(len(points)))), shape) @ points
    moved: Floats32 = (sums / np.maximum(count, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(count == 0)
    if len(empty):
        distance = np.square(points - centroids[labels]).sum(1)
        moved[empty] = points[np.argsort(-distance, kind="stable")[: len(empty)]]
    return moved


def _assign(vectors: npt.NDArray[Any], rows: Ints, books: Codebooks) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Assign codes (N, levels) to ``rows``, with the squared length (N, levels) of each level's residual."""
    codes = np.zeros((len(rows), len(books)), np.int64)
    errors = np.zeros((len(rows), len(books)))
    for some in blocks(len(rows), _BLOCK):
        left = np.asarray(vectors[rows[some]], np.float32)
        for level, book in enumerate(books):
            codes[some, level] = _nearest(left, book)
            left = left - book[codes[some, level]]
            errors[some, level] = np.square(left).sum(1, dtype=np.float64)
    return codes, errors


def _prefixes(codes: Ints, base: int) -> Ints:
    """Turn (N, levels) codes below ``base`` into one number per prefix.

    >>> _prefixes(np.array([[1, 2], [0, 3]]), 10).tolist()
    [[1, 12], [0, 3]]
    """
    keys = codes.copy()
    for level in range(1, codes.shape[1]):
        keys[:, level] += keys[:, level - 1] * base
    return keys


def _unexplained(vectors: npt.NDArray[Any], rows: Ints, errors: npt.NDArray[np.float64]) -> list[float]:
    """Compute the share of the variance around the mean that each level leaves."""
    held = np.asarray(vectors[rows], np.float64)
    total = np.square(held - held.mean(0)).sum()
    return [float(level / total) if total else 0.0 for level in errors.sum(0)]
