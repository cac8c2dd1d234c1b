"""Logs as lines of JSON, without what users sent."""

import errno
import io
import json
import logging

from clickscale.serving.telemetry import JsonLines, Telemetry


def logged(act: object) -> list[dict[str, object]]:
    stream = io.StringIO()
    log = logging.getLogger("clickscale.test_telemetry")
    log.handlers[:], log.propagate = [JsonLines(stream)], False
    log.setLevel(logging.INFO)
    assert callable(act)
    act(log)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_a_line_with_its_fields() -> None:
    [line] = logged(lambda log: log.info("model %s", "serving", extra={"fields": {"version": "v1"}}))
    assert (line["event"], line["level"], line["version"]) == ("model serving", "info", "v1")
    assert str(line["time"]).endswith("Z")


def test_a_traceback_names_places_and_no_values() -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError("user u7 clicked i3")
        except ValueError:
            log.error("a defect", exc_info=True)

    [line] = logged(fail)
    assert line["error"] == "ValueError"
    assert any("test_telemetry.py" in place and "fail" in place for place in line["at"])  # type: ignore[attr-defined]
    assert "u7" not in json.dumps(line)


class _FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_costs_nothing_else() -> None:
    log = logging.getLogger("clickscale.test_telemetry")
    closed = io.StringIO()
    closed.close()
    for stream in (_FullDisk(), closed):
        log.handlers[:], log.propagate = [JsonLines(stream)], False
        log.error("The store takes no events.")


def test_metrics_have_the_form_of_prometheus() -> None:
    telemetry = Telemetry()
    telemetry.answers.labels("rank", "ok").inc()
    text = telemetry.exposition().decode()
    assert 'clickscale_answers_total{code="ok",route="rank"} 1.0' in text
    assert "# TYPE clickscale_answer_seconds histogram" in text
