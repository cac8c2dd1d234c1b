import numpy as np
import pytest
import torch

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.errors import DataError
from clickscale.evaluation.evaluate import predict
from clickscale.models import CTRModel, build_model
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source

LABELS = ("click", "like")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(statistics=STATISTICS)))


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> CTRModel:
    torch.manual_seed(0)
    return build_model(
        "din", dataset.features, dataset.item_columns(), grade="size-1", length=6, labels=LABELS
    )


def test_every_impression_of_the_part_is_scored_once_and_in_order(dataset: Dataset, model: CTRModel) -> None:
    found = predict(model, dataset, "train", length=6, labels=LABELS, samples=7)
    assert np.array_equal(found.row, dataset.part("train"))
    assert found.logits.shape == (len(found.row), 2)
    assert (found.part, found.grouping, found.label_names) == ("train", "request", LABELS)


def test_logits_are_those_of_one_impression_at_a_time(dataset: Dataset, model: CTRModel) -> None:
    found = predict(model, dataset, "test", length=6, labels=LABELS, samples=5)
    config = LoaderConfig(grouping="impression", length=6, samples=1, shuffle=False, labels=LABELS)
    model.eval()
    with torch.inference_mode():
        alone = [model(batch)[0, 0].numpy() for batch in Loader(dataset, "test", config).batches()]
    assert np.abs(found.logits - np.stack(alone)).max() < 1e-5


def test_labels_and_their_mask_are_those_of_the_data(dataset: Dataset, model: CTRModel) -> None:
    found = predict(model, dataset, "train", length=6, labels=LABELS)
    like = np.asarray(dataset.impressions["label.like"][found.row])
    assert (like < 0).any()
    assert np.array_equal(found.label_mask[:, 1], like >= 0)
    assert np.array_equal(found.labels[:, 1], like == 1)


def test_facts_for_slices_are_those_of_the_data(dataset: Dataset, model: CTRModel) -> None:
    found = predict(model, dataset, "test", length=3, labels=LABELS)
    train = dataset.part("train")
    for n, row in enumerate(found.row):
        user, item = dataset.impressions["user"][row], dataset.impressions["item"][row]
        time = int(dataset.impressions["time"][row])
        past = slice(*dataset.users["offsets"][user : user + 2])
        assert found.time[n] == time
        assert found.user[n] == user
        assert found.behaviors[n] == int((dataset.known_at[past] < time).sum())
        assert found.user_activity[n] == int((dataset.impressions["user"][train] == user).sum())
        first = int(dataset.items["first_seen"][item])
        assert found.item_age[n] == (time - first if first >= 0 else -1)


def test_the_grouping_changes_nothing_while_histories_fit(dataset: Dataset, model: CTRModel) -> None:
    ways = [
        predict(model, dataset, "test", length=200, labels=LABELS, grouping=g)
        for g in ("request", "timeline")
    ]
    assert np.abs(ways[0].logits - ways[1].logits).max() < 1e-5


@pytest.mark.parametrize("training", [True, False])
def test_scoring_changes_neither_the_mode_nor_the_model(
    dataset: Dataset, model: CTRModel, training: bool
) -> None:
    model.train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict(model, dataset, "valid", length=6, labels=LABELS)
    assert model.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_part_is_refused(dataset: Dataset, model: CTRModel) -> None:
    with pytest.raises(DataError, match="did you mean 'test'"):
        predict(model, dataset, "tests", length=6)
