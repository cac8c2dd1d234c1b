"""Scoring with kept states: the same answers, whoever asks, in whatever order, from however many threads."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from clickscale.artifact import Artifact, load_artifact
from clickscale.batch import UserSide
from clickscale.data.dataset import Dataset
from clickscale.errors import ConfigError, InputError
from clickscale.evaluation.evaluate import predict
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.inference.states.claims import Entry
from clickscale.inference.states.user_states import UserStates
from clickscale.models import model_names
from tests.everyday import sampled
from tests.inference.remembered import Memory, user_side
from tests.trained import tiny_artifact, tiny_prepared

ALL = CacheConfig(admit_after=1, audit_share=0.0)
LENGTH = 6
Json = dict[str, Any]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("data"), known_at=True)


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Callable[[str], Artifact]:
    """Artifacts by the name of the model, cut to a length that histories exceed."""
    made: dict[str, Artifact] = {}

    def of(name: str) -> Artifact:
        if name not in made:
            made[name] = load_artifact(tiny_artifact(tmp_path_factory.mktemp(name), dataset, name))
        return with_length(made[name], LENGTH)

    return of


@pytest.fixture(scope="module")
def requests(dataset: Dataset) -> list[Json]:
    """Requests of eight users, early and late ones, with histories of 0 to 20 behaviors."""
    found = requests_from_dataset(dataset, np.arange(len(dataset.impressions["user"])))
    assert max(len(request["behaviors"]) for request in found) > LENGTH + 5
    assert min(len(request["behaviors"]) for request in found) == 0
    return found


def with_length(artifact: Artifact, length: int) -> Artifact:
    return replace(artifact, config=msgspec.structs.replace(artifact.config, length=length))


def gap(found: list[Any], right: list[Any]) -> float:
    """Largest difference of logits, relative to those beyond 1: floats round by their size."""
    pairs = [(a.logits, b.logits) for a, b in zip(found, right, strict=True)]
    return max(float((np.abs(a - b) / np.maximum(np.abs(b), 1)).max()) for a, b in pairs)


@pytest.mark.parametrize(("name", "kind"), sampled(product(model_names(), ("appendable", "scoring"))))
def test_answers_with_kept_states_are_those_without(
    name: str, kind: str, load: Callable[[str], Artifact], requests: list[Json]
) -> None:
    asked = requests[::2]
    right = Scorer(load(name)).score_many(asked)
    cache = StateCache(msgspec.structs.replace(ALL, kind=kind, audit_share=0.2))
    scorer = Scorer(load(name), cache=cache, chunk=2)
    for size in (1, 7, 64):
        found = scorer.score_many(asked, batch=size)
        assert gap(found, right) <= 1e-5
        assert [one.used for one in found] == [one.used for one in right]
        assert [one.ignored for one in found] == [one.ignored for one in right]
    stats = cache.stats()
    assert stats.hits + stats.appends > 20
    assert stats.audits > 0
    assert stats.errors == 0
    assert stats.enabled


def test_a_growing_state_scores_the_behaviors_that_it_holds(
    load: Callable[[str], Artifact], requests: list[Json]
) -> None:
    scorer = Scorer(load("suan"), cache=StateCache(ALL), slack=3)
    wide = Scorer(with_length(load("suan"), LENGTH + 3))
    lengths = set()
    for request in requests:
        response = scorer.score(request)
        known = [b for b in request["behaviors"] if b["known_at"] < request["time"]]
        assert min(len(known), LENGTH) <= response.used <= LENGTH + 3
        known.sort(key=lambda behavior: behavior["known_at"])
        alone = wide.score(request | {"behaviors": known[len(known) - response.used :]})
        assert alone.used == response.used
        assert gap([response], [alone]) <= 1e-5
        lengths.add(response.used)
    assert set(range(LENGTH + 4)) <= lengths


@pytest.mark.parametrize("name", ["suan", "lightsuan"])
def test_what_is_served_with_slack_is_what_was_evaluated_with_slack(
    name: str, load: Callable[[str], Artifact], dataset: Dataset
) -> None:
    artifact = load(name)
    offline = predict(artifact.model, dataset, "test", length=LENGTH, slack=3)
    without = predict(artifact.model, dataset, "test", length=LENGTH)
    assert np.abs(offline.logits - without.logits).max() > 1e-3, "some states hold more"
    scorer = Scorer(artifact, cache=StateCache(ALL), slack=3)
    online = [scorer.score(request) for request in requests_from_dataset(dataset, offline.row)]
    np.testing.assert_allclose(np.concatenate([one.logits for one in online]), offline.logits, atol=1e-5)


def test_a_response_says_how_many_behaviors_were_not_computed_again(
    load: Callable[[str], Artifact],
) -> None:
    scorer = Scorer(load("suan"), cache=StateCache(ALL))
    behaviors = [{"item": 10, "time": 1_600_000_000 + n, "action": "view"} for n in range(4)]
    request = {"user": 101, "time": 1_600_000_100, "behaviors": behaviors[:3], "candidates": [{"item": 10}]}
    longer = request | {"behaviors": behaviors}
    asked = [request, request, longer, longer]
    assert [scorer.score(one).cached for one in asked] == [0, 3, 3, 4]
    assert scorer.score_many([request | {"user": 102}] * 3)[2].cached == 3  # the first of them computed
    assert "cached" not in str(scorer.score(longer).to_dict()), "clients are not told who was here before"
    assert Scorer(load("suan")).score(longer).cached == 0


def test_another_model_never_reads_the_states_of_this_one(
    load: Callable[[str], Artifact], requests: list[Json], dataset: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    first, cache = load("suan"), StateCache(ALL)
    other = load_artifact(tiny_artifact(tmp_path, dataset, "suan"))
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.1)
    other = replace(with_length(other, LENGTH), digest="another")
    right = Scorer(other).score_many(requests)
    assert gap(right, Scorer(first).score_many(requests)) > 1e-2
    Scorer(first, cache=cache).score_many(requests)
    assert gap(Scorer(other, cache=cache).score_many(requests), right) <= 1e-5
    unprotected = replace(other, digest=first.digest)
    Scorer(first, cache=cache).score_many(requests)
    assert gap(Scorer(unprotected, cache=cache).score_many(requests), right) > 1e-2, "the digest protects"


@pytest.mark.parametrize(("precision", "bound"), [("fp16", 5e-3), ("bf16", 5e-2), ("int8", 1e-1)])
def test_half_precision_moves_scores_within_its_bound(
    precision: str, bound: float, load: Callable[[str], Artifact], requests: list[Json]
) -> None:
    right = Scorer(load("suan")).score_many(requests)
    cache = StateCache(msgspec.structs.replace(ALL, precision=precision, audit_share=0.5))
    scorer = Scorer(load("suan"), cache=cache)
    for _ in range(2):
        found = scorer.score_many(requests)
    assert 1e-6 < gap(found, right) <= bound
    assert 1e-6 < cache.stats().audit_max_abs_diff <= bound
    assert cache.stats().enabled


def test_twenty_threads_get_the_answers_that_each_would_get_alone(
    load: Callable[[str], Artifact], requests: list[Json]
) -> None:
    right = Scorer(load("mlp")).score_many(requests)
    assert len({float(response.logits[0, 0]) for response in right}) > len(right) * 0.9, "answers differ"
    # Small enough that entries come and go all the time.
    scorer = Scorer(load("mlp"), cache=StateCache(msgspec.structs.replace(ALL, budget=20_000)))

    def client(seed: int) -> float:
        chance, furthest = np.random.default_rng(seed), 0.0
        for _ in range(10):
            chosen = chance.integers(0, len(requests), chance.integers(1, 5))
            found = scorer.score_many([requests[i] for i in chosen])
            furthest = max(furthest, gap(found, [right[i] for i in chosen]))
        return furthest

    with ThreadPoolExecutor(20) as pool:
        assert max(pool.map(client, range(20))) <= 1e-5
    assert scorer.cache is not None
    stats = scorer.cache.stats()
    assert stats.errors == 0
    assert min(stats.hits, stats.appends, stats.evictions) > 0


class SlowMemory(Memory):
    """Takes long enough to compute that everybody has asked by then."""

    def encode_user(self, user: UserSide) -> Any:
        time.sleep(0.2)
        return super().encode_user(user)


def test_two_hundred_concurrent_requests_of_one_user_encode_once() -> None:
    model = SlowMemory(1)
    states = UserStates(model, StateCache(ALL), "digest", 8)
    user = user_side(np.array([[2, 30]]), [np.array([[1, 1, 1, n] for n in range(5)])], 8)
    start = threading.Barrier(200)

    def ask(_: int) -> Any:
        start.wait()
        return states.claims(user, [5], [("", b"u")])[0].state

    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(ask, range(200)))
    assert model.encoded == 1
    assert all(torch.equal(one.rows, found[0].rows) for one in found)
    assert states.cache.stats().misses == 1


def test_users_who_wait_for_each_other_do_not_wait_forever() -> None:
    states = UserStates(SlowMemory(1), StateCache(ALL), "digest", 8)
    histories = [np.array([[item, 1, 1, n] for n in range(5)]) for item in (1, 2)]
    orders = [[0, 1], [1, 0]]
    start = threading.Barrier(2)

    def ask(order: list[int]) -> int:
        user = user_side(np.array([[row + 2, 30] for row in order]), [histories[row] for row in order], 8)
        start.wait()
        return len(states.claims(user, [5, 5], [("", str(row).encode()) for row in order]))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, orders)) == [2, 2]


def poison(store: dict[bytes, Entry], change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change the values of every stored state behind the cache's back."""
    for key, entry in store.items():
        bad = type(entry.state)(
            **{
                name: tuple(map(change, value)) if name == "values" else value
                for name, value in entry.state._each().items()
            }
        )
        store[key] = replace(entry, state=bad)


