"""Every file of a data set, a run, an artifact and a search, damaged in every way: refused, or harmless.

Nothing may end as a defect of the program, and nothing may silently give other numbers.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale import workflow
from clickscale.config_text import override
from clickscale.data.dataset import open_dataset
from clickscale.errors import ClickscaleError
from clickscale.inference.scorer import Scorer
from clickscale.training.run.logs import read_metrics
from clickscale.training.run.run_config import TrainConfig
from clickscale.tuning.journal import Journal, Piece
from tests.trained import tiny_artifact, tiny_prepared, tiny_run

LOGS = {"environment.json", "latest"}  # read by people, or by a program that does without
WAYS = ("flip", "flip early", "flip late", "cut", "empty", "folder")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, an evaluated run that is continued by ``resume``, an artifact and a search."""
    here = tmp_path_factory.mktemp("sound")
    dataset = tiny_prepared(here)
    tiny_artifact(here, dataset)
    run = tiny_run(here, dataset, "mlp")
    for part in ("valid", "test"):
        workflow.evaluate(run, part=part, bootstrap=5)
    journal = Journal(here / "search", search_options(here))
    journal.add(Piece(trial=0, seed=0, losses=(0.5, None), over=True, seconds=1.0))
    return here


def search_options(here: Path) -> TrainConfig:
    return TrainConfig(model="mlp", data=str(here / "tiny"))


def damage(path: Path, way: str) -> None:
    content = bytearray(path.read_bytes())
    if way == "folder":
        path.unlink()
        path.mkdir()
        return
    if way == "empty":
        content = bytearray()
    elif way == "cut":
        content = content[: len(content) // 2]
    else:
        places = {"flip": len(content) // 2, "flip early": min(40, len(content) - 1), "flip late": -3}
        content[places[way]] ^= 1 << (len(path.name) % 7)
    path.write_bytes(bytes(content))


def files_of(folder: Path) -> list[str]:
    """Files that a program reads."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "events.out" not in path.name)
    return sorted(path.relative_to(folder).as_posix() for path in paths if path.name not in LOGS)


def use_data_set(here: Path) -> Any:
    dataset = open_dataset(here / "tiny")
    dataset.verify()
    columns = (dataset.users, dataset.behaviors, dataset.items, dataset.impressions)
    numbers = [np.asarray(table[name]).tobytes() for table in columns for name in table]
    return numbers, dataset.boundaries, dataset.encoder.features()


def use_artifact(here: Path) -> Any:
    request = {"user": 101, "time": 1_600_000_100, "candidates": [{"item": 10}, {"item": 20}]}
    scorer = Scorer(here / "artifact-din")
    return scorer.score(request).logits.tolist(), scorer.artifact.metrics, scorer.artifact.config


def use_run(here: Path) -> Any:
    run = here / "mlp-0"
    found: list[Any] = [
        workflow.run_options(run),
        workflow.run_results(run, "test"),
        workflow.run_results(run, "valid"),
        workflow.slice_auc(run, "behaviors"),
        workflow.run_notes(run),
        workflow.entrant(run, "test"),
        workflow.load_predictions(run, "valid").logits.tobytes(),
        read_metrics(run),
        Scorer(run / "artifact").artifact.config,
        workflow.evaluate(run, part="test", bootstrap=5).to_dict(),
    ]
    config = TrainConfig(
        model="mlp", data=str(here / "tiny"), grade="size-1", length=40, batch_size=32, threads=1
    )
    found.append(workflow.train(override(config, []), run, resume=True, progress=False).samples)
    return json.loads(json.dumps(found, default=repr))


def use_search(here: Path) -> Any:
    return Journal(here / "search", search_options(here)).pieces


KINDS: dict[str, Callable[[Path], Any]] = {
    "tiny": use_data_set,
    "artifact-din": use_artifact,
    "mlp-0": use_run,
    "search": use_search,
}


@pytest.fixture(scope="module")
def expected(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the sound files give."""
    here = Path(shutil.copytree(sound, tmp_path_factory.mktemp("expected") / "here"))
    with contextlib.chdir(here):
        return {kind: use(Path()) for kind, use in KINDS.items()}


def complaint(kind: str, name: str, expected: Any, absent: bool) -> str:
    """Tell what went wrong when a damaged file was used; empty if it was refused by name or did no harm."""
    path = Path(kind) / name
    try:
        found = KINDS[kind](Path())
    except ClickscaleError as error:
        # A file that is absent or of another version is told by its folder; a wrong hash in the manifest of
        # an artifact by the file that does not fit.
        by_folder = absent or "version" in str(error) or name.endswith("manifest.json")
        told = str(path.parent if by_folder else path)
        return "" if told in str(error) else f"{name} is not named by: {error}"
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"
    return "" if found == expected else f"{name}: other numbers, silently"


def complaints(
    kind: str,
    ways: Mapping[str, str],
    sound: Path,
    expected: dict[str, Any],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Damage one file after the other, each in its way, and tell what went wrong."""
    found = []
    for name, way in ways.items():
        shutil.copytree(sound, here)
        monkeypatch.chdir(here)
        damage(Path(kind) / name, way)
        found.append(complaint(kind, name, expected[kind], way == "folder"))
        shutil.rmtree(here)
    return [told for told in found if told]


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_by_name_or_changes_nothing(
    kind: str,
    turn: int,
    sound: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Two ways for every file, and all ways among the files of a kind.
    names = files_of(sound / kind)
    ways = {name: WAYS[(number + 3 * turn) % len(WAYS)] for number, name in enumerate(names)}
    found = complaints(kind, ways, sound, expected, tmp_path / "here", monkeypatch)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_damaged_in_every_way_is_refused_by_name_or_changes_nothing(
    kind: str,
    way: str,
    sound: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ways = dict.fromkeys(files_of(sound / kind), way)
    found = complaints(kind, ways, sound, expected, tmp_path / "here", monkeypatch)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(4))
def test_any_bit_of_any_file_may_flip(
    seed: int, sound: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(seed)
    here = tmp_path / "here"
    found = []
    for _ in range(100):
        kind = str(random.choice(list(KINDS)))
        name = str(random.choice(files_of(sound / kind)))
        shutil.copytree(sound, here)
        monkeypatch.chdir(here)
        content = bytearray((Path(kind) / name).read_bytes())
        place, bit = int(random.integers(len(content))), int(random.integers(8))
        content[place] ^= 1 << bit
        (Path(kind) / name).write_bytes(bytes(content))
        told = complaint(kind, name, expected[kind], absent=False)
        found.append(told and f"byte {place} bit {bit} of {told}")
        shutil.rmtree(here)
    assert not any(found), "\n".join(filter(None, found))
