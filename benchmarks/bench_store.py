"""The stores of a server, side by side: reads, appends, and how soon an event is visible.

    python benchmarks/bench_store.py PREPARED [--rounds 5] [--repeats 40] [--candidates 500]

Each store is loaded with what was known before the test part. Every round measures every store in turn: a
user with the last 200 behaviors, a request of many candidates completed with history and statistics, one
event appended, and one event appended until the next request shows it. Then eight threads append at once.
Shown are milliseconds of the wall clock, p50 and p99 over all rounds, the same of the CPU time of this
process, and the median of the rounds' ratios of CPU time to the memory store. A busy machine disturbs the
wall clock more than the CPU time. A write that waits for the disk stands beside, since that is what a durable
append waits for. The Redis server is started here, if one is installed: once it syncs its log every second,
once always.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import configured  # noqa: F401
import numpy as np

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.inference.replay import Replay
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event
from clickscale.serving.store.reading import Reading

BEHAVIORS, THREADS, TOGETHER = 200, 8, 25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--candidates", type=int, default=500)
    options = parser.parse_args()
    dataset = open_dataset(options.prepared)
    with tempfile.TemporaryDirectory() as name, stores(Path(name), dataset) as opened:
        log = Log(dataset, options.candidates)
        print(f"a write that waits for the disk: {shown(disk_waits(Path(name)))}", flush=True)
        works: dict[str, Callable[[KeyedStore, int], None]] = {
            "user": log.read_user,
            "request": log.complete,
            "append": log.append,
            "append to visible": log.append_and_see,
        }
        for title, work in works.items():
            table(title, opened, work, options.rounds, options.repeats)
        for kind, store in opened.items():
            print(
                f"{THREADS} threads append    {kind:22} {threads_append(store, log):8,.0f} events/s",
                flush=True,
            )


@contextmanager
def stores(folder: Path, dataset: Dataset) -> Iterator[dict[str, KeyedStore]]:
    """Stores of every kind, loaded."""
    urls = {
        "memory": "memory://",
        "lmdb sync=system": f"lmdb://{folder}/system?sync=system",
        "lmdb sync=disk": f"lmdb://{folder}/disk",
    }
    servers = []
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    for kind, sync in (("redis everysec", "everysec"), ("redis always", "always")) if program else ():
        where = folder / kind.replace(" ", "-")
        where.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            str(program),
            "--port",
            str(port),
            "--dir",
            str(where),
            "--save",
            "",
            "--appendonly",
            "yes",
        ]
        servers.append(subprocess.Popen([*command, "--appendfsync", sync], stdout=subprocess.DEVNULL))
        wait_for(port)
        urls[kind] = f"redis://127.0.0.1:{port}/0"
    opened = {kind: open_store(url, Reading.of_data(dataset)) for kind, url in urls.items()}
    for kind, store in opened.items():
        began = time.perf_counter()
        load_dataset(store, dataset, moment_of(dataset, "test"))
        facts = store.facts()
        seconds = time.perf_counter() - began
        print(
            f"load {kind:22} {seconds:6.1f} s, {facts.records:,} records, {facts.bytes / 1e6:.1f} MB",
            flush=True,
        )
    try:
        yield opened
    finally:
        for store in opened.values():
            store.close()
        for server in servers:
            server.kill()
            server.wait()


def wait_for(port: int) -> None:
    """Wait until a server listens."""
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit("the Redis server does not answer")


class Log:
    """Requests and events of made-up users, from the end of the training data on."""

    def __init__(self, dataset: Dataset, candidates: int) -> None:
        replay, self._schema = Replay(dataset), dataset.schema
        self._users, self._items = replay.users.to_pylist(), replay.items.to_pylist()
        self._candidates = min(candidates, len(self._items))
        self._moment = moment_of(dataset, "test")
        self._chance = np.random.default_rng(0)
        self._label = dataset.schema.labels[0].name
        self._number, self._lock = 0, threading.Lock()

    def event(self) -> Event:
        """The next event, a second after the last one."""
        with self._lock:
            self._number += 1
            user = self._users[int(self._chance.integers(len(self._users)))]
            item = self._items[int(self._chance.integers(len(self._items)))]
            number = self._number
        time_of = self._moment + number
        return Event(id=str(number), user=user, item=item, time=time_of, labels={self._label: number % 2})

    def request(self, candidates: int) -> dict[str, Any]:
        """A request at the moment of the last event."""
        items = self._chance.choice(len(self._items), candidates, replace=False)
        user = self._users[int(self._chance.integers(len(self._users)))]
        shown = [{"item": self._items[int(item)]} for item in items]
        return {"user": user, "time": self._moment + self._number + 1, "candidates": shown}

    def read_user(self, store: KeyedStore, number: int) -> None:
        """Read one user."""
        user = self._users[number * 7 % len(self._users)]
        store.user(user, before=self._moment + self._number + 1, most=BEHAVIORS)

    def complete(self, store: KeyedStore, number: int) -> None:
        """Complete one request."""
        store.complete(self.request(self._candidates), most=BEHAVIORS)

    def append(self, store: KeyedStore, number: int) -> None:
        """Append one event."""
        store.append([self.event()])

    def append_and_see(self, store: KeyedStore, number: int) -> None:
        """Append one event, and complete the user's next request with it."""
        event = self.event()
        store.append([event])
        asked = {"user": event.user, "time": event.time + 1, "candidates": [{"item": event.item}]}
        seen = store.complete(asked, most=BEHAVIORS)["behaviors"][-1]
        assert (seen["item"], seen["time"]) == (event.item, event.time), "the event is not visible"


