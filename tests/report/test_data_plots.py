import errno
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from clickscale.data.checks.contents import Inspection, inspect_dataset
from clickscale.data.dataset import open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.report.data_plots import plot_inspection
from tests.data.tiny import (
    DAY,
    START,
    STATISTICS,
    source_of,
    tiny_dataset,
    tiny_schema,
    tiny_source,
    tiny_tables,
)
from tests.everyday import thinned


@pytest.fixture(scope="module")
def inspection(tmp_path_factory) -> Inspection:
    folder = tiny_dataset(tmp_path_factory.mktemp("inspect"), tiny_source(statistics=STATISTICS))
    return inspect_dataset(open_dataset(folder))


@thinned("suffix", ["png", "svg"], every=2)
def test_a_figure_is_drawn_in_the_format_of_its_name(
    inspection: Inspection, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"figure.{suffix}"
    plot_inspection(inspection, path)
    start = path.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if suffix == "png" else b"<?xml" in start


def test_a_disk_that_fills_up_leaves_the_older_figure(
    inspection: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(figure: Figure, path: Path, **options: object) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", cut)
    (tmp_path / "figure.svg").write_text("older")
    with pytest.raises(OSError, match="nothing was changed"):
        plot_inspection(inspection, tmp_path / "figure.svg")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_the_figure_names_labels_and_fields_and_leaves_statistics_out(
    inspection: Inspection, tmp_path: Path
) -> None:
    path = tmp_path / "figure.svg"
    plot_inspection(inspection, path)
    text = path.read_text("utf-8")
    for shown in ("click", "like", "genre  (item)", "action  (behavior)"):
        assert shown in text
    assert "item_rate" not in text


@pytest.mark.wide
def test_a_log_without_behaviors_and_of_a_few_hours_can_be_drawn(tmp_path: Path) -> None:
    tables = tiny_tables(behaviors=0)
    for row, impression in enumerate(tables["impressions"]):
        impression["time"] = START + row * DAY // 400
    del tables["behaviors"]
    prepare(source_of(tiny_schema(), tables), tmp_path / "out")
    inspection = inspect_dataset(open_dataset(tmp_path / "out"))
    assert len(inspection.days) == 1
    assert (inspection.empty, inspection.lengths) == (1.0, ((0, 120),))
    plot_inspection(inspection, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 0
