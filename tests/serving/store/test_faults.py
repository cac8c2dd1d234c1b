"""Stores under faults: killed writers, full disks, servers that end or hang, several writers."""

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from clickscale.errors import ConfigError, StoreError
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.memory import MemoryBackend
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event, StoreFullError
from clickscale.serving.store.reading import Reading
from clickscale.serving.store.store_records import Writer
from clickscale.serving.store.user_records import head_key
from tests.data.tiny import START
from tests.serving.store.servers import RedisServer, redis_server
from tests.trained import tiny_prepared

USERS = (103, 104, 105)
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Reading:
    return Reading.of_data(tiny_prepared(tmp_path_factory.mktemp("data")))


def event(number: int, size: int = 0) -> Event:
    return Event(
        id=f"e{number}",
        user=USERS[number % len(USERS)],
        item=20,
        time=START + number,
        behavior={"action": "x" * size} if size else {},
        labels={"click": number % 2},
    )


def append_until_it_fails(store: KeyedStore, together: int = 1, size: int = 0) -> tuple[int, str]:
    """Append events in order; the number of the first that failed, and the error."""
    for number in range(0, 100_000, together):
        try:
            store.append([event(at, size) for at in range(number, number + together)])
        except StoreError as error:
            return number, f"{type(error).__name__}: {error}"
    raise AssertionError("the store is never full")


def held(store: KeyedStore) -> list[int]:
    """Numbers of the events whose behaviors the store has."""
    users = [store.user(user, before=START + 10**7, most=10**6) for user in USERS]
    return sorted(row["time"] - START for user in users if user is not None for row in user.behaviors)


def counted(store: KeyedStore) -> int:
    """Impressions that the statistics know of."""
    asked = {"user": 103, "time": START + 10**7, "candidates": [{"item": 20}]}
    return int(store.statistics([asked])[0][0]["item_count"])


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run work in a forked process; its id, and where what it writes can be read."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            work(theirs)
        finally:
            os._exit(3)
    os.close(theirs)
    return process, ours


def read_numbers(pipe: int) -> list[int]:
    """Read whole lines until the other end is closed."""
    with os.fdopen(pipe) as stream:
        return [int(line) for line in stream.read().split("\n")[:-1] if line]


@pytest.mark.parametrize("sync", ["disk", "system"])
def test_acknowledged_events_survive_a_killed_writer(sync: str, reading: Reading, tmp_path: Path) -> None:
    url, acknowledged = f"lmdb://{tmp_path}/store?sync={sync}", 0

    def write(pipe: int) -> None:
        store = open_store(url, reading)
        for number in range(acknowledged, 1_000_000):
            store.append([event(number)])
            os.write(pipe, b"%d\n" % number)

    for _ in range(5):
        process, pipe = in_child(write)
        first = os.read(pipe, 16)
        time.sleep(random.random() * 0.05)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        numbers = [*map(int, first.split()), *read_numbers(pipe)]
        store = open_store(url, reading)
        found = held(store)
        # One event may have been written and not acknowledged: it is there wholly or not at all.
        assert found in (list(range(numbers[-1] + 1)), list(range(numbers[-1] + 2)))
        assert counted(store) == len(found)
        assert store.append([event(number) for number in numbers]) == [False] * len(numbers)
        acknowledged = len(found)
        store.close()
    assert acknowledged >= 5


