"""Statistics of impressions with another item, against a log in which that item was shown."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.features import statistics_of_others
from clickscale.data.features.statistics import write_statistics
from clickscale.data.features.statistics_of_others import StatisticsOfOthers
from clickscale.features import column_of
from clickscale.schema import Statistic
from tests.data.tiny import DAY, STATISTICS, tiny_dataset, tiny_source
from tests.inference.test_statistic_counters import drawn_data

MORE = (
    *STATISTICS,
    Statistic(name="user_lift", by=("user",), of="lift", window=5 * DAY),
    Statistic(name="genre_lift", by=("user", "genre"), of="lift", prior=3.0),
    Statistic(name="gender_rate", by=("gender", "item"), of="rate", label="like"),
    Statistic(name="position_count", by=("position", "genre"), of="count", window=4 * DAY),
    Statistic(name="hour_rate", by=("hour_of_day", "genre")),
    Statistic(name="genre_recency", by=("user", "genre"), of="recency", window=9 * DAY),
    Statistic(name="like_recency", by=("item",), of="recency", label="like", window=12 * DAY),
    Statistic(name="after_rate", by=("newest.item", "item")),
    Statistic(name="after_lift", by=("newest.genre", "genre"), of="lift"),
    Statistic(name="item_share", by=("item",), of="share", window=9 * DAY),
    Statistic(name="user_genre_share", by=("user", "genre"), of="share", prior=2.0),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    source = tiny_source(impressions=150, statistics=MORE)
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data"), source))


def stored(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    names = [statistic.name for statistic in dataset.schema.statistics]
    return np.stack([np.asarray(dataset.impressions[column_of(name)])[rows] for name in names], 1)


def shown_instead(dataset: Dataset, row: int, item: int, folder: Path) -> np.ndarray:
    """Statistics that preparation gives to an impression of this item."""
    copy = Path(shutil.copytree(dataset.path, folder / f"{row}-{item}"))
    items = np.load(copy / "impressions/item.npy")
    items[row] = item
    np.save(copy / "impressions/item.npy", items)
    write_statistics(copy, dataset.schema)
    names = [statistic.name for statistic in dataset.schema.statistics]
    raw = {name: np.load(copy / "impressions" / f"{column_of(name)}.npy")[row : row + 1] for name in names}
    return np.array([dataset.encoder.encode_raw(name, values)[0] for name, values in raw.items()])


def test_an_impression_with_its_own_item_has_the_statistics_that_are_stored(dataset: Dataset) -> None:
    rows = np.arange(len(dataset.impressions["time"]))
    items = np.asarray(dataset.impressions["item"]).astype(np.int64)
    found = StatisticsOfOthers(dataset.path, dataset.encoder).values(rows, items)
    # The logarithms of recencies are large beside their spread, so rounding weighs more.
    assert np.abs(found - stored(dataset, rows)).max() < 4e-6


def test_another_item_has_the_statistics_that_it_would_have_had(dataset: Dataset, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    count, items = len(dataset.impressions["time"]), len(dataset.items["first_seen"])
    rows, others = random.integers(40, count, 12), random.integers(2, items, 12)
    found = StatisticsOfOthers(dataset.path, dataset.encoder).values(rows, others)
    for row, other, values in zip(rows, others, found, strict=True):
        assert values == pytest.approx(shown_instead(dataset, int(row), int(other), tmp_path), abs=1e-6)


def test_statistics_that_count_the_present_moment_would_be_seen(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutant: impressions of the same second count as earlier ones."""
    rows = np.arange(len(dataset.impressions["time"]))
    items = np.asarray(dataset.impressions["item"]).astype(np.int64)
    honest = np.searchsorted
    monkeypatch.setattr(statistics_of_others.np, "searchsorted", lambda a, v: honest(a, v, side="right"))
    found = StatisticsOfOthers(dataset.path, dataset.encoder).values(rows, items)
    assert np.abs(found - stored(dataset, rows)).max() > 1e-3


def test_where_negatives_were_drawn_another_item_has_its_own_positives(tmp_path: Path) -> None:
    drawn, _ = drawn_data(tmp_path, delay=5 * 3600)
    rows = np.arange(len(drawn.impressions["time"]))
    items = np.asarray(drawn.impressions["item"]).astype(np.int64)
    others = StatisticsOfOthers(drawn.path, drawn.encoder)
    assert np.abs(others.values(rows, items) - stored(drawn, rows)).max() < 4e-6
    row, other = len(rows) // 2, int(items[items != items[len(rows) // 2]][0])
    (found,) = others.values(np.array([row]), np.array([other]))
    assert found == pytest.approx(shown_instead(drawn, row, other, tmp_path), abs=1e-6)
