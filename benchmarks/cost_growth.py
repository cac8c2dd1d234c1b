"""Growth of cost: encoding and training with the length of the history, scoring with candidates and users.

    python benchmarks/cost_growth.py [--out docs/images/cost-growth.svg] [--lengths 50,100,...,4000]

Time is CPU seconds of one thread, medians of rounds in which the models take turns. Memory is the growth of
the peak of resident memory, each point in a process of its own that has done the same on a short history
before. A training step is forward, backward and optimizer on one window with 64 impressions at its end;
scoring is from a stored state. Slopes are those of a line through the last points on two logarithmic axes:
1 is linear, 2 is quadratic. A point is left out where the one before says that it would take more than 2 GB.
"""

import argparse
import dataclasses
import json
import math
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import configured  # noqa: F401 - first, for its effect
import numpy as np
import torch
from torch import Tensor

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.costs.flops import reference_features, reference_items
from clickscale.costs.latency import chosen, in_turns, made_up_request
from clickscale.models import CTRModel, State, build_model, stack
from clickscale.report.latency_plots import Points, growth
from clickscale.report.plots import save_svg
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer

MODELS = {"suan (r = 1)": "suan"} | {f"lightsuan r = {r}": f"lightsuan:r={r}" for r in (2, 4, 8)}
FEATURES = reference_features()
WINDOW = 64  # impressions of a training step
TRAINED = 1000  # distances beyond it share one entry of the bias
MOST_BYTES = 2e9
SHORT = 50  # behaviors of the history that a process has worked on before it is measured
CANDIDATES = (1, 10, 30, 100, 300, 1000, 3000)
USERS = (1, 2, 4, 8, 16, 32, 64)
KEPT = 500  # length of the history that candidates and users are counted with
LEAST = 0.5  # milliseconds or MB that are drawn
EACH = 60  # candidates of each user

Work = Callable[[], object]


def built(name: str, grade: str) -> CTRModel[Any]:
    """A model with fresh weights on the made-up fields of `clickscale cost`."""
    torch.manual_seed(0)
    kind, _, option = name.partition(":")
    items = reference_items(FEATURES)
    return build_model(
        kind, FEATURES, items, grade=grade, length=TRAINED, overrides=[option] if option else []
    )


class Step:
    """Training steps of a model on one window; its last impressions are scored, each before its behavior."""

    def __init__(self, model: CTRModel[Any]) -> None:
        self.objective = ClickLoss(model.train(), ("click",))
        self.optimizer = build_optimizer(model, OptimizerConfig(), 1000)

    def on(self, length: int) -> Work:
        """A step on a history of so many behaviors."""
        user, shown = made_up_request(FEATURES, length, min(WINDOW, length))
        count = shown.items.shape[1]
        visible = torch.arange(length - count, length)[None]
        candidates = dataclasses.replace(shown, visible=visible, times=user.times[:, -count:])
        labels = (torch.arange(count) % 2).float()[None, :, None]
        rows = torch.arange(count)[None]
        batch = Batch(user, candidates, labels, torch.ones_like(labels, dtype=torch.bool), rows)

        def step() -> None:
            loss = self.objective(batch)[LOSS]
            loss.backward()
            self.optimizer.step(loss, 0)

        return step


def encoding(model: CTRModel[Any], length: int) -> Work:
    """Encodes a history of so many behaviors."""
    user, _ = made_up_request(FEATURES, length, 1)

    def encode() -> State:
        with torch.inference_mode():
            return model.encode_user(user)

    return encode


WORKS: dict[str, Callable[[CTRModel[Any]], Callable[[int], Work]]] = {
    "encode": lambda model: lambda length: encoding(model, length),
    "step": lambda model: Step(model).on,
}


# --- memory


def resident(field: str) -> int:
    """Bytes of a field of the status of this process: VmRSS (now) or VmHWM (peak)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii").splitlines())
    return int(fields[field].split()[0]) * 1024


def _report(short: Work, long: Work, pipe: Connection) -> None:
    short()  # maps code and takes what every length needs
    before = resident("VmRSS")
    long()
    pipe.send(resident("VmHWM") - before)


def peak_growth(short: Work, long: Work) -> int:
    """Bytes by which the peak of resident memory grows from a short to a long work, in a forked process."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_report, args=(short, long, theirs))
    process.start()
    theirs.close()
    found = int(ours.recv())
    process.join()
    return found


def print_memory(what: str, name: str, grade: str, lengths: Sequence[int]) -> None:
    """Print as JSON the MB of every length; runs in a process that has done nothing else."""
    work = WORKS[what](built(name, grade))
    taken: dict[int, float] = {}
    for length in lengths:
        last = max(taken, default=0)
        if last and taken[last] * 1e6 * (length / last) ** 2 > MOST_BYTES:
            break
        taken[length] = max(peak_growth(work(SHORT), work(length)) / 1e6, 0.0)
    print(json.dumps(list(taken.items())))


def memory(what: str, grade: str, lengths: Sequence[int]) -> dict[str, dict[int, float]]:
    """MB of every model at every length that stays below 2 GB."""
    found = {}
    for label, name in MODELS.items():
        command = [sys.executable, __file__, "--child", what, name, "--grade", grade]
        command += ["--lengths", ",".join(map(str, lengths))]
        found[label] = dict(json.loads(subprocess.check_output(command, text=True)))
    return found