def one_of_each_user(requests: list[Json]) -> list[Json]:
    return list({request["user"]: request for request in requests if request["behaviors"]}.values())


def test_a_poisoned_state_is_found_by_an_audit_and_the_answer_is_right(
    load: Callable[[str], Artifact], requests: list[Json], caplog: pytest.LogCaptureFixture
) -> None:
    asked, store = one_of_each_user(requests), dict[bytes, Entry]()
    right = Scorer(load("suan")).score_many(asked)
    blind = Scorer(load("suan"), cache=StateCache(ALL, store=store))
    blind.score_many(asked)
    poison(store, lambda x: x + 0.5)
    assert gap(blind.score_many(asked), right) > 1e-3, "without an audit nobody notices"

    cache = StateCache(msgspec.structs.replace(ALL, audit_share=0.4), store={})
    scorer = Scorer(load("suan"), cache=cache)
    scorer.score_many(asked)
    poison(cache._store, lambda x: x + 0.5)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        found = [scorer.score(request) for _ in range(5) for request in asked]
    wrong = [gap([one], [true]) > 1e-5 for one, true in zip(found, right * 5, strict=True)]
    assert sum(wrong) < 10, "two in five hits are audited"
    assert not any(wrong[wrong.index(False) :]), "from the audit on every answer is right"
    assert not cache.enabled
    assert cache.stats().entries == 0
    assert "The state cache is off" in caplog.text
    assert cache.stats().audit_max_abs_diff > 1e-3