def test_a_full_disk_costs_the_append_and_nothing_else(reading: Reading, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/store?sync=system"

    def write(pipe: int) -> None:
        store = open_store(url, reading)
        most = store.facts().bytes + 200_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        for _ in range(2):
            numbers, message = append_until_it_fails(store, size=8000)
            assert "cannot be written" in message
            assert "nothing was written" in message
        assert held(store) == list(range(numbers))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert store.append([event(numbers)]) == [True]  # there is room again
        store.close()
        os.write(pipe, b"%d\n" % numbers)
        os._exit(0)

    process, pipe = in_child(write)
    (numbers,) = read_numbers(pipe)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    store = open_store(url, reading)
    assert held(store) == list(range(numbers + 1))
    assert counted(store) == numbers + 1 > 2
    store.close()


def test_a_full_map_is_named_with_the_way_out(reading: Reading, tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}/store?bytes=1048576&sync=system", reading)
    numbers, message = append_until_it_fails(store, size=8000)
    assert message.startswith("StoreFullError: ")
    assert "is full; nothing was written." in message
    assert "bytes=N" in message
    assert held(store) == list(range(numbers))
    store.close()
    larger = open_store(f"lmdb://{tmp_path}/store?bytes=8388608", reading)
    assert larger.append([event(numbers)]) == [True]
    larger.close()


def test_a_store_opened_before_a_fork_says_so(reading: Reading, tmp_path: Path) -> None:
    store = open_store(f"lmdb://{tmp_path}/store", reading)

    def read(pipe: int) -> None:
        try:
            store.user(103, before=START, most=1)
        except StoreError as error:
            os.write(pipe, b"1\n" if "before this process was forked" in str(error) else b"0\n")

    process, pipe = in_child(read)
    assert read_numbers(pipe) == [1]
    os.waitpid(process, 0)
    store.append([event(1)])
    store.close()


def test_two_processes_write_one_file(reading: Reading, tmp_path: Path) -> None:
    url = f"lmdb://{tmp_path}/store?sync=system"

    def write(first: int) -> Callable[[int], None]:
        def work(pipe: int) -> None:
            store = open_store(url, reading)
            for number in range(first, 60, 2):
                assert store.append([event(number), event(number)]) == [True, False]
            store.close()
            os._exit(0)

        return work

    children = [in_child(write(first)) for first in range(2)]
    for process, pipe in children:
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        os.close(pipe)
    store = open_store(url, reading)
    assert held(store) == list(range(60))
    assert counted(store) == 60
    store.close()


# --- Redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", *DURABLE) as running:
        yield running


def test_acknowledged_events_survive_a_killed_server(server: RedisServer, reading: Reading) -> None:
    store = open_store(server.url, reading)
    assert store.facts().warnings == ()
    store.append([event(number) for number in range(10)])
    server.kill()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"store at 127\.0\.0\.1:\d+ does not work.*repeated safely"):
        store.append([event(10)])
    with pytest.raises(StoreError, match="does not work"):
        store.complete({"user": 103, "time": START, "candidates": [{"item": 20}]}, most=10)
    with pytest.raises(StoreError):
        store.check()
    assert time.monotonic() - began < 2
    server.start()
    store.check()
    assert held(store) == list(range(10))
    assert store.append([event(9), event(10)]) == [False, True]
    assert counted(store) == 11


def test_an_append_whose_answer_was_lost_may_be_repeated(
    server: RedisServer, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(server.url, reading)
    store.append([event(0)])
    execute = redis.client.Pipeline.execute

    def lost(pipe: Any, *arguments: Any, **options: Any) -> Any:
        answer = execute(pipe, *arguments, **options)
        if any(answered is True or answered == 0 for answered in answer):  # a write
            raise redis.ConnectionError("on purpose")
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(redis.client.Pipeline, "execute", lost)
        with pytest.raises(StoreError, match="repeated safely"):
            store.append([event(1)])
    assert store.append([event(1)]) == [False]
    assert held(store) == [0, 1]
    assert counted(store) == 2


def test_a_server_that_hangs_is_given_up(server: RedisServer, reading: Reading) -> None:
    store = open_store(server.url + "?socket_timeout=0.2", reading)
    server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StoreError, match=r"(?i)time"):
            store.append([event(0)])
        began = time.monotonic()
        for _ in range(20):  # nobody waits for it any more
            with pytest.raises(StoreError, match="did not answer in time"):
                store.user(103, before=START, most=1)
        assert time.monotonic() - began < 0.2
    finally:
        server.process.send_signal(signal.SIGCONT)
    began = time.monotonic()
    while True:
        try:
            store.append([event(0)])  # the server may have done what it was asked
            break
        except StoreError:
            assert time.monotonic() - began < 5
            time.sleep(0.01)
    assert store.append([event(0)]) == [False]
    assert held(store) == [0]
    assert counted(store) == 1
    store.close()


def test_a_server_without_memory_writes_nothing_of_an_append(reading: Reading, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", "--maxmemory", "3mb") as server:
        store = open_store(server.url, reading)
        assert any("appendonly yes" in warning for warning in store.facts().warnings)
        numbers, message = append_until_it_fails(store, together=5, size=8000)
        assert message.startswith("StoreFullError: ")
        assert "does not work" in message
        assert held(store) == list(range(numbers))
        assert counted(store) == numbers


def test_a_server_without_memory_can_be_read(server: RedisServer, reading: Reading) -> None:
    store = open_store(server.url, reading)
    store.append([event(number) for number in range(5)])
    with redis.Redis(port=server.port) as client:
        client.config_set("maxmemory", 1)
        assert held(store) == list(range(5))
        assert counted(store) == 5
        with pytest.raises(StoreFullError, match="maxmemory"):
            store.append([event(5)])
        client.config_set("maxmemory", 0)
    assert store.append([event(5)]) == [True]
    store.close()


def test_servers_that_share_a_redis_do_not_lose_each_others_events(
    server: RedisServer, reading: Reading
) -> None:
    stores = [open_store(server.url, reading) for _ in range(3)]
    fresh: list[bool] = []

    def work(store: KeyedStore) -> None:
        for number in range(40):
            fresh.extend(store.append([event(number)]))  # everybody sends every event

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(fresh), sum(fresh)) == (120, 40)
    assert held(stores[0]) == list(range(40))
    assert counted(stores[0]) == 40


