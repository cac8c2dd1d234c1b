import copy
from pathlib import Path

import numpy as np
import pytest

from clickscale.artifact import load_artifact
from clickscale.data.dataset import Dataset
from clickscale.data.loader import Grouping
from clickscale.evaluation.evaluate import predict
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.models import model_names
from tests.trained import LENGTH, tiny_artifact, tiny_prepared

LABELS = ("click", "like")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("data"), known_at=True)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Scorer:
    return Scorer(tiny_artifact(tmp_path_factory.mktemp("artifact"), dataset, "suan", LABELS))


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("grouping", ["request", "impression", "timeline"])
def test_what_is_served_is_what_was_evaluated(
    name: str, grouping: Grouping, dataset: Dataset, tmp_path: Path
) -> None:
    scorer = Scorer(tiny_artifact(tmp_path, dataset, name, LABELS))
    offline = predict(scorer.model, dataset, "test", length=LENGTH, grouping=grouping, labels=LABELS)
    assert offline.behaviors.max() < LENGTH, "histories fit, so all groupings see the same"
    responses = scorer.score_many(requests_from_dataset(dataset, offline.row))
    online = np.concatenate([response.logits for response in responses])
    assert online.shape == offline.logits.shape
    assert offline.logits.std() > 0.01, "the scores differ, so agreement means something"
    np.testing.assert_allclose(online, offline.logits, atol=1e-5, rtol=2e-6)


def test_a_request_scores_alone_as_it_does_among_others(dataset: Dataset, scorer: Scorer) -> None:
    requests = requests_from_dataset(dataset, dataset.part("test"))
    together = scorer.score_many(requests, batch=5)
    for request, response in zip(requests, together, strict=True):
        np.testing.assert_allclose(scorer.score(request).logits, response.logits, atol=1e-5)


def test_an_event_at_or_after_the_moment_changes_nothing_but_the_count(
    dataset: Dataset, scorer: Scorer
) -> None:
    request = next(r for r in requests_from_dataset(dataset, dataset.part("test")) if len(r["behaviors"]) > 2)
    before = scorer.score(request)
    later = copy.deepcopy(request)
    later["behaviors"].insert(0, {"item": 10, "time": request["time"], "action": "buy"})
    later["behaviors"].append({"item": 20, "time": request["time"] - 5, "known_at": request["time"] + 5})
    after = scorer.score(later)
    np.testing.assert_array_equal(after.logits, before.logits)
    assert (after.ignored, after.used) == (before.ignored + 2, before.used)
    earlier = copy.deepcopy(request)
    earlier["behaviors"].append({"item": 20, "time": request["time"] - 5, "action": "buy"})
    assert np.abs(scorer.score(earlier).logits - before.logits).max() > 1e-4


@pytest.mark.parametrize("name", model_names())
def test_a_cold_start_has_a_finite_score_and_says_what_is_unknown(
    name: str, dataset: Dataset, tmp_path: Path
) -> None:
    time = 1_600_000_100
    nobody = {"user": 9_999, "time": time, "candidates": [{"item": 10}, {"item": 9_999}]}
    once = {"item": 9_999, "time": time - 5}
    long = [{"item": 10, "time": time - 1_000 + number} for number in range(3 * LENGTH)]
    requests = [nobody, *(nobody | {"behaviors": behaviors} for behaviors in ([], [once], long))]
    responses = Scorer(tiny_artifact(tmp_path, dataset, name)).score_many(requests)
    for response in responses:
        assert np.isfinite(response.logits).all()
        assert response.known == (True, False)
    assert [response.used for response in responses] == [0, 0, 1, LENGTH]


def test_a_response_names_labels_items_and_what_was_known(dataset: Dataset, scorer: Scorer) -> None:
    response = scorer.score({"user": 101, "time": 1_600_000_100, "candidates": [{"item": 10}, {"item": 777}]})
    assert (response.items, response.known, response.used) == ((10, 777), (True, False), 0)
    assert response.probabilities.shape == (2, 2)
    np.testing.assert_allclose(response.probabilities, 1 / (1 + np.exp(-response.logits.astype(float))))
    document = response.to_dict()
    assert [list(line) for line in document["candidates"]] == [["item", "known", "click", "like"]] * 2
    assert document["candidates"][1]["like"] == response.probabilities[1, 1]
    assert (document["behaviors_used"], document["behaviors_ignored"]) == (0, 0)


def test_a_loaded_artifact_can_be_scored_with(scorer: Scorer) -> None:
    again = Scorer(load_artifact(scorer.artifact.path))
    request = {"user": 101, "time": 1_600_000_100, "candidates": [{"item": 10}]}
    np.testing.assert_array_equal(again.score(request).logits, scorer.score(request).logits)
    assert scorer.score_many([]) == []
