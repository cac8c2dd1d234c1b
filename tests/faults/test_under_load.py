"""One server, continuous load, one fault after the other: swaps, bad versions, bad clients, the end.

Short forms for every day; the long ones, with the numbers of docs/reliability.md, are marked slow.
"""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import msgspec
import numpy as np
import pytest

from clickscale.inference.scorer import Scorer
from clickscale.serving.access import VARIABLE
from clickscale.serving.load_driver import Client, LoadReport, Target, constant_rate
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.versions.publishing import publish
from tests.forked_commands import CommandServer
from tests.serving.live import JSON_HEADERS, Served, served
from tests.trained import tiny_artifact, tiny_prepared

TOKEN = "faults-0123456789abcdef"
CALLER = JSON_HEADERS | {"Authorization": f"Bearer {TOKEN}"}
# A busy machine may make requests wait, but nothing here may be refused for it. The test of overload gives
# its requests a deadline of their own. Versions of different models are swapped on purpose, so nothing may be
# taken back for another mean or speed.
PATIENT = (
    "trials.seconds=0",
    "trials.max_drift=1e9",
    "trials.max_p99_ratio=1e9",
    "drain_seconds=1",
    "engine.queue_ms=30000",
    "deadline_ms=30000",
)


@dataclass
class World:
    """Published versions, requests, and the scores that each version gives them."""

    root: Path
    bodies: list[bytes]
    scores: dict[str, list[Any]]

    def wrong(self, report: LoadReport, bound: float = 1e-5) -> list[int]:
        """Numbers of the requests whose answer is not that of the version that it names."""
        found = []
        for one in report.sent:
            if one.status == 200:
                answer = json.loads(one.body)
                expected = self.scores[answer["model"]][one.number % len(self.bodies)]
                if np.abs(np.array(answer["scores"]["click"]) - expected).max() > bound:
                    found.append(one.number)
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("faults")
    dataset, root = tiny_prepared(folder), folder / "models"
    for name in ("lightsuan", "din"):
        publish(tiny_artifact(folder, dataset, name), root, promote=name == "lightsuan")
    requests = sample_requests(dataset.encoder, 40, 8, 12)
    scorers = {version: Scorer(root / version) for version in ("v1", "v2")}
    scores: dict[str, list[Any]] = {
        version: [one.probabilities[:, 0] for one in scorer.score_many(requests)]
        for version, scorer in scorers.items()
    }
    damaged = bytearray((root / "v2" / "weights.safetensors").read_bytes())
    damaged[-1] ^= 1
    subprocess.run(["cp", "-r", str(root / "v2"), str(root / "bad")], check=True)
    (root / "bad" / "weights.safetensors").write_bytes(damaged)
    return World(root, [msgspec.json.encode(one) for one in requests], scores)


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Served]:
    sets = [text for one in PATIENT for text in ("--set", one)]
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # read at the start, and by this server only
            patch.setenv(VARIABLE, f"all rank,admin {TOKEN}")
            here = stack.enter_context(served(world.root, "--workers", "1", *sets))
        here.target = Target(here.target.host, here.target.port, headers=CALLER)
        yield here


async def beside(world: World, target: Target, rate: float, act: Callable[[], Awaitable[None]]) -> LoadReport:
    """Load that begins before an act and ends after it."""
    done = False
    load = asyncio.create_task(
        constant_rate(target, world.bodies, rate, 120, keep_bodies=True, go_on=lambda: not done)
    )
    await asyncio.sleep(0.3)
    try:
        await act()
        await asyncio.sleep(0.3)
    finally:
        done = True
    return await load


async def administer(target: Target, verb: str, version: str) -> tuple[int, Any]:
    client = Client(target)
    body = msgspec.json.encode({"version": version})
    status, answer = await client.post(body, f"/v1/admin/{verb}")
    client.close()
    return status, json.loads(answer)


