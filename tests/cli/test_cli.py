"""Every verb on a tiny log, through `main`, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clickscale.cli import main
from clickscale.cli.app import app
from clickscale.cli.server.score import size_in_bytes
from clickscale.data.dataset import open_dataset
from clickscale.inference.scorer import Scorer
from tests.data.resealed import reseal
from tests.document_data import write_document_data

OPTIONS = ("batch_size=512", "threads=1", "epochs.again=0")
SMALL = ("--grade", "size-1", "--length", "20", *(word for option in OPTIONS for word in ("--set", option)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log as CSV, its guessed schema, and the prepared data set."""
    here = tmp_path_factory.mktemp("cli")
    write_document_data(here)
    tables = [str(here / f"{name}.csv") for name in ("clicks", "items", "users")]
    assert main(["schema", "guess", *tables, "--out", str(here / "schema.toml")]) == 0
    assert main(["prepare", str(here / "schema.toml"), "--out", str(here / "prepared")]) == 0
    return here


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A trained and evaluated run."""
    out = folder / "runs" / "din"
    assert main(["train", "din", "--data", str(folder / "prepared"), "--out", str(out), *SMALL]) == 0
    assert main(["evaluate", str(out), "--bootstrap", "20"]) == 0
    return out


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed on stdout, which has to be one JSON document."""
    return json.loads(capsys.readouterr().out)


def verbs() -> list[list[str]]:
    names = [command.name or "" for command in app.registered_commands]
    groups = [
        [group.name or "", command.name or ""]
        for group in app.registered_groups
        for command in (group.typer_instance.registered_commands if group.typer_instance else ())
    ]
    return [[name] for name in names] + groups


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_the_help_of_every_verb_shows_an_example_and_json(
    verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"clickscale {' '.join(verb)}" in text.partition("Example:")[2]
    assert "--json" in text


def test_help_tells_the_exit_codes_and_costs_no_torch() -> None:
    code = "import sys; from clickscale.cli import main; print(main(['--help']), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Exit codes: 0 done; 1 a check found something" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 False"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [["models"], ["data", "list"], ["cost", "mlp", "--grade", "size-1", "--candidates", "2"]],
    ids=" ".join,
)
def test_verbs_without_data_print_a_table_or_one_json_document(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert "\n" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert document(capsys)


def test_grades_of_a_paper_stand_beside_the_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert "size-1 .. size-5, debug, est-blocks, est-paper, paper" in capsys.readouterr().out
    assert main(["cost", "est", "--preset", "size-1", "--json"]) == 0
    assert document(capsys)["grade"] == "size-1"


def test_a_cost_is_split_into_the_user_and_each_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "suan", "--candidates", "7", "--set", "model.blocks=1", "--json"]) == 0
    one = document(capsys)
    assert one["total"] == one["user"] + 7 * one["candidate"]
    assert main(["cost", "suan", "--candidates", "7", "--set", "blocks=3", "--json"]) == 0
    assert document(capsys)["dense"] > one["dense"]


def test_preparing_reports_every_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "again"
    arguments = ["prepare", str(folder / "schema.toml"), "--out", str(out), "--split", "day"]
    assert main([*arguments, "--test", "2", "--json"]) == 0
    report = document(capsys)
    impressions = report["report"]["impressions"]
    assert impressions["rows"] == impressions["kept"] + sum(impressions["quarantined"].values()) == 2400
    assert json.loads((out / "manifest.json").read_text())["split"] == {
        "kind": "day",
        "valid": 1.0,
        "test": 2.0,
        "column": "",
    }


def test_the_last_moment_of_each_user_can_be_the_test(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "last"
    assert main(["prepare", str(folder / "schema.toml"), "--out", str(out), "--split", "user_last"]) == 0
    dataset = open_dataset(out)
    assert (dataset.split.valid, dataset.split.test) == (1, 1)
    user, time = dataset.impressions["user"], dataset.impressions["time"]
    tested = dataset.part("test")
    assert len(set(user[tested].tolist())) == len(tested) > 1  # no two impressions of a user share a moment
    assert all(time[row] == time[user == user[row]].max() for row in tested)


def test_a_schema_can_be_guessed_onto_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "guess", str(folder / "clicks.csv")]) == 0
    assert "[impressions]" in capsys.readouterr().out
    assert main(["schema", "guess", str(folder / "clicks.csv"), "--json"]) == 0
    assert "clicked" in document(capsys)["schema"]


