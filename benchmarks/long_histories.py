"""Training on timelines of thousands of behaviors: peak memory and speed against the length L.

    python benchmarks/long_histories.py [--lengths 100,200,500,1000,2000] [--dilations 1,4] [--grade size-2]

A made log: every user has 5 L events, so every row is as long as rows become; each event is an impression and
then a behavior. Batches of 1,024 samples, each line a process of its own with one thread. Memory is what the
steps took at their peak beyond what the process held before them; speed is per second of CPU time.

* long rows: the default, ``window=L``, so rows span up to 2 L behaviors.
* short rows: ``window=L/4``, so rows span up to 1.25 L; the same number of samples per step.
* recompute: long rows, and blocks are computed again in the backward pass.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import numpy as np
import pyarrow as pa
import torch
from measure import Training

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Source, Split, TableName
from clickscale.models import build_model
from clickscale.models._suan.causal import recompute_blocks
from clickscale.schema import Field, Label, Schema

ITEMS = 5000
SIDES = ("long rows", "short rows", "recompute")


def long_log(users: int, events: int) -> Source:
    """Every user has ``events`` impressions that are behaviors right after."""
    schema = Schema(
        name="long",
        user=Field(name="user_id", dtype="int"),
        item=Field(name="item_id", dtype="int"),
        labels=(Label(name="label"),),
        behavior=(Field(name="action"),),
        items=(Field(name="genre"),),
    )

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        random = np.random.default_rng(0)
        item = np.arange(ITEMS)
        yield "items", pa.record_batch({"item": item, "genre": pa.array([f"g{i % 20}" for i in item])})
        for user in range(users):
            times = 1_600_000_000 + np.cumsum(random.geometric(1 / 3000, events))
            event = {"user": np.full(events, user), "item": random.integers(0, ITEMS, events), "time": times}
            label = random.integers(0, 2, events)
            yield "impressions", pa.record_batch(event | {"label.label": label})
            action = pa.array(np.where(label, "like", "view"))
            yield "behaviors", pa.record_batch(event | {"action": action})

    return Source(schema=schema, chunks=chunks, split=Split(kind="user_time", valid=0.1, test=0.1))


def peak() -> int:
    """Most bytes that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(
    dataset: Dataset, length: int, r: int, side: str, grade: str, seconds: float
) -> dict[str, float]:
    """Train for some seconds of CPU time: bytes, samples per second, columns of the widest batch."""
    torch.manual_seed(0)
    window = length // 4 if side == "short rows" else length
    loader = Loader(dataset, "train", LoaderConfig(length=length, window=window, prefetch=0))
    model = build_model(
        "lightsuan",
        dataset.features,
        dataset.item_columns(),
        grade=grade,
        length=length,
        overrides=[f"r={r}"],
    )
    if side == "recompute":
        recompute_blocks(model)
    before = peak()
    training = Training(model, loader)
    columns = samples = 0
    started = time.process_time()
    while time.process_time() - started < seconds:
        for batch in loader.batches():
            training.step(batch)
            columns, samples = max(columns, batch.user.items.shape[1]), samples + batch.samples
            if time.process_time() - started > seconds:
                break
    speed = samples / (time.process_time() - started)
    return {"bytes": peak() - before, "speed": speed, "columns": columns}


def child(arguments: argparse.Namespace, length: int, r: int, side: str, prepared: Path) -> dict[str, float]:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps([str(prepared), length, r, side])]
    command += ["--grade", arguments.grade, "--seconds", str(arguments.seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", default="100,200,500,1000,2000")
    parser.add_argument("--dilations", default="1,4", help="r of LightSUAN; 1 is full attention")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--seconds", type=float, default=6.0, help="of CPU time for each line")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        prepared, length, r, side = json.loads(options.child)
        dataset = open_dataset(Path(prepared))
        print(json.dumps(measured(dataset, length, r, side, options.grade, options.seconds)))
        return
    lengths = [int(each) for each in options.lengths.split(",")]
    print("    L   r  side         widest row   peak MB   samples/CPU-s")
    with tempfile.TemporaryDirectory() as folder:
        for length in lengths:
            prepared = Path(folder) / str(length)
            prepare(long_log(users=max(20_000 // length, 4), events=5 * length), prepared)
            for r in [int(each) for each in options.dilations.split(",")]:
                for side in options.sides.split(","):
                    found = child(options, length, r, side, prepared)
                    megabytes, columns = found["bytes"] / 1e6, found["columns"]
                    print(
                        f"{length:5} {r:3}  {side:12} {columns:10} {megabytes:9,.0f} {found['speed']:15,.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