def test_a_state_that_cannot_even_be_used_costs_no_request(
    load: Callable[[str], Artifact], requests: list[Json]
) -> None:
    asked, store = one_of_each_user(requests), dict[bytes, Entry]()
    right = Scorer(load("suan")).score_many(asked)
    cache = StateCache(ALL, store=store)
    scorer = Scorer(load("suan"), cache=cache)
    scorer.score_many(asked)
    poison(store, lambda x: x[:, :, :-1])
    assert gap([scorer.score(request) for request in asked], right) <= 1e-5
    assert cache.stats().errors == len(asked)
    assert gap([scorer.score(request) for request in asked], right) <= 1e-5
    assert gap(scorer.score_many(asked), right) <= 1e-5
    assert cache.stats().errors == len(asked), "what made trouble was thrown away"
    assert cache.enabled


def test_a_user_is_forgotten_by_the_raw_id_in_whatever_type(load: Callable[[str], Artifact]) -> None:
    scorer = Scorer(load("mlp"), cache=StateCache(ALL))
    request = {
        "user": 101,
        "time": 1_600_000_100,
        "behaviors": [{"item": 10, "time": 1_600_000_000}],
        "candidates": [{"item": 10}],
    }
    scorer.score(request)
    scorer.score(request, tenant="other")
    assert scorer.score(request | {"user": "101"}).cached == 1  # ids of this log are integers
    assert scorer.forget("101") == 1
    assert scorer.score(request).cached == 0
    assert scorer.score(request, tenant="other").cached == 1
    assert Scorer(load("mlp")).forget(101) == 0
    for bad in (None, "", [1], "abc"):
        with pytest.raises(InputError, match="user is"):
            scorer.forget(bad)


def test_odd_ids_of_a_log_with_texts_as_ids_are_users_of_their_own(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path, string_ids=True)
    scorer = Scorer(tiny_artifact(tmp_path, dataset, "mlp"), cache=StateCache(ALL))
    request = {
        "time": 1_600_000_100,
        "behaviors": [{"item": "i10", "time": 1}],
        "candidates": [{"item": "x"}],
    }
    odd = ["u1", "U1", "u1\x00", "u1:", "string:u1", "\u0075\u0301", "\u00fa", "u\u200b1", "1e0", "01", "a|b"]
    assert [scorer.score(request | {"user": user}).cached for user in odd] == [0] * len(odd)
    assert [scorer.score(request | {"user": user}).cached for user in odd] == [1] * len(odd)
    with pytest.raises(InputError, match="Unknown key 'tenant'"):
        scorer.score(request | {"user": "u1", "tenant": "x"})


def test_a_bad_request_is_an_error_of_the_request(load: Callable[[str], Artifact]) -> None:
    cache = StateCache(ALL)
    with pytest.raises(InputError, match="candidates is empty"):
        Scorer(load("mlp"), cache=cache).score({"user": 1, "time": 1_600_000_000, "candidates": []})
    assert cache.stats().errors == 0


def test_options_that_cannot_be_are_refused(
    load: Callable[[str], Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="give a cache too"):
        Scorer(load("mlp"), slack=3)
    fixed = load("mlp")
    monkeypatch.setattr(fixed.model, "causal", False)
    with pytest.raises(ConfigError, match="not causal, so its states cannot grow"):
        Scorer(fixed, slack=3, cache=StateCache(ALL))
    with pytest.raises(ConfigError, match="must be >= 0"):
        Scorer(load("mlp"), chunk=-1)