def test_inspecting_prints_and_draws(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = folder / "plot.svg"
    assert main(["inspect", str(folder / "prepared"), "--plot", str(plot)]) == 0
    text = capsys.readouterr().out
    for word in ("2,400", "category", "train", "median"):
        assert word in text
    assert "<svg" in plot.read_text()
    assert main(["inspect", str(folder / "prepared"), "--json"]) == 0
    assert document(capsys)["counts"]["impressions"] == 2400


def test_a_leak_check_passes_and_a_planted_leak_gives_exit_code_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    assert main(["leak-check", str(folder / "prepared")]) == 0
    assert "no leak" in capsys.readouterr().out
    assert main(["prepare", str(folder / "schema.toml"), "--out", str(folder / "leaky")]) == 0
    capsys.readouterr()
    visible = np.load(folder / "leaky" / "impressions" / "visible.npy", mmap_mode="r+")
    visible[::50] += 1
    visible.flush()
    reseal(folder / "leaky")
    assert main(["leak-check", str(folder / "leaky")]) == 1
    assert "error: visible_future:" in capsys.readouterr().out
    assert main(["leak-check", str(folder / "leaky"), "--json"]) == 1
    assert document(capsys)["ok"] is False


def test_training_prints_the_validation_metrics_and_leaves_an_artifact(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "runs" / "mlp"
    arguments = ["train", "mlp", "--data", str(folder / "prepared"), "--out", str(out), *SMALL]
    assert main([*arguments, "--json", "--set", "model.d=4", "--set", "optimizer.learning_rate=0.01"]) == 0
    told = document(capsys)
    assert told["samples"] == 1920
    assert told["valid"][0]["part"] == "valid"
    config = json.loads((out / "config.json").read_text())
    assert (config["model_options"], config["optimizer"]["learning_rate"]) == (["d=4"], 0.01)
    assert json.loads((out / "artifact" / "config.json").read_text())["options"]["d"] == 4


def test_evaluating_prints_intervals_slices_or_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--bootstrap", "20", "--slices"]) == 0
    text = capsys.readouterr().out
    assert "grouping request" in text
    assert "by behaviors" in text
    assert main(["evaluate", str(run), "--part", "valid", "--bootstrap", "0", "--json"]) == 0
    assert document(capsys)["part"] == "valid"


def test_runs_and_trees_are_compared(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightgbm")
    trees = folder / "runs" / "trees"
    assert main(["trees", "--data", str(folder / "prepared"), "--out", str(trees)]) == 0
    assert "trees" in capsys.readouterr().out
    assert main(["compare", str(run), str(trees), "--bootstrap", "20"]) == 0
    assert "grouping request and impression, against din" in capsys.readouterr().out
    assert main(["compare", str(run), str(trees), "--bootstrap", "20", "--json"]) == 0
    models = document(capsys)["models"]
    assert [model["name"] for model in models] == ["din", "trees"]
    assert models[1]["against"]["auc"]["delta"] != 0


def test_requests_are_scored_line_by_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"user": "u1", "time": 1_704_800_000, "candidates": [{"item": "i3"}, {"item": "never seen"}]}
    lines = tmp_path / "requests.jsonl"
    lines.write_text(f"{json.dumps(request)}\n\n{json.dumps(request)}\n")
    assert main(["score", str(run / "artifact"), str(lines)]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first == second
    assert [candidate["known"] for candidate in first["candidates"]] == [True, False]
    assert 0 < first["candidates"][0]["clicked"] < 1
    assert main(["score", str(run / "artifact"), str(lines), "--out", str(tmp_path / "out.jsonl")]) == 0
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[1]) == first
    capsys.readouterr()
    assert main(["score", str(run / "artifact"), str(lines), "--json"]) == 0
    assert document(capsys)["responses"] == [first, second]
    assert main(["score", str(run / "artifact"), str(lines), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert "out.jsonl already exists" in capsys.readouterr().err


def test_a_bad_request_is_answered_with_its_error_and_costs_no_other(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"user": "u1", "time": 1_704_800_000, "candidates": [{"item": "i3"}]}
    lines = tmp_path / "requests.jsonl"
    deep = "[" * 100_000
    half = json.dumps(request | {"candidates": [{"item": "\ud800"}]})
    lines.write_text(f"{json.dumps(request)}\n\nnot json\n{deep}\n{half}\n{json.dumps(request)}\n")
    assert main(["score", str(run / "artifact"), str(lines)]) == 2
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert answers[0] == answers[-1]
    assert "candidates" in answers[0]
    assert [answer.get("line") for answer in answers] == [None, 3, 4, 5, None]
    assert answers[1]["error"] == "the line is not JSON: Expecting value at column 1."
    (said,) = printed.err.splitlines()
    assert "requests.jsonl line 3: the line is not JSON" in said
    assert "(3 of 5 lines refused, the others answered)" in said
    out = tmp_path / "out.jsonl"
    assert main(["score", str(run / "artifact"), str(lines), "--out", str(out)]) == 2
    assert out.read_text() == printed.out
    capsys.readouterr()
    assert main(["score", str(run / "artifact"), str(lines), "--json"]) == 2
    assert document(capsys)["responses"] == answers
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "requests.jsonl"]


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (("--max-candidates", "1"), "candidates holds 2 objects, more than 1"),
        (("--max-behaviors", "1"), "behaviors holds 2 objects, more than 1"),
        (("--max-line", "100B"), "the line is longer than 100 bytes"),
        (("--max-depth", "2"), "the line nests 3 lists and objects inside each other, more than 2"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_a_request_may_ask_for_has_limits(
    option: tuple[str, str], problem: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidates = [{"item": "i3"}, {"item": "i4"}]
    behaviors = [{"item": "i3", "time": 1_704_100_000}, {"item": "i4", "time": 1_704_100_001}]
    large = {"user": "u1", "time": 1_704_800_000, "candidates": candidates, "behaviors": behaviors}
    lines = tmp_path / "requests.jsonl"
    lines.write_text(json.dumps(large))
    assert main(["score", str(run / "artifact"), str(lines)]) == 0
    capsys.readouterr()
    assert main(["score", str(run / "artifact"), str(lines), *option]) == 2
    assert problem in capsys.readouterr().err


def test_a_defect_at_one_line_costs_no_other_and_is_told_at_the_end(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Scorer.score

    def score(self: Scorer, request: Any) -> Any:
        if request["user"] == "u2":
            raise KeyError("a defect")
        if request["user"] == "u3":
            raise MemoryError
        return plain(self, request)

    monkeypatch.setattr(Scorer, "score", score)
    request = {"time": 1_704_800_000, "candidates": [{"item": "i3"}]}
    lines = tmp_path / "requests.jsonl"
    lines.write_text("".join(f"{json.dumps(request | {'user': f'u{n}'})}\n" for n in (1, 3, 2, 1)))
    assert main(["score", str(run / "artifact"), str(lines)]) == 3
    printed = capsys.readouterr()
    first, memory, defect, last = (json.loads(line) for line in printed.out.splitlines())
    assert first == last
    assert memory["error"].startswith("the request needs more memory than there is")
    assert defect == {"line": 3, "error": "a defect of clickscale: KeyError: 'a defect'"}
    assert "(a defect of clickscale; --debug shows where)" in printed.err


def test_kept_states_change_no_answer_and_what_they_saved_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behaviors = [{"item": f"i{n}", "time": 1_704_100_000 + n} for n in range(5)]
    request = {"user": "u1", "time": 1_704_800_000, "behaviors": behaviors, "candidates": [{"item": "i3"}]}
    shorter = request | {"behaviors": behaviors[:4]}
    lines = tmp_path / "requests.jsonl"
    lines.write_text("".join(f"{json.dumps(one)}\n" for one in (shorter, request, request)))
    assert main(["score", str(run / "artifact"), str(lines)]) == 0
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    options = ["--cache", "1MB", "--slack", "2", "--precision", "fp16"]
    assert main(["score", str(run / "artifact"), str(lines), *options]) == 0
    printed = capsys.readouterr()
    kept = [json.loads(line) for line in printed.out.splitlines()]
    assert [one["behaviors_used"] for one in kept] == [4, 5, 5]
    for one, other in zip(plain, kept, strict=True):
        clicked = [answer["candidates"][0]["clicked"] for answer in (one, other)]
        assert clicked[0] == pytest.approx(clicked[1], abs=1e-3)
    assert "cache: 1 hits, 1 appended to, 1 computed; 9 behaviors reused; 1 states in" in printed.err


@pytest.mark.parametrize(
    ("text", "size"), [("64MB", 64_000_000), ("1.5 gb", 1_500_000_000), ("2KiB", 2_048), ("4096", 4_096)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


def test_without_a_verb_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr().err
    assert "error" not in printed.split("\n")[0]
    assert "leak-check" in printed
    assert printed.count("\n") > 10
