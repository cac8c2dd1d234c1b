"""The small logs that the commands and programs in the documents run on."""

from pathlib import Path

from clickscale.demo.example_log import CATEGORIES, ITEMS, START, write_example_log
from tests.scaling.planted import write_planted_sweep
from tests.shape_logs import write_shape_logs

__all__ = ["CATEGORIES", "ITEMS", "START", "write_document_data"]


def write_document_data(folder: Path) -> None:
    """Write clicks.csv, items.csv, users.csv, logs of other shapes, and a sweep of made-up points."""
    write_example_log(folder)
    write_shape_logs(folder / "logs")
    write_planted_sweep(folder / "synthetic-sweep")