def swap_many(world: World, server: Served, swaps: int, rate: float) -> LoadReport:
    async def act() -> None:
        for number in range(swaps):
            status, answer = await administer(server.target, "promote", ("v2", "v1")[number % 2])
            assert status == 200, answer
            await asyncio.sleep(0.25)  # some requests for each version

    return asyncio.run(beside(world, server.target, rate, act))


def test_swaps_lose_nothing_and_mix_nothing(world: World, server: Served) -> None:
    report = swap_many(world, server, 4, 20)
    assert set(report.counts) == {"200"}, report.counts
    assert world.wrong(report) == []
    assert {json.loads(one.body)["model"] for one in report.sent} == {"v1", "v2"}


@pytest.mark.slow
def test_twenty_swaps_lose_nothing(world: World, server: Served) -> None:
    report = swap_many(world, server, 20, 50)
    print(report.to_dict())
    assert set(report.counts) == {"200"}, report.counts
    assert world.wrong(report) == []


def test_a_corrupt_version_is_refused_and_costs_no_answer(world: World, server: Served) -> None:
    async def act() -> None:
        for _ in range(2):
            status, answer = await administer(server.target, "promote", "bad")
            assert (status, "sha256" in answer["error"]["message"]) == (409, True), answer

    report = asyncio.run(beside(world, server.target, 20, act))
    assert set(report.counts) == {"200"}, report.counts
    assert world.wrong(report) == []


def test_slow_and_broken_clients_cost_the_others_nothing(world: World, server: Served) -> None:
    half = b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n"
    half += f"Authorization: Bearer {TOKEN}\r\n\r\n".encode() + b'{"user": 1'

    async def act() -> None:
        slow = [socket.create_connection((server.target.host, server.target.port)) for _ in range(30)]
        for number, one in enumerate(slow):
            one.sendall(half if number % 3 else b"POST /v1/ra")
        await asyncio.sleep(1.0)
        for one in slow[::2]:
            one.close()
        await asyncio.sleep(0.3)
        for one in slow[1::2]:
            one.close()

    report = asyncio.run(beside(world, server.target, 20, act))
    assert set(report.counts) == {"200"}, report.counts


def test_work_of_clients_that_went_away_is_not_done(world: World, server: Served) -> None:
    large = msgspec.json.encode(
        {"user": 1, "time": 1_700_000_000, "candidates": [10] * 4_000, "behaviors": []}
    )
    head = f"POST /v1/rank HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(large)}\r\n\r\n"
    gone = [socket.create_connection((server.target.host, server.target.port)) for _ in range(12)]
    for one in gone:
        one.sendall(head.encode() + large)
    time.sleep(0.01)
    for one in gone:
        one.close()

    def abandoned() -> float:
        _, text = server.get("/metrics")
        lines = [line for line in text.decode().splitlines() if line.startswith("clickscale_abandoned_total")]
        return float(lines[0].split()[1])

    end = time.monotonic() + 10
    while not abandoned() and time.monotonic() < end:
        time.sleep(0.05)
    assert abandoned() >= 1
    assert server.call("/v1/rank", world.bodies[0], headers=CALLER)[0] == 200


def large_requests(world: World, candidates: int) -> list[bytes]:
    encoder = Scorer(world.root / "v1").artifact.encoder
    return [msgspec.json.encode(one) for one in sample_requests(encoder, 40, candidates, 12)]


def capacity(bodies: Sequence[bytes], server: Served, seconds: float) -> float:
    """Most answers a second, found by raising the load until they do not become more."""
    rate, best = 40.0, 0.0
    while rate < 5_000:
        report = asyncio.run(constant_rate(server.target, bodies, rate, seconds))
        if report.goodput < 1.1 * best:
            break
        best, rate = max(best, report.goodput), 1.5 * rate
    return best


