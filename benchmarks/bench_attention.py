"""Sparse attention by residue classes against dense attention: CPU time and peak memory.

    python benchmarks/bench_attention.py [--lengths 50 100 ...] [--dilations 1 2 4 8] [--rounds 5]
    python benchmarks/bench_attention.py --phases [--lengths 500 1000 2000] [--dilations 2 4 8] [--rounds 15]

One block of a size-2 model (2 heads of width 20, local window 2), one thread, in one process, in turns;
bucket ids, bias and its gradients included. The yardstick is the best of three dense forms of causal
attention with the same bias: two products over the whole batch (``baddbmm`` on a gathered bias), the same in
pieces of the batch of 8 MB of logits, and, without gradients, PyTorch's fused attention with the bias as its
mask. All make bucket ids in the way of the sparse form. Cells say how many times faster the sparse form is,
medians of rounds. Memory is how far the peak of a fresh process grows in one forward and backward pass, in
percent of the growth of the faster dense form.

With ``--phases`` the yardstick is the sparse form whose heads all have one phase. Cells say how much time,
and memory, two blocks take whose heads have phases of their own, in percent: the plan of a batch is made
once for both, as in the model.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import configured  # noqa: F401 - first, for its effect
import torch
from torch import Tensor
from torch.nn import functional

from clickscale.layers.bias import TIME_BUCKETS
from clickscale.layers.kernels.class_plans import class_plan
from clickscale.layers.kernels.residue_classes import SHUT, short_times, write_buckets
from clickscale.layers.kernels.sparse_behaviors import attend_by_classes
from clickscale.models._suan.patterns import Phase, staggered

HEADS, WIDTH, WINDOW, SCALE = 2, 20, 2, 20**-0.5
PIECE = 8 << 20  # bytes of logits in a piece of the batch


class Given(NamedTuple):
    """Random input of a block."""

    query: Tensor
    key: Tensor
    value: Tensor
    times: Tensor
    mask: Tensor
    time: Tensor
    position: Tensor
    weight: Tensor


Form = Callable[[Given], Tensor]
Work = Callable[[], None]


def given(batch: int, length: int) -> Given:
    """Input for so many behaviors."""
    torch.manual_seed(0)

    def leaf(rows: int) -> Tensor:
        return torch.randn(batch, rows, HEADS, WIDTH).transpose(1, 2).requires_grad_()

    times = torch.randint(0, 10**8, (batch, length)).sort(dim=1).values + 10**9
    mask = torch.ones(batch, length, dtype=torch.bool)
    time = torch.randn(1, TIME_BUCKETS, requires_grad=True)
    position = torch.randn(1, length + 1, requires_grad=True)
    weight = torch.randn(batch, HEADS, length, WIDTH)
    return Given(leaf(length), leaf(length), leaf(length), times, mask, time, position, weight)


def split(x: Given, step: int) -> Iterator[Given]:
    """Pieces of the batch."""
    own = x.query, x.key, x.value, x.times, x.mask, x.weight
    for query, key, value, times, mask, weight in zip(*(part.split(step) for part in own), strict=True):
        yield Given(query, key, value, times, mask, x.time, x.position, weight)


def train(out: Tensor, x: Given) -> None:
    """Backward pass."""
    (out * x.weight).sum().backward()


# --- dense forms


def dense_ids(x: Given) -> Tensor:
    """(B, L, L) int64."""
    (times,) = short_times(x.times)
    ids = torch.empty(*times.shape, times.shape[1], dtype=torch.uint8)
    for rows in range(len(times)):
        write_buckets(times[rows, :, None], times[rows, None], "octave", ids[rows])
    seen = x.mask[:, None] & torch.ones(ids.shape[1:], dtype=torch.bool).tril_()
    return ids.masked_fill_(~seen, SHUT).long()


def bias(x: Given, ids: Tensor) -> Tensor:
    """(B, 1, L, L): gathered by bucket, with a column of -inf for what is not seen, and by distance."""
    column = torch.arange(ids.shape[1])
    distance = (column[:, None] - column).clamp_(min=0)
    table = functional.pad(x.time, (0, 1), value=-math.inf)[None].expand(len(ids), -1, -1)
    return (
        torch.gather(table, 2, ids.view(len(ids), 1, -1)).view(len(ids), 1, *distance.shape)
        + x.position[:, distance]
    )


def dense(x: Given) -> Tensor:
    """All of the batch at once."""
    return multiply(x.query, x.key, x.value, bias(x, dense_ids(x)))


def multiply(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    """Attention by two products."""
    batch, heads, length, width = query.shape
    flat = [part.reshape(batch * heads, length, width) for part in (query * SCALE, key, value)]
    added = added.expand(-1, heads, -1, -1).reshape(batch * heads, length, length)
    weights = torch.baddbmm(added, flat[0], flat[1].transpose(1, 2)).softmax(dim=-1)
    return torch.bmm(weights, flat[2]).view(query.shape)


def dense_in_pieces(x: Given) -> Tensor:
    """In pieces of the batch."""
    step = max(PIECE // (4 * HEADS * x.times.shape[1] ** 2), 1)
    return torch.cat([dense(part) for part in split(x, step)])


def fused(x: Given) -> Tensor:
    """PyTorch's fused attention, in pieces of the batch; for inference only."""
    step = max(PIECE // (4 * x.times.shape[1] ** 2), 1)
    return torch.cat([fused_piece(part) for part in split(x, step)])


def fused_piece(x: Given) -> Tensor:
    """PyTorch's fused attention."""
    added = bias(x, dense_ids(x))
    return functional.scaled_dot_product_attention(x.query, x.key, x.value, added, scale=SCALE)


# --- measuring


def medians(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """CPU seconds of each work, in turns."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            if number:  # the first round warms up
                found[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in found.items()}


def step(form: Form, x: Given) -> None:
    """Forward and backward pass."""
    train(form(x), x)


@torch.no_grad()
def infer(form: Form, x: Given) -> None:
    """Forward pass only."""
    form(x)


def sparse(x: Given, r: int) -> Tensor:
    """By classes, plan included."""
    plan = class_plan(x.times, x.mask, WINDOW, r, (0,), "octave")
    return attend_by_classes(x.query, x.key, x.value, plan, x.time, x.position, SCALE)


def two_blocks(x: Given, r: int, phase: Phase) -> Tensor:
    """Two blocks by classes, the second over what the first returns, plan included."""
    patterns = staggered(WINDOW, r, phase, 2, HEADS)
    phases = tuple(pattern.phase for pattern in patterns.distinct)
    plan = class_plan(x.times, x.mask, WINDOW, r, phases, "octave")
    query = x.query
    for heads in patterns.heads:
        own = plan.of_heads(heads)
        query = attend_by_classes(query, x.key, x.value, own, x.time, x.position, SCALE)
    return query


def highest() -> float:
    """Peak memory of this process so far, in MB (Linux)."""
    status = Path("/proc/self/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def named(form: str) -> Form:
    """A form by its name: dense, pieces, R, or PHASE:R."""
    forms = {"dense": dense, "pieces": dense_in_pieces}
    if form in forms:
        return forms[form]
    phase, _, r = form.rpartition(":")
    return partial(two_blocks, r=int(r), phase=phase) if phase else partial(sparse, r=int(r))


def peak(form: str, batch: int, length: int) -> float:
    """MB by which the peak of this process grows in one forward and backward pass."""
    run = named(form)
    small, x = given(1, 8), given(batch, length)
    train(run(small), small)
    before = highest()
    train(run(x), x)
    return highest() - before


def peak_elsewhere(form: str, batch: int, length: int) -> float:
    """`peak` in a fresh process."""
    command = [sys.executable, __file__, "--peak", form, str(batch), str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def encoding(length: int, dilations: list[int], rounds: int, behaviors: int) -> None:
    """Rows of the table of whole sequences."""
    batch = max(min(64, behaviors // length), 1)
    x = given(batch, length)
    forms = {"dense": dense, "pieces": dense_in_pieces}
    sparse_forms = {str(r): partial(sparse, r=r) for r in dilations}
    every = forms | sparse_forms
    both = medians({name: partial(step, form, x) for name, form in every.items()}, rounds)
    inference = every | {"fused": fused}
    forward = medians({name: partial(infer, form, x) for name, form in inference.items()}, rounds)
    fastest = min(forms, key=lambda name: both[name])
    room = peak_elsewhere(fastest, batch, length)
    for r in map(str, dilations):
        share = peak_elsewhere(r, batch, length) / max(room, 0.1)
        gain = min(forward[name] for name in (*forms, "fused")) / forward[r]
        print(
            f"| {length} | {batch} | {r} | {gain:.1f} | {both[fastest] / both[r]:.1f} | {share:.0%} |",
            flush=True,
        )


def staggering(length: int, dilations: list[int], rounds: int, behaviors: int) -> None:
    """Rows of the table of phases."""
    batch = max(min(64, behaviors // length), 1)
    x = given(batch, length)
    for r in dilations:
        forms = {phase: named(f"{phase}:{r}") for phase in ("paper", "head", "block_head")}
        forward = medians({name: partial(infer, form, x) for name, form in forms.items()}, rounds)
        both = medians({name: partial(step, form, x) for name, form in forms.items()}, rounds)
        room = {name: peak_elsewhere(f"{name}:{r}", batch, length) for name in forms}
        for name in ("head", "block_head"):
            cells = [found[name] / found["paper"] for found in (forward, both, room)]
            print(
                f"| {length} | {batch} | {r} | {name} | " + " | ".join(f"{x:.0%}" for x in cells) + " |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 100, 200, 500, 1000, 2000])
    parser.add_argument("--dilations", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--behaviors", type=int, default=16_000, help="at most so many in a batch")
    parser.add_argument("--phases", action="store_true", help="compare phases instead")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak[0], int(options.peak[1]), int(options.peak[2])))
    elif options.phases:
        print("| L | B | r | phase | forward | forward + backward | memory |\n|--:|--:|--:|---|--:|--:|--:|")
        for length in options.lengths:
            staggering(length, options.dilations, options.rounds, options.behaviors)
    else:
        print("| L | B | r | forward | forward + backward | memory |\n|--:|--:|--:|--:|--:|--:|")
        for length in options.lengths:
            encoding(length, options.dilations, options.rounds, options.behaviors)


if __name__ == "__main__":
    main()
