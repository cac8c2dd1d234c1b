"""The server of this checkout against that of another one, asked in turns by one client that waits.

    git worktree add ../before COMMIT
    python benchmarks/bench_servers.py ARTIFACT ../before [--seconds 30] [--form msgpack]

Before each request the same is scored here, by the bare scorer. Shown are medians over all requests: of the
scorer, and of what each server takes beyond it. On a busy machine look at the calmest 40 requests in a row,
those with the fastest scorer, and at the difference of the two servers, which are disturbed alike.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import configured  # noqa: F401 - first, for its effect
import msgspec

from clickscale.artifact import load_artifact
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.runtime import set_threads
from clickscale.serving.load_driver import Client, Target, until_ready
from clickscale.serving.sample_requests import sample_requests

HERE = Path(__file__).resolve().parents[1]
USERS, CALM = 50, 40


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("before", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--form", choices=("json", "msgpack"), default="json")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--behaviors", type=int, default=200)
    options = parser.parse_args()
    set_threads(1)
    with ExitStack() as stack:
        checkouts = (options.before.resolve(), HERE)
        targets = [stack.enter_context(served(one, options.artifact, options.form)) for one in checkouts]
        rows = asyncio.run(measured(targets, options))
    starts = range(0, max(len(rows) - CALM, 0) + 1, CALM)
    calmest = min((rows[at : at + CALM] for at in starts), key=lambda some: median(row[0] for row in some))
    for title, some in ((f"all {len(rows)} requests", rows), (f"calmest {len(calmest)}", calmest)):
        bare, before, here = (median(column) * 1e3 for column in zip(*some, strict=True))
        apart = median(row[2] - row[1] for row in some) * 1e3
        print(f"{title}: scorer {bare:.2f} ms; beyond it before {before:.2f}, here {here:.2f} ({apart:+.2f})")


@contextmanager
def served(checkout: Path, artifact: Path, form: str) -> Iterator[Target]:
    """A server of a checkout while the block runs."""
    with TemporaryDirectory() as folder:
        address = Path(folder) / "address"
        command = [sys.executable, "-m", "clickscale", "serve", str(artifact.resolve()), "--workers", "1"]
        command += ["--port", "0", "--address-file", str(address)]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=checkout, env=environment, stdout=quiet, stderr=quiet) as process:
            try:
                while not address.is_file() and process.poll() is None:
                    time.sleep(0.05)
                port = int(address.read_text("utf-8").rpartition(":")[2])
                target = Target("127.0.0.1", port, headers={"Content-Type": f"application/{form}"})
                asyncio.run(until_ready(target, 120))
                yield target
            finally:
                process.terminate()


async def measured(targets: list[Target], options: argparse.Namespace) -> list[list[float]]:
    """Seconds of the scorer, and of each server beyond it, for each request."""
    artifact = load_artifact(options.artifact)
    scorer = Scorer(artifact, cache=StateCache(CacheConfig()))
    requests = sample_requests(artifact.encoder, USERS, options.candidates, options.behaviors)
    bodies = [getattr(msgspec, options.form).encode(request) for request in requests]
    clients = [Client(target) for target in targets]
    rows: list[list[float]] = []
    number, end = 0, float("inf")
    while time.perf_counter() < end:
        place, row = number % USERS, [0.0, 0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            begin = time.perf_counter()
            scorer.score(requests[place])
            bare = time.perf_counter() - begin
            status, answer = await clients[which].post(bodies[place])
            assert status == 200, answer
            row[0] += bare / 2
            row[1 + which] = time.perf_counter() - begin - 2 * bare
        if number >= 2 * USERS:  # by then every state is kept
            rows.append(row)
        elif number == 2 * USERS - 1:
            end = time.perf_counter() + options.seconds
        number += 1
    for client in clients:
        client.close()
    return rows


if __name__ == "__main__":
    main()
