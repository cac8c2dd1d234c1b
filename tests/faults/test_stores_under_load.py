"""Servers whose store fails under continuous load: full disks and memories, stores that end, hang and return.

Whatever happens to the store, every request is answered: scores without it say ``degraded``, events are
refused with the reason, and what was acknowledged is there in the end. Nothing has to be started again.
"""

import asyncio
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from clickscale.artifact import Artifact
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.engine import EngineConfig
from clickscale.serving.load_driver import Client, LoadReport, Target, constant_rate
from clickscale.serving.service import ServiceConfig
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import OnlineStore
from clickscale.serving.store.reading import Reading
from clickscale.serving.store.redis_store import RedisBackend
from tests.serving.live import Live, live, served
from tests.serving.store.servers import RedisServer, redis_server
from tests.trained import tiny_artifact, tiny_prepared

USERS = (103, 104, 105)
LATER = 1_900_000_000
AHEAD = "ahead=1000000000"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
FULL, GONE = (507, "store_full"), (503, "store_unavailable")
LARGE = 6_000  # characters of a field, so that a little room is soon full
RANK = msgspec.json.encode({"user": 103, "time": LATER + 10**8, "candidates": [10, 20]})
PATIENT = ServiceConfig(
    engine=EngineConfig(queue_ms=1e9), deadline_ms=120_000, drain_seconds=0, stop_seconds=5
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    return tiny_artifact(folder, tiny_prepared(folder), "lightsuan")


@contextmanager
def server(artifact: Path, url: str) -> Iterator[Live]:
    """A server in this process."""

    def store_of(artifact: Artifact) -> OnlineStore:
        return open_store(url, Reading.of(artifact))

    with live(artifact, PATIENT, store_of=store_of, cache=StateCache(CacheConfig(admit_after=1))) as here:
        yield here


def event(number: int, size: int = 0) -> dict[str, Any]:
    behavior = {"action": "x" * size} if size else {}
    return {
        "id": f"e{number}",
        "user": USERS[number % len(USERS)],
        "item": 20,
        "time": LATER + number,
        "behavior": behavior,
        "labels": {"click": number % 2},
    }


@dataclass
class Load:
    """What became of requests for scores and of events that were sent at the same time, one event each."""

    ranks: LoadReport
    events: LoadReport
    size: int

    @property
    def acknowledged(self) -> list[int]:
        return [one.number for one in self.events.sent if one.status == 200]

    def refused(self, *expected: tuple[int, str]) -> list[int]:
        """Numbers of the events that were not taken; all of them with a reason, some with one of these."""
        found = [one for one in self.events.sent if one.status != 200]
        reasons = {(one.status, json.loads(one.body)["error"]["code"]) for one in found}
        assert reasons & {*expected}
        assert reasons <= {*expected, (429, "overloaded")}  # on a busy machine too many may wait
        return [one.number for one in found]

    def degraded(self) -> list[float]:
        """Moments of requests that were scored without the store."""
        answers = [(one.due, json.loads(one.body)) for one in self.ranks.sent]
        assert all(answer.get("degraded") in (None, ["store"]) for _, answer in answers)
        return [due for due, answer in answers if "degraded" in answer]


def loaded(target: Target, act: Callable[[], Awaitable[None]], rate: float = 12, size: int = 0) -> Load:
    """Load that begins before an act and ends after it."""
    bodies = [msgspec.json.encode({"events": [event(number, size)]}) for number in range(int(rate * 60))]
    done = False

    async def both() -> Load:
        nonlocal done
        writing = Target(target.host, target.port, "/v1/events", target.headers)
        loads = [
            asyncio.create_task(
                constant_rate(where, sent, rate, 60, keep_bodies=True, go_on=lambda: not done)
            )
            for where, sent in ((target, [RANK]), (writing, bodies))
        ]
        await asyncio.sleep(0.5)
        try:
            await act()
        finally:
            done = True
        ranks, events = await asyncio.gather(*loads)
        return Load(ranks, events, size)

    return asyncio.run(both())


def send_again(here: Live, load: Load, numbers: list[int]) -> list[bool]:
    """Send events again; whether each is new."""
    found: list[bool] = []
    for number in numbers:
        status, answer = here.call("/v1/events", {"events": [event(number, load.size)]})
        assert status == 200, answer
        found += answer["appended"]
    return found


def check_nothing_is_lost(here: Live, load: Load, refused: list[int]) -> None:
    """What was acknowledged is there, and what was refused can be sent again; then all is there."""
    assert not any(send_again(here, load, load.acknowledged))
    send_again(here, load, refused)
    assert here.call("/v1/rank", RANK)[1]["behaviors_used"] == min(len(load.events.sent[::3]), 40)


# --- no room


def test_a_full_map_costs_events_only(artifact: Path, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/store?sync=system&{AHEAD}"
    with server(artifact, f"{url}&bytes=1048576") as here:
        messages: list[str] = []  # of refusals: after some of them there may be room for an event again

        async def act() -> None:
            """Add events of the second user until five are refused; a busy machine sends few of the load."""
            client, number = Client(here.target), 10_000
            while len(messages) < 5:
                body = msgspec.json.encode({"events": [event(number, LARGE)]})
                status, answer = await client.post(body, "/v1/events")
                if status == FULL[0]:
                    messages.append(json.loads(answer)["error"]["message"])
                number += len(USERS)
                await asyncio.sleep(0.05)
            client.close()

        load = loaded(here.target, act, 40, LARGE)
        assert set(load.ranks.counts) == {"200"}
        assert load.degraded() == []
        refused = load.refused(FULL)
        assert load.acknowledged
        assert all("no room left; nothing was kept" in message for message in messages)
        assert not any(str(tmp_path) in message for message in messages)
    with server(artifact, f"{url}&bytes=16777216") as here:
        check_nothing_is_lost(here, load, refused)


def test_a_redis_without_memory_costs_events_only(artifact: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as running, server(artifact, f"{running.url}?{AHEAD}") as here:
        client = redis.Redis(port=running.port)

        async def act() -> None:
            client.config_set("maxmemory", 1)
            await asyncio.sleep(0.7)
            client.config_set("maxmemory", 0)
            await asyncio.sleep(0.5)

        load = loaded(here.target, act)
        client.close()
        assert set(load.ranks.counts) == {"200"}
        assert load.degraded() == []
        refused = load.refused(FULL)
        assert load.events.sent[-1].status == 200
        check_nothing_is_lost(here, load, refused)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write a file that takes all the room that is left."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            return file


def process_on_a_full_disk(
    artifact: Path,
    folder: Path,
    log: Path,
    *refusals: tuple[int, str],
    make_full: Callable[[int], Any],
    make_room: Callable[[int], Any],
) -> None:
    """A server of its own runs out of room and gets it back, under load; then it is killed."""
    options = ["--store", f"lmdb://{folder}/store?{AHEAD}", "--workers", "1", "--json"]
    options += ["--set", "deadline_ms=120000", "--set", "engine.queue_ms=1e9"]
    at = 0.0
    with served(artifact, *options, log=log) as here:
        assert here.process is not None
        process = here.process.pid

        async def act() -> None:
            nonlocal at
            make_full(process)
            await asyncio.sleep(2.5)
            make_room(process)
            at = time.perf_counter()
            await asyncio.sleep(2.0)

        begun = time.perf_counter()
        load = loaded(here.target, act, 15, LARGE)
        assert here.process.poll() is None
        assert set(load.ranks.counts) == {"200"}, load.ranks.counts
        assert load.degraded() == []
        refused = load.refused(*refusals)
        again = min(one.due for one in load.events.sent if one.number > refused[-1])
        print(
            {"acknowledged": len(load.acknowledged), "refused": len(refused), "after": again - (at - begun)}
        )
        assert len(load.acknowledged) > 10
        assert len(refused) > 3
        here.stop(signal.SIGKILL)
    with served(artifact, *options) as here:
        check_nothing_is_lost(here, load, refused)
        assert here.stop() == 0


@pytest.mark.slow
def test_a_full_disk_under_load_costs_events_only(artifact: Path, tmp_path: Path) -> None:
    """A limit of the size of files is a full disk for one process; its log goes nowhere at all."""

    def limit(process: int, most: int) -> None:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    process_on_a_full_disk(
        artifact,
        tmp_path,
        Path("/dev/full"),
        FULL,
        GONE,  # if a part of a page was written, while the system says that the disk has room
        make_full=lambda process: limit(process, (tmp_path / "store/data.mdb").stat().st_size),
        make_room=lambda process: limit(process, resource.RLIM_INFINITY),
    )


@pytest.mark.slow
def test_a_small_disk_that_is_full_costs_events_only(artifact: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        process_on_a_full_disk(
            artifact,
            disk,
            disk / "log",
            FULL,
            make_full=lambda _: fill(disk),
            make_room=lambda _: (disk / "filler").unlink(),
        )


# --- no answer


async def until_degraded(target: Target) -> None:
    """Wait until a request is scored without the store; on a busy machine earlier ones may still wait."""
    client = Client(target)
    async with asyncio.timeout(60):
        while "degraded" not in json.loads((await client.post(RANK))[1]):
            await asyncio.sleep(0.05)
    client.close()


def outage(artifact: Path, running: RedisServer, seconds: float, rate: float) -> tuple[Load, float]:
    """Kill a store and start it again under load; the load, and seconds until all was well again."""
    begun = at = 0.0
    with server(artifact, f"{running.url}?{AHEAD}") as here:

        async def act() -> None:
            nonlocal at
            running.kill()
            await asyncio.sleep(seconds)
            await until_degraded(here.target)
            await asyncio.to_thread(running.start)
            at = time.perf_counter()
            await asyncio.sleep(1.0)

        begun = time.perf_counter()
        load = loaded(here.target, act, rate)
        assert set(load.ranks.counts) == {"200"}, load.ranks.counts
        assert load.degraded()
        assert load.ranks.sent[-1].status == 200
        refused = load.refused(GONE)
        assert load.events.sent[-1].status == 200
        check_nothing_is_lost(here, load, refused)
    last = max(load.degraded()[-1], load.events.sent[refused[-1]].due)
    return load, last - (at - begun)


def test_a_store_that_ends_and_returns_costs_histories_and_delays_events(
    artifact: Path, tmp_path: Path
) -> None:
    with redis_server(tmp_path / "redis", *DURABLE) as running:
        _, after = outage(artifact, running, 0.7, 12)
    assert after < 2.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_outages_of_a_store(artifact: Path, tmp_path: Path) -> None:
    ranks = degraded = acknowledged = refused = 0
    longest = 0.0
    for number in range(10):
        with redis_server(tmp_path / f"redis-{number}", *DURABLE) as running:
            load, after = outage(artifact, running, 0.5 + 0.25 * number, 50)
        ranks += len(load.ranks.sent)
        degraded += len(load.degraded())
        acknowledged += len(load.acknowledged)
        refused += len(load.events.sent) - len(load.acknowledged)
        longest = max(longest, after)
    print({"ranks": ranks, "degraded": degraded, "acknowledged": acknowledged, "refused": refused,
           "seconds": round(longest, 3)})  # fmt: skip
    assert longest < 2.0


def test_a_store_that_hangs_costs_a_timeout_once(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = [0]
    ask = RedisBackend._ask_until_it_answers

    def counted(store: RedisBackend) -> None:
        timeouts[0] += 1
        ask(store)

    monkeypatch.setattr(RedisBackend, "_ask_until_it_answers", counted)
    with redis_server(tmp_path / "redis", *DURABLE) as running:

        async def act() -> None:
            os.kill(running.process.pid, signal.SIGSTOP)
            await asyncio.sleep(2.0)
            os.kill(running.process.pid, signal.SIGCONT)
            await asyncio.sleep(1.2)

        with server(artifact, f"{running.url}?socket_timeout=0.4&{AHEAD}") as here:
            load = loaded(here.target, act)
            assert set(load.ranks.counts) == {"200"}
            assert load.degraded()
            assert "degraded" not in json.loads(load.ranks.sent[-1].body)
            # The threads that were asking when it stopped have waited, and nobody after them.
            assert 1 <= timeouts[0] <= 6
            assert len(load.degraded()) > timeouts[0]
            refused = load.refused(GONE)
            assert load.events.sent[-1].status == 200
            check_nothing_is_lost(here, load, refused)
