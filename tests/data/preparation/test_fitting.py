import math
from pathlib import Path

import numpy as np
import pytest

from clickscale.data.columns import write_column
from clickscale.data.features.encoder import Scale
from clickscale.data.preparation import fitting
from clickscale.data.preparation.fitting import _Tally, _TrainingPart, training_part
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Split
from clickscale.errors import DataError
from clickscale.schema import Field
from tests.data.tiny import START, source_of, tiny_schema, tiny_tables


def test_a_tally_counts_rows_as_often_as_they_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_FEW", 1)
    tally = _Tally()
    tally.add(np.array([7, 7, -1, 3]), np.array([1, 2, 5, 0]))
    tally.add(np.array([[3, 7], [3, -1], [9, 9]]), np.array([1, 1, 1]))
    assert tally.frequent(1).tolist() == [3, 7, 9]  # 2, 4 and 2 times
    assert tally.frequent(3).tolist() == [7]
    assert tally.frequent(5).tolist() == []


def scale_of(tmp_path: Path, numbers: list[float], weights: list[int], field: Field) -> Scale:
    write_column(tmp_path / "column.npy", np.array(numbers))
    part = _TrainingPart(tiny_schema(), tmp_path, {"users": np.array(weights)})
    return part.scale("users", field, tmp_path / "column.npy")


def test_a_scale_is_the_mean_and_deviation_of_what_is_there_in_training(tmp_path: Path) -> None:
    field = Field(name="n", kind="numeric")
    nan = math.nan
    assert scale_of(tmp_path, [1.0, 3.0, nan, 100.0], [1, 5, 1, 0], field) == Scale(2.0, 1.0, (-1.0, 1.0))
    constant = scale_of(tmp_path, [4.0, 4.0], [1, 1], field)
    assert constant == Scale(4.0, 0.0, (0.0,))
    assert constant.apply(np.array([4.0, 1e6, nan])).tolist()[:2] == [0.0, 0.0]  # nothing to learn from
    assert scale_of(tmp_path, [nan, 4.0], [1, 0], field) == Scale(0.0, 0.0)
    logs = scale_of(
        tmp_path, [0.0, math.e**2 - 1], [1, 1], Field(name="n", kind="numeric", transform="log1p")
    )
    assert (logs.mean, logs.std) == pytest.approx((1.0, 1.0))


def test_edges_are_quantiles_that_the_column_has(tmp_path: Path) -> None:
    field = Field(name="n", kind="numeric")
    few = scale_of(tmp_path, [0.0] * 97 + [1.0, 1.0, 5.0], [1] * 100, field)
    raw = np.array(few.edges) * few.std + few.mean
    assert raw.tolist() == pytest.approx([0, 5], abs=1e-6)  # the last of 32 bins begins among the zeros
    many = scale_of(tmp_path, np.arange(3201.0).tolist(), [1] * 3201, field)
    raw = np.array(many.edges) * many.std + many.mean
    assert len(raw) == fitting._BINS + 1
    assert raw == pytest.approx(np.arange(0, 3201, 100), abs=1.001)
    assert np.array_equal(np.float32(many.edges), many.edges)  # exact in float32, as files hold them


def test_the_quantiles_of_a_long_column_come_from_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_SAMPLE", 2000)
    scale = scale_of(tmp_path, np.arange(20_000.0).tolist(), [1] * 20_000, Field(name="n", kind="numeric"))
    raw = np.array(scale.edges) * scale.std + scale.mean
    assert raw == pytest.approx(np.linspace(0, 20_000, fitting._BINS + 1), abs=1500)


@pytest.mark.parametrize("code", [1e30, -999.0, -1e300])
def test_a_code_for_unknown_leaves_the_other_numbers_apart(tmp_path: Path, code: float) -> None:
    numbers = np.concatenate((np.linspace(0, 1, 95), np.full(5, code)))
    scale = scale_of(tmp_path, numbers.tolist(), [1] * 100, Field(name="n", kind="numeric"))
    scaled = scale.apply(numbers)
    assert len(np.unique(scaled[:95])) == 95
    assert np.std(scaled[:95]) == pytest.approx(1, abs=0.01)
    assert np.isfinite(scaled).all()
    assert len(scale.edges) > 25  # most bins are for numbers, not for the code


def test_with_a_split_by_user_behaviors_count_until_the_users_own_training_ends(tmp_path: Path) -> None:
    tables = tiny_tables(behaviors=0)
    shown = {"item": 10, "label.click": 1, "label.like": 0, "position": 0, "hour": 1.0}
    tables["impressions"] = [shown | {"user": 1, "time": START + at} for at in range(10)]
    tables["impressions"] += [shown | {"user": 2, "time": START + 1000}]
    past = [(1, 0, "early"), (1, 7, "early"), (1, 8, "late"), (2, 5000, "alone"), (3, 0, "never shown")]
    tables["behaviors"] = [
        {"user": user, "item": 20, "time": START + at, "action": action, "dwell": 1.0}
        for user, at, action in past
    ]
    split = Split(kind="user_time")
    prepare(source_of(tiny_schema(), tables, split=split), tmp_path / "out")
    part = training_part(tmp_path / "out", tmp_path / "raw", tiny_schema(), split, ())
    assert part.weights["users"][:3].tolist() == [8, 1, 0]
    assert part.weights["behaviors"].tolist() == [1, 1, 0, 1, 0]
    assert part.weights["items"][2:4].tolist() == [9, 3]
    assert part.weights["impressions"].tolist() == [1] * 8 + [0, 0, 1]


def test_a_training_part_without_impressions_is_refused(tmp_path: Path) -> None:
    prepare(source_of(tiny_schema(), tiny_tables()), tmp_path / "out")
    with pytest.raises(DataError, match="no impression for training"):
        training_part(tmp_path / "out", tmp_path / "raw", tiny_schema(), Split(), (START - 1, START))
