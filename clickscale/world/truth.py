"""The truth of a world, stored beside its data set and never among the columns that models and trees read.

::

    truth/probability.npy    (impressions,) float32: click probability, by row of the data set
    truth/known.npy          (impressions,) float32: part of the logit that does not depend on behaviors
    truth/world.json         options of the world and its intercept; the market is drawn again from them

The manifest of the data set has their hashes.
"""

from pathlib import Path

import numpy as np

from clickscale.arrays import Array, Floats32, Ints
from clickscale.config import Config
from clickscale.config_text import load_json, to_json
from clickscale.data.columns import NpyWriter, blocks, open_column
from clickscale.data.dataset import Dataset
from clickscale.errors import DataError
from clickscale.world.world_config import WorldConfig

LABEL = "click"  # the one label of a world
_FOLDER = "truth"
_WORLD = "world.json"


class WorldFacts(Config, frozen=True):
    """Options of a world, and the intercept of its click logit."""

    options: WorldConfig
    intercept: float
    version: int = 1


def write_truth(folder: Path, facts: WorldFacts, probability: Array, known: Array) -> None:
    """Write the truth of an unfinished data set; both arrays are in the order of the log."""
    row = open_column(folder / "impressions" / "row.npy")
    target = folder / _FOLDER
    for name, values in (("probability", probability), ("known", known)):
        with NpyWriter(target / f"{name}.npy", np.float32) as writer:
            for rows in blocks(len(row)):
                writer.append(values[row[rows]])
    (target / _WORLD).write_text(to_json(facts) + "\n", encoding="utf-8")


def is_world(dataset: Dataset) -> bool:
    """True if the true probabilities of a data set are known."""
    return f"{_FOLDER}/{_WORLD}" in dataset.manifest.files


def require_world(dataset: Dataset) -> None:
    """Refuse a data set whose truth is not known.

    Raises:
        DataError: names the data set.
    """
    if not is_world(dataset):
        raise DataError(
            f"{dataset.path} is not a simulated world, so its true click probabilities are not known; "
            "make one with: clickscale data world"
        )


def world_facts(dataset: Dataset) -> WorldFacts:
    """Options of the world that a data set was made of."""
    path = dataset.path / _FOLDER / _WORLD
    return load_json(path.read_bytes(), WorldFacts, str(path))


def true_probability(dataset: Dataset, rows: Ints) -> Floats32:
    """(N,) true click probabilities of impressions."""
    return _column(dataset, "probability", rows)


def known_logit(dataset: Dataset, rows: Ints) -> Floats32:
    """(N,) part of the true logit that does not depend on behaviors."""
    return _column(dataset, "known", rows)


def _column(dataset: Dataset, name: str, rows: Ints) -> Floats32:
    values: Floats32 = np.asarray(open_column(dataset.path / _FOLDER / f"{name}.npy")[rows], np.float32)
    return values
