"""Ranking one raw request of many candidates: reading it, and scoring it over a kept state.

    python benchmarks/bench_requests.py [--candidates 500] [--length 50] [--against CHECKOUT]

The log is made up (fields of every kind, ids as integers, 7 keys per candidate) and the weights are random:
times depend on shapes only. Every round measures each checkout in a process of its own, in turns; times are
CPU seconds of one thread, medians of a round, then of all rounds. With ``--against`` another checkout of
clickscale, which must read the same artifacts, is measured on the very same requests, and the largest
difference of logits is shown.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

START, DAY = 1_600_000_000, 86_400
USERS, ITEMS, BEHAVIORS, IMPRESSIONS = 500, 5_000, 50_000, 20_000
HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="suan")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path, help="another checkout of clickscale")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # a process of one round
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.length)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, options.model, options.grade, options.length, options.candidates)
        checkouts = {"here": HERE}
        if options.against:
            checkouts["before"] = options.against.resolve()
        compare(folder, checkouts, options.rounds, options.length)


# --- the log, the artifact and the requests


def build(folder: Path, model_name: str, grade: str, length: int, candidates: int) -> None:
    """Prepare the made-up log, save an artifact of a fresh model and requests as JSON lines."""
    import torch

    from clickscale.artifact import save_artifact
    from clickscale.data.dataset import open_dataset
    from clickscale.data.preparation.prepare import prepare
    from clickscale.data.source import Source
    from clickscale.models import build_model

    chance = np.random.default_rng(0)
    tables = made_up_tables(chance)
    source = Source(schema=made_up_schema(), chunks=lambda: chunks(tables))
    prepare(source, folder / "prepared")
    dataset = open_dataset(folder / "prepared")
    torch.manual_seed(0)
    items = dataset.item_columns()
    model = build_model(model_name, dataset.features, items, grade=grade, length=length).eval()
    named = {"model_name": model_name, "grade": grade, "length": length, "labels": ("click",)}
    save_artifact(folder / "artifact", model, dataset.encoder, items, metrics={}, **named)
    lines = [json.dumps(made_up_request(chance, user, length, candidates)) for user in range(20)]
    (folder / "requests.jsonl").write_text("\n".join(lines), encoding="utf-8")


def made_up_schema() -> Any:
    from clickscale.schema import Field, Label, Schema, Statistic

    return Schema(
        name="made-up",
        user=Field(name="user_id", column="user", dtype="int"),
        item=Field(name="item_id", column="item", dtype="int"),
        labels=(Label(name="click", column="click"),),
        profile=(Field(name="gender"), Field(name="age", kind="numeric")),
        behavior=(Field(name="action"), Field(name="dwell", kind="numeric", transform="log1p")),
        items=(Field(name="brand", dtype="int"), Field(name="price", kind="numeric")),
        context=(
            Field(name="position", dtype="int"),
            Field(name="device"),
            Field(name="bid", kind="numeric"),
        ),
        statistics=(
            Statistic(name="item_rate", by=("item",), window=3 * DAY),
            Statistic(name="item_count", by=("item",), of="count"),
            Statistic(name="brand_rate", by=("brand",)),
        ),
    )


def made_up_tables(chance: np.random.Generator) -> dict[Any, pa.Table]:
    def rows(count: int) -> dict[str, Any]:
        times = START + np.sort(chance.integers(0, 30 * DAY, count))
        return {"user": chance.integers(0, USERS, count), "item": some_items(chance, count), "time": times}

    items = np.arange(ITEMS)
    users = {"user": np.arange(USERS), "gender": ["m", "f"] * (USERS // 2), "age": chance.random(USERS)}
    past = rows(BEHAVIORS) | {
        "action": chance.choice(["view", "buy"], BEHAVIORS),
        "dwell": chance.random(BEHAVIORS),
    }
    shown = rows(IMPRESSIONS) | {
        "label.click": chance.integers(0, 2, IMPRESSIONS),
        "position": chance.integers(0, 20, IMPRESSIONS),
        "device": chance.choice(["phone", "tablet", "desk"], IMPRESSIONS),
        "bid": chance.random(IMPRESSIONS),
    }
    about = {"item": items, "brand": items % 300, "price": chance.random(ITEMS)}
    tables = {"users": users, "items": about, "behaviors": past, "impressions": shown}
    return {name: pa.table(columns) for name, columns in tables.items()}


def some_items(chance: np.random.Generator, count: int) -> np.ndarray:
    """Items, the first ones most often."""
    return (ITEMS * chance.random(count) ** 3).astype(np.int64)


def chunks(tables: dict[Any, pa.Table]) -> Iterator[tuple[Any, pa.RecordBatch]]:
    for name, table in tables.items():
        for batch in table.to_batches():
            yield name, batch


def made_up_request(chance: np.random.Generator, user: int, length: int, candidates: int) -> dict[str, Any]:
    now = START + 31 * DAY
    past = zip(some_items(chance, length).tolist(), chance.random(length).tolist(), strict=True)
    shown = zip(some_items(chance, candidates).tolist(), chance.random(candidates).tolist(), strict=True)
    return {
        "user": user,
        "time": now,
        "profile": {"gender": "m", "age": 0.5},
        "behaviors": [
            {"item": item, "time": now - 1000 + i, "action": "view", "dwell": number}
            for i, (item, number) in enumerate(past)
        ],
        "candidates": [
            {
                "item": item,
                "position": i % 20,
                "device": "phone",
                "bid": number,
                "item_rate": number / 2,
                "item_count": i,
                "brand_rate": None if i % 10 == 0 else number / 3,
            }
            for i, (item, number) in enumerate(shown)
        ],
    }


# --- one round of one checkout


def measure(folder: Path, length: int) -> None:
    """Print the medians in ms of this process; the logits go to a file."""
    import torch

    from clickscale import CacheConfig, Scorer, StateCache
    from clickscale.inference.requests import encode_requests

    torch.set_num_threads(1)
    requests = [json.loads(line) for line in (folder / "requests.jsonl").read_text("utf-8").splitlines()]
    cached = Scorer(folder / "artifact", cache=StateCache(CacheConfig(admit_after=1, audit_share=0.0)))
    plain = Scorer(folder / "artifact")
    encoder = plain.artifact.encoder
    logits = [np.stack([scorer.score(request).logits for request in requests]) for scorer in (cached, plain)]
    np.save(folder / f"logits-{os.getpid()}.npy", np.stack(logits))
    found = {
        "read": median(lambda request: encode_requests([request], encoder, length), requests),
        "cached": median(cached.score, requests),
        "computed": median(plain.score, requests),
    }
    print(json.dumps({"milliseconds": found, "logits": f"logits-{os.getpid()}.npy"}))


def median(work: Callable[[Any], object], requests: list[Any]) -> float:
    """Median CPU milliseconds over three passes, after one to warm up."""
    found = []
    for number in range(4):
        for request in requests:
            started = time.process_time()
            work(request)
            if number:
                found.append((time.process_time() - started) * 1e3)
    return statistics.median(found)


# --- all rounds


def compare(folder: Path, checkouts: dict[str, Path], rounds: int, length: int) -> None:
    """Print a line for each thing measured, and how far the logits of the checkouts lie apart."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in checkouts}
    logits: dict[str, np.ndarray] = {}
    for _ in range(rounds):
        for name, checkout in checkouts.items():
            command = [sys.executable, __file__, "--measure", str(folder), "--length", str(length)]
            environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
            result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            measured = json.loads(result.stdout.splitlines()[-1])
            logits[name] = np.load(folder / measured["logits"])
            for what, number in measured["milliseconds"].items():
                found[name].setdefault(what, []).append(number)
    for what in found["here"]:
        parts = [f"{what:9}"]
        for name in checkouts:
            numbers = found[name][what]
            parts.append(
                f"{name} {statistics.median(numbers):6.2f} ms ({min(numbers):.2f}-{max(numbers):.2f})"
            )
        if "before" in found:
            ratios = [b / a for a, b in zip(found["here"][what], found["before"][what], strict=True)]
            parts.append(f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})")
        print("  ".join(parts), flush=True)
    if "before" in logits:
        print(f"largest difference of logits {np.abs(logits['here'] - logits['before']).max():.1e}")


if __name__ == "__main__":
    main()
