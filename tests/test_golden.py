"""Numbers and files that stay the same from version to version.

``golden/losses.json`` holds the losses of 20 steps of every model on the tiny log. ``golden/prepared``,
``golden/run`` and ``golden/run/artifact`` are a data set, a run and an artifact, and ``golden/scores.json``
has the scores of the last two. A change that should not alter results or forms leaves them as they are. One
that should writes them again in the same commit, by ``python -m tests.test_golden`` in the root of the
repository, and says why; if it changes a form, it also raises the version of that form.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.errors import ArtifactError, DataError, RunError
from clickscale.evaluation.evaluate import predict
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.models import model_names
from clickscale.training.optimizers.optim import OptimizerConfig
from clickscale.training.passes.epochs import Epochs
from clickscale.training.run import checkpoint
from clickscale.training.run.checkpoint import Checkpoint, CheckpointStore
from clickscale.training.run.folder import load_run
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.run_config import TrainConfig
from clickscale.training.train import train
from clickscale.workflow import train as train_and_save
from tests.data.tiny import tiny_dataset
from tests.everyday import sampled

GOLDEN = Path("tests/golden")  # from the root of the repository, so that no stored file names another folder
FOLDER = Path(__file__).parent / "golden"
LOSSES, SCORES = "losses.json", "scores.json"
STEPS = 20
# Sums in another order, on another processor, change the last bits; 20 steps make at most this of them.
TOLERANCE = 2e-3


def losses_of(model: str, data: Path, out: Path) -> list[float]:
    """Loss of each of the first steps of a model."""
    config = TrainConfig(
        model=model,
        data=str(data),
        grade="size-1",
        length=8,
        grouping="request" if model == "est_full" else "timeline",  # est_full is not causal
        window=8,
        unknown_users=0.0,
        batch_size=16,
        epochs=Epochs(count=4),
        early_stopping=False,
        optimizer=OptimizerConfig(learning_rate=3e-3, table_learning_rate=3e-3, table_l2=0.0),
        threads=1,
        log_every=1,
    )
    train(config, out, progress=False)
    losses = [line["loss"] for line in read_metrics(out) if "loss" in line]
    assert len(losses) >= STEPS
    return losses[:STEPS]


def run_scores(run: Path, data: Path) -> list[list[float]]:
    """Logits of a run on the test part, impression by impression."""
    trained = load_run(run, data)
    predictions = predict(
        trained.model, trained.dataset, "test", length=trained.config.length, labels=trained.labels
    )
    return predictions.logits.tolist()


def artifact_scores(artifact: Path, dataset: Dataset) -> list[list[float]]:
    """Logits of an artifact for the requests of the test part, candidate by candidate."""
    requests = requests_from_dataset(dataset, dataset.part("test"))
    return [row for response in Scorer(artifact).score_many(requests) for row in response.logits.tolist()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("model", sampled(model_names()))
def test_every_model_learns_as_it_always_did(model: str, data: Path, tmp_path: Path) -> None:
    golden = json.loads((FOLDER / LOSSES).read_text("utf-8"))
    assert losses_of(model, data, tmp_path / "run") == pytest.approx(golden[model], rel=TOLERANCE)


def test_the_golden_losses_know_all_models_and_no_other() -> None:
    assert sorted(json.loads((FOLDER / LOSSES).read_text("utf-8"))) == model_names()


# --- stored files are read, or refused by their version


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A copy of the stored files; opening a store of checkpoints may write."""
    return Path(shutil.copytree(FOLDER, tmp_path / "golden"))


def test_a_stored_data_set_and_run_are_read_and_score_as_they_did(stored: Path) -> None:
    golden = json.loads((stored / SCORES).read_text("utf-8"))
    scores = run_scores(stored / "run", stored / "prepared")
    assert np.ptp(scores) > 0.01  # a model that says the same of every impression would prove nothing
    np.testing.assert_allclose(scores, golden["run"], atol=1e-5, rtol=0)


def test_a_stored_artifact_is_read_and_scores_as_it_did(stored: Path) -> None:
    golden = json.loads((stored / SCORES).read_text("utf-8"))
    scores = artifact_scores(stored / "run/artifact", open_dataset(stored / "prepared"))
    np.testing.assert_allclose(scores, golden["artifact"], atol=1e-5, rtol=0)


def raise_version(manifest: Path) -> None:
    tree = json.loads(manifest.read_text("utf-8"))
    manifest.write_text(json.dumps(tree | {"version": tree["version"] + 1}), "utf-8")


def test_a_data_set_of_another_version_is_refused_by_both_versions(stored: Path) -> None:
    raise_version(stored / "prepared/manifest.json")
    with pytest.raises(DataError, match=r"layout 4, this release reads 3; prepare again"):
        open_dataset(stored / "prepared")


def test_an_artifact_of_another_version_is_refused_by_both_versions(stored: Path) -> None:
    raise_version(stored / "run/artifact/manifest.json")
    with pytest.raises(ArtifactError, match=r"version 4, this release reads 3; update clickscale"):
        Scorer(stored / "run/artifact")


def test_a_checkpoint_of_another_version_is_refused_by_both_versions(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, _ = CheckpointStore(stored / "run/checkpoints").load()
    assert kept is not None
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
        CheckpointStore(stored / "run/checkpoints").save(Checkpoint(kept.step, kept.tensors, kept.facts))
    with pytest.raises(RunError, match=r"version 2, this release reads 1; use the release that wrote it"):
        load_run(stored / "run", stored / "prepared")


def test_a_checkpoint_whose_files_a_later_version_lays_out_otherwise_is_refused_too(stored: Path) -> None:
    (folder,) = (stored / "run/checkpoints").glob("step-*")
    raise_version(folder / "state.json")  # and no hash of this release fits any more
    with pytest.raises(RunError, match="version 2, this release reads 1"):
        load_run(stored / "run", stored / "prepared")


def write() -> None:
    """Make all golden files again."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = tiny_dataset(Path(folder))
        losses = {name: losses_of(name, prepared, Path(folder) / name) for name in model_names()}
        shutil.rmtree(GOLDEN / "prepared", ignore_errors=True)
        shutil.copytree(prepared, GOLDEN / "prepared")
    (GOLDEN / LOSSES).write_text(json.dumps(losses, indent=1, sort_keys=True) + "\n", "utf-8")
    run = GOLDEN / "run"
    shutil.rmtree(run, ignore_errors=True)
    config = TrainConfig(
        model="suan",
        data=str(GOLDEN / "prepared"),
        grade="size-1",
        length=8,
        model_options=("d=4", "head.hidden=[8]", "head.norm=none", "head.activation=relu"),
        batch_size=16,
        epochs=Epochs(count=4),
        threads=1,
        labels=("click", "like"),
    )
    train_and_save(config, run, progress=False)
    kept = {"config.json", "dataset.json", "done.json", "metrics.jsonl", "checkpoints", "artifact"}
    for path in run.iterdir():
        if path.name not in kept:  # records of the machine, and of what is measured again by the tests
            path.unlink()
    dataset = open_dataset(GOLDEN / "prepared")
    scores = {"run": run_scores(run, dataset.path), "artifact": artifact_scores(run / "artifact", dataset)}
    (GOLDEN / SCORES).write_text(json.dumps(scores) + "\n", "utf-8")


if __name__ == "__main__":
    write()
