from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from clickscale.baselines.simple import NAMES, PRIOR, simple_logits, simple_predictions
from clickscale.data.dataset import Dataset, open_dataset
from tests.data.resealed import reseal
from tests.data.tiny import tiny_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data")))


def test_the_constant_is_the_rate_of_the_training_part(dataset: Dataset) -> None:
    outcome = np.asarray(dataset.impressions["label.click"])[dataset.part("train")]
    found = simple_predictions(dataset, "test")["constant"]
    assert len(found) == len(dataset.part("test"))
    assert expit(found.logits) == pytest.approx((outcome.sum() + 0.5) / (len(outcome) + 1))


def test_popularity_is_each_items_own_smoothed_rate(dataset: Dataset) -> None:
    train, test = dataset.part("train"), dataset.part("test")
    outcome = np.asarray(dataset.impressions["label.click"])[train]
    items = np.asarray(dataset.impressions["item"])
    rate = (outcome.sum() + 0.5) / (len(outcome) + 1)
    found = expit(simple_predictions(dataset, "test")["popularity"].logits[:, 0])
    for row, probability in zip(test[:20], found, strict=False):
        own = outcome[items[train] == items[row]]
        assert probability == pytest.approx((own.sum() + PRIOR * rate) / (len(own) + PRIOR), rel=1e-5)


def test_an_unknown_outcome_counts_neither_way(dataset: Dataset) -> None:
    outcome = np.asarray(dataset.impressions["label.like"])[dataset.part("train")]
    known = outcome[outcome >= 0]
    assert len(known) < len(outcome)
    found = simple_predictions(dataset, "valid", "like")
    assert set(found) == set(NAMES)
    assert expit(found["constant"].logits) == pytest.approx((known.sum() + 0.5) / (len(known) + 1))


def test_the_test_part_changes_no_prediction(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path)
    before = simple_predictions(open_dataset(data), "test")
    path = data / "impressions" / "label.click.npy"
    column = np.load(path)
    rows = open_dataset(data).part("test")
    column[rows] = 1 - column[rows]
    np.save(path, column)
    reseal(data)
    after = simple_predictions(open_dataset(data), "test")
    assert all(np.array_equal(before[name].logits, after[name].logits) for name in NAMES)
    assert not np.array_equal(before["constant"].labels, after["constant"].labels)


def test_logits_of_several_labels_are_those_of_each(dataset: Dataset) -> None:
    rows = dataset.part("valid")
    found = simple_logits(dataset, rows, ("like", "click"))
    for name in NAMES:
        for column, label in enumerate(("like", "click")):
            expected = simple_predictions(dataset, "valid", label)[name].logits[:, 0]
            assert np.array_equal(found[name][:, column], expected)
