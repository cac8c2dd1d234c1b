"""Small sweeps on the tiny log."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from clickscale.scaling.sweeps.sweep_config import SweepConfig
from tests.data.tiny import tiny_dataset, tiny_source

SMALL = ("batch_size=16", "model.head.hidden=[8]")


def small_data(folder: Path) -> Path:
    """A log of 400 impressions."""
    return tiny_dataset(folder, tiny_source(impressions=400, users=20))


def small_sweep(data: Path, **changes: Any) -> SweepConfig:
    """Two models at two fractions."""
    usual = SweepConfig(
        data=str(data),
        models=("mlp", "suan"),
        sizes=("size-1",),
        lengths=(8,),
        fractions=(0.5, 1.0),
        seeds=1,
        latency=False,
        sets=SMALL,
    )
    return replace(usual, **changes)
