import itertools
from dataclasses import fields, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import UserSide
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.errors import ConfigError, DataError
from clickscale.evaluation.evaluate import predict
from clickscale.models import CTRModel, build_model, model_names
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.everyday import sampled

LABELS = ("click", "like")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data"), tiny_source(statistics=STATISTICS)))


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> CTRModel[Any]:
    torch.manual_seed(0)
    return build_model(
        "din", dataset.features, dataset.item_columns(), grade="size-1", length=6, labels=LABELS
    )


def test_every_impression_of_the_part_is_scored_once_and_in_order(
    dataset: Dataset, model: CTRModel[Any]
) -> None:
    found = predict(model, dataset, "train", length=6, labels=LABELS, batch_size=7)
    assert np.array_equal(found.row, dataset.part("train"))
    assert found.logits.shape == (len(found.row), 2)
    assert (found.part, found.grouping, found.label_names) == ("train", "request", LABELS)


def test_logits_are_those_of_one_impression_at_a_time(dataset: Dataset, model: CTRModel[Any]) -> None:
    found = predict(model, dataset, "test", length=6, labels=LABELS, batch_size=5)
    config = LoaderConfig(grouping="impression", length=6, batch_size=1, shuffle=False, labels=LABELS)
    model.eval()
    with torch.inference_mode():
        alone = [model(batch)[0, 0].numpy() for batch in Loader(dataset, "test", config).batches()]
    assert np.abs(found.logits - np.stack(alone)).max() < 1e-5


def test_labels_and_their_mask_are_those_of_the_data(dataset: Dataset, model: CTRModel[Any]) -> None:
    found = predict(model, dataset, "train", length=6, labels=LABELS)
    like = np.asarray(dataset.impressions["label.like"][found.row])
    assert (like < 0).any()
    assert np.array_equal(found.label_mask[:, 1], like >= 0)
    assert np.array_equal(found.labels[:, 1], like == 1)


def test_facts_for_slices_are_those_of_the_data(dataset: Dataset, model: CTRModel[Any]) -> None:
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


def test_the_grouping_changes_nothing_while_histories_fit(dataset: Dataset, model: CTRModel[Any]) -> None:
    ways = [
        predict(model, dataset, "test", length=200, labels=LABELS, grouping=g)
        for g in ("request", "timeline")
    ]
    assert np.abs(ways[0].logits - ways[1].logits).max() < 1e-5


@pytest.mark.parametrize("training", [True, False])
def test_scoring_changes_neither_the_mode_nor_the_model(
    dataset: Dataset, model: CTRModel[Any], training: bool
) -> None:
    model.train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    predict(model, dataset, "valid", length=6, labels=LABELS)
    assert model.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_part_is_refused(dataset: Dataset, model: CTRModel[Any]) -> None:
    with pytest.raises(DataError, match="did you mean 'test'"):
        predict(model, dataset, "tests", length=6)


# --- requests that share an encoding


