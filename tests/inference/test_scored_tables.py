from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from clickscale.data.dataset import Dataset
from clickscale.errors import InputError
from clickscale.inference.counter_export import export_counters
from clickscale.inference.prediction_tables import predict_to_table
from clickscale.inference.request_tables import RequestTable
from clickscale.inference.scored_tables import ScoredTable
from clickscale.inference.scorer import Scorer
from clickscale.inference.statistic_counters import StatisticCounters
from tests.data.tiny import tiny_tables
from tests.trained import tiny_artifact, tiny_prepared


def first_of_test(dataset: Dataset) -> tuple[int, int]:
    """The first impression of the test part: its row in the log and its time."""
    rows = dataset.part("test")
    row = rows[np.argmin(dataset.impressions["time"][rows])]
    return int(dataset.impressions["row"][row]), int(dataset.impressions["time"][row])


def test_the_log_scored_with_lookups_and_counters_equals_its_predictions(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    scorer = Scorer(tiny_artifact(tmp_path, dataset))
    predict_to_table(scorer.artifact.path, tmp_path / "predicted.parquet", data=dataset.path)
    predicted = {row["row"]: row for row in pq.read_table(tmp_path / "predicted.parquet").to_pylist()}
    row, time = first_of_test(dataset)
    logged = tiny_tables()["impressions"][row]
    path = tmp_path / "candidates.csv"
    path.write_text(
        f"user,item,time,position,hour,click\n{logged['user']},{logged['item']},{time},"
        f"{logged['position']},{logged['hour']},1\n9999,8888,{time},,,0\n",
        "utf-8",
    )
    export_counters(dataset, tmp_path / "counters.parquet", str(time))
    counters = StatisticCounters.load(tmp_path / "counters.parquet", scorer.artifact)
    table = RequestTable(path, scorer.artifact.encoder, dataset, scorer.artifact.config.length)
    scored = ScoredTable(scorer, table, counters)
    assert scored.write(tmp_path / "scores.parquet") == scored.requests == 2
    known, unknown = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert known["score.click"] == pytest.approx(predicted[row]["score.click"], abs=1e-6)
    assert (known["user_id"], known["item_id"], known["time"]) == (
        str(logged["user"]),
        str(logged["item"]),
        time,
    )
    assert (known["known"], unknown["known"]) == (True, False)
    assert scored.lacking == {}


def test_missing_statistics_are_counted(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    scorer = Scorer(tiny_artifact(tmp_path, dataset))
    path = tmp_path / "candidates.csv"
    path.write_text("request,user,item,time,item_rate\nx,1,10,1600000000,0.5\ny,1,20,1600000000,\n", "utf-8")
    scored = ScoredTable(scorer, RequestTable(path, scorer.artifact.encoder))
    (piece,) = scored.pieces()
    assert piece.column("request").to_pylist() == ["x", "y"]
    assert scored.lacking == {"item_count": 2, "user_genre_rate": 2, "item_rate": 1}


def test_an_error_names_the_row_of_its_request(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    scorer = Scorer(tiny_artifact(tmp_path, dataset))
    path = tmp_path / "candidates.csv"
    path.write_text("user,item,time,hour\n1,10,1600000000,3\n1,10,1600000001,noon\n", "utf-8")
    scored = ScoredTable(scorer, RequestTable(path, scorer.artifact.encoder))
    with pytest.raises(InputError, match=r"candidates\.csv row 2: candidates\[0\]\.hour is 'noon'"):
        scored.write(tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()
