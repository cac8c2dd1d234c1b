"""Versions of a running server: load, promote, refuse, try, take back, unload."""

import http.client
import json
import math
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from msgspec import structs

from clickscale.artifact import MANIFEST
from clickscale.config_text import to_json
from clickscale.errors import ArtifactError
from clickscale.files import file_entry
from clickscale.inference.scorer import Scorer
from clickscale.serving.access import load_access
from clickscale.serving.engine import EngineConfig
from clickscale.serving.service import ServiceConfig
from clickscale.serving.versions import model_versions
from clickscale.serving.versions.publishing import publish
from clickscale.serving.versions.score_correction import Calibrator, Correction
from clickscale.serving.versions.served_model import ScoringConfig
from clickscale.serving.versions.trial import Trial, TrialConfig
from tests.serving.live import JSON_HEADERS, Live, live
from tests.trained import tiny_artifact, tiny_prepared

TOKEN = "admin-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
REQUEST = {"user": 101, "time": 1_700_000_000, "candidates": [10, 20]}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("versions")
    dataset = tiny_prepared(folder)
    found = {name: tiny_artifact(folder, dataset, name) for name in ("mlp", "din")}
    return found | {"two": tiny_artifact(folder / "two", dataset, "mlp", ("click", "like"))}


@pytest.fixture
def root(artifacts: dict[str, Path], tmp_path: Path) -> Path:
    """Version v1 is served; v2 is another model, v3 another correction."""
    publish(artifacts["mlp"], tmp_path)
    publish(artifacts["din"], tmp_path, promote=False)
    far = Correction(calibrators={"click": Calibrator(intercept=3.0)})
    publish(artifacts["mlp"], tmp_path, correction=far, promote=False)
    return tmp_path


@pytest.fixture
def admin(tmp_path: Path) -> Any:
    (tmp_path / "tokens").write_text(f"ops admin,rank {TOKEN}\n", "utf-8")
    return load_access(tmp_path / "tokens")


def config(**trials: Any) -> ServiceConfig:
    found = TrialConfig(**({"least": 5, "mirror_share": 1.0} | trials))
    return ServiceConfig(trials=found, engine=EngineConfig(queue_ms=1e6), drain_seconds=0)


def ask(here: Live, path: str, body: Any = None) -> tuple[int, Any]:
    return here.call(path, body, headers=HEADERS, method="POST" if body is not None else "GET")


def states(here: Live) -> dict[str, str]:
    return {one["version"]: one["state"] for one in ask(here, "/v1/models")[1]["models"]}


