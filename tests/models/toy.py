"""A small world of features, items and batches for tests of models."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.features import Feature, Features
from clickscale.layers.inputs import ItemColumns
from clickscale.models import CTRModel, build_model

ITEMS = 30
NOW = 1_600_000_000
EDGES = (-3.0, -1.0, 0.0, 0.5, 2.5)  # of every number; inverse widths are exact in float32


def features(labels: tuple[str, ...] = ("click",)) -> Features:
    """Every kind of feature on every side."""
    return Features(
        profile=(
            Feature(name="user", kind="categorical", size=12),
            Feature(name="age", kind="numeric", width=1, edges=EDGES),
        ),
        behavior=(
            Feature(name="action", kind="categorical", size=6),
            Feature(name="dwell", kind="numeric", width=1, edges=EDGES),
        ),
        item=(
            Feature(name="item", kind="categorical", size=ITEMS),
            Feature(name="tags", kind="categorical", size=8, values=3),
            Feature(name="price", kind="numeric", width=1, edges=EDGES),
            Feature(name="text", kind="content", width=4),
        ),
        context=(
            Feature(name="slot", kind="categorical", size=5),
            Feature(name="ctr", kind="numeric", width=1, edges=EDGES),
        ),
        items=ITEMS,
        labels=labels,
    )


def item_columns(seed: int = 0) -> ItemColumns:
    """An item table; rows 0 and 1 are padding and unknown."""
    random = np.random.default_rng(seed)
    tags = random.integers(2, 8, (ITEMS, 3)).astype(np.int32)
    tags[:, 1:] *= random.random((ITEMS, 2)) < 0.6
    price = random.normal(size=ITEMS).astype(np.float32)
    price[::7] = np.nan
    return {
        "field.item": np.arange(ITEMS, dtype=np.int32),
        "field.tags": tags,
        "field.price": price,
        "field.text": random.normal(size=(ITEMS, 4)).astype(np.float16),
    }


# Options of models that see, keep or append in other ways than the defaults do, for tests of every model.
VARIANTS = [
    "lightsuan r=4 k=3 phase=paper candidates_read=pattern",
    "lightsuan r=3 phase=head candidates_read=pattern",
    "lightsuan r=4 k=1 phase=block_head bias=blocks candidates_read=pattern",
    "lightsuan r=2 phase=block_head heads=4 candidates_read=pattern",
    "lightsuan r=4 phase=paper candidates_read=all",
    "sim auxiliary=1",
    "dien auxiliary=1",
    "longer inner=true",
    "rankmixer experts=3 pool=tokens",
    "mtgr visible=paper bias=none recent=4 width=16",
    "onetrans retrieved=mean kept=3 search=content",
    "onetrans retrieved=din kept=3",
    "onetrans retrieved=all kept=3 pyramid=true search=content",
    "suan_literal target=head pooling=prefix",
    "mlp time_of_week=true",
    "din time_of_week=true",
]


def toy_model(
    name: str, *overrides: str, length: int = 12, grade: str = "size-2", seed: int = 0
) -> CTRModel[Any]:
    """A model with weights large enough that every path shows in the scores.

    ``name`` may carry options: "lightsuan r=4 phase=head".
    """
    name, *options = name.split()
    torch.manual_seed(seed)
    model = build_model(
        name,
        features(),
        item_columns(),
        grade=grade,
        length=length,
        overrides=("head.hidden=[16,8]", *options, *overrides),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        for module in model.modules():
            if hasattr(module, "offsets"):
                module.weight[0] = 0
    return model.eval()


def toy_batch(
    rows: int = 5, length: int = 12, candidates: int = 4, seed: int = 0, full: bool = False
) -> Batch:
    """Rows with histories of different lengths (the first is empty unless ``full``) and padded candidates."""
    random = np.random.default_rng(seed)
    behaviors = np.full(rows, length) if full else np.linspace(0, length, rows).astype(int)
    present = np.arange(length) >= length - behaviors[:, None]
    gaps = random.integers(1, 100_000, (rows, length))
    times = NOW - np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    real = np.ones((rows, candidates), dtype=bool) if full else random.random((rows, candidates)) < 0.8
    real[:, 0] = True

    def indices(shape: tuple[int, ...], high: int, keep: object) -> Tensor:
        return torch.from_numpy(random.integers(1, high, shape) * np.asarray(keep))

    numbers = random.normal(size=(rows, length, 1)).astype(np.float32)
    ctr = random.normal(size=(rows, candidates, 1)).astype(np.float32)
    ctr[0, 0] = np.nan
    age = random.normal(size=(rows, 1)).astype(np.float32)
    age[-1], numbers[:, -2] = np.nan, np.nan  # missing numbers on every side
    return Batch(
        user=UserSide(
            profile=indices((rows, 1), 12, 1),
            profile_numbers=torch.from_numpy(age),
            items=indices((rows, length), ITEMS, present),
            actions=indices((rows, length, 1), 6, present[..., None]),
            action_numbers=torch.from_numpy(numbers),
            times=torch.from_numpy(times),
        ),
        candidates=CandidateSide(
            items=indices((rows, candidates), ITEMS, real),
            context=indices((rows, candidates, 1), 5, real[..., None]),
            context_numbers=torch.from_numpy(ctr),
            times=torch.full((rows, candidates), NOW),
            oldest=torch.zeros((rows, candidates), dtype=torch.int64),
            visible=torch.full((rows, candidates), length),
        ),
        labels=torch.from_numpy((random.random((rows, candidates, 1)) < 0.5).astype(np.float32)),
        label_mask=torch.from_numpy(real[..., None]),
        rows=torch.from_numpy(np.where(real, np.arange(rows * candidates).reshape(rows, candidates), -1)),
    )


def with_candidates(batch: Batch, **changes: Tensor) -> Batch:
    """The batch with some tensors of its candidates replaced."""
    return replace(batch, candidates=replace(batch.candidates, **changes))


def with_user(batch: Batch, **changes: Tensor) -> Batch:
    """The batch with some tensors of its users replaced."""
    return replace(batch, user=replace(batch.user, **changes))


def pick_candidates(batch: Batch, which: Tensor) -> Batch:
    """The batch with its candidates taken in another order, thinned or repeated."""
    side = {name: getattr(batch.candidates, name)[:, which] for name in CandidateSide.__dataclass_fields__}
    return Batch(
        user=batch.user,
        candidates=CandidateSide(**side),
        labels=batch.labels[:, which],
        label_mask=batch.label_mask[:, which],
        rows=batch.rows[:, which],
    )


def pick_rows(batch: Batch, which: Tensor) -> Batch:
    """Some rows of the batch."""
    return Batch(
        user=UserSide(*(getattr(batch.user, name)[which] for name in UserSide.__dataclass_fields__)),
        candidates=CandidateSide(
            *(getattr(batch.candidates, name)[which] for name in CandidateSide.__dataclass_fields__)
        ),
        labels=batch.labels[which],
        label_mask=batch.label_mask[which],
        rows=batch.rows[which],
    )


def keep_behaviors(user: UserSide, columns: slice | Tensor) -> UserSide:
    """The user with some columns of behaviors."""
    cut = {name: getattr(user, name)[:, columns] for name in ("items", "actions", "action_numbers", "times")}
    return replace(user, **cut)


def pad_left(user: UserSide, count: int) -> UserSide:
    """The user with ``count`` columns of padding before the behaviors, full of garbage nobody may read."""
    rows = len(user.items)
    return replace(
        user,
        items=torch.cat([torch.zeros(rows, count, dtype=torch.int64), user.items], dim=1),
        actions=torch.cat(
            [torch.zeros(rows, count, user.actions.shape[2], dtype=torch.int64), user.actions], dim=1
        ),
        action_numbers=torch.cat(
            [torch.full((rows, count, user.action_numbers.shape[2]), 7.0), user.action_numbers], dim=1
        ),
        times=torch.cat([torch.full((rows, count), 99), user.times], dim=1),
    )
