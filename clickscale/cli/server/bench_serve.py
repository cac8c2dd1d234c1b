"""The verb ``bench serve``: load for a server, each request counted."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from clickscale.cli.console import emit, grid, say, show
from clickscale.cli.options import AsJson
from clickscale.cli.server.serve import need_serving
from clickscale.errors import ConfigError

if TYPE_CHECKING:
    from clickscale.inference.scorer import Scorer
    from clickscale.serving.load_driver import Target

_PATIENCE = 120.0  # seconds until a server of our own is ready


def bench_serve(
    artifact: Annotated[Path, typer.Argument(help="Artifact whose vocabularies make the requests.")],
    url: Annotated[
        str, typer.Option("--url", help="A running server; without one, a server is started for the load.")
    ] = "",
    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="URL",
            help="The server that is started has this store, and requests name a user and candidates only.",
        ),
    ] = "",
    rate: Annotated[
        float,
        typer.Option("--rate", min=0, help="Requests a second; 0: one client that waits for each answer."),
    ] = 0.0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Length of the load.")] = 10.0,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Of each request.")] = 500,
    behaviors: Annotated[int, typer.Option("--behaviors", min=0, help="Of each user.")] = 200,
    users: Annotated[int, typer.Option("--users", min=1, help="Different requests, in turn.")] = 50,
    msgpack: Annotated[bool, typer.Option("--msgpack", help="Send MessagePack instead of JSON.")] = False,
    options: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change an option of the server that is started."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send load to a server and count what becomes of each request.

    With --rate the load is open: a request is sent when it is due, whatever became of those before, and its
    latency begins at that moment. Without it one client waits for each answer, and beside each request the
    same is scored by the bare scorer in this process, so that their difference is what serving costs. On a
    busy machine compare the CPU times: only they leave other programs out. With --store, whose part no bare
    scorer has, only the server is measured.

    A token for the server comes from the environment variable CLICKSCALE_TOKEN.
    """
    import msgspec

    from clickscale.artifact import load_artifact
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.states.cache import StateCache
    from clickscale.inference.states.cache_config import CacheConfig
    from clickscale.runtime import set_threads
    from clickscale.serving.load_driver import constant_rate
    from clickscale.serving.messages import JSON, MSGPACK
    from clickscale.serving.sample_requests import NOW, sample_requests

    if url and store:
        raise ConfigError("--url asks a server, which has a store of its own; leave --store out.")
    loaded = load_artifact(artifact)
    set_threads(1)
    form = MSGPACK if msgpack else JSON
    moment = int(time.time()) if store else NOW  # a store tells statistics from the end of its load on
    requests = sample_requests(loaded.encoder, users, candidates, behaviors, time=moment)
    if store:
        for request in requests:
            request.pop("profile", None)
            request.pop("behaviors", None)
    bodies = [(msgspec.msgpack if msgpack else msgspec.json).encode(request) for request in requests]
    arguments = [text for one in options or [] for text in ("--set", one)]
    with _target(artifact, url, form, [*(("--store", store) if store else ()), *arguments]) as (target, pid):
        if rate:
            report = asyncio.run(constant_rate(target, bodies, rate, seconds))
            document: dict[str, Any] = {"rate": rate, "body_bytes": len(bodies[0]), **report.to_dict()}
        else:
            scorer = None if store else Scorer(loaded, cache=StateCache(CacheConfig()))
            measured = _closed_loop(scorer, requests, bodies, target, pid, seconds)
            document = {"body_bytes": len(bodies[0]), **measured}
    if as_json:
        emit(document)
        return
    flat = {key: value for key, value in document.items() if not isinstance(value, dict)}
    show(grid("load", list(flat), [list(flat.values())]))
    show(grid("answers", ["status", "requests"], list(document["counts"].items())))


@contextmanager
def _target(artifact: Path, url: str, form: str, arguments: list[str]) -> "Iterator[tuple[Target, int]]":
    """The server of a URL, or one that ends with the block, and its process if it is ours (else 0)."""
    from clickscale.serving.load_driver import Target, until_ready

    headers = {"Content-Type": form}
    if token := os.environ.get("CLICKSCALE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    if url:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ConfigError(f"{url!r} is no server; write http://HOST:PORT.")
        yield Target(parts.hostname, parts.port or 80, headers=headers), 0
        return
    need_serving()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "address"
        command = [sys.executable, "-m", "clickscale", "serve", str(artifact), "--port", "0"]
        command += ["--address-file", str(file), "--set", "drain_seconds=0"]
        process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL)
        try:
            port = _port_in(file, process)
            target = Target("127.0.0.1", port, headers=headers)
            say(f"ready after {asyncio.run(until_ready(target, _PATIENCE)):.1f} s")
            yield target, process.pid
        finally:
            process.terminate()
            process.wait(30)


def _port_in(file: Path, process: "subprocess.Popen[bytes]") -> int:
    """Port that a server of our own has chosen."""
    end = time.perf_counter() + _PATIENCE
    while not file.is_file():
        if process.poll() is not None or time.perf_counter() > end:
            raise ConfigError("The server did not start; its reason stands above.")
        time.sleep(0.02)
    return int(file.read_text("utf-8").rpartition(":")[2])


def _closed_loop(
    scorer: "Scorer | None",
    requests: list[dict[str, Any]],
    bodies: list[bytes],
    target: "Target",
    pid: int,
    seconds: float,
) -> dict[str, Any]:
    """One client that waits for each answer; before each request a scorer, if there is one, does the same."""
    from clickscale.serving.load_driver import LoadReport, one_by_one

    known = dict(zip(bodies, requests, strict=True))
    bare: list[tuple[float, float]] = []  # seconds, and seconds of CPU

    def score(body: bytes) -> None:
        if scorer is not None:
            begin, busy = time.perf_counter(), time.process_time()
            scorer.score(known[body])
            bare.append((time.perf_counter() - begin, time.process_time() - busy))

    asyncio.run(one_by_one(target, bodies * 2, score))  # until every state is kept on both sides
    bare.clear()
    begin, cpu, reports = time.perf_counter(), _cpu_seconds(pid), list[LoadReport]()
    while time.perf_counter() - begin < seconds:
        reports.append(asyncio.run(one_by_one(target, bodies, score)))
    cpu = _cpu_seconds(pid) - cpu
    served = [one for report in reports for one in report.sent]
    measured = LoadReport(served, sum(report.wall for report in reports)).to_dict()
    if bare:
        apart = [one.seconds - alone for one, (alone, _) in zip(served, bare, strict=True)]
        measured |= {
            "scorer_p50_ms": round(median(alone for alone, _ in bare) * 1e3, 3),
            "overhead_p50_ms": round(median(apart) * 1e3, 3),
            "scorer_cpu_ms": round(sum(busy for _, busy in bare) / len(bare) * 1e3, 3),
        }
    return {**measured, "server_cpu_ms": round(cpu / len(served) * 1e3, 3)}


def _cpu_seconds(pid: int) -> float:
    """CPU that a process has used; NaN where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
