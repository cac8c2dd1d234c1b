"""One request to loaded artifacts in this checkout against another checkout of the project.

    git worktree add ../before COMMIT
    python benchmarks/bench_served.py ../before RUN/artifact:50 OTHER/artifact:200

An artifact is written FOLDER:LENGTH, where the length is that of the user's history. Two processes, one for
each checkout, load all artifacts and take turns: some requests with the user encoded, some over a kept state.
One thread. Milliseconds are CPU time of the fastest twentieth of the requests, which other processes disturb
least; the ratio is above 1 where this checkout is faster. ``apart`` is the largest difference of logits.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clickscale.artifact import load_artifact
from clickscale.costs.latency import made_up_request
from clickscale.runtime import configure_process

HERE = Path(__file__).resolve().parents[1]
RUNS = 12  # in a turn, of one way to score
FASTEST = 5  # percent


def ways_to_score(spec: str, candidates: int) -> dict[str, Callable[[], torch.Tensor]]:
    """Both ways to answer a request."""
    folder, _, length = spec.rpartition(":")
    artifact = load_artifact(Path(folder))
    model = artifact.model
    user, shown = made_up_request(artifact.config.features, int(length), candidates)
    state = model.scoring_state(model.encode_user(user))
    return {
        "encoded": lambda: model.score(model.encode_user(user), shown),
        "kept": lambda: model.score(state, shown),
    }


def answer_turns(options: argparse.Namespace) -> None:
    """Write logits, then the times of a turn for each line that is read."""
    configure_process()
    torch.set_num_threads(1)
    with torch.inference_mode():
        works = {spec: ways_to_score(spec, options.candidates) for spec in options.artifacts}
        print(json.dumps([ways["encoded"]().flatten().tolist() for ways in works.values()]), flush=True)
        for _ in sys.stdin:
            turn = {
                f"{spec} {way}": timed(work) for spec, ways in works.items() for way, work in ways.items()
            }
            print(json.dumps(turn), flush=True)


def timed(work: Callable[[], object]) -> list[float]:
    """CPU milliseconds of each run after a first one."""
    work()
    times = []
    for _ in range(RUNS):
        start = time.thread_time()
        work()
        times.append(1000 * (time.thread_time() - start))
    return times


def main() -> None:
    """Let both checkouts take turns and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("artifacts", nargs="+", metavar="FOLDER:LENGTH")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turns", action="store_true", help="measure the package on the path")
    options = parser.parse_args()
    if options.turns:
        answer_turns(options)
        return
    processes = [opened(checkout) for checkout in (options.before.resolve(), HERE)]
    logits = [np.array(json.loads(process.stdout.readline())) for process in processes]
    found: list[dict[str, list[float]]] = [{}, {}]
    for _ in range(options.rounds):
        for process, times in zip(processes, found, strict=True):
            process.stdin.write("\n")
            process.stdin.flush()
            for name, turn in json.loads(process.stdout.readline()).items():
                times.setdefault(name, []).extend(turn)
    for process in processes:
        process.stdin.close()
        process.wait()
    print("| artifact | encoded: before | now | ratio | kept: before | now | ratio | apart |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for spec, before, now in zip(options.artifacts, *logits, strict=True):
        cells = []
        for way in ("encoded", "kept"):
            old, new = (float(np.percentile(times[f"{spec} {way}"], FASTEST)) for times in found)
            cells += [f"{old:.2f}", f"{new:.2f}", f"{old / new:.2f}"]
        print(f"| {spec} | {' | '.join(cells)} | {np.abs(before - now).max():.1e} |")


def opened(checkout: Path) -> Any:
    """Process that measures a checkout in turns."""
    command = [sys.executable, __file__, *sys.argv[1:], "--turns"]
    path = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
