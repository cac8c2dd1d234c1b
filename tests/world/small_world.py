"""A world that is small enough for a test."""

from pathlib import Path

import msgspec

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.world.world_config import WorldConfig, preset_config
from clickscale.world.world_log import world_source


def small_config(impressions: int = 6_000, **options: object) -> WorldConfig:
    """A world of about 120 users of short lives."""
    usual = {"days": 30, "quiet_days": 8, "visits": 15.0, "browsed": 5.0, "requests": 5.0, "items": 120}
    config = preset_config("market", impressions, 0)
    return msgspec.structs.replace(config, **{**usual, "categories": 12, "period": (2.0, 8.0), **options})


def small_world(folder: Path, config: WorldConfig | None = None, chunk_rows: int = 1 << 17) -> Dataset:
    """A prepared small world."""
    prepare(world_source(config or small_config()), folder, chunk_rows=chunk_rows)
    return open_dataset(folder)
