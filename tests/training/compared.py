"""Runs compared to the bit: every tensor and fact of the last checkpoint, and all logged numbers."""

from pathlib import Path
from typing import Any

import torch

from clickscale.training.run.checkpoint import Checkpoint, read_checkpoint
from clickscale.training.run.logs import read_metrics

TIMES = {"seconds", "samples_per_second", "cpu_seconds"}


def last(run: Path) -> Checkpoint:
    """The newest checkpoint of a run."""
    return read_checkpoint(run / "checkpoints" / (run / "checkpoints/latest").read_text())


def numbers(run: Path) -> list[dict[str, Any]]:
    """Logged lines without times."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(run)]


def differing(a: Path, b: Path) -> list[str]:
    """Names of what differs between two finished runs; empty if they are equal to the bit."""
    one, two = last(a), last(b)
    names = sorted(set(one.tensors) ^ set(two.tensors))
    names += [n for n in one.tensors if n in two.tensors and not torch.equal(one.tensors[n], two.tensors[n])]
    facts = (one.facts.keys() | two.facts.keys()) - TIMES
    names += sorted(fact for fact in facts if one.facts[fact] != two.facts[fact])
    return names + (["metrics"] if numbers(a) != numbers(b) else [])