def test_overload_is_refused_at_once_and_nothing_is_lost(world: World, server: Served) -> None:
    """So many at once that no machine can wait for all of them within the deadline."""
    large = [msgspec.json.decode(one) for one in large_requests(world, 800)]
    bodies = [msgspec.json.encode(one | {"deadline_ms": 400}) for one in large]
    report = asyncio.run(constant_rate(server.target, bodies, 600, 1.0))
    assert set(report.counts) <= {"200", "429", "504"}, report.counts
    assert report.counts.get("200", 0) >= 5
    assert report.counts.get("429", 0) >= 5, report.counts
    assert report.percentile(0.5, 429) < report.percentile(0.5, 200)
    assert server.call("/v1/rank", world.bodies[0], headers=CALLER)[0] == 200


@pytest.mark.slow
def test_goodput_at_three_times_the_capacity(world: World) -> None:
    """Medians of rounds with just more than the capacity and with three times as much, in turns.

    Every other round begins with the other load, so that what else the machine does disturbs both alike. The
    client runs on the cores of the server: its own part of them is printed beside.
    """
    bodies = large_requests(world, 500)
    rounds: list[dict[float, LoadReport]] = []
    busy: dict[float, list[float]] = {1.1: [], 3.0: []}
    with served(world.root, "--workers", "1") as here:
        most = capacity(bodies, here, 3.0)
        for number in range(7):
            rounds.append({})
            for times in sorted(busy, reverse=bool(number % 2)):
                begin = time.process_time()
                report = asyncio.run(constant_rate(here.target, bodies, times * most, 4.0))
                busy[times].append((time.process_time() - begin) / report.wall)
                rounds[-1][times] = report
    share = median(both[3.0].goodput / both[1.1].goodput for both in rounds)
    late = median(both[3.0].percentile(0.99, 429) for both in rounds)
    print(
        {
            "capacity": round(most, 1),
            "goodput": {times: round(median(both[times].goodput for both in rounds), 1) for times in busy},
            "share": round(share, 3),
            "p99_ms_of_429": round(late * 1e3, 2),
            "cores_of_the_client": {times: round(median(parts), 2) for times, parts in busy.items()},
        }
    )
    statuses = {status for both in rounds for report in both.values() for status in report.counts}
    assert statuses <= {"200", "429", "504"}
    # Measured on two free cores: 0.984, and 0.898 once before; so a machine that is busy may come out below.
    assert share >= 0.9


@pytest.mark.slow
def test_a_refusal_costs_a_fraction_of_what_a_probe_does(world: World) -> None:
    """CPU of the event loop, which leaves other programs out; a probe is the least that the routes do."""
    large, small = large_requests(world, 4_000)[0], large_requests(world, 500)[0]
    refused: list[float] = []
    probed: list[float] = []

    async def ask(target: Target, loop_seconds: Callable[[], float]) -> None:
        client, done = Client(target), False

        async def keep_busy() -> None:
            while not done:
                await client.post(large)

        busy = asyncio.create_task(keep_busy())
        beside = Client(target)
        while len(refused) < 500:
            begin = loop_seconds()
            status, _ = await beside.post(small)
            between = loop_seconds()
            await beside.post(b"", "/livez", "GET")
            if status == 429:
                refused.append(between - begin)
                probed.append(loop_seconds() - between)
        done = True
        await busy
        for one in (client, beside):
            one.close()

    with served(world.root, "--workers", "1", "--set", "engine.queue_ms=0") as here:
        assert here.process is not None
        loop = Path(f"/proc/{here.process.pid}/task/{here.process.pid}/schedstat")
        asyncio.run(ask(here.target, lambda: int(loop.read_text("ascii").split()[0]) / 1e9))
    # Means, since the system brings the time of a running thread up to date only now and then.
    print({"refusal_ms": round(mean(refused) * 1e3, 3), "probe_ms": round(mean(probed) * 1e3, 3)})
    assert mean(refused) < 0.6 * mean(probed)


