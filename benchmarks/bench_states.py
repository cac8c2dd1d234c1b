"""States of users: bytes by kind and precision, what finding one costs, what less precision does to scores.

    python benchmarks/bench_states.py [--grade size-2] [--lengths 100,200,500,1000] [--dilations 1,2,4]
    python benchmarks/bench_states.py --artifact RUN/artifact --prepared PREPARED [--requests 500]

The first form needs neither data nor training: bytes and times depend on shapes only (made-up behaviors of
5 fields). The second compares logits over kept states with those of the trained model itself, on requests of
the test part that come one behavior after the other, so that most states were appended to.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import msgspec
import numpy as np
import torch

from clickscale.artifact import load_artifact
from clickscale.costs.flops import reference_features, reference_items
from clickscale.costs.latency import made_up_request
from clickscale.data.dataset import open_dataset
from clickscale.evaluation.metrics import auc
from clickscale.features import label_of
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.requests import Request
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import StateCache, compact
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.inference.states.int8_states import to_int8
from clickscale.inference.states.user_states import UserStates
from clickscale.models import build_model

KINDS = ("appendable", "scoring")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
KEPT_AS = (*PRECISIONS, "int8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--lengths", default="100,200,500,1000")
    parser.add_argument("--dilations", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--artifact", type=Path, help="measure the precision of this model instead")
    parser.add_argument("--prepared", type=Path, help="the data set it was trained on")
    parser.add_argument("--requests", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        if options.artifact:
            precision(options.artifact, options.prepared, options.requests)
            return
        for r in map(int, options.dilations.split(",")):
            for length in map(int, options.lengths.split(",")):
                sizes_and_times(options.grade, r, length, options.rounds)


def sizes_and_times(grade: str, r: int, length: int, rounds: int) -> None:
    """One line: bytes of every form, and the time of a look-up as a share of the time of encoding."""
    features = reference_features()
    model = build_model(
        "lightsuan",
        features,
        reference_items(features),
        grade=grade,
        length=length,
        overrides=(f"r={r}",),
    ).eval()
    user, _ = made_up_request(features, length, 1)
    state = model.encode_user(user)
    found = []
    for kept in (model.appendable_state(state), model.scoring_state(state)):
        for name in ("fp32", "fp16"):
            small = compact(kept, PRECISIONS[name])
            assert small is not None, "a state overflows half precision"
            found.append(f"{small.nbytes:10,}")
        eighth = to_int8(kept)
        assert eighth is not None, "a state overflows half precision"
        found.append(f"{eighth.nbytes:10,}")
    states = UserStates(model, StateCache(CacheConfig(admit_after=1)), "digest", length)

    def look_up() -> None:
        (claim,) = states.claims(user, [length], [("", b"user")])
        assert claim.state is not None, "every claim has a state"

    look_up()
    encoding, finding = median(lambda: model.encode_user(user), rounds), median(look_up, rounds)
    kinds = " ".join(found[:3]), " ".join(found[3:])
    sizes = f"appendable fp32, fp16, int8 {kinds[0]}  scoring {kinds[1]}"
    cost = f"look-up {finding * 1e3:.2f} ms, {finding / encoding:.1%} of encoding"
    print(f"r={r} L={length:5}  {sizes}  {cost}", flush=True)


def median(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return statistics.median(found)


def precision(path: Path, prepared: Path, count: int) -> None:
    """Largest and median difference of logits by precision and kind, and the AUC of the final requests."""
    artifact, dataset = load_artifact(path), open_dataset(prepared)
    rows = dataset.part("test")
    length = artifact.config.length
    shown = dataset.impressions["visible"][rows]
    rows = rows[shown >= min(length, int(np.quantile(shown, 0.9)))][:count]
    requests = growing(requests_from_dataset(dataset, rows), length, steps=4)
    right = np.concatenate([one.logits.ravel() for one in Scorer(artifact).score_many(requests)])
    clicks = dataset.impressions[label_of(artifact.config.labels[0])][rows]
    # The last of the requests of a moment stands over a kept state that was appended to.
    last = np.cumsum([len(one["candidates"]) for one in requests])
    final = np.concatenate(
        [np.arange(end - len(requests[n]["candidates"]), end) for n, end in enumerate(last) if n % 6 == 5]
    )
    print(f"AUC {auc(clicks == 1, right[final]):.5f} of {len(final)} candidates without kept states")
    print(f"{len(requests)} requests, {len(right)} logits of deviation {right.std():.2f}, L = {length}")
    for kind in KINDS:
        for name in KEPT_AS:
            config = msgspec.convert(
                {"kind": kind, "precision": name, "admit_after": 1, "audit_share": 0.0}, CacheConfig
            )
            cache = StateCache(config)
            scorer = Scorer(artifact, cache=cache)
            found = scorer.score_many(requests, batch=1)
            logits = np.concatenate([one.logits.ravel() for one in found])
            far = np.abs(logits - right)
            stats = cache.stats()
            print(
                f"{kind:10} {name}  largest {far.max():.1e}  median {np.median(far):.1e}"
                f"  AUC {auc(clicks == 1, logits[final]):.5f}"
                f"  ({stats.hits} hits, {stats.appends} appended to, of {len(requests)})",
                flush=True,
            )


def growing(requests: list[Request], length: int, steps: int) -> list[Request]:
    """Every request as the user would have sent it a few behaviors earlier, up to now, and once more."""
    found = []
    for request in requests:
        recent = request["behaviors"][-length:]
        lengths = [*range(len(recent) - steps, len(recent) + 1), len(recent)]
        found += [request | {"behaviors": recent[: max(count, 0)]} for count in lengths]
    return found


if __name__ == "__main__":
    main()