def milliseconds(
    what: str, grade: str, taken: Mapping[str, Mapping[int, float]], seconds: float
) -> dict[str, dict[int, float]]:
    """CPU milliseconds of every model at the lengths whose memory was measured."""
    works = {label: WORKS[what](built(name, grade)) for label, name in MODELS.items()}
    return measured(
        lambda label, length: works[label](length) if length in taken[label] else None,
        MODELS,
        sorted({length for points in taken.values() for length in points}),
        seconds,
    )


# --- growth with candidates and users


def rows_of(side: UserSide, count: int) -> UserSide:
    """The same user several times."""
    fields = dataclasses.fields(side)
    return UserSide(**{f.name: getattr(side, f.name).repeat_interleave(count, dim=0) for f in fields})


def shown_to(side: CandidateSide, count: int) -> CandidateSide:
    """The same candidates for several users."""
    fields = dataclasses.fields(side)
    return CandidateSide(**{f.name: getattr(side, f.name).repeat_interleave(count, dim=0) for f in fields})


def with_candidates(models: Mapping[str, CTRModel], seconds: float) -> dict[str, dict[int, float]]:
    """CPU milliseconds of scoring from a stored state."""
    user, shown = made_up_request(FEATURES, KEPT, max(CANDIDATES))
    stored = {name: model.scoring_state(model.encode_user(user)) for name, model in models.items()}

    def score(name: str, count: int) -> Callable[[], Tensor]:
        few = chosen(shown, slice(0, count))
        return lambda: models[name].score(stored[name], few)

    return measured(score, models, CANDIDATES, seconds)


def with_users(models: Mapping[str, CTRModel], seconds: float) -> dict[str, dict[int, float]]:
    """CPU milliseconds of scoring for several users at once, from their stored states."""
    user, shown = made_up_request(FEATURES, KEPT, EACH)
    stored = {name: model.scoring_state(model.encode_user(user)) for name, model in models.items()}

    def score(name: str, count: int) -> Callable[[], Tensor]:
        states, candidates = stack([stored[name]] * count), shown_to(shown, count)
        return lambda: models[name].score(states, candidates)

    return measured(score, models, USERS, seconds)


def measured(
    work: Callable[[str, int], Work | None], names: Iterable[str], sizes: Sequence[int], seconds: float
) -> dict[str, dict[int, float]]:
    """CPU milliseconds of a work by model and size."""
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for size in sizes:
        ready = {name: made for name in found if (made := work(name, size)) is not None}
        for name, values in in_turns(ready, 9, seconds, time.process_time).items():
            found[name][size] = float(np.median(values))
    return found


# --- output


def slope(points: Mapping[int, float], first: int) -> float:
    """Exponent of the power that fits the points from ``first`` on; nan with fewer than two."""
    chosen_points = [(math.log(x), math.log(y)) for x, y in points.items() if x >= first and y > 0]
    if len(chosen_points) < 2:
        return math.nan
    return float(np.polyfit(*zip(*chosen_points, strict=True), 1)[0])


def table(title: str, found: Mapping[str, Mapping[int, float]], first: int) -> Iterator[str]:
    """A markdown table: a line per model, a column per size, the slope."""
    sizes = sorted({size for points in found.values() for size in points})
    yield f"\n| {title} | " + " | ".join(f"{size:,}" for size in sizes) + f" | slope from {first:,} |"
    yield "|---|" + "--:|" * (len(sizes) + 1)
    for name, points in found.items():
        cells = [f"{points[size]:,.3g}" if size in points else "-" for size in sizes]
        yield f"| {name} | " + " | ".join(cells) + f" | {slope(points, first):.2f} |"


def lines(found: Mapping[str, Mapping[int, float]]) -> dict[str, Points]:
    """Measurements as lines of a plot; what is too small to be measured well is left out."""
    above = {name: {x: y for x, y in points.items() if y >= LEAST} for name, points in found.items()}
    return {name: (list(points), list(points.values()), None) for name, points in above.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file of the plot")
    parser.add_argument("--lengths", default="50,100,200,500,1000,2000,4000")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--seconds", type=float, default=2.0, help="time of one size of all models")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [int(length) for length in options.lengths.split(",")]
    if options.child:
        print_memory(*options.child, options.grade, lengths)
        return
    models = {label: built(name, options.grade).eval() for label, name in MODELS.items()}
    with torch.inference_mode():
        candidates = with_candidates(models, options.seconds)
        users = with_users(models, options.seconds)
    taken = {what: memory(what, options.grade, lengths) for what in WORKS}
    spent = {what: milliseconds(what, options.grade, taken[what], options.seconds) for what in WORKS}
    found = [
        ("Encoding a user", "behaviors L", "CPU milliseconds", spent["encode"], 1000),
        ("Training step, 64 impressions", "behaviors L", "CPU milliseconds", spent["step"], 1000),
        ("Scoring from a state", f"candidates, L = {KEPT}", "CPU milliseconds", candidates, 100),
        ("Encoding a user", "behaviors L", "peak memory, MB", taken["encode"], 1000),
        ("Training step, 64 impressions", "behaviors L", "peak memory, MB", taken["step"], 1000),
        (f"Scoring {EACH} candidates of each", f"users, L = {KEPT}", "CPU milliseconds", users, 8),
    ]
    print(f"{options.grade}, one thread")
    for title, x, y, values, first in found:
        print("\n".join(table(f"{title}: {y} by {x}", values, first)), flush=True)
    if options.out:
        save_svg(growth([(title, x, y, lines(values)) for title, x, y, values, _ in found]), options.out)


if __name__ == "__main__":
    main()