def test_an_event_and_the_next_request_take_three_round_trips(
    server: RedisServer, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(server.url, reading)
    store.append([event(0)])
    sent: list[int] = []
    send = redis.connection.AbstractConnection.send_packed_command
    monkeypatch.setattr(
        redis.connection.AbstractConnection,
        "send_packed_command",
        lambda *arguments, **options: (sent.append(1), send(*arguments, **options))[1],
    )
    store.append([event(1)])
    assert len(sent) == 2  # what it reads and watches; the transaction
    asked = {"user": USERS[0], "time": event(2).time, "candidates": [{"item": 20}]}
    assert len(store.complete(asked, most=1_000)["behaviors"]) == 1
    assert len(sent) == 3
    store.append([event(len(USERS) * number) for number in range(1, 301)])
    sent.clear()
    asked["time"] = START + 10**6
    assert len(store.complete(asked, most=1_000)["behaviors"]) == 301
    assert len(sent) == 2  # pages of the history and of the statistics together


def test_a_reader_of_redis_never_sees_half_a_change(reading: Reading, tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        _read_while_another_writes(open_store(server.url, reading), open_store(server.url, reading))


def _read_while_another_writes(store: KeyedStore, other: KeyedStore) -> None:
    stop = threading.Event()

    def write() -> None:
        for start in range(0, 1200, 100):  # pages come and go
            other.append([msgspec.structs.replace(event(3 * n), user=103) for n in range(start, start + 100)])
        stop.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not stop.is_set():
        found = store.user(103, before=START + 10**7, most=10**6)
        times = [] if found is None else [row["time"] - START for row in found.behaviors]
        assert times == list(range(0, 3 * len(times), 3))
        assert len(times) % 100 == 0
    thread.join()


# --- damaged and unfinished stores


def test_a_damaged_record_is_refused(reading: Reading) -> None:
    store = open_store("memory://", reading)
    store.append([event(0)])
    owner = reading.owner(103)

    def damage(record: bytes) -> Callable[[Writer], None]:
        return lambda writer: writer.put(head_key(owner), record)

    for record in (b"", b"\xc1", b"\x93\x01\x80", b"no record"):
        store.commits.run(damage(record))
        with pytest.raises(StoreError, match="damaged"):
            store.user(103, before=START + 10, most=10)
    store.commits.run(damage(msgspec.msgpack.encode([99, {}, [[], [], 0], 0])))
    with pytest.raises(StoreError, match="version 99, this release reads 1"):
        store.user(103, before=START + 10, most=10)


class _StoppedError(Exception):
    """Ends a load."""


def test_an_interrupted_load_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_ITEMS", "_USERS", "_COUNTS"):
        monkeypatch.setattr(f"clickscale.serving.store.loading.{name}", 3)
    dataset = tiny_prepared(tmp_path)
    reading, moment = Reading.of_data(dataset), moment_of(dataset, "test")
    whole = MemoryBackend()
    assert load_dataset(KeyedStore(whole, reading), dataset, moment)
    backend, pieces = MemoryBackend(), 0
    while True:

        def stop(stage: str, done: int, total: int | None) -> None:
            raise _StoppedError

        store = KeyedStore(backend, reading)
        try:
            load_dataset(store, dataset, moment, stop)
            break
        except _StoppedError:
            pieces += 1
        if not store.meta.is_whole:
            with pytest.raises(StoreError, match="not finished; run it again"):
                KeyedStore(backend, reading).append([event(0)])
            with pytest.raises(StoreError, match="not finished; run it again"):
                store.check()
    assert pieces > 10
    assert backend._owners == whole._owners
    store = KeyedStore(backend, reading)
    assert not load_dataset(store, dataset, moment)
    assert store.facts().loaded == moment
    with pytest.raises(StoreError, match="the same one before"):
        load_dataset(store, dataset, moment + 1)
    used = open_store("memory://", reading)
    used.append([event(0)])
    with pytest.raises(StoreError, match="holds events already"):
        load_dataset(used, dataset, moment)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///x", r"Unknown kind 'sqlite'"),
        ("lmdb://", r"names no folder; write lmdb:///PATH"),
        ("memory://?bytes=2000000", r"Unknown option 'bytes'"),
        ("memory://?behaviors=0", r"behaviors='0' of the store's URL is no whole number from 1 on"),
        ("memory://?behaviors=many", r"behaviors='many'"),
        ("lmdb:///x?sync=disc", r"Unknown value of sync 'disc'; did you mean 'disk'"),
    ],
)
def test_a_wrong_url_is_named(url: str, message: str, reading: Reading) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(url, reading)


def test_a_path_may_begin_in_this_folder(
    reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("lmdb://Stores/one", reading).close()
    assert (tmp_path / "Stores/one/data.mdb").is_file()


def test_a_server_that_is_not_there_is_named(reading: Reading, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No store answers at 127\.0\.0\.1:1 .*start its server"):
        open_store("redis://127.0.0.1:1/0", reading)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"lmdb://{tmp_path}/file", reading)
