import shutil
from pathlib import Path

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from clickscale import workflow
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.layout import read_manifest, write_manifest
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ArtifactError, DamagedError, InputError, RunError
from clickscale.inference.prediction_tables import predict_to_table
from clickscale.inference.scorer import Scorer
from tests.data.tiny import STATISTICS, source_of, tiny_schema, tiny_tables
from tests.trained import tiny_artifact, tiny_prepared, tiny_run


def shuffled_log(folder: Path, string_ids: bool) -> tuple[Dataset, list[dict]]:
    """A prepared log whose rows are in no order of time, and its impressions, with one that is refused."""
    tables = tiny_tables(string_ids=string_ids)
    rows = [
        tables["impressions"][i] for i in np.random.default_rng(0).permutation(len(tables["impressions"]))
    ]
    rows.insert(3, rows[3] | {"time": None})
    tables["impressions"] = rows
    schema = tiny_schema(dtype="string" if string_ids else "int", statistics=STATISTICS)
    prepare(source_of(schema, tables), folder / "log")
    return open_dataset(folder / "log"), rows


@pytest.mark.parametrize("string_ids", [False, True])
def test_predictions_stand_in_the_order_of_the_log_under_its_ids(string_ids: bool, tmp_path: Path) -> None:
    dataset, log = shuffled_log(tmp_path, string_ids)
    artifact = tiny_artifact(tmp_path, dataset, labels=("click", "like"))
    count = predict_to_table(artifact, tmp_path / "out.parquet", data=dataset.path)
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert count == len(table) == len(dataset.part("test"))
    assert [row["row"] for row in table] == sorted(row["row"] for row in table)
    for row in table:
        logged = log[row["row"]]
        assert (row["user_id"], row["item_id"], row["time"]) == (
            logged["user"],
            logged["item"],
            logged["time"],
        )
        assert (row["label.click"], row["label.like"]) == (logged["label.click"], logged["label.like"])


def test_scores_are_those_of_the_evaluation_and_of_the_server(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    run = tiny_run(tmp_path, dataset)
    workflow.evaluate(run, bootstrap=0)
    predict_to_table(run, tmp_path / "out.csv")
    table = pc.read_csv(tmp_path / "out.csv")
    stored = workflow.load_predictions(run, "test")
    rows = np.asarray(dataset.impressions["row"])[stored.row]
    evaluated = dict(zip(rows.tolist(), (1 / (1 + np.exp(-stored.logits[:, 0].astype(float)))), strict=True))
    scores = dict(zip(table["row"].to_pylist(), table["score.click"].to_pylist(), strict=True))
    assert scores == pytest.approx(evaluated, abs=1e-12)
    predict_to_table(run / "artifact", tmp_path / "artifact.csv", data=dataset.path)
    served = pc.read_csv(tmp_path / "artifact.csv")
    assert served.drop_columns("score.click") == table.drop_columns("score.click")
    assert served["score.click"].to_pylist() == pytest.approx(table["score.click"].to_pylist(), abs=1e-6)


def test_trees_are_predicted_as_they_were_measured(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    dataset = tiny_prepared(tmp_path)
    workflow.train_trees(dataset.path, tmp_path / "trees", threads=1)
    predict_to_table(tmp_path / "trees", tmp_path / "out.parquet", part="valid")
    table = pq.read_table(tmp_path / "out.parquet")
    stored = workflow.load_predictions(tmp_path / "trees", "valid")
    order = np.argsort(np.asarray(dataset.impressions["row"])[stored.row])
    expected = 1 / (1 + np.exp(-stored.logits[order, 0].astype(float)))
    np.testing.assert_allclose(table["score.click"].to_numpy(), expected, atol=1e-12)
    assert predict_to_table(tmp_path / "trees", tmp_path / "train.csv", part="train") == len(
        dataset.part("train")
    )
    with pytest.raises(ArtifactError, match=r"counted over the whole log.*clickscale predict"):
        Scorer(tmp_path / "trees")
    (tmp_path / "trees/trees.txt").write_text("tree")
    with pytest.raises(DamagedError, match=r"trees\.txt is damaged"):
        predict_to_table(tmp_path / "trees", tmp_path / "again.csv")
    assert not (tmp_path / "again.csv").exists()


def test_the_table_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = tiny_prepared(tmp_path)
    artifact = tiny_artifact(tmp_path, dataset)
    monkeypatch.setattr("clickscale.inference.prediction_tables.expit", lambda logits: 1 / 0)
    before = set(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError):
        predict_to_table(artifact, tmp_path / "out.csv", data=dataset.path)
    assert not [path for path in set(tmp_path.iterdir()) - before if "partial" not in path.name]


def test_a_data_set_without_rows_of_the_log_is_predicted_in_its_own_order(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    artifact = tiny_artifact(tmp_path, dataset)
    (dataset.path / "impressions/row.npy").unlink()
    manifest = read_manifest(dataset.path)
    kept = {name: entry for name, entry in manifest.files.items() if name != "impressions/row.npy"}
    samples = {name: manifest.samples[name] for name in kept}
    write_manifest(dataset.path, replace(manifest, files=kept, samples=samples))
    predict_to_table(artifact, tmp_path / "out.parquet", data=dataset.path)
    table = pq.read_table(tmp_path / "out.parquet")
    rows = dataset.part("test")
    assert table["time"].to_pylist() == dataset.impressions["time"][rows].tolist()
    assert "row" not in table.column_names


def test_wrong_uses_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    artifact = tiny_artifact(tmp_path, dataset)
    with pytest.raises(InputError, match=r"ends in \.txt; end it in \.parquet or \.csv"):
        predict_to_table(artifact, tmp_path / "out.txt", data=dataset.path)
    (tmp_path / "there.csv").write_text("")
    with pytest.raises(InputError, match="already exists"):
        predict_to_table(artifact, tmp_path / "there.csv", data=dataset.path)
    with pytest.raises(InputError, match="folder does not exist"):
        predict_to_table(artifact, tmp_path / "nowhere/out.csv", data=dataset.path)
    with pytest.raises(RunError, match="say which with --data"):
        predict_to_table(artifact, tmp_path / "out.csv")
    with pytest.raises(RunError, match="is not a run"):
        predict_to_table(tmp_path, tmp_path / "out.csv")
    (tmp_path / "other").mkdir()
    other = tiny_prepared(tmp_path / "other", string_ids=True)
    with pytest.raises(ArtifactError, match="another value"):
        predict_to_table(artifact, tmp_path / "out.csv", data=other.path)
    run = tiny_run(tmp_path, dataset)
    shutil.move(dataset.path, tmp_path / "moved")
    with pytest.raises(RunError, match="--data"):
        predict_to_table(run, tmp_path / "out.csv")
    assert predict_to_table(run, tmp_path / "out.csv", data=tmp_path / "moved") > 0
