"""Memory of a server under a constant light load: requests by user id, events, and swaps of versions.

    python benchmarks/bench_soak.py PREPARED [--minutes 20] [--warm 10] [--ranks 5] [--events 3] [--swap 20]

The server is a process of its own with an LMDB store that holds PREPARED, a small state cache, and two
published versions that take turns. Every answer is counted. Memory is what the process holds for itself
(RssAnon of Linux); the pages of the store's file, which the system may drop, are told apart. The warm-up
fills the cache and lets the allocator take what it keeps. Then a line is fitted to the means of each half
minute. Memory is flat if the 95% interval of its slope holds 0 or ends below 1 MB an hour.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import configured  # noqa: F401 - first, for its effect
import msgspec
import numpy as np
from bench_engine import artifact
from scipy import stats

from clickscale.artifact import load_artifact
from clickscale.data.dataset import open_dataset
from clickscale.serving.load_driver import Client, Target, until_ready
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.reading import Reading
from clickscale.serving.versions.publishing import publish

TOKEN = "soak-0123456789abcdef"
USERS, CANDIDATES = 400, 50
SAMPLE = 2.0  # seconds between two looks at the memory
PIECE = 30.0  # seconds whose mean is one point of the line
# Both versions are the same model; nothing is taken back, and the older one goes soon.
SETS = ("trials.seconds=5", "trials.max_p99_ratio=1e9", "deadline_ms=30000", "engine.queue_ms=30000")


@dataclass
class Soak:
    """What was seen, and what became of the requests."""

    server: int
    samples: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--warm", type=float, default=10.0, help="minutes before these")
    parser.add_argument("--ranks", type=float, default=5.0, help="a second")
    parser.add_argument("--events", type=float, default=3.0, help="a second")
    parser.add_argument("--swap", type=float, default=20.0, help="seconds between two swaps")
    parser.add_argument("--model", default="lightsuan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--out", type=Path, help="write all samples here, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = run(options, Path(folder))
    report(soak, options)


def run(options: argparse.Namespace, folder: Path) -> Soak:
    path, models = artifact(options, folder), folder / "models"
    for promote in (True, False):
        publish(path, models, promote=promote)
    store = f"lmdb://{folder}/store"
    dataset = open_dataset(options.prepared)
    opened = open_store(store, Reading.of_data(dataset))
    load_dataset(opened, dataset, moment_of(dataset, ""))
    opened.close()
    requests = sample_requests(load_artifact(path).encoder, USERS, CANDIDATES, 1)
    address, log = folder / "address", folder / "server.log"
    command = [sys.executable, "-m", "clickscale", "serve", str(models), "--store", store, "--workers", "1"]
    command += ["--port", "0", "--address-file", str(address), "--cache", "8MB"]
    command += [text for one in SETS for text in ("--set", one)]
    tokens = os.environ | {"CLICKSCALE_TOKENS": f"soak rank,events,admin {TOKEN}"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=subprocess.DEVNULL, env=tokens)
    try:
        while not address.is_file():
            assert process.poll() is None, log.read_text("utf-8")
            time.sleep(0.05)
        port = int(address.read_text("utf-8").rpartition(":")[2])
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        soak = Soak(process.pid)
        asyncio.run(
            drive(soak, Target("127.0.0.1", port, headers=headers), requests, dataset.labels, options)
        )
        return soak
    finally:
        process.terminate()
        process.wait(60)


async def drive(
    soak: Soak,
    target: Target,
    requests: Sequence[dict[str, Any]],
    labels: Sequence[str],
    options: argparse.Namespace,
) -> None:
    """Send requests when they are due, and look at the memory, until the time is over."""
    await until_ready(target, 120)
    client = Client(target)
    begin = time.perf_counter()

    async def send(path: str, tree: Any) -> None:
        try:
            status, _ = await client.post(msgspec.json.encode(tree), path)
            soak.answers[f"{path} {status}"] += 1
        except (ConnectionError, TimeoutError) as error:
            soak.answers[f"{path} {type(error).__name__}"] += 1

    async def rank(number: int) -> None:
        asked = requests[number * 7 % USERS]
        bare = {"user": asked["user"], "candidates": asked["candidates"], "time": int(time.time())}
        await send("/v1/rank", bare)

    async def event(number: int) -> None:
        asked = requests[number * 11 % USERS]
        behavior = {
            name: value for name, value in asked["behaviors"][0].items() if name not in ("item", "time")
        }
        told = {name: number % 2 for name in labels}
        one = {"id": f"soak-{number}", "user": asked["user"], "time": int(time.time()), "behavior": behavior}
        await send("/v1/events", {"events": [one | {"item": asked["candidates"][0]["item"], "labels": told}]})

    async def swap(number: int) -> None:
        await send("/v1/admin/promote", {"version": ("v2", "v1")[number % 2]})

    async def look(_: int) -> None:
        soak.samples.append((time.perf_counter() - begin, memory(soak.server)))

    async def repeat(seconds: float, act: Callable[[int], Awaitable[None]]) -> None:
        number, running = 0, set[asyncio.Task[None]]()
        while (due := number * seconds) < (options.warm + options.minutes) * 60:
            await asyncio.sleep(max(due - (time.perf_counter() - begin), 0))
            task = asyncio.ensure_future(act(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.gather(*running)

    acts = {rank: 1 / options.ranks, event: 1 / options.events, swap: options.swap, look: SAMPLE}
    await asyncio.gather(*(repeat(seconds, act) for act, seconds in acts.items()))
    client.close()


def memory(process: int) -> dict[str, float]:
    """Megabytes of a process, and the seconds of CPU that it has used."""
    lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    found = {name: float(text.split()[0]) / 1024 for name, _, text in (line.partition(":") for line in lines)
             if name in ("RssAnon", "RssFile")}  # fmt: skip
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return found | {"cpu": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")}


def slope(seconds: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Growth an hour of the means of each piece, and its 95% interval."""
    pieces = (np.asarray(seconds) // PIECE).astype(int)
    places = np.unique(pieces)
    means = [float(np.mean(np.asarray(values)[pieces == place])) for place in places]
    hours = places * PIECE / 3600
    growth, start = np.polyfit(hours, means, 1)
    left = np.sum((np.asarray(means) - start - growth * hours) ** 2) / (len(places) - 2)
    half = stats.t.ppf(0.975, len(places) - 2) * np.sqrt(left / np.sum((hours - hours.mean()) ** 2))
    return float(growth), float(growth - half), float(growth + half)


def report(soak: Soak, options: argparse.Namespace) -> None:
    if options.out is not None:
        options.out.write_text(json.dumps({"samples": soak.samples, "answers": soak.answers}), "utf-8")
    settled = [one for one in soak.samples if one[0] >= options.warm * 60]
    seconds, seen = [one[0] for one in settled], [one[1] for one in settled]
    for name, text in (("RssAnon", "memory of its own"), ("RssFile", "pages of files")):
        values = [one[name] for one in seen]
        growth, low, high = slope(seconds, values)
        print(
            f"{text}: {values[0]:.1f} MB after the warm-up, {values[-1]:.1f} MB at the end, largest"
            f" {max(values):.1f} MB; {growth:+.1f} MB an hour ({low:+.1f} to {high:+.1f})"
        )
        if name == "RssAnon":
            print("flat" if low <= 0 or high < 1 else "grows")
    wall, cpu = seconds[-1] - seconds[0], seen[-1]["cpu"] - seen[0]["cpu"]
    print(f"{dict(sorted(soak.answers.items()))}; the server took {cpu / wall:.1%} of a core")


if __name__ == "__main__":
    main()
