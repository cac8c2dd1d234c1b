"""Preparing a log and ten times that log: peak memory and rows per second, each in a process of its own.

    python benchmarks/bench_prepare.py [--rows 200000] [--memory-rows 65536] [--users 20000] [--items 20000]

Memory is what the process needed beyond its imports: anonymous memory, since pages of mapped files are given
back whenever somebody else needs them. Users and items stay the same in number, as they do when a log grows
by days; their tables are the part of memory that preparation does not bound.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import numpy as np
import pyarrow as pa

from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Source, TableName
from clickscale.schema import Field, Label, Schema, Statistic

START, CHUNK = 1_600_000_000, 1 << 16
STATISTICS = (
    Statistic(name="item_rate", by=("item",), window=3 * 86_400),
    Statistic(name="user_rate", by=("user",)),
)


def synthetic(rows: int, users: int, items: int, statistics: bool) -> Source:
    """As many impressions as behaviors, made chunk by chunk."""
    schema = Schema(
        name="synthetic",
        user=Field(name="user_id", dtype="int"),
        item=Field(name="item_id"),
        labels=(Label(name="click"),),
        behavior=(Field(name="action"),),
        context=(Field(name="position", dtype="int"), Field(name="price", kind="numeric")),
        statistics=STATISTICS if statistics else (),
    )

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for start in range(0, rows, CHUNK):
            random, count = np.random.default_rng(start), min(CHUNK, rows - start)
            action = pa.DictionaryArray.from_arrays(random.integers(0, 3, count), ["view", "cart", "buy"])
            yield "behaviors", pa.record_batch(_event(random, count, users, items) | {"action": action})
            shown = {
                "label.click": pa.array(random.integers(0, 2, count)),
                "position": pa.array(random.integers(0, 20, count)),
                "price": pa.array(random.random(count)),
            }
            yield "impressions", pa.record_batch(_event(random, count, users, items) | shown)

    return Source(schema=schema, chunks=chunks)


def _event(random: np.random.Generator, count: int, users: int, items: int) -> dict[str, pa.Array]:
    return {
        "user": pa.array(random.integers(0, users, count)),
        "item": pa.array(random.integers(0, items, count)).cast(pa.string()),
        "time": pa.array(START + random.integers(0, 30 * 86_400, count)),
    }


def anonymous_bytes() -> int:
    """Memory of this process, mapped files not counted."""
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def measure(options: argparse.Namespace) -> None:
    """Prepare once; print CPU seconds, peak of anonymous memory and peak of all memory above the imports."""
    before, peak, done = anonymous_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, anonymous_bytes() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    source = synthetic(options.rows, options.users, options.items, options.statistics)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        prepare(source, Path(folder) / "out", chunk_rows=CHUNK // 4, memory_rows=options.memory_rows)
    seconds = time.process_time() - started
    done.set()
    watcher.join()
    print(seconds, peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def run(options: argparse.Namespace, rows: int) -> tuple[float, float, float]:
    """CPU seconds, anonymous and all memory in MB, of a process that prepares so many rows."""
    command = [sys.executable, __file__, "--child", "--rows", str(rows)]
    for name in ("memory_rows", "users", "items"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--statistics"] if options.statistics else []
    seconds, peak, everything = map(float, subprocess.check_output(command, text=True).split())
    return seconds, peak / 1e6, everything / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000, help="behaviors, and as many impressions")
    parser.add_argument("--memory-rows", type=int, default=1 << 16)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--statistics", action="store_true", help="with two point-in-time statistics")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure(options)
        return
    peaks = []
    print(f"{'rows':>12} {'rows/CPU s':>12} {'anonymous MB':>13} {'all MB':>8}")
    for rows in (options.rows, 10 * options.rows):
        seconds, peak, everything = run(options, rows)
        peaks.append(peak)
        print(f"{2 * rows:>12,} {2 * rows / seconds:>12,.0f} {peak:>13.0f} {everything:>8.0f}")
    print(f"10x the rows take {peaks[1] / peaks[0]:.2f}x the anonymous memory")


if __name__ == "__main__":
    main()
