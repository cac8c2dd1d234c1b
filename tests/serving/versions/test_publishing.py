"""Published versions: canaries, names, the pointer, corrections that are applied once."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.artifact import FILES, SERVING, load_artifact
from clickscale.errors import ArtifactError, ConfigError
from clickscale.evaluation.calibration import pcoc, rectify
from clickscale.inference.scorer import Scorer
from clickscale.serving.versions.publishing import (
    POINTER,
    check_canaries,
    check_version,
    folder_of,
    pointed_version,
    publish,
    read_notes,
)
from clickscale.serving.versions.score_correction import Calibrator, Correction, fit_calibrator
from tests.forked_commands import CommandServer
from tests.kills import killed_everywhere
from tests.trained import tiny_artifact, tiny_prepared


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publishing")
    return tiny_artifact(folder, tiny_prepared(folder))


def test_a_version_is_a_whole_artifact_with_canaries_that_score_the_same(
    artifact: Path, tmp_path: Path
) -> None:
    first, second = publish(artifact, tmp_path), publish(artifact, tmp_path, promote=False)
    assert (first.name, second.name, pointed_version(tmp_path)) == ("v1", "v2", "v1")
    assert sorted(path.name for path in first.iterdir()) == sorted([*FILES, SERVING, "manifest.json"])
    loaded = load_artifact(first)
    notes = read_notes(loaded)
    assert len(notes.canaries) == 8
    assert check_canaries(Scorer(loaded), notes.canaries) <= 1e-6
    assert loaded.digest != load_artifact(artifact).digest


def test_canaries_see_another_score(artifact: Path, tmp_path: Path) -> None:
    loaded = load_artifact(publish(artifact, tmp_path))
    notes = read_notes(loaded)
    for parameter in loaded.model.parameters():
        parameter.data.mul_(1.01)
    with pytest.raises(ArtifactError, match="Canary 0 gets another score"):
        check_canaries(Scorer(loaded), notes.canaries)
    for parameter in loaded.model.parameters():
        parameter.data.mul_(math.nan)
    with pytest.raises(ArtifactError, match="not finite"):
        check_canaries(Scorer(loaded), notes.canaries)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../v1", "a/b", "/v1", "%2e%2e", "v1\0", "v" * 65, ".v1", "a..b", "a/../b", "v1/", "v 1", "ü"],
)
def test_a_name_that_is_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no name of a version"):
        check_version(name)
    with pytest.raises(ArtifactError):
        folder_of(tmp_path, name)


def test_a_link_is_no_version(artifact: Path, tmp_path: Path) -> None:
    publish(artifact, tmp_path)
    (tmp_path / "v7").symlink_to(artifact)
    with pytest.raises(ArtifactError, match="published are: v1"):
        folder_of(tmp_path, "v7")


def test_a_damaged_pointer_or_note_is_refused(artifact: Path, tmp_path: Path) -> None:
    folder = publish(artifact, tmp_path)
    (tmp_path / POINTER).write_text('{"version": "v', "utf-8")
    with pytest.raises(ArtifactError, match=r"current.json is damaged"):
        pointed_version(tmp_path)
    notes = folder / SERVING
    notes.write_text(notes.read_text("utf-8").replace('"keep_rate": 1.0', '"keep_rate": 0.5'), "utf-8")
    with pytest.raises(ArtifactError, match=r"serving.json is damaged"):
        load_artifact(folder)


PROGRAM = """
from pathlib import Path
from clickscale.serving.versions.publishing import publish
start = lambda folder: publish(Path({0!r}), folder)
act = lambda folder: publish(Path({0!r}), folder)
"""


@pytest.mark.slow
def test_a_killed_publisher_leaves_no_half_version(
    artifact: Path, tmp_path: Path, command_server: CommandServer
) -> None:
    pointed = []
    for folder in killed_everywhere(PROGRAM.format(str(artifact)), tmp_path, command_server):
        pointed.append(pointed_version(folder))
        for path in folder.glob(f"*/{SERVING}"):
            if path.parent.suffix != ".partial":
                load_artifact(path.parent)
        load_artifact(folder_of(folder, pointed[-1]))
    assert pointed == sorted(pointed)
    assert set(pointed) == {"v1", "v2"}


# --- corrections


@given(st.floats(-20, 20), st.floats(0.001, 1))
def test_down_sampling_is_undone_as_evaluation_does_it(logit: float, rate: float) -> None:
    corrected = Correction(keep_rate=rate).probabilities(("click",), np.array([[logit]], np.float32))
    raw = 1 / (1 + math.exp(-np.float32(logit)))
    assert abs(corrected[0, 0] - rectify([raw], rate)[0]) <= 1e-7


def test_a_calibrator_keeps_ranks_and_makes_the_mean_right() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(-1, 2, 20_000)
    outcomes = (random.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 0.7)))).astype(np.float32)
    line = fit_calibrator(logits, outcomes, 1.0)
    assert (line.slope, line.intercept) == (pytest.approx(0.5, abs=0.03), pytest.approx(-0.7, abs=0.05))
    correction = Correction(calibrators={"click": line})
    p = correction.probabilities(("click",), logits[:, None].astype(np.float32))[:, 0]
    assert pcoc(outcomes, p) == pytest.approx(1, abs=0.001)
    assert (np.argsort(p, kind="stable") == np.argsort(logits.astype(np.float32), kind="stable")).all()


def test_a_calibrator_fitted_after_down_sampling_is_applied_after_undoing_it() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(-2, 1, 20_000)
    outcomes = (random.random(20_000) < 1 / (1 + np.exp(-truth))).astype(np.float32)
    trained = truth - math.log(0.1)  # as a model gives it that saw a tenth of the negatives
    line = fit_calibrator(trained, outcomes, 0.1)
    assert (line.slope, line.intercept) == (pytest.approx(1, abs=0.06), pytest.approx(0, abs=0.12))
    correction = Correction(keep_rate=0.1, calibrators={"click": line})
    p = correction.probabilities(("click",), trained[:, None].astype(np.float32))
    assert pcoc(outcomes, p[:, 0]) == pytest.approx(1, abs=0.001)


def test_too_few_outcomes_and_lines_that_turn_ranks_are_refused() -> None:
    with pytest.raises(ConfigError, match="100 impressions of each outcome"):
        fit_calibrator(np.zeros(500), np.zeros(500), 1.0)
    for slope, intercept in ((-1.0, 0.0), (0.0, 0.0), (1.0, math.nan)):
        with pytest.raises(ConfigError):
            Calibrator(slope=slope, intercept=intercept)
    with pytest.raises(ConfigError, match="keep_rate"):
        Correction(keep_rate=0.0)


def test_the_correction_is_in_the_version_and_the_scorer_does_not_apply_it(
    artifact: Path, tmp_path: Path
) -> None:
    correction = Correction(keep_rate=0.2, calibrators={"click": Calibrator(slope=0.5, intercept=0.1)})
    loaded = load_artifact(publish(artifact, tmp_path, correction=correction))
    notes = read_notes(loaded)
    assert notes.correction == correction
    response = Scorer(loaded).score(notes.canaries[0].request)
    assert np.abs(response.logits - np.array(notes.canaries[0].logits)).max() <= 1e-6
    expected = 1 / (1 + np.exp(-(0.5 * (response.logits + math.log(0.2)) + 0.1)))
    assert np.abs(correction.probabilities(("click",), response.logits) - expected).max() <= 1e-7


def test_notes_are_json_that_says_what_it_is(artifact: Path, tmp_path: Path) -> None:
    tree = json.loads((publish(artifact, tmp_path) / SERVING).read_text("utf-8"))
    assert set(tree) == {"canaries", "correction", "sha256"}
    shutil.rmtree(tmp_path / "v1")
    with pytest.raises(ArtifactError, match="published are: none"):
        folder_of(tmp_path, "v1")