def test_a_server_that_stops_answers_what_it_took(world: World, server: Served) -> None:
    """The last test of this server."""

    async def act() -> None:
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        client = Client(server.target)
        status, _ = await client.post(b"", "/readyz", "GET")
        client.close()
        assert status == 503
        while server.process.poll() is None:
            await asyncio.sleep(0.02)

    report = asyncio.run(beside(world, server.target, 40, act))
    assert server.process is not None
    assert server.process.returncode == 0
    assert {"200", "refused"} == set(report.counts), report.counts
    assert world.wrong(report) == []


# --- long forms, each with servers of its own


@pytest.mark.slow
def test_many_drains_lose_nothing(world: World) -> None:
    for _ in range(5):
        with served(world.root, "--set", "drain_seconds=0.5") as here:

            async def act(here: Served = here) -> None:
                assert here.process is not None
                here.process.send_signal(signal.SIGTERM)
                while here.process.poll() is None:
                    await asyncio.sleep(0.02)

            report = asyncio.run(beside(world, here.target, 60, act))
            print(report.counts)
            assert set(report.counts) <= {"200", "429", "refused"}, report.counts
            assert here.process is not None
            assert here.process.returncode == 0


@pytest.mark.slow
def test_a_killed_server_is_back_with_every_acknowledged_event(world: World, tmp_path: Path) -> None:
    store = f"lmdb://{tmp_path}/store?ahead=1000000000"
    acknowledged: list[int] = []

    def event(number: int) -> dict[str, Any]:
        return {"id": f"e{number}", "user": 103, "item": 20, "time": 1_900_000_000 + number}

    def send(here: Served, number: int) -> None:
        if here.call("/v1/events", {"events": [event(number)]})[0] == 200:
            acknowledged.append(number)

    number = 0
    for kill in range(3):
        with served(world.root, "--store", store) as here:
            until = time.monotonic() + 1.0 + 0.3 * kill
            try:
                while time.monotonic() < until:
                    send(here, number)
                    number += 1
            finally:
                here.stop(signal.SIGKILL)
        begin = time.monotonic()
        with served(world.root, "--store", store) as here:
            ready = time.monotonic() - begin
            request = {"user": 103, "time": 1_999_999_999, "candidates": [10]}
            answer = here.call("/v1/rank", request)[1]
            print({"ready_s": round(ready, 2), "acknowledged": len(acknowledged), **answer})
            assert answer["behaviors_used"] == min(len(acknowledged), 40)
            again = [event(n) for n in acknowledged[-500:]]
            assert not any(here.call("/v1/events", {"events": again})[1]["appended"])
            here.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_user_never_gets_the_answer_of_another(world: World) -> None:
    """Many users at once over a cache and workers that batch them, until 5,000 were answered."""
    encoder = Scorer(world.root / "v1").artifact.encoder
    requests = sample_requests(encoder, 250, 3, 20, seed=5)
    scorer = Scorer(world.root / "v1")
    expected = [one.probabilities[:, 0] for one in scorer.score_many(requests)]
    here_world = World(world.root, [msgspec.json.encode(one) for one in requests], {"v1": expected})
    reports: list[LoadReport] = []
    with served(world.root) as here:
        while sum(report.counts.get("200", 0) for report in reports) < 5_000:  # a busy machine refuses more
            load = constant_rate(here.target, here_world.bodies, 150, 34, keep_bodies=True)
            reports.append(asyncio.run(load))
    wrong = [here_world.wrong(report) for report in reports]
    print([report.to_dict() for report in reports], wrong)
    assert not any(wrong)


def test_a_server_that_cannot_serve_says_why_and_ends(tmp_path: Path, command_server: CommandServer) -> None:
    ended = command_server.start("serve", str(tmp_path), "--port", "0", folder=tmp_path)
    _, said = ended.communicate(timeout=120)
    assert ended.returncode == 2
    assert "is not an artifact" in said
    assert "Traceback" not in said
