import json
import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from clickscale.artifact import FILES, _assignments, load_artifact, save_artifact
from clickscale.data.dataset import Dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.errors import ArtifactError
from clickscale.files import file_entry
from clickscale.models import model_config, model_names
from tests.forked_commands import CommandServer
from tests.kills import killed_everywhere
from tests.trained import GRADE, LENGTH, shaken_model, tiny_artifact, tiny_prepared


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    return tiny_artifact(tmp_path_factory.mktemp("artifact"), dataset)


@pytest.fixture
def artifact(tmp_path: Path, saved: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "artifact"))


@pytest.mark.parametrize("name", model_names())
def test_a_loaded_model_gives_the_scores_of_the_saved_one(
    name: str, dataset: Dataset, tmp_path: Path
) -> None:
    model = shaken_model(dataset, name, ("click", "like"))
    loaded = load_artifact(tiny_artifact(tmp_path, dataset, name, ("click", "like")))
    (batch,) = Loader(dataset, "test", LoaderConfig(grouping="request", length=LENGTH)).batches()
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(batch), model(batch), rtol=1e-5, atol=1e-5)
    weights = loaded.model.state_dict()
    assert list(weights) == list(model.state_dict())
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    assert loaded.config.labels == ("click", "like")
    assert loaded.config.notes == ("A note.",)
    assert loaded.metrics == {"valid": {"auc": 0.75}}
    assert loaded.encoder.schema == dataset.schema


def test_the_folder_holds_only_json_and_safetensors(saved: Path) -> None:
    names = {path.name for path in saved.iterdir()}
    assert names == {*FILES, "manifest.json"}
    assert {Path(name).suffix for name in names} == {".json", ".safetensors"}
    assert not list(saved.parent.glob("*.partial"))


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_any_file_is_refused(name: str, artifact: Path) -> None:
    content = bytearray((artifact / name).read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / name).write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=f"{name} is damaged"):
        load_artifact(artifact)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, artifact: Path) -> None:
    (artifact / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_artifact(artifact)


def test_other_files_in_the_folder_are_not_opened(artifact: Path) -> None:
    (artifact / "weights.pkl").write_bytes(b"anything")
    assert load_artifact(artifact).config.model == "din"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 1}, "version 1, this release reads 3; train the model again"),
        ({"version": 4}, "version 4, this release reads 3; update clickscale"),
        ({"files": {}}, "lists"),
        ({"files": {"../config.json": {"bytes": 1, "sha256": ""}}}, "lists"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(
    change: dict[str, object], problem: str, artifact: Path
) -> None:
    manifest = json.loads((artifact / "manifest.json").read_text())
    (artifact / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ArtifactError, match=problem):
        load_artifact(artifact)


@pytest.mark.parametrize(
    ("text", "problem"), [(None, "is not an artifact"), ("{", "is damaged"), ("[]", "None")]
)
def test_a_folder_without_a_readable_manifest_is_no_artifact(
    text: str | None, problem: str, artifact: Path
) -> None:
    (artifact / "manifest.json").unlink()
    if text is not None:
        (artifact / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=problem):
        load_artifact(artifact)


def test_weights_of_another_model_do_not_fit(artifact: Path, dataset: Dataset, tmp_path: Path) -> None:
    other = tiny_artifact(tmp_path / "other", dataset, "mlp")
    shutil.copy(other / "weights.safetensors", artifact)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = json.loads((other / "manifest.json").read_text())["files"][
        "weights.safetensors"
    ]
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="does not fit this release"):
        load_artifact(artifact)


def test_an_existing_folder_is_replaced_only_when_asked(artifact: Path, dataset: Dataset) -> None:
    def save(overwrite: bool) -> None:
        save_artifact(
            artifact,
            shaken_model(dataset, "mlp"),
            dataset.encoder,
            dataset.item_columns(),
            model_name="mlp",
            grade=GRADE,
            length=LENGTH,
            labels=("click",),
            metrics={},
            overwrite=overwrite,
        )

    with pytest.raises(ArtifactError, match="exists"):
        save(overwrite=False)
    assert load_artifact(artifact).config.model == "din"
    save(overwrite=True)
    assert load_artifact(artifact).config.model == "mlp"
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]


def test_a_weight_that_is_no_number_is_not_saved(tmp_path: Path, dataset: Dataset) -> None:
    model = shaken_model(dataset, "mlp")
    with torch.no_grad():
        next(model.parameters())[0] = torch.nan
    with pytest.raises(ArtifactError, match="holds NaN or infinity"):
        save_artifact(
            tmp_path / "a",
            model,
            dataset.encoder,
            dataset.item_columns(),
            model_name="mlp",
            grade=GRADE,
            length=LENGTH,
            labels=("click",),
            metrics={},
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_not_loaded_even_with_a_fitting_hash(
    value: float, artifact: Path
) -> None:
    path = artifact / "weights.safetensors"
    weights = load_file(path)
    name = max(weights)
    weights[name].view(-1)[-1] = value
    save_file(weights, path)
    manifest = json.loads((artifact / "manifest.json").read_text())
    manifest["files"][path.name] = msgspec.to_builtins(file_entry(path))
    (artifact / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=rf"weights.safetensors .* weight {name} holds NaN or infinity"):
        load_artifact(artifact)


@pytest.mark.parametrize("name", model_names())
def test_options_written_as_overrides_give_the_same_options(name: str) -> None:
    config = model_config(name, "size-4")
    assert model_config(name, "size-1", _assignments(msgspec.to_builtins(config))) == config


def test_a_full_disk_leaves_the_old_artifact_as_it_was(
    artifact: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match=r"disk is full: an artifact needs more"):
        save_artifact(
            artifact,
            shaken_model(dataset, "mlp"),
            dataset.encoder,
            dataset.item_columns(),
            model_name="mlp",
            grade=GRADE,
            length=LENGTH,
            labels=("click",),
            metrics={},
            overwrite=True,
        )
    assert load_artifact(artifact).config.model == "din"
    assert [path.name for path in artifact.parent.iterdir()] == ["artifact"]


SAVE = """
from clickscale.data.dataset import open_dataset
from tests.trained import tiny_artifact

def save(folder, names):
    tiny_artifact(folder, open_dataset(DATA), "mlp", names, overwrite=True)

def start(folder):
    save(folder, ("click",))

def act(folder):
    save(folder, ("click", "like"))
"""


def test_death_at_any_moment_of_saving_leaves_the_old_or_the_new_artifact(
    dataset: Dataset, tmp_path: Path, command_server: CommandServer
) -> None:
    killed = killed_everywhere(SAVE.replace("DATA", repr(str(dataset.path))), tmp_path, command_server)
    labels = [load_artifact(folder / "artifact-mlp").config.labels for folder in killed]
    change = labels.index(("click", "like"))
    assert labels == [("click",)] * change + [("click", "like")] * (len(labels) - change)
    assert 0 < change < len(labels)
    # One of them died between its two renames, and reading it put the old folder back.
    assert not [path for folder in killed[:change] for path in folder.glob("*.replaced")]


def test_an_artifact_does_not_replace_a_folder_of_something_else(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "artifact-din").mkdir()
    (tmp_path / "artifact-din" / "thesis.tex").write_text("precious")
    with pytest.raises(ArtifactError, match="is not an artifact, so it is not overwritten"):
        tiny_artifact(tmp_path, dataset, overwrite=True)
    assert (tmp_path / "artifact-din" / "thesis.tex").read_text() == "precious"
