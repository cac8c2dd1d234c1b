"""Wrong usage and wrong input: one line on stderr, exit code 2, nothing on stdout, nothing half written."""

import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from clickscale import models
from clickscale.cli import main
from clickscale.data.described.drafts.guess import guess
from tests.document_data import write_document_data
from tests.forked_commands import CommandServer
from tests.trained import tiny_artifact, tiny_prepared, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared log, a run that was not evaluated on test, an artifact, some bad files."""
    here = tmp_path_factory.mktemp("misuse")
    dataset = tiny_prepared(here)
    tiny_run(here, dataset)
    tiny_artifact(here, dataset)
    good = '{"user": 101, "time": 1600000100, "candidates": [{"item": 10}]}\n'
    (here / "broken.jsonl").write_text(good + '{"user": 101,\n')
    (here / "null.jsonl").write_text(good + "\n" + good.replace("10}", "null}"))
    (here / "latin.jsonl").write_bytes(good.encode() + b'{"user": "\xe9"}\n')
    (here / "schema.toml").write_text('nam = "x"\n')
    (here / "bad.toml").write_text("name = \n")
    write_document_data(here)
    (here / "good.toml").write_text(guess([here / "clicks.csv"], here))
    return here


BAD = {
    "no such verb": (["trian"], "No such command 'trian'"),
    "no such option": (["models", "--jason"], "No such option: --jason"),
    "missing option": (["train", "din", "--out", "x"], "Missing option '--data'"),
    "number out of range": (["cost", "din", "--length", "0"], "Invalid value for '--length'"),
    "unknown model": (["train", "dinn", "--data", "tiny", "--out", "new"], "did you mean 'din'"),
    "unknown model to cost": (["cost", "suann"], "did you mean 'suan'"),
    "unknown grade": (
        ["train", "din", "--data", "tiny", "--out", "new", "--grade", "size2"],
        "did you mean 'size-2'",
    ),
    "unknown label": (
        ["train", "din", "--data", "tiny", "--out", "new", "--labels", "clik"],
        "did you mean 'click'",
    ),
    "unknown option to set": (
        ["train", "din", "--data", "tiny", "--out", "new", "--set", "optimizr.learning_rate=1"],
        "did you mean 'optimizer'",
    ),
    "unknown model option": (
        ["train", "din", "--data", "tiny", "--out", "new", "--set", "model.hiden=1"],
        "did you mean 'hidden'",
    ),
    "set without a value": (
        ["train", "din", "--data", "tiny", "--out", "new", "--set", "batch_size"],
        "has no '='",
    ),
    "set of the wrong type": (
        ["train", "din", "--data", "tiny", "--out", "new", "--set", "batch_size=many"],
        "batch_size is 'many', and must be a whole number",
    ),
    "no data set": (
        ["train", "din", "--data", "nowhere", "--out", "new"],
        "nowhere is not a prepared data set",
    ),
    "a run is there": (["train", "mlp", "--data", "tiny", "--out", "mlp-0"], "mlp-0 already holds a run"),
    "a folder is there": (["train", "mlp", "--data", "tiny", "--out", "tiny"], "is not empty and not a run"),
    "no run": (["evaluate", "tiny"], "tiny is not a run"),
    "not evaluated": (["compare", "mlp-0"], "clickscale evaluate mlp-0 --part test"),
    "no data set to inspect": (["inspect", "nowhere"], "nowhere is not a prepared data set"),
    "unknown kind of plot": (["inspect", "tiny", "--plot", "x.foo"], "must end in .png, .svg, .pdf"),
    "split that leaves nothing": (
        ["prepare", "good.toml", "--out", "new", "--test", "1.5"],
        "must leave a share",
    ),
    "no data set to check": (["leak-check", "mlp-0"], "mlp-0 is not a prepared data set"),
    "unknown source": (["prepare", "clicks.csv", "--out", "new"], "neither a .toml file nor ADAPTER:FOLDER"),
    "unknown adapter": (["prepare", "movielens-1:x", "--out", "new"], "did you mean 'movielens-1m'"),
    "no file of the log": (["prepare", "movielens-1m:nowhere", "--out", "new"], "nowhere"),
    "no schema file": (["prepare", "nowhere.toml", "--out", "new"], "Cannot read nowhere.toml"),
    "unknown key of a schema": (["prepare", "schema.toml", "--out", "new"], "did you mean 'name'"),
    "no TOML": (["prepare", "bad.toml", "--out", "new"], "bad.toml is not valid TOML"),
    "adapter option": (["prepare", "mind:x", "--out", "new", "--set", "statistics"], "has no '='"),
    "no artifact": (["score", "tiny", "null.jsonl"], "tiny"),
    "no requests": (["score", "artifact-din", "nowhere.jsonl"], "Cannot read nowhere.jsonl: No such file"),
    "line that is not JSON": (
        ["score", "artifact-din", "broken.jsonl"],
        "broken.jsonl line 2: the line is not JSON",
    ),
    "line that is not UTF-8": (
        ["score", "artifact-din", "latin.jsonl"],
        "latin.jsonl line 2: the line is not UTF-8",
    ),
    "bad request": (["score", "artifact-din", "null.jsonl"], "null.jsonl line 3: candidates[0].item is null"),
    "size that is none": (["score", "artifact-din", "null.jsonl", "--cache", "much"], "'much' is not a size"),
    "unknown precision": (
        ["score", "artifact-din", "null.jsonl", "--cache", "1MB", "--precision", "fp8"],
        "Unknown precision 'fp8'. Known: bf16, fp16, fp32",
    ),
    "precision without a cache": (
        ["score", "artifact-din", "null.jsonl", "--precision", "fp16"],
        "none are kept; give --cache too",
    ),
    "artifact of another kind of folder": (["bench", "scoring", "tiny"], "tiny is not an artifact"),
    "run that is an artifact": (["evaluate", "mlp-0/artifact"], "its run may be mlp-0"),
    "output that is a file": (
        ["bench", "scoring", "artifact-din", "--out", "clicks.csv"],
        "clicks.csv is a file",
    ),
    "warm start from another model": (
        ["train", "din", "--data", "tiny", "--out", "new", "--warm-start", "mlp-0"],
        "the one given holds MLP",
    ),
    "model of no width": (
        ["train", "suan", "--data", "tiny", "--out", "new", "--set", "model.d=0"],
        "d is 0; at least 1 is needed",
    ),
    "length of a slip": (
        [
            "distill",
            "--teacher",
            "suan:size-1:9",
            "--student",
            "din:size-1:99999999999999999999",
            "--data",
            "tiny",
            "--out",
            "new",
        ],
        "length=99999999999999999999 and slack=0 exceed 1,000,000 together; lower one of them",
    ),
    "no heads": (
        ["train", "lightsuan", "--data", "tiny", "--out", "new", "--set", "model.heads=0"],
        "heads is 0",
    ),
    "tower of no width": (
        ["train", "din", "--data", "tiny", "--out", "new", "--set", "model.head.hidden=[0]"],
        "head.hidden is [0]",
    ),
    "no texts to embed": (
        ["content", "embed", "tiny", "--text", ",", "--name", "words"],
        "--text title,genres",
    ),
    "slack without a cache": (["score", "artifact-din", "null.jsonl", "--slack", "3"], "give a cache too"),
    "draft is there": (["schema", "guess", "clicks.csv", "--out", "schema.toml"], "schema.toml exists"),
    "no table": (["schema", "guess", "nowhere.csv"], "nowhere.csv"),
    "unknown log": (["data", "get", "movielens", "--out", "new"], "did you mean 'movielens-1"),
}


@pytest.mark.parametrize(("arguments", "problem"), BAD.values(), ids=BAD.keys())
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    problem: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(path.name for path in folder.iterdir())
    assert main(arguments) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert problem in line
    assert printed.out == "" or arguments[0] == "score"  # the requests before a bad one are answered
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_existing_data_set_is_replaced_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert main(["schema", "guess", "clicks.csv", "--out", "schema.toml", "--overwrite"]) == 0
    capsys.readouterr()
    before = (folder / "tiny" / "manifest.json").read_bytes()
    assert main(["prepare", "schema.toml", "--out", "tiny"]) == 2
    assert "exists" in capsys.readouterr().err
    assert (folder / "tiny" / "manifest.json").read_bytes() == before


def test_a_traceback_shows_with_debug_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--debug", "cost", "suann"], ["cost", "suann", "--debug"]):
        assert main(arguments) == 2
        assert "Traceback" in capsys.readouterr().err


def test_a_defect_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "model_names", lambda: 1 / 0)
    assert main(["models"]) == 3
    assert capsys.readouterr().err == (
        "error: ZeroDivisionError: division by zero (a defect of clickscale; --debug shows where)\n"
    )


def test_memory_that_runs_out_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "model_names", lambda: torch.empty(1 << 60, dtype=torch.uint8))
    assert main(["models"]) == 2
    assert capsys.readouterr().err.startswith("error: out of memory")


def test_inspecting_finds_a_changed_byte(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "tiny", tmp_path / "tiny")
    column = tmp_path / "tiny" / "impressions" / "time.npy"
    column.write_bytes(column.read_bytes()[:-1] + b"\x7f")
    assert main(["inspect", str(tmp_path / "tiny")]) == 2
    assert "time.npy is damaged" in capsys.readouterr().err


def test_the_share_of_bad_rows_can_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"u{n % 3},i{n % 4},{1_600_000_000 + n},{n % 2 if n < 40 else 7}" for n in range(100)]
    (tmp_path / "clicks.csv").write_text("\n".join(["user_id,item_id,time,clicked", *rows]) + "\n")
    (tmp_path / "s.toml").write_text(
        'name = "x"\nuser = { name = "user", column = "user_id" }\n'
        'item = { name = "item", column = "item_id" }\n'
        'labels = [{ name = "click", column = "clicked" }]\n[impressions]\nfiles = "clicks.csv"\n'
    )
    given = ["prepare", str(tmp_path / "s.toml"), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    assert "60 of 100 impressions cannot be used" in capsys.readouterr().err
    assert main([*given, "--max-quarantined", "0.6"]) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_training_after_a_checkpoint_and_it_can_be_continued(
    number: signal.Signals, code: int, folder: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    options = [
        "--grade",
        "size-1",
        "--set",
        "batch_size=16",
        "--set",
        "log_every=1",
        "--set",
        "epochs.count=3000",
    ]
    arguments = ["train", "mlp", "--data", str(folder / "tiny"), "--out", "run", *options]
    process = command_server.start(*arguments, folder=tmp_path)
    log = tmp_path / "run" / "metrics.jsonl"
    until = time.monotonic() + 60
    while not (log.is_file() and log.stat().st_size) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "continue with --resume" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "artifact").exists()
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_signal_while_answers_are_written_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    given = ["score", str(folder / "artifact-din"), "-", "--out", "answers.jsonl"]
    process = command_server.start(*given, folder=tmp_path)
    process.stdin.write('{"user": 101, "time": 1600000100, "candidates": [{"item": 10}]}\n')
    process.stdin.flush()
    until = time.monotonic() + 60
    while not list(tmp_path.glob("answers.jsonl.partial/*")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait()  # its input is open until then: without more of it the command must not end by itself
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_any_other_verb_in_silence(
    number: signal.Signals, code: int, folder: Path, command_server: CommandServer
) -> None:
    process = command_server.start("score", "artifact-din", "-", folder=folder)
    process.stdin.write('{"user": 101, "time": 1600000100, "candidates": [{"item": 10}]}\n')
    process.stdin.flush()
    assert process.stdout.readline().startswith("{"), "the first request is answered at once"
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
