"""GAUC over 1,000,000 rows of 100,000 users against a loop over users with scikit-learn; bootstrap time.

    python benchmarks/bench_metrics.py [--loop-users 3000]

The loop would take minutes, so it runs over the first `--loop-users` users and is scaled by the number of
users; both ways must give the same GAUC on those users. Needs scikit-learn.
"""

import argparse
import math
import time
from collections.abc import Callable

import configured  # noqa: F401 - first, for its effect
import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from clickscale.evaluation import gauc, user_bootstrap

ROWS, USERS = 1_000_000, 100_000


def loop_gauc(
    labels: npt.NDArray[np.bool_], scores: npt.NDArray[np.float32], users: npt.NDArray[np.int64]
) -> float:
    order = np.argsort(users, kind="stable")
    labels, scores, users = labels[order], scores[order], users[order]
    total = weight = 0.0
    for mine in np.split(np.arange(len(users)), np.flatnonzero(np.diff(users)) + 1):
        if 0 < labels[mine].sum() < len(mine):
            total += len(mine) * roc_auc_score(labels[mine], scores[mine])
            weight += len(mine)
    return total / weight


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Least time of a few repeats: what the work costs when nothing else disturbs it."""
    best = math.inf
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--loop-users", type=int, default=3000, help="users that the loop runs over (at most 100000)"
    )
    loop_users = min(parser.parse_args().loop_users, USERS)
    random = np.random.default_rng(0)
    users = random.integers(0, USERS, ROWS)
    scores = np.round(random.normal(-2, 1, ROWS), 2).astype(np.float32)  # rounded, so that there are ties
    labels = random.random(ROWS) < 1 / (1 + np.exp(-scores))

    ours = seconds(lambda: gauc(labels, scores, users), 5)
    few = users < loop_users
    sample = labels[few], scores[few], users[few]
    loop = seconds(lambda: loop_gauc(*sample), 1) * USERS / loop_users
    assert math.isclose(gauc(*sample), loop_gauc(*sample), rel_tol=1e-12), "the two ways disagree"
    print(f"GAUC, {ROWS:,} rows, {USERS:,} users: {ours:.3f} s")
    print(f"loop over users, scikit-learn: {loop:.1f} s (from {loop_users:,} users) = {loop / ours:.0f}x")

    tenth = users < USERS // 10
    part = labels[tenth], scores[tenth], users[tenth]
    bootstrap = seconds(lambda: user_bootstrap(*part), 1)
    print(f"5 metrics with intervals, {tenth.sum():,} rows, 200 replicates: {bootstrap:.2f} s")


if __name__ == "__main__":
    main()
