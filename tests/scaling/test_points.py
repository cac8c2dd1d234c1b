"""The points of a sweep and their two files."""

from pathlib import Path

import msgspec
import pytest

from clickscale.errors import DamagedError, DataError
from clickscale.scaling.points import POINTS, SPEEDS, Measured, Sweep, read_points, write_points


def measured(seed: int = 0, fraction: float = 1.0, **timed: float) -> Measured:
    return msgspec.convert(
        {
            "model": "suan",
            "grade": "size-1",
            "length": 25,
            "fraction": fraction,
            "seed": seed,
            "label": "click",
            "impressions": round(64_000 * fraction),
            "dense_parameters": 1_000,
            "flops": 5_000,
            "training_flops": 1e9,
            "auc": 0.7,
            "gauc": None,
            "log_loss": 0.2,
            **timed,
        },
        Measured,
    )


def sweep_of(*cells: Measured) -> Sweep:
    return Sweep(data="log", manifest="0" * 64, by="time", part="test", cells=list(cells))


def test_a_sweep_is_read_as_it_was_written_sorted(tmp_path: Path) -> None:
    cells = [measured(1, latency_ms=2.0), measured(0, 1 / 64, cpu_seconds=3.5)]
    write_points(tmp_path, sweep_of(*cells))
    assert read_points(tmp_path) == sweep_of(*cells[::-1])


def test_times_do_not_change_the_bytes_of_the_points(tmp_path: Path) -> None:
    write_points(tmp_path, sweep_of(measured(cpu_seconds=1.0)))
    before = (tmp_path / POINTS).read_bytes()
    write_points(tmp_path, sweep_of(measured(cpu_seconds=2.0)))
    assert (tmp_path / POINTS).read_bytes() == before


def test_a_sweep_without_its_speeds_has_no_times(tmp_path: Path) -> None:
    write_points(tmp_path, sweep_of(measured(cpu_seconds=1.0)))
    (tmp_path / SPEEDS).unlink()
    assert read_points(tmp_path).cells == [measured()]


def test_a_folder_without_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no scaling\.json"):
        read_points(tmp_path)


def test_a_cell_that_comes_twice_is_refused(tmp_path: Path) -> None:
    write_points(tmp_path, sweep_of(measured(), measured()))
    with pytest.raises(DamagedError, match="suan-size-1-25-1-0 twice"):
        read_points(tmp_path)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    write_points(tmp_path, sweep_of(measured()))
    text = (tmp_path / POINTS).read_text("utf-8").replace("0.7", "0.9")
    (tmp_path / POINTS).write_text(text, "utf-8")
    with pytest.raises(DamagedError, match="changed by hand"):
        read_points(tmp_path)
