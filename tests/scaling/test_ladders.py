"""Ladders of a sweep, and the luck of its evaluation users."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from clickscale.evaluation.metrics import auc
from clickscale.evaluation.predictions import Predictions
from clickscale.scaling.ladders import UserLuck, ladders
from clickscale.scaling.points import Measured
from tests.scaling.planted import FRACTIONS, GRADES, LENGTHS, operations, planted_sweep


def test_a_model_has_a_ladder_along_every_axis_at_the_largest_other_values() -> None:
    found = ladders(planted_sweep(("suan",), seeds=2))
    told = {one.axis: (one.fixed, one.x.tolist()) for one in found}
    assert told["compute"] == (
        "200 behaviors, all of the data",
        [float(operations(grade, 200)) for grade in GRADES],
    )
    assert told["length"] == ("size-4, all of the data", [float(length) for length in LENGTHS])
    assert told["data"] == ("size-4, 200 behaviors", [3_200_000 * fraction for fraction in FRACTIONS])
    assert all(len(rung) == 2 for one in found for rung in one.cells)


def test_the_ladder_with_the_most_rungs_counts() -> None:
    sweep = planted_sweep(("suan",), seeds=1)
    kept = [c for c in sweep.cells if not (c.grade == "size-4" and c.fraction == 1 and c.length in (10, 25))]
    (length,) = (one for one in ladders(msgspec.structs.replace(sweep, cells=kept)) if one.axis == "length")
    assert length.fixed == "size-3, all of the data"


def test_an_axis_with_few_rungs_has_no_ladder() -> None:
    sweep = planted_sweep(("suan",), seeds=1)
    kept = [c for c in sweep.cells if c.grade in GRADES[2:]]
    axes = [one.axis for one in ladders(msgspec.structs.replace(sweep, cells=kept))]
    assert axes == ["length", "data"]


def write_predictions(folder: Path, name: str, seed: int, users: int = 60) -> Measured:
    """Predictions of a cell: 20 impressions of each user, whose taste the model knows in part."""
    random, rows = np.random.default_rng(0), 20 * users
    user = np.repeat(np.arange(users), 20)
    logit = random.standard_normal(users)[user] + random.standard_normal(rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    noisy = logit + np.random.default_rng(seed).standard_normal(rows)
    numbers = np.arange(rows)
    Predictions(
        row=numbers,
        user=user.astype(np.int64),
        time=numbers,
        labels=labels[:, None],
        label_mask=np.ones((rows, 1), dtype=np.bool_),
        logits=noisy[:, None].astype(np.float32),
        behaviors=np.zeros(rows, dtype=np.int32),
        item_age=numbers,
        user_activity=np.zeros(rows, dtype=np.int32),
        label_names=("click",),
        part="test",
        grouping="request",
    ).save(folder / f"{name}.safetensors")
    (cell, *_) = planted_sweep(("suan",), seeds=1).cells
    value = auc(labels, noisy)
    return msgspec.structs.replace(cell, seed=seed, predictions=f"{name}.safetensors", auc=value)


def test_luck_is_as_large_as_that_of_resampled_rows(tmp_path: Path) -> None:
    cell = write_predictions(tmp_path, "a", 1)
    change = UserLuck(tmp_path, resamples=400).of(cell)
    assert change is not None
    stored = Predictions.load(tmp_path / "a.safetensors")
    random, values = np.random.default_rng(5), []
    for _ in range(400):
        rows = (random.integers(0, 60, 60)[:, None] * 20 + np.arange(20)).ravel()  # (U, 20) -> (N,)
        values.append(auc(stored.labels[rows, 0], stored.logits[rows, 0]))
    assert change.std() == pytest.approx(np.std(values), rel=0.15)
    assert abs(change.mean()) < 0.2 * change.std()


def test_cells_share_the_luck_of_their_users(tmp_path: Path) -> None:
    luck = UserLuck(tmp_path)
    changes = [luck.of(write_predictions(tmp_path, str(seed), seed)) for seed in (1, 2)]
    assert np.corrcoef(np.array(changes))[0, 1] > 0.6


def test_cells_without_predictions_or_with_other_users_tell_no_luck(tmp_path: Path) -> None:
    luck = UserLuck(tmp_path)
    cell = write_predictions(tmp_path, "a", 1)
    assert luck.of(cell) is not None
    assert luck.of(write_predictions(tmp_path, "b", 2, users=50)) is None
    assert luck.of(msgspec.structs.replace(cell, seed=3, predictions="gone.safetensors")) is None
    assert luck.of(msgspec.structs.replace(cell, seed=4, predictions="")) is None
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((tmp_path / "a.safetensors").read_bytes()[:-7])
    assert luck.of(msgspec.structs.replace(cell, seed=5, predictions=damaged.name)) is None


def test_a_ladder_has_the_luck_of_its_cells(tmp_path: Path) -> None:
    (ladder,) = (one for one in ladders(planted_sweep(("suan",), seeds=1)) if one.axis == "length")
    assert ladder.rungs(UserLuck(tmp_path)).users is None
    stored = write_predictions(tmp_path, "a", 1)
    cells = tuple(
        tuple(msgspec.structs.replace(cell, predictions=stored.predictions) for cell in rung)
        for rung in ladder.cells
    )
    users = type(ladder)(ladder.model, ladder.axis, ladder.fixed, cells).rungs(UserLuck(tmp_path)).users
    assert users is not None
    assert users.shape == (200, len(LENGTHS))