def until(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_promoted_version_answers_and_the_older_one_stays_for_a_while(root: Path, admin: Any) -> None:
    with live(root, config(seconds=0.5), access=admin) as here:
        assert ask(here, "/v1/rank", REQUEST)[1]["model"] == "v1"
        status, facts = ask(here, "/v1/admin/promote", {"version": "v2"})
        assert (status, facts["trial"]["kind"]) == (200, "promoted")
        answer = ask(here, "/v1/rank", REQUEST)[1]
        assert answer["model"] == "v2"
        expected = Scorer(root / "v2").score(REQUEST | {"candidates": [{"item": 10}, {"item": 20}]})
        assert np.abs(np.array(answer["scores"]["click"]) - expected.probabilities[:, 0]).max() <= 1e-6
        until(lambda: states(here) == {"v2": "serving"})


def test_unloading_is_for_versions_that_do_not_answer(root: Path, admin: Any) -> None:
    with live(root, config(), access=admin) as here:
        assert ask(here, "/v1/admin/unload", {"version": "v1"})[0] == 409
        assert ask(here, "/v1/admin/unload", {"version": "v2"})[0] == 404
        assert ask(here, "/v1/admin/load", {"version": "v2"})[0] == 200
        assert states(here) == {"v1": "serving", "v2": "loaded"}
        assert ask(here, "/v1/admin/unload", {"version": "v2"})[0] == 200
        assert states(here) == {"v1": "serving"}


@contextmanager
def busy(here: Live, version: str) -> Iterator[None]:
    """A request of a version that is not answered yet."""
    assert here.service is not None
    model = here.service.versions.named(version)
    model.facts.in_flight += 1
    try:
        yield
    finally:
        model.facts.in_flight -= 1


def test_a_version_that_comes_back_before_its_last_answer_stays(root: Path, admin: Any) -> None:
    with live(root, config(mirror_share=0.0), access=admin) as here:
        with busy(here, "v1"):
            for version in ("v2", "v1", "v2"):
                assert ask(here, "/v1/admin/promote", {"version": version})[0] == 200
        time.sleep(0.1)
        assert states(here) == {"v1": "previous", "v2": "serving"}  # to go back to


def test_a_version_that_leaves_takes_no_requests_and_holds_up_nobody(root: Path, admin: Any) -> None:
    with live(root, config(mirror_share=0.0), access=admin) as here:
        assert ask(here, "/v1/admin/load", {"version": "v2"})[0] == 200
        unloading = threading.Thread(target=ask, args=(here, "/v1/admin/unload", {"version": "v2"}))
        with busy(here, "v2"):
            unloading.start()
            until(lambda: states(here) == {"v1": "serving", "v2": "leaving"})
            assert ask(here, "/v2/models/clickscale/versions/v2/ready")[0] == 404
            assert ask(here, "/v1/admin/promote", {"version": "v3"})[0] == 200
            assert ask(here, "/v1/admin/load", {"version": "v2"})[0] == 200  # it stays after all
        unloading.join(10)
        assert not unloading.is_alive()
        time.sleep(0.1)
        assert states(here) == {"v1": "previous", "v2": "loaded", "v3": "serving"}


def test_a_version_that_breaks_the_loader_is_refused(
    root: Path, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(root, config(), access=admin) as here:

        def fail(*_: Any) -> Any:
            raise RuntimeError("something of a file")

        monkeypatch.setattr(model_versions, "load_model", fail)
        status, answer = ask(here, "/v1/admin/load", {"version": "v2"})
        assert (status, answer["error"]["code"]) == (409, "refused")
        assert "failed with RuntimeError; the log" in answer["error"]["message"]
        assert states(here) == {"v1": "serving", "v2": "refused"}


def flipped(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def resealed(folder: Path) -> None:
    """Let the manifest fit whatever the files are now, as another program could."""
    tree = json.loads((folder / MANIFEST).read_text("utf-8"))
    for name in tree["files"]:
        tree["files"][name] = json.loads(to_json(file_entry(folder / name)))
    (folder / MANIFEST).write_text(json.dumps(tree), "utf-8")


def reweighted(folder: Path, factor: float) -> None:
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    changed = {name: one * factor if one.is_floating_point() else one for name, one in weights.items()}
    safetensors.torch.save_file(changed, folder / "weights.safetensors")
    resealed(folder)


def test_bad_versions_are_refused_with_the_reason_and_the_old_one_answers(
    root: Path, admin: Any, artifacts: dict[str, Path]
) -> None:
    bad = {
        "flipped": (flipped, "sha256"),
        "half": (lambda folder: (folder / "encoder.json").unlink(), "is missing"),
        "nan": (lambda folder: reweighted(folder, math.nan), "NaN"),
        "other": (lambda folder: reweighted(folder, 1.5), "another score"),
    }
    for name, (damage, _) in bad.items():
        shutil.copytree(root / "v2", root / name)
        damage(root / name)
    publish(artifacts["two"], root, "two", promote=False)
    with live(root, config(), access=admin) as here:
        for name, (_, reason) in bad.items():
            status, answer = ask(here, "/v1/admin/promote", {"version": name})
            assert (status, reason in answer["error"]["message"]) == (409, True), answer
            assert ask(here, "/v1/rank", REQUEST)[1]["model"] == "v1"
        status, answer = ask(here, "/v1/admin/load", {"version": "v2", "as": "shadw"})
        assert (status, "as: Unknown word 'shadw'; did you mean 'shadow'?" in answer["error"]["message"]) == (
            422,
            True,
        )
        for name in ("../v1", "v9", "/etc"):
            assert ask(here, "/v1/admin/load", {"version": name})[0] == 404
        # A version that answers one label more is welcome; back to one label less it is not.
        assert ask(here, "/v1/admin/promote", {"version": "two"})[0] == 200
        status, answer = ask(here, "/v1/admin/promote", {"version": "v2"})
        assert (status, "like" in answer["error"]["message"]) == (409, True)
        refused = {one["version"]: one for one in ask(here, "/v1/models")[1]["models"]}
        assert {name: refused[name]["state"] for name in bad} == dict.fromkeys(bad, "refused")


def test_a_version_that_is_too_slow_is_refused(root: Path, admin: Any) -> None:
    slow = ServiceConfig(scoring=ScoringConfig(budget_ms=1e-3), drain_seconds=0)
    with pytest.raises(ArtifactError, match="more than its budget"), live(root, slow, access=admin):
        pass


def test_a_canary_answers_its_share_of_the_users_and_always_the_same(root: Path, admin: Any) -> None:
    with live(root, config(mirror_share=0.0), access=admin) as here:
        assert ask(here, "/v1/admin/load", {"version": "v2", "as": "canary", "share": 0.5})[0] == 200
        first = {u: ask(here, "/v1/rank", REQUEST | {"user": u})[1]["model"] for u in range(40)}
        assert 8 <= list(first.values()).count("v2") <= 32
        again = {u: ask(here, "/v1/rank", REQUEST | {"user": u})[1]["model"] for u in range(40)}
        assert again == first
        assert states(here) == {"v1": "serving", "v2": "canary"}


def test_a_shadow_is_compared_and_answers_nobody(root: Path, admin: Any) -> None:
    with live(root, config(max_drift=100.0, max_p99_ratio=1e6), access=admin) as here:
        ask(here, "/v1/admin/load", {"version": "v2", "as": "shadow"})
        for user in range(20):
            assert ask(here, "/v1/rank", REQUEST | {"user": user})[1]["model"] == "v1"
        until(lambda: ask(here, "/v1/models")[1]["trial"]["pairs"] >= 10)
        trial = ask(here, "/v1/models")[1]["trial"]
        assert (trial["kind"], trial["newer"]) == ("shadow", "v2")
        assert trial["largest_difference"] > 0.001


def test_a_shadow_does_not_cost_requests_their_turn(root: Path, admin: Any) -> None:
    tight = structs.replace(config(), engine=EngineConfig(queue_ms=0.1))
    with live(root, tight, access=admin) as here:
        ask(here, "/v1/admin/load", {"version": "v2", "as": "shadow"})
        for user in range(20):
            assert ask(here, "/v1/rank", REQUEST | {"user": user})[0] == 200
        assert ask(here, "/v1/models")[1]["trial"]["pairs"] == 0


def test_a_version_whose_scores_drift_is_taken_back(root: Path, admin: Any) -> None:
    with live(root, config(max_p99_ratio=1e6), access=admin) as here:
        ask(here, "/v1/admin/promote", {"version": "v3"})  # its correction shifts all logits by 3
        for user in range(40):
            assert ask(here, "/v1/rank", REQUEST | {"user": user})[0] == 200
            if states(here).get("v3") == "refused":
                break
        until(lambda: states(here) == {"v1": "serving", "v3": "refused"})
        assert ask(here, "/v1/rank", REQUEST)[1]["model"] == "v1"
        [reason] = [one["reason"] for one in ask(here, "/v1/models")[1]["models"] if "reason" in one]
        assert "mean probability" in reason


def test_a_version_that_fails_is_taken_back(root: Path, admin: Any) -> None:
    with live(root, config(), access=admin) as here:
        ask(here, "/v1/admin/promote", {"version": "v2"})
        assert here.service is not None
        current = here.service.versions.current
        assert current is not None
        for parameter in current.scorer.model.parameters():
            parameter.data.mul_(math.nan)
        for _ in range(6):
            assert ask(here, "/v1/rank", REQUEST)[0] == 200
        until(lambda: states(here) == {"v1": "serving", "v2": "refused"})
        assert ask(here, "/v1/rank", REQUEST)[1]["scores"]["click"][0] is not None


def test_a_version_that_computes_longer_is_taken_back(
    root: Path, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live(root, config(max_drift=100.0), access=admin) as here:
        ask(here, "/v1/admin/promote", {"version": "v2"})
        assert here.service is not None
        current = here.service.versions.current
        assert current is not None
        score_many = current.scorer.score_many

        def slow(*given: Any, **options: Any) -> Any:
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
            return score_many(*given, **options)

        monkeypatch.setattr(current.scorer, "score_many", slow)
        for _ in range(10):
            ask(here, "/v1/rank", REQUEST)
        until(lambda: states(here) == {"v1": "serving", "v2": "refused"})
        [reason] = [one["reason"] for one in ask(here, "/v1/models")[1]["models"] if "reason" in one]
        assert "of computing for the same requests" in reason


def test_clients_that_send_slowly_are_no_fault_of_the_version_that_answers_them(
    root: Path, admin: Any
) -> None:
    body = json.dumps(REQUEST).encode()
    with live(root, config(max_drift=100.0), access=admin) as here:
        ask(here, "/v1/admin/promote", {"version": "v3"})  # the weights of v1
        connection = http.client.HTTPConnection(here.target.host, here.target.port, timeout=10)
        for _ in range(10):
            connection.putrequest("POST", "/v1/rank")
            for name, value in (HEADERS | JSON_HEADERS | {"Content-Length": str(len(body))}).items():
                connection.putheader(name, value)
            connection.endheaders()
            time.sleep(0.05)
            connection.send(body)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["model"]) == (200, "v3")
        connection.close()
        time.sleep(0.6)  # two looks at the trial
        trial = ask(here, "/v1/models")[1]["trial"]
        assert trial["pairs"] == 10
        assert 0 < trial["p99_ms"] < 50
        assert states(here) == {"v1": "previous", "v3": "serving"}


def test_the_pointer_is_followed(root: Path, admin: Any, artifacts: dict[str, Path]) -> None:
    following = ServiceConfig(follow=True, drain_seconds=0)
    with live(root, following, access=admin) as here:
        assert ask(here, "/v1/admin/promote", {"version": "v4"})[1]["error"]["code"] == "unknown_version"
        publish(artifacts["din"], root)  # as v4, which an administrator asked for too early
        until(lambda: ask(here, "/v1/rank", REQUEST)[1].get("model") == "v4")


def trial_of(**options: Any) -> Trial:
    return Trial("promoted", "new", "old", TrialConfig(**({"least": 10} | options)), 0.0)


def test_objections() -> None:
    sound = trial_of()
    for version in ("new", "old"):
        for _ in range(20):
            sound.note(version, failed=False)
    for _ in range(20):
        sound.time(0.01, 0.01)
        sound.compare(np.array([0.2, 0.3]), np.array([0.21, 0.29]))
    assert sound.objection() == ""
    failing = trial_of()
    for n in range(20):
        failing.note("new", failed=n < 3)
    assert "3 of its 20" in failing.objection()
    slow = trial_of()
    for _ in range(20):
        slow.time(0.09, 0.01)
    assert "p99 is 90.0 ms" in slow.objection()
    drifting = trial_of()
    for _ in range(20):
        drifting.compare(np.array([0.4]), np.array([0.2]))
    assert "2.00 times" in drifting.objection()


def test_too_little_is_judged_for_nothing() -> None:
    trial = trial_of()
    trial.note("new", failed=True)
    trial.note("old", failed=False)
    trial.time(9.0, 0.001)
    trial.compare(np.array([0.9]), np.array([0.1]))
    assert trial.objection() == ""
    assert trial.facts()["pairs"] == 1
