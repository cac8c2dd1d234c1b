"""An ablation from end to end, its continuation after a real kill, and lines that cannot be trained."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from clickscale.benchmarking import work
from clickscale.benchmarking.ablation import ablate, forecast_ablation
from clickscale.benchmarking.ablation_config import AblationConfig
from clickscale.benchmarking.ablation_page import Ablation
from clickscale.benchmarking.forecast import listed
from clickscale.errors import ConfigError
from tests.benchmarking.jobs import jobs_here
from tests.data.tiny import source_of, tiny_dataset, tiny_schema, tiny_source, tiny_tables

SMALL = ("batch_size=16", "model.head.hidden=[8]", "threads=1")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AblationConfig:
    data = tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(impressions=400, users=20))
    return AblationConfig(
        paper="suan", data=str(data), tables=("5",), grades=("size-1",), length=8, seeds=2, sets=SMALL
    )


@pytest.fixture(scope="module")
def done(
    config: AblationConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ablation, Path, list[str]]:
    """Table 5 at one grade, two seeds."""
    out, said = tmp_path_factory.mktemp("done") / "ablation", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "run_jobs", jobs_here)
        return ablate(config, out, say=said.append), out, said


def stamps(out: Path) -> dict[str, int]:
    """When each file of the runs was written, but logs, which every call begins again."""
    files = [path for path in (out / "runs").rglob("*") if path.is_file() and path.suffix != ".log"]
    return {str(path): path.stat().st_mtime_ns for path in files}


@pytest.mark.wide
def test_every_line_is_tested_against_the_full_model_over_users_and_seeds(
    done: tuple[Ablation, Path, list[str]],
) -> None:
    found, out, said = done
    (table,) = found.tables
    assert found.failed == {}
    assert [line.variant.key for line in table.lines] == ["full", "F", "G"]
    assert [line.seeds for line in table.lines] == [2, 2, 2]
    full, *others = table.lines
    assert (full.against, full.over_seeds, full.delta("auc")) == ({}, {}, None)
    for line in others:
        for measure in ("auc", "gauc", "log_loss"):
            difference = line.values[measure].value - full.values[measure].value
            assert line.over_seeds[measure].delta == pytest.approx(difference)
            assert line.delta(measure) == pytest.approx(difference)
            assert 0 <= line.against[measure].p_value <= 1
    assert len(said) == 2 + 6  # the forecast, what is left at first and after each run
    assert said[1].startswith("runs left: 6, about ")
    assert [path.parent.name for path in sorted(out.glob("runs/*/seed-1/artifact"))] == ["seed-1"] * 3


@pytest.mark.wide
def test_the_written_files_hold_the_table(done: tuple[Ablation, Path, list[str]]) -> None:
    found, out, _ = done
    page = (out / "ablation.md").read_text("utf-8")
    document = json.loads((out / "ablation.json").read_text("utf-8"))
    for line, stored in zip(found.tables[0].lines, document["tables"][0]["lines"], strict=True):
        assert f"| {line.name} | 2 | {line.values['auc'].value:.4f} ±" in page
        assert stored["values"]["auc"]["value"] == line.values["auc"].value
        assert stored["variant"]["key"] == line.variant.key
    command = document["commands"][str(out / "runs/F-size-1/seed-1")]
    assert command[:3] == ["clickscale", "train", "suan"]
    assert command[-1] == "model.block.norm=layer"
    picture = (out / "ablation.svg").read_text("utf-8")
    assert ">F<" in picture
    assert ">full<" not in picture  # the line that the others are measured against


@pytest.mark.wide
def test_what_is_done_stays_and_only_more_is_trained(
    done: tuple[Ablation, Path, list[str]], config: AblationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = done
    before = stamps(out)
    monkeypatch.setattr(work, "run_jobs", jobs_here)
    again = ablate(replace(config, seeds=3), out)
    assert [line.seeds for line in again.tables[0].lines] == [3] * 3
    after = stamps(out)
    assert {path: after[path] for path in before} == before
    assert {Path(path).parent.name for path in set(after) - set(before) if path.endswith("done.json")} == {
        "seed-2"
    }


def test_lines_that_need_content_are_left_out_by_name(config: AblationConfig, tmp_path: Path) -> None:
    schema = tiny_schema()
    bare = replace(schema, items=tuple(field for field in schema.items if field.kind != "content"))
    data = tiny_dataset(tmp_path, source_of(bare, tiny_tables(impressions=400, users=20)))
    est = replace(config, paper="est", data=str(data), tables=("1", "2"))
    said: list[str] = []
    found = forecast_ablation(est, tmp_path / "out", jobs=2, say=said.append)
    assert list(found.cells) == [f"{key}-size-1" for key in ("whole", "NN", "NB", "BN", "BB")]
    assert set(found.cells.values()) == {2}
    assert "content" in found.failed["est-size-1"]
    assert "ids-size-1" not in found.failed  # its data set was not given
    assert found.total == pytest.approx(sum(found.seconds.values()) / 2)
    # Table 4 keeps its first line, which nothing could be compared with.
    for tables in (("2",), ("4",)):
        with pytest.raises(
            ConfigError,
            match=r"No table can be trained .*est-size-1.*: csa=causal needs",
        ):
            forecast_ablation(replace(est, tables=tables), tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
@pytest.mark.slow
def test_a_killed_ablation_goes_on_where_it_was(config: AblationConfig, tmp_path: Path) -> None:
    out = tmp_path / "ablation"
    # Enough steps after the first checkpoint for the kill to come in between.
    long = ("suan.epochs.count=8", "suan.early_stopping=false", "checkpoint_every=20")
    config = replace(config, seeds=1, sets=(*SMALL, *long))
    options = ["--tables", "5", "--grades", "size-1", "--length", "8", "--seeds", "1"]
    options += [word for text in config.sets for word in ("--set", text)]
    command = [sys.executable, "-m", "clickscale", "ablate", "suan", "--data", config.data, "--out", str(out)]
    running = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    first, second = out / "runs/full-size-1/seed-0", out / "runs/F-size-1/seed-0"
    for _ in range(2400):
        if list(second.glob("checkpoints/step-*")):
            break
        time.sleep(0.05)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(out).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
    running.wait()
    assert (first / "evaluation-test.json").is_file()
    assert not (second / "done.json").exists()
    before = {path: stamp for path, stamp in stamps(out).items() if "runs/full" in path}
    found = ablate(config, out)
    assert found.failed == {}
    assert [line.seeds for line in found.tables[0].lines] == [1, 1, 1]
    after = stamps(out)
    assert {path: after[path] for path in before} == before


def test_each_reason_is_listed_once() -> None:
    failed = {"a": "no content.", "b": "no user", "c": "no content"}
    assert listed(failed) == "a, c: no content; b: no user"
