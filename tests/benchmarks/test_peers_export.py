"""Rows that are exported for other libraries are the rows that our loader shows to our models."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.export import describe, export
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

LENGTH = 5  # shorter than most histories of the tiny log, so that cutting is seen


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    source = tiny_source(behaviors=300, known_at=True, statistics=STATISTICS)
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("log"), source))


@pytest.fixture(scope="module")
def folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    export(dataset, out, LENGTH)
    return out


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_row_has_what_the_loader_shows_in_the_same_order(dataset: Dataset, folder: Path, part: str) -> None:
    arrays = np.load(folder / f"{part}.npz")
    config = LoaderConfig(grouping="impression", length=LENGTH, batch_size=1, shuffle=False, prefetch=0)
    batches = list(Loader(dataset, part, config).batches())
    assert len(batches) == len(arrays["row"])
    items, actions = np.asarray(dataset.items["field.item_id"]), None
    for at, batch in enumerate(batches):
        user, candidate = batch.user, batch.candidates
        assert arrays["row"][at] == batch.rows[0, 0]
        shown = user.items[0][user.mask[0]].numpy()
        held = arrays["history_length"][at]
        assert held == len(shown)
        assert arrays["history_item_id"][at, :held].tolist() == items[shown].tolist()
        actions = user.actions[0][user.mask[0]][:, 0].tolist()
        assert arrays["history_action"][at, :held].tolist() == actions
        assert not arrays["history_item_id"][at, held:].any()
        assert arrays["item_id"][at] == items[candidate.items[0, 0]]
        assert arrays["user_id"][at] == user.profile[0, 0]
        known = batch.label_mask[0, 0, 0]
        assert not known or arrays["label"][at] == batch.labels[0, 0, 0]
        numbers = np.nan_to_num(candidate.context_numbers[0, 0].numpy())
        assert [arrays[name][at] for name in ("hour", "item_rate", "item_count")] == numbers[:3].tolist()


def test_a_history_holds_the_newest_behaviors_known_before_the_impression(
    dataset: Dataset, folder: Path
) -> None:
    arrays, cut = np.load(folder / "train.npz"), 0
    items = np.asarray(dataset.items["field.item_id"])
    offsets, known_at = np.asarray(dataset.users["offsets"]), np.asarray(dataset.known_at)
    for at, row in enumerate(arrays["row"]):
        user = dataset.impressions["user"][row]
        own = np.arange(offsets[user], offsets[user + 1])
        past = own[known_at[own] < dataset.impressions["time"][row]]
        cut += len(past) > LENGTH
        expected = items[np.asarray(dataset.behaviors["item"])[past[-LENGTH:]]].tolist()
        assert arrays["history_item_id"][at].tolist() == expected + [0] * (LENGTH - len(expected))
    assert cut > 10


def test_every_described_column_is_in_the_file_and_fits_its_table(dataset: Dataset, folder: Path) -> None:
    columns = describe(dataset)
    written = json.loads((folder / "columns.json").read_text("utf-8"))
    assert [column["name"] for column in written] == [column.name for column in columns]
    arrays = np.load(folder / "train.npz")
    named = {column.name for column in columns}
    assert set(arrays) == named | {"row", "label", "history_length"}
    for column in columns:
        values = arrays[column.name]
        assert values.ndim == (2 if column.kind in ("indices", "history") else 1)
        assert column.kind == "number" or 0 <= values.min() <= values.max() < column.size
        assert np.isfinite(values).all()


def test_queries_and_histories_are_declared_in_the_same_order(dataset: Dataset) -> None:
    # DeepCTR-Torch pairs them by place: another order would compare an item with a genre.
    columns = describe(dataset)
    histories = [column.table for column in columns if column.kind == "history"]
    assert histories == [column.name for column in columns if column.name in histories]
    assert len(histories) == 3