def request_by_request(
    dataset: Dataset, model: CTRModel[Any], part: str, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Impressions of one request in three, and their logits when a request has an encoding of its own."""
    config = LoaderConfig(grouping="request", length=length, batch_size=1, shuffle=False, labels=LABELS)
    some = list(itertools.islice(Loader(dataset, part, config).batches(), 0, None, 3))
    with torch.inference_mode():
        found = [model(batch)[batch.rows >= 0].numpy() for batch in some]
    return np.concatenate([batch.rows[batch.rows >= 0].numpy() for batch in some]), np.concatenate(found)


LENGTHS = (1, 5, 12, 200)
# Every model with one length, every length with many models; the rest is slow.
ONCE = [(name, LENGTHS[number % 4]) for number, name in enumerate(model_names())]


@pytest.mark.parametrize(
    ("name", "length"),
    [
        *sampled(ONCE),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in product(model_names(), LENGTHS)
            if each not in ONCE
        ),
    ],
)
def test_sharing_an_encoding_among_requests_changes_no_logit(
    dataset: Dataset, name: str, length: int
) -> None:
    model = sequence_model(dataset, name, length)
    visible = np.asarray(dataset.impressions["visible"][dataset.part("train")])
    assert visible.min() < 12 < visible.max()  # histories that fit, and histories that are cut
    found = predict(model, dataset, "train", length=length, labels=LABELS, batch_size=30)
    assert found.grouping == "request"
    rows, alone = request_by_request(dataset, model, "train", length)
    assert 3 < len(rows) < len(found.row)
    together = found.logits[np.searchsorted(found.row, rows)]
    # Sums round by their size.
    assert np.abs(together - alone).max() < 1e-5 * max(float(np.abs(alone).max()), 1)


@pytest.mark.parametrize(("name", "fewer"), [("suan", True), ("lightsuan", True), ("din", False)])
def test_a_model_that_gains_encodes_a_user_once_for_several_requests(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, name: str, fewer: bool
) -> None:
    model = sequence_model(dataset, name, 200)
    encoded = []
    encode = model.encode_user
    monkeypatch.setattr(model, "encode_user", lambda user: encoded.append(len(user.items)) or encode(user))
    predict(model, dataset, "train", length=200, labels=LABELS)
    rows = dataset.part("train")
    user, time = (np.asarray(dataset.impressions[name][rows]) for name in ("user", "time"))
    requests = len(np.unique(np.stack([user, time]), axis=1).T)
    assert sum(encoded) == (len(np.unique(user)) if fewer else requests)


# --- the window policy of a server


def sequence_model(dataset: Dataset, name: str, length: int = 5) -> CTRModel[Any]:
    torch.manual_seed(0)
    items = dataset.item_columns()
    model = build_model(name, dataset.features, items, length=length, labels=LABELS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.inputs.table.weight[0] = 0
    return model


def columns(user: UserSide, start: int, end: int) -> UserSide:
    """Some of the behaviors."""
    cut = {f.name: getattr(user, f.name)[:, start:end] for f in fields(user) if "profile" not in f.name}
    return replace(user, **cut)


def served(dataset: Dataset, model: CTRModel[Any], part: str, length: int, slack: int) -> np.ndarray:
    """Logits of a server that takes the impressions one by one, and appends behaviors one by one."""
    config = LoaderConfig(grouping="impression", length=10_000, batch_size=1, shuffle=False, labels=LABELS)
    held, found = {}, []
    for batch in Loader(dataset, part, config).batches():
        row = int(batch.rows[0, 0])
        user, visible = int(dataset.impressions["user"][row]), int(dataset.impressions["visible"][row])
        start, end, state = held.get(user, (0, 0, None))
        if state is None or visible - start > length + slack:
            start, end = max(visible - length, 0), visible
            state = model.encode_user(columns(batch.user, start, end))
        for column in range(end, visible):
            state = model.extend_user(state, columns(batch.user, column, column + 1))
        held[user] = start, visible, state
        whole = torch.full_like(batch.candidates.visible, visible - start)
        candidate = replace(batch.candidates, oldest=torch.zeros_like(whole), visible=whole)
        found.append(model.score(state, candidate)[0, 0].numpy())
    return np.stack(found)


# Every such model with one slack, every slack with one model; the rest is slow.
APPENDING = [name for name in model_names() if "suan" in name]
SLACKS = (1, 3, 50)


@pytest.mark.parametrize(
    ("name", "slack"),
    [
        pytest.param(*each, marks=[] if each in zip(APPENDING, SLACKS, strict=True) else pytest.mark.slow)
        for each in product(APPENDING, SLACKS)
    ],
)
def test_slack_replays_what_a_server_does_that_appends_to_states(
    dataset: Dataset, name: str, slack: int
) -> None:
    model = sequence_model(dataset, name)
    found = predict(model, dataset, "train", length=5, labels=LABELS, slack=slack, batch_size=30)
    assert np.array_equal(found.row, dataset.part("train"))
    assert found.grouping == f"request, slack {slack}"
    with torch.inference_mode():
        expected = served(dataset, model, "train", 5, slack)
    assert np.abs(found.logits - expected).max() < 1e-5
    anew = predict(model, dataset, "train", length=5, labels=LABELS)
    assert np.abs(found.logits - anew.logits).max() > 1e-3  # a state that saw more


def test_slack_beyond_every_timeline_is_a_long_length(dataset: Dataset, model: CTRModel[Any]) -> None:
    slack = predict(model, dataset, "train", length=200, labels=LABELS, slack=1)
    plain = predict(model, dataset, "train", length=200, labels=LABELS)
    assert np.abs(slack.logits - plain.logits).max() < 1e-5


def test_slack_that_no_server_could_have_is_refused(dataset: Dataset, model: CTRModel[Any]) -> None:
    with pytest.raises(ConfigError, match="slack must be >= 0; got -1"):
        predict(model, dataset, "test", length=6, slack=-1)
    with pytest.raises(ConfigError, match="grouping request, not timeline"):
        predict(model, dataset, "test", length=6, slack=2, grouping="timeline")
    bound = build_model("suan", dataset.features, dataset.item_columns(), length=6)
    bound.causal = False
    with pytest.raises(ConfigError, match="SUAN with these options is not causal"):
        predict(bound, dataset, "test", length=6, slack=2)
