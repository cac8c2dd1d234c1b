"""The verbs ``serve`` and ``publish``: options and misuse, without starting a server."""

import json
import sys
from pathlib import Path

import pytest

from clickscale.artifact import load_artifact
from clickscale.cli import main
from clickscale.cli.server.serve import _check_host, _options
from clickscale.errors import ConfigError, StoreError
from clickscale.serving import run_server
from clickscale.serving.access import Access
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.opening import StoreAt
from clickscale.serving.versions.publishing import pointed_version
from tests.trained import tiny_artifact, tiny_prepared


def test_options_come_from_flags_a_file_and_sets_in_that_order(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text("deadline_ms = 400\n[engine]\nworkers = 3\nbatch = 4\n", "utf-8")
    options = _options(file, ["engine.batch=8"], 2, follow=True)
    assert (options.deadline_ms, options.engine.workers, options.engine.batch) == (400, 3, 8)
    assert options.follow
    with pytest.raises(ConfigError, match=r"engine\.batches"):
        _options(None, ["engine.batches=8"], 2, follow=False)
    with pytest.raises(ConfigError, match="workers is 0"):
        _options(None, ["engine.workers=0"], 2, follow=False)


def test_other_machines_are_served_with_tokens_only() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        _check_host(host, Access(), anyone=False)
    _check_host("0.0.0.0", Access(), anyone=True)
    with pytest.raises(ConfigError, match="no tokens"):
        _check_host("0.0.0.0", Access(), anyone=False)
    with pytest.raises(ConfigError, match="no address"):
        _check_host("nowhere", Access(), anyone=False)


def test_a_published_version_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = tiny_artifact(tmp_path, tiny_prepared(tmp_path))
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"user": 101, "time": 1700000000, "candidates": [{"item": 10}]}\n\n', "utf-8")
    command = ["publish", str(artifact), "--to", str(tmp_path / "models"), "--requests", str(requests)]
    assert main([*command, "--keep-rate", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["promoted"], told["correction"]["keep_rate"]) == ("v1", True, 0.5)
    assert pointed_version(tmp_path / "models") == "v1"
    assert len(json.loads((tmp_path / "models/v1/serving.json").read_text("utf-8"))["canaries"]) == 1
    assert main([*command, "--version", "../v1"]) == 2
    assert "no name of a version" in capsys.readouterr().err
    requests.write_text("{", "utf-8")
    assert main(command) == 2
    assert "Cannot read the requests" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--follow"], "--follow needs a folder of published versions"),
        (["--host", "0.0.0.0"], "no tokens"),
        (["--precision", "fp8"], "Unknown precision 'fp8'"),
    ],
)
def test_misuse_is_refused_before_anything_is_loaded(
    options: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path), "--port", "0", *options]) == 2
    assert text in capsys.readouterr().err


def test_versions_of_which_none_is_promoted_are_told_from_an_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "serving.json").write_text("{}", "utf-8")
    assert main(["serve", str(tmp_path), "--port", "0"]) == 2
    assert "no current.json that names one" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["serve"], ["bench", "serve"]])
def test_missing_packages_are_named(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = tiny_artifact(tmp_path, tiny_prepared(tmp_path))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "clickscale.serving.run_server", raising=False)
    assert main([*command, str(artifact)]) == 2
    assert "Serving needs uvicorn: pip install 'clickscale[serve]'" in capsys.readouterr().err


def test_a_store_that_takes_no_events_is_found_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: KeyedStore) -> None:
        raise StoreError("The store is full.")

    monkeypatch.setattr(KeyedStore, "check", fail)
    with pytest.raises(StoreError, match="full"):
        StoreAt("memory://")(load_artifact(tiny_artifact(tmp_path, tiny_prepared(tmp_path))))


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_chosen_address_is_written_into_a_file(
    host: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only here: nothing of this process is to be set for serving, and not every machine has IPv6.
    monkeypatch.setattr("clickscale.runtime.set_threads", lambda count: None)
    monkeypatch.setattr("clickscale.serving.telemetry.log_as_json", lambda: None)
    monkeypatch.setattr(run_server, "serve", lambda service, listening: None)
    command = ["serve", str(tmp_path), "--host", host, "--port", "0"]
    file = tmp_path / "address"
    with run_server.listen_on("127.0.0.1", 0) as listening:
        monkeypatch.setattr(run_server, "listen_on", lambda host, port: listening)
        assert main([*command, "--address-file", str(file)]) == 0
        assert file.read_text("utf-8") == f"http://{shown}:{listening.getsockname()[1]}\n"
        assert main([*command, "--address-file", str(tmp_path / "no/address")]) == 2
    assert "Cannot write the address" in capsys.readouterr().err


def test_a_store_of_another_server_cannot_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "serve", str(tmp_path), "--url", "http://127.0.0.1:1", "--store", "lmdb:///s"]
    assert main(command) == 2
    assert "leave --store out" in capsys.readouterr().err


@pytest.mark.slow
def test_load_is_counted_request_by_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "serve", str(tiny_artifact(tmp_path, tiny_prepared(tmp_path))), "--json"]
    small = ["--candidates", "5", "--behaviors", "3", "--users", "4", "--seconds", "1"]
    assert main([*command, *small, "--rate", "20"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], sum(told["counts"].values())) == (20, 20)
    assert main([*command, *small, "--msgpack"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["counts"]) == {"200"}
    assert told["server_cpu_ms"] > 0
    store = f"lmdb://{tmp_path / 'store'}?sync=system"
    assert main(["store", "load", str(tmp_path / "tiny"), "--store", store]) == 0
    capsys.readouterr()
    for load in ([], ["--rate", "20"]):
        assert main([*command, *small, "--store", store, *load]) == 0
        told = json.loads(capsys.readouterr().out)
        assert set(told["counts"]) == {"200"}
        assert "scorer_p50_ms" not in told
    assert main([*command, "--url", "ftp://x"]) == 2
    assert "is no server" in capsys.readouterr().err
