"""Gain of sharing the user side, and a check that it changes no score: a markdown table of each.

    python benchmarks/bench_scoring_claims.py PREPARED [--models suan,lightsuan:r=2,lightsuan:r=4]

Speed: one request with a full history, one thread, CPU seconds, both sides of a ratio in turns within one
process; the table has the median over rounds with the smallest and the largest. One by one is measured on 20
candidates and scaled to as many as the others score at once, since all would take minutes.

Exactness: the largest difference between logits of the same candidates scored together and in any other way.
Weights are random and far from their start, as after training. A model that came back from its
artifact also scores over a state that the model itself encoded.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import configured  # noqa: F401 - first, for its effect
import torch
from torch import Tensor

from clickscale.artifact import load_artifact, save_artifact
from clickscale.batch import CandidateSide, UserSide
from clickscale.costs.latency import behaviors, chosen, in_turns, made_up_request
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.models import CTRModel, State, build_model, score_in_chunks

SINGLES = 20  # candidates that are scored one by one
CACHED = (1, 10, 100, 200, 500, 1000)  # candidates for which a cached state is compared with encoding
APPENDS = 10  # appended in a row: the caches of the processor then hold the model, not an encoding's matrices
CHUNKS = (1, 8, 50, 200)  # m2: candidates that are scored in parallel


@dataclass(frozen=True)
class Subject:
    """A model, a request of ``m1`` candidates, and the states that a server would have."""

    name: str
    model: CTRModel[Any]
    user: UserSide
    candidates: CandidateSide
    stored: State
    before: State
    newest: UserSide

    def only(self, count: int) -> CandidateSide:
        return chosen(self.candidates, slice(0, count))

    def encode(self) -> State:
        return self.model.encode_user(self.user)

    def append(self) -> State:
        return self.model.extend_user(self.before, self.newest)

    def together(self, count: int) -> Tensor:
        return self.model.score(self.encode(), self.only(count))

    def one_by_one(self, count: int) -> Tensor:
        single = [chosen(self.candidates, slice(c, c + 1)) for c in range(count)]
        return torch.cat([self.model.score(self.encode(), one) for one in single], dim=1)


def subject(name: str, dataset: Dataset, grade: str, sets: list[str], length: int) -> Subject:
    """A model with large random weights and a made-up request."""
    torch.manual_seed(0)
    kind, _, options = name.partition(":")
    overrides = [*sets, *(option for option in options.split(";") if option)]
    columns = dataset.item_columns()
    model = build_model(kind, dataset.features, columns, grade=grade, length=length, overrides=overrides)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter += size * torch.randn_like(parameter)
    model.eval()
    user, candidates = made_up_request(dataset.features, length, max(CACHED))
    stored = model.scoring_state(model.encode_user(user))
    before = model.appendable_state(model.encode_user(behaviors(user, slice(0, -1))))
    return Subject(name, model, user, candidates, stored, before, behaviors(user, slice(-1, None)))


# --- speed


def ratios(slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> list[float]:
    """Ratio of the CPU times of two kinds of work, round by round."""
    runs = in_turns({"slow": slow, "fast": fast}, rounds, float("inf"), time.process_time)
    return [a / b for a, b in zip(runs["slow"], runs["fast"], strict=True)]


def shown(values: list[float], form: Callable[[float], str]) -> str:
    """Median with the smallest and the largest."""
    return f"{form(statistics.median(values))} ({form(min(values))}-{form(max(values))})"


def times(value: float) -> str:
    return f"{value:.3g}x" if value < 100 else f"{value:.0f}x"


def percent(value: float) -> str:
    return f"{value:.1%}"


def speed(one: Subject, m1: int, rounds: int) -> Iterator[tuple[str, str, str, bool]]:
    """(claim, needed, measured, holds) of one model."""
    single = ratios(lambda: one.one_by_one(SINGLES), lambda: one.together(m1), rounds)
    found = [ratio * m1 / SINGLES for ratio in single]
    yield (
        f"{m1} candidates together, against one by one",
        ">= 50x",
        shown(found, times),
        statistics.median(found) >= 50,
    )
    for count in CACHED:
        found = ratios(
            lambda count=count: one.together(count),  # type: ignore[misc]
            lambda count=count: one.model.score(one.stored, one.only(count)),  # type: ignore[misc]
            rounds,
        )
        claim = f"cached state, against encoding again, {count} candidates"
        yield claim, ">= 3x", shown(found, times), statistics.median(found) >= 3
    for times_in_a_row, when in ((1, "right after an encoding"), (APPENDS, f"{APPENDS} in a row")):
        found = [
            ratio / times_in_a_row
            for ratio in ratios(lambda n=times_in_a_row: [one.append() for _ in range(n)], one.encode, rounds)  # type: ignore[misc]
        ]
        holds = statistics.median(found) < 0.05
        yield f"one behavior appended, of encoding again, {when}", "< 5%", shown(found, percent), holds


# --- exactness


def from_artifact(one: Subject, dataset: Dataset, grade: str) -> CTRModel[Any]:
    """The model as its artifact gives it back."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_artifact(
            Path(folder) / "artifact",
            one.model,
            dataset.encoder,
            dataset.item_columns(),
            model_name=one.name.partition(":")[0],
            grade=grade,
            length=one.user.items.shape[1],
            labels=dataset.labels[:1],
            metrics={},
        )
        return load_artifact(path).model


def gaps(one: Subject, served: CTRModel[Any]) -> Iterator[tuple[str, float]]:
    """Ways to score, and how far their logits are from those of all candidates together."""
    count = max(CHUNKS)
    whole, few = one.together(count), one.only(count)
    state = one.encode()

    def gap(logits: Tensor) -> float:
        return float((logits - whole[:, : logits.shape[1]]).abs().max())

    yield f"one by one, {SINGLES} candidates", gap(one.one_by_one(SINGLES))
    for size in CHUNKS:
        yield f"m2 = {size}", gap(score_in_chunks(one.model, state, few, size))
    yield "cached", gap(one.model.score(one.stored, few))
    yield "appended", gap(one.model.score(one.append(), few))
    yield "from the artifact", gap(served.score(served.encode_user(one.user), few))
    yield "artifact over a state of the model", gap(served.score(one.stored, few))
    half = one.stored.to(dtype=torch.float16)
    yield "cached in fp16", gap(one.model.score(half, few))
    yield "largest |logit|", float(whole.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument(
        "--models", default="suan,lightsuan:r=2,lightsuan:r=4", help="NAME or NAME:option=value;option=value"
    )
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=500, help="m1 of parallel against one by one")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--set", action="append", default=[], metavar="A=B", help="options of all models")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(options.prepared)
    names = options.models.split(",")
    fast, exact = {}, {}
    with torch.inference_mode():
        for name in names:
            one = subject(name, dataset, options.grade, options.set, options.length)
            exact[name] = dict(gaps(one, from_artifact(one, dataset, options.grade)))
            fast[name] = list(speed(one, options.candidates, options.rounds))
    print(f"{options.grade}, L = {options.length}, one thread\n\n| | needed | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for claims in zip(*fast.values(), strict=True):
        cells = [measured if holds else f"{measured}, **no**" for _, _, measured, holds in claims]
        print(f"| {claims[0][0]} | {claims[0][1]} | " + " | ".join(cells) + " |")
    print("\n| max \\|dlogit\\| against all together | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for way in exact[names[0]]:
        print(f"| {way} | " + " | ".join(f"{exact[name][way]:.1e}" for name in names) + " |")


if __name__ == "__main__":
    main()
