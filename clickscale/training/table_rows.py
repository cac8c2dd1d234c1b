"""Embedding rows of a trained model, carried over to a new one by raw value."""

import numpy as np
import torch
from torch import Tensor, nn

from clickscale.data.features.encoder import Encoder, Vocabulary
from clickscale.data.features.texts import hash_texts
from clickscale.features import FIRST, UNKNOWN
from clickscale.layers.embedding import FusedEmbedding


def tables_of(model: nn.Module) -> dict[str, FusedEmbedding]:
    """Embedding tables of a model by the name of their module."""
    return {name: part for name, part in model.named_modules() if isinstance(part, FusedEmbedding)}


def carried_over(
    table: FusedEmbedding, encoder: Encoder, earlier: FusedEmbedding, its_encoder: Encoder
) -> tuple[Tensor, int]:
    """Rows of ``table`` (rows, d) in which every value that the earlier table knew has its row of then.

    Values are compared as they stand in the logs, so the two data sets may number them differently. A feature
    or value that is new keeps its initial row.

    Returns:
        The rows, on the CPU, and how many of them are of the earlier table.
    """
    rows, before = table.weight.detach().cpu().clone(), earlier.weight.detach().cpu()
    carried = torch.zeros(len(rows), dtype=torch.bool)
    for feature, offset in table.offsets.items():
        if feature not in earlier.offsets:
            continue
        here, there = _same_values(encoder.vocabulary(feature), its_encoder.vocabulary(feature))
        rows[torch.from_numpy(here) + offset] = before[torch.from_numpy(there) + earlier.offsets[feature]]
        carried[torch.from_numpy(here) + offset] = True
    return rows, int(carried.sum())


def _same_values(new: Vocabulary, old: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the values that both vocabularies know, in the new one and in the old one."""
    unknown = np.array([UNKNOWN], np.int64)
    if new.dtype != old.dtype:
        return unknown, unknown
    if new.values is None:
        size = new.size if old.values is None and old.buckets == new.buckets else FIRST
        return np.arange(UNKNOWN, size), np.arange(UNKNOWN, size)
    keys = new.values.to_numpy(zero_copy_only=False) if new.dtype == "int" else hash_texts(new.values)
    there = old.lookup(keys).astype(np.int64)
    known = np.flatnonzero(there != UNKNOWN)
    return np.concatenate([unknown, known + FIRST]), np.concatenate([unknown, there[known]])
