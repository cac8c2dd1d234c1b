import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from clickscale import workflow
from clickscale.cli import DONE, WRONG, main
from tests.trained import tiny_prepared, tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run; its data set stands beside it as ``tiny``."""
    folder = tmp_path_factory.mktemp("outputs")
    made = tiny_run(folder, tiny_prepared(folder))
    workflow.evaluate(made, bootstrap=20)
    return made


def test_predictions_are_written_and_not_overwritten_by_mistake(run: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "predictions.parquet"
    assert main(["predict", str(run), "--out", str(out), "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == pq.read_table(out).num_rows > 0
    assert main(["predict", str(run), "--out", str(out)]) == WRONG
    assert "already exists" in capsys.readouterr().err
    assert main(["predict", str(run), "--out", str(out), "--part", "valid", "--overwrite"]) == DONE


@pytest.mark.wide
def test_a_report_is_written_as_a_file_or_a_folder(run: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "run.html"
    assert main(["report", str(run), "--out", str(out), "--candidates", "0"]) == DONE
    html = out.read_text("utf-8")
    assert f"clickscale report {run} --out {out} --candidates 0" in html
    assert main(["report", str(run), "--out", str(tmp_path / "page"), "--candidates", "5", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["report"] == str(tmp_path / "page/report.html")


def test_statistics_are_exported_and_fill_requests_and_tables(run: Path, tmp_path: Path, capsys) -> None:
    data, counters = run.parent / "tiny", tmp_path / "counters.parquet"
    assert main(["statistics", "export", str(data), "--out", str(counters), "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["statistics"] == ["item_rate", "item_count", "user_genre_rate"]
    assert main(["statistics", "export", str(data), "--out", str(counters)]) == WRONG
    assert main(["statistics", "export", str(data), "--out", str(counters), "--overwrite"]) == DONE
    request = {"user": 101, "time": told["moment"], "candidates": [{"item": 10}]}
    (tmp_path / "requests.jsonl").write_text(json.dumps(request) + "\n", "utf-8")
    (tmp_path / "candidates.csv").write_text(f"user,item,time,extra\n101,10,{told['moment']},1\n", "utf-8")
    artifact = str(run / "artifact")
    capsys.readouterr()
    main(["score", artifact, str(tmp_path / "requests.jsonl")])
    assert json.loads(capsys.readouterr().out)["missing"] == told["statistics"]
    main(["score", artifact, str(tmp_path / "requests.jsonl"), "--counters", str(counters)])
    answer = json.loads(capsys.readouterr().out)
    assert answer["missing"] == []
    main(["score", artifact, str(tmp_path / "candidates.csv"), "--counters", str(counters)])
    printed = capsys.readouterr()
    header, row = printed.out.splitlines()
    assert [name.strip('"') for name in header.split(",")] == [
        "user_id",
        "item_id",
        "time",
        "known",
        "score.click",
    ]
    assert float(row.split(",")[-1]) == pytest.approx(answer["candidates"][0]["click"])
    assert "does not use: extra" in printed.err
    assert "lack" not in printed.err


def test_a_table_is_scored_into_a_file_and_says_what_it_lacks(run: Path, tmp_path: Path, capsys) -> None:
    table, out = tmp_path / "candidates.csv", tmp_path / "scores.csv"
    table.write_text("user,item,time\n101,10,1600000000\n101,20,1600000000\n", "utf-8")
    words = ["score", str(run / "artifact"), str(table), "--data", str(run.parent / "tiny")]
    assert main([*words, "--out", str(out)]) == DONE
    assert "1 of 1 requests lack item_rate, item_count, user_genre_rate" in capsys.readouterr().err
    assert len(out.read_text("utf-8").splitlines()) == 3
    assert main([*words, "--out", str(tmp_path / "scores.txt")]) == WRONG
    assert main([*words, "--json"]) == DONE
    assert [row["item_id"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["10", "20"]
    (tmp_path / "requests.jsonl").write_text("{}\n", "utf-8")
    words[2] = str(tmp_path / "requests.jsonl")
    assert main(words) == WRONG
    assert "--data is for tables" in capsys.readouterr().err