def table(
    title: str,
    opened: dict[str, KeyedStore],
    work: Callable[[KeyedStore, int], None],
    rounds: int,
    repeats: int,
) -> None:
    """Measure one work on every store, in turns, and print it."""
    measured: dict[str, list[list[tuple[float, float]]]] = {kind: [] for kind in opened}
    for _ in range(rounds):
        for kind, store in opened.items():
            measured[kind].append([timed(work, store, number) for number in range(repeats)])
    for kind, found in measured.items():
        ratios = [
            statistics.median(cpu for _, cpu in mine) / statistics.median(cpu for _, cpu in base)
            for mine, base in zip(found, measured["memory"], strict=True)
        ]
        wall, cpu = zip(*(pair for one in found for pair in one), strict=True)
        print(
            f"{title:18} {kind:18} wall {shown(wall)}  CPU {shown(cpu)}  {statistics.median(ratios):6.2f}x",
            flush=True,
        )


def timed(work: Callable[[KeyedStore, int], None], store: KeyedStore, number: int) -> tuple[float, float]:
    """Seconds of the wall clock, and of this thread."""
    began, cpu = time.perf_counter(), time.thread_time()
    work(store, number)
    return time.perf_counter() - began, time.thread_time() - cpu


def shown(seconds: Sequence[float]) -> str:
    """p50 and p99 in milliseconds."""
    return f"p50 {np.median(seconds) * 1e3:7.2f}  p99 {np.percentile(seconds, 99) * 1e3:7.2f} ms"


def disk_waits(folder: Path, repeats: int = 50) -> list[float]:
    """Seconds that the disk takes for a page that is written and synced."""
    found = []
    with (folder / "page").open("wb") as stream:
        for number in range(repeats):
            began = time.perf_counter()
            os.pwrite(stream.fileno(), b"x" * 4096, 4096 * number)
            os.fdatasync(stream.fileno())
            found.append(time.perf_counter() - began)
    return found


def threads_append(store: KeyedStore, log: Log) -> float:
    """Events per second that several threads append, one at a time each."""

    def work() -> None:
        for _ in range(TOGETHER):
            store.append([log.event()])

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return THREADS * TOGETHER / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
