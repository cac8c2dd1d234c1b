"""What every store promises, tested with each kind."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import Encoder
from clickscale.errors import DataError, InputError, StoreError
from clickscale.inference.requests import encode_requests
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event, OnlineStore, Outcome
from clickscale.serving.store.reading import Reading
from tests.data.tiny import START
from tests.serving.store.servers import KINDS, store_url
from tests.trained import tiny_prepared


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def reading(dataset: Dataset) -> Reading:
    return Reading.of_data(dataset)


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with store_url(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def store(url: str, reading: Reading) -> Iterator[KeyedStore]:
    opened = open_store(url, reading)
    yield opened
    opened.close()


def event(number: int, time: int, **more: Any) -> Event:
    return Event(**({"id": f"e{number}", "user": 103, "item": 20, "time": START + time} | more))


def times(store: OnlineStore, before: int, most: int = 100, user: Any = 103) -> list[int]:
    """Times of the behaviors that a request would show."""
    found = store.user(user, before=START + before, most=most)
    return [] if found is None else [row["time"] - START for row in found.behaviors]


def test_a_store_keeps_the_protocol(store: KeyedStore) -> None:
    promised: OnlineStore = store
    assert promised.facts().bound == 10_000
    promised.check()


def test_a_behavior_is_seen_strictly_after_its_time(store: KeyedStore) -> None:
    assert store.user(103, before=START, most=10) is None
    assert store.append([event(1, 10, behavior={"action": "view", "dwell": 3.5})]) == [True]
    assert times(store, 10) == []
    found = store.user(103, before=START + 11, most=10)
    assert found is not None
    assert found.behaviors == [{"item": 20, "time": START + 10, "action": "view", "dwell": 3.5}]
    assert (found.last_time, found.truncated, found.profile) == (START + 10, False, {})


def test_late_feedback_is_shown_once_it_is_known(store: KeyedStore) -> None:
    store.append([event(1, 10, known_at=START + 50), event(2, 20), event(3, 60)])
    assert times(store, 50) == [20]
    assert times(store, 51) == [20, 10]
    assert times(store, 61) == [20, 10, 60]
    found = store.user(103, before=START + 51, most=1)
    assert found is not None
    assert found.behaviors == [{"item": 20, "time": START + 10, "known_at": START + 50}]
    assert found.truncated


def test_an_event_is_known_as_long_after_its_time_as_in_the_log(url: str, dataset: Dataset) -> None:
    encoder = dataset.encoder
    schema = msgspec.structs.replace(dataset.schema, known_after=40)
    late = Encoder(schema, encoder.vocabularies, encoder.scales, encoder.item_rows)
    store = open_store(url, Reading(late, dataset.item_columns()))
    store.append([event(1, 10), event(2, 20, known_at=START + 20)])
    assert (times(store, 21), times(store, 50), times(store, 51)) == ([20], [20], [20, 10])
    # What a request takes over is read by the rule of events that do not tell it.
    asked = {"user": 103, "time": START + 51, "candidates": [{"item": 20}]}
    encoded = encode_requests([store.complete(asked, most=9)], late, 9)
    assert encoded.batch.user.times.tolist() == [[START + 20, START + 10]]
    store.close()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, [1, 2, 3, 4, 6]),
        ({"behavior_label": "click"}, [1, 3, 6]),
        ({"has_own_behaviors": True}, [1, 6]),  # what is sent as a behavior is one
    ],
)
def test_labels_tell_which_impressions_are_behaviors_of_the_log(
    options: dict[str, Any], shown: list[int], dataset: Dataset
) -> None:
    encoder, schema = dataset.encoder, msgspec.structs.replace(dataset.schema, **options)
    told = Encoder(schema, encoder.vocabularies, encoder.scales, encoder.item_rows)
    store = open_store("memory://", Reading(told, dataset.item_columns()))
    outcomes: list[Any] = [None, {"click": 0}, {"click": 1}, {}]
    store.append([event(n, n, labels=labels) for n, labels in enumerate(outcomes, 1)])
    store.append([event(5, 5, labels={"click": 1}, behavior=None)])
    store.append([event(6, 6, labels={"click": 0}, behavior={})])
    assert times(store, 7) == shown
    store.close()


def test_events_may_arrive_in_any_order(store: KeyedStore) -> None:
    order = [(7 * n) % 1000 for n in range(1000)]
    for start in range(0, 1000, 125):
        store.append([event(n, n) for n in order[start : start + 125]])
    assert times(store, 2000, most=2000) == list(range(1000))
    for before in (0, 1, 130, 500, 999):
        assert times(store, before, most=70) == list(range(max(before - 70, 0), before))


def test_behaviors_known_in_one_second_stand_in_the_order_of_their_times(store: KeyedStore) -> None:
    order = [(7 * n) % 900 for n in range(900)]
    for start in range(0, 900, 100):
        store.append([event(n, n, known_at=START + 900 + n % 2) for n in order[start : start + 100]])
    assert times(store, 901, most=2000) == list(range(0, 900, 2))
    assert times(store, 902, most=2000) == [*range(0, 900, 2), *range(1, 900, 2)]


def test_an_event_is_appended_once(store: KeyedStore) -> None:
    assert store.append([event(1, 10), event(1, 10), event(2, 20)]) == [True, False, True]
    assert store.append([event(1, 10), event(3, 30)]) == [False, True]
    assert store.append([event(1, 10, user=104)]) == [True]  # ids are those of a user
    assert times(store, 100) == [10, 20, 30]


def test_the_latest_512_ids_of_a_user_are_known(store: KeyedStore) -> None:
    store.append([event(n, n) for n in range(1100)])
    assert store.append([event(n, n) for n in range(1100 - 512, 1100)]) == [False] * 512
    assert store.append([event(1, 1)]) == [True]  # the bound: at most 1,024 are kept


def test_a_timeline_is_bounded_and_has_no_holes(url: str, reading: Reading) -> None:
    store = open_store(url + ("&" if "?" in url else "?") + "behaviors=300", reading)
    for start in range(0, 1000, 100):
        store.append([event(n, 2 * n) for n in range(start, start + 100)])
    assert store.append([event(0, 0)]) == [False]
    found = store.user(103, before=START + 5000, most=1000)
    assert found is not None
    assert 300 <= len(found.behaviors) <= 300 + 256
    assert found.truncated
    held = times(store, 5000, 1000)
    assert held == list(range(held[0], 2000, 2))
    store.append([event(2000, 7)])  # older than what is kept: others between them are gone
    assert times(store, 5000, 1000) == held
    store.append([event(2001, 1501)])
    assert 1501 in times(store, 5000, 1000)
    with pytest.raises(StoreError, match="keeps 300 behaviors"):
        _reopened(store, url, reading)


def _reopened(store: KeyedStore, url: str, reading: Reading) -> None:
    """Open the records of a store with another bound."""
    KeyedStore(store.backend, reading, bound=400)


def test_ids_are_read_as_the_encoder_reads_them(store: KeyedStore) -> None:
    store.append([event(1, 10), event(2, 20, user="103"), event(3, 30, user=103.0, item="20")])
    assert times(store, 100, user="103") == times(store, 100, user=103) == [10, 20, 30]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_texts_never_meet(kind: str, tmp_path: Path) -> None:
    reading = Reading.of_data(tiny_prepared(tmp_path / "data", string_ids=True))
    with store_url(kind, tmp_path) as url:
        store = open_store(url, reading)
        users = ["a", "a\0", "a\0b", " a", "a ", "A", "а", "1", "", "u" * 5000, "u" * 5001]
        users.remove("")
        for number, user in enumerate(users):
            store.append([event(1, number, user=user, item="i20")])
        store.append([event(1, 99, user=1.5, item="i20")])
        assert [times(store, 100, user=user) for user in users] == [[n] for n in range(len(users))]
        assert store.delete_user("a")
        assert [times(store, 100, user=user) for user in users] == [[], *([n] for n in range(1, len(users)))]
        store.close()


def test_profiles_and_items_are_kept(store: KeyedStore) -> None:
    store.put_users([(103, {"gender": "f", "age": 31}), (104, {"gender": None})])
    store.append([event(1, 10)])
    found = store.user(103, before=START + 20, most=10)
    assert found is not None
    assert (found.profile, len(found.behaviors)) == ({"gender": "f", "age": 31}, 1)
    store.put_items([(20, {"genre": ["drama", "war"], "text": [1.0, 2.0, 3.0, 4.0], "price": None})])
    assert store.items([20, "20", 21]) == [
        {"genre": ["drama", "war"], "text": [1.0, 2.0, 3.0, 4.0]},
        {"genre": ["drama", "war"], "text": [1.0, 2.0, 3.0, 4.0]},
        None,
    ]
    with pytest.raises(InputError, match=r"profiles\[0\].*'gendre'; did you mean 'gender'"):
        store.put_users([(103, {"gendre": "f"})])
    with pytest.raises(InputError, match=r"attributes\[0\].*Unknown field 'genres'"):
        store.put_items([(20, {"genres": "war"})])


def test_a_deleted_user_is_gone(store: KeyedStore) -> None:
    store.put_users([(103, {"age": 31})])
    store.append([event(n, n, labels={"click": 1}) for n in range(300)])
    assert store.delete_user("103")
    assert store.user(103, before=START + 1000, most=10) is None
    assert not store.delete_user(103)
    asked = {"user": 103, "time": START + 1000, "candidates": [{"item": 20}]}
    ((left,),) = store.statistics([asked])
    assert left["item_count"] == 300  # of the item, which nobody can be told from
    (other,) = store.statistics([asked | {"user": 105}])[0]
    assert left["user_genre_rate"] == other["user_genre_rate"]


def test_statistics_change_after_the_second_of_an_event(store: KeyedStore) -> None:
    asked = {"user": 103, "time": START + 10, "candidates": [{"item": 20}, {"item": 30}]}
    before = store.statistics([asked])
    store.append([event(1, 10, labels={"click": 1})])
    assert store.statistics([asked]) == before
    ((first, second),) = store.statistics([asked | {"time": START + 11}])
    assert (first["item_count"], second["item_count"]) == (1.0, 0.0)
    assert first["item_rate"] == second["item_rate"] == 1.0  # overall: one click of one
    assert store.append([event(1, 10, labels={"click": 1})]) == [False]
    assert store.statistics([asked | {"time": START + 11}]) == [[first, second]]


def test_an_outcome_may_be_told_later(store: KeyedStore) -> None:
    asked = {"user": 103, "time": START + 100, "candidates": [{"item": 20}]}
    store.append([event(1, 10, labels={}), event(2, 10, item=30, labels={"click": 0})])
    ((waiting,),) = store.statistics([asked])
    told = Outcome(impression="e1", user=103, labels={"click": 1})
    assert store.settle([told, told]) == [True, False]
    assert store.settle([Outcome(impression="e9", user=103, labels={"click": 1})]) == [False]
    ((known,),) = store.statistics([asked])
    assert waiting["item_count"] == known["item_count"] == 1
    assert known["item_rate"] > waiting["item_rate"]
    store.append([event(3, 10, item=40, labels={"click": 1})])
    direct = asked | {"candidates": [{"item": 40}]}
    assert store.statistics([direct])[0][0]["item_rate"] == store.statistics([asked])[0][0]["item_rate"]


def test_a_request_is_completed_and_what_it_brings_stays(store: KeyedStore) -> None:
    store.put_users([(103, {"age": 31})])
    store.append([event(1, 10, labels={"click": 1}), event(2, 20)])
    asked: dict[str, Any] = {"user": 103, "time": START + 20, "candidates": [{"item": 20, "item_rate": 0.25}]}
    completed = store.complete(asked, most=5)
    assert completed["profile"] == {"age": 31}
    assert completed["behaviors"] == [{"item": 20, "time": START + 10}]
    assert completed["candidates"][0]["item_rate"] == 0.25
    assert completed["candidates"][0]["item_count"] == 1.0
    assert "behaviors" not in asked
    own = store.complete(asked | {"profile": {}, "behaviors": []}, most=5)
    assert (own["profile"], own["behaviors"]) == ({}, [])
    assert "behaviors" not in store.complete(asked | {"user": 999}, most=5)


def test_a_wrong_event_is_named_and_nothing_is_appended(store: KeyedStore) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"time": None}, r"events\[1\]\.time is missing"),
        ({"time": START * 1000}, r"events\[1\]\.time is .*ahead of the clock"),
        ({"time": 1e30}, r"events\[1\]\.time"),
        ({"known_at": START}, r"events\[1\]\.known_at is .* before the behavior's own time"),
        ({"item": None}, r"events\[1\]\.item is null"),
        ({"user": ""}, r"events\[1\]\.user is empty"),
        ({"user": "u1"}, r"events\[1\]\.user is 'u1'"),
        ({"item": 1 << 70}, r"events\[1\]\.item"),
        ({"id": ""}, r"events\[1\]\.id is ''"),
        ({"behavior": {"acton": "view"}}, r"events\[1\]\.behavior: Unknown key 'acton'; did you mean"),
        ({"behavior": {"dwell": "long"}}, r"events\[1\]\.behavior\.dwell is 'long'"),
        ({"behavior": {"action": "x" * 20_000}}, r"events\[1\]\.behavior: the event takes .* bytes"),
        ({"behavior": {"action": "\ud800"}}, r"events\[1\]\."),
        ({"behavior": {"time": START}}, r"events\[1\]\.behavior: Unknown key 'time'"),
        ({"behavior": {"known_at": START}}, r"events\[1\]\.behavior: Unknown key 'known_at'"),
        ({"behavior": {"item": 30}}, r"events\[1\]\.behavior: Unknown key 'item'"),
        ({"behavior": ["view"]}, r"events\[1\]\.behavior is \['view'\]; send an object"),
        ({"context": {"item": 30}}, r"events\[1\]\.context: Unknown key 'item'"),
        ({"context": {"positon": 1}}, r"events\[1\]\.context: Unknown key 'positon'"),
        ({"labels": {"clck": 1}}, r"events\[1\]\.labels: Unknown key 'clck'; did you mean 'click'"),
        ({"labels": {"click": 2}}, r"labels\['click'\] is 2; give 0 or 1"),
    ]
    for change, message in wrong:
        with pytest.raises(InputError, match=message):
            store.append([event(1, 10), msgspec.structs.replace(event(2, 20), **change)])
    assert store.user(103, before=START + 100, most=10) is None
    with pytest.raises(InputError, match=r"outcomes\[0\]\.labels: Unknown label"):
        store.settle([Outcome(impression="e1", user=103, labels={"clck": 1})])


def test_appends_of_many_threads_are_all_there(store: KeyedStore) -> None:
    def work(thread: int) -> None:
        for number in range(10):
            own = event(number, 10 * number, user=200 + thread, labels={"click": 1})
            assert store.append([own]) == [True]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [times(store, 1000, user=200 + n) for n in range(8)] == [list(range(0, 100, 10))] * 8
    asked = {"user": 103, "time": START + 1000, "candidates": [{"item": 20}]}
    assert store.statistics([asked])[0][0]["item_count"] == 80


def test_a_failing_append_leaves_those_beside_it(store: KeyedStore) -> None:
    def failing(writer: Any) -> None:
        writer.put((b"", b"ifailed"), b"1")
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        store.commits.run(failing)
    assert store.backend.view(lambda reader: reader.get((b"", b"ifailed"))) is None
    store.append([event(1, 10)])
    assert times(store, 20) == [10]


def test_another_model_reads_the_same_store(store: KeyedStore, reading: Reading, tmp_path: Path) -> None:
    store.append([event(1, 10)])
    assert times(store.for_model(reading), 20) == [10]
    with pytest.raises(DataError, match="made for other ids"):
        store.for_model(Reading.of_data(tiny_prepared(tmp_path / "other", string_ids=True)))
