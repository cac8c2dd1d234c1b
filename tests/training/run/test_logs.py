import json
import math
from pathlib import Path

import pytest
import torch

from clickscale.training.run import logs
from clickscale.training.run.logs import Meter, Stopwatch, _ProgressLine, _RunLog, read_metrics


def test_the_meter_gives_means_over_its_steps_and_begins_anew() -> None:
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0, requires_grad=True), "loss.click": torch.tensor(0.25)})
    meter.add({"loss": torch.tensor(2.0), "loss.click": torch.tensor(0.75)})
    assert meter.take() == {"loss": 1.5, "loss.click": 0.5}
    assert meter.take() == {}


def test_the_stopwatch_gives_every_second_to_one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 13.0, 13.5, 14.0])
    monkeypatch.setattr(logs.time, "perf_counter", lambda: next(clock))
    watch = Stopwatch()
    watch.lap("load")
    watch.lap("forward")
    watch.lap("load")
    watch.samples = 7
    assert watch.take() == {
        "samples_per_second": 2.0,
        "seconds": {"load": 1.5, "forward": 2.0, "backward": 0.0, "step": 0.0, "rest": 0.0},
    }
    watch.lap("step")
    assert watch.seconds["load"] == 0
    assert watch.total == {"load": 1.5, "forward": 2.0, "backward": 0.0, "step": 0.5, "rest": 0.0}


def test_lines_are_json_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    log = _RunLog(tmp_path, 0)
    log.write(1, {"loss": 0.5, "grad_norm": math.inf, "seconds": {"load": 0.1}})
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5, "grad_norm": None, "seconds": {"load": 0.1}}]


def test_a_continued_log_drops_later_and_broken_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step}) for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    log = _RunLog(tmp_path, 2)
    log.write(3, {"loss": 1.0})
    log.close()
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 1.0}]


def test_tensorboard_reads_the_numbers_that_were_logged(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = _RunLog(tmp_path, 0)
    log.write(1, {"loss": 0.5, "seconds": {"load": 0.25}})
    log.write(2, {"loss": 0.25, "seconds": {"load": 0.5}})
    log.close()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [e.value for e in events.Scalars("seconds/load")] == [0.25, 0.5]


def test_a_progress_line_shows_steps_loss_and_speed(capfd: pytest.CaptureFixture[str]) -> None:
    line = _ProgressLine(steps=10, step=0, shown=True)
    line.say("2 threads")
    line.move(4)
    line.tell({"loss": 0.6543, "samples_per_second": 12345.6})
    line.close()
    shown = capfd.readouterr().err
    assert "2 threads" in shown
    assert "loss 0.6543" in shown
    assert "4/10" in shown
    assert "12,346 samples/s" in shown


def test_a_hidden_progress_line_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    line = _ProgressLine(steps=10, step=0, shown=False)
    line.say("2 threads")
    line.tell({"samples_per_second": 1.0})
    line.close()
    assert capfd.readouterr() == ("", "")
