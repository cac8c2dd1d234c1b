"""Moments up to which counters are exported, by the split of the data set."""

from pathlib import Path

import numpy as np
import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.source import Split
from clickscale.errors import DataError
from clickscale.inference.counter_export import export_counters
from clickscale.serving.store.loading import moment_of
from tests.data.given_parts import without_valid
from tests.trained import tiny_prepared


@pytest.mark.parametrize("before", ["valid", "test"])
def test_parts_that_begin_at_no_common_moment_are_refused(before: str, tmp_path: Path) -> None:
    dataset, out = without_valid(tmp_path), tmp_path / "counters.parquet"
    assert len(dataset.boundaries) == 1
    told = rf"split 'column' of .*data has no moment at which {before} begins for all; give seconds"
    with pytest.raises(DataError, match=told):
        export_counters(dataset, out, before)
    by_user = open_dataset(tiny_prepared(tmp_path).path, Split(kind="user_time"))
    with pytest.raises(DataError, match="split 'user_time' of"):
        export_counters(by_user, out, before)
    assert not out.exists()
    assert export_counters(dataset, out, "1050").moment == 1050
    assert export_counters(dataset, out).moment == 1090


def test_an_empty_test_part_begins_after_the_log(tmp_path: Path) -> None:
    dataset = open_dataset(tiny_prepared(tmp_path).path, Split(valid=0.1, test=0.0))
    assert not len(dataset.part("test"))
    last = int(np.asarray(dataset.impressions["time"]).max())
    assert export_counters(dataset, tmp_path / "counters.parquet", "test").moment == last + 1


@pytest.mark.parametrize("before", ["1705777025000", "\N{SUPERSCRIPT TWO}", "-5", "soon"])
def test_a_text_that_is_no_moment_is_refused(before: str, tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    with pytest.raises(DataError, match=r"is no moment; give seconds \(not milliseconds\) since 1970"):
        export_counters(dataset, tmp_path / "counters.parquet", before)
    with pytest.raises(DataError, match=r"is no moment; give seconds \(not milliseconds\) since 1970"):
        moment_of(dataset, before)
