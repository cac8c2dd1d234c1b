"""Statistics and histories of a store equal those of preparation, to the bit, over a replayed part."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.inference.replay import Replay, requests_from_dataset
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.loading import load_dataset, moment_of
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event, Outcome
from clickscale.serving.store.reading import Reading
from tests.data.tiny import source_of, tiny_tables
from tests.inference.test_statistic_counters import (
    data_set,
    drawn_data,
    outcomes_of,
    read_as_models_do,
    replayed,
    schema_with,
    stored,
)
from tests.serving.store.servers import KINDS, store_url


def loaded(url: str, dataset: Dataset, moment: int) -> KeyedStore:
    store = open_store(url, Reading.of_data(dataset))
    assert load_dataset(store, dataset, moment)
    return store


def impressions(dataset: Dataset, rows: np.ndarray, request: dict[str, Any]) -> list[Event]:
    """Impressions as events that bring their outcomes."""
    return [
        Event(
            id=f"i{row}",
            user=request["user"],
            item=candidate["item"],
            time=request["time"],
            behavior=None,
            context={name: value for name, value in candidate.items() if name != "item"},
            labels=labels,
        )
        for row, candidate, labels in zip(
            rows.tolist(), request["candidates"], outcomes_of(dataset, rows), strict=True
        )
    ]


# Each store and each delay once a day; all pairs are wide.
DELAYS = [(0, False), (5 * 3600, True), (9 * 86_400, False)]


@pytest.mark.parametrize(
    ("kind", "delay", "string_ids"),
    [
        pytest.param(kind, *delay, marks=[] if KINDS.index(kind) == number else pytest.mark.wide)
        for number, delay in enumerate(DELAYS)
        for kind in KINDS
    ],
)
def test_served_statistics_equal_those_of_training(
    kind: str, delay: int, string_ids: bool, tmp_path: Path
) -> None:
    dataset = data_set(tmp_path, delay, string_ids)
    seen = 0
    with store_url(kind, tmp_path) as url:
        store = loaded(url, dataset, moment_of(dataset, "test"))
        for rows, request in replayed(dataset, moment_of(dataset, "test")):
            bare = {key: value for key, value in request.items() if key not in ("profile", "behaviors")}
            completed = store.complete(bare, most=1000)
            assert read_as_models_do(dataset, completed) == stored(dataset, rows)
            store.append(impressions(dataset, rows, request))
            seen += len(rows)
        store.close()
    assert seen == len(dataset.part("test")) > 30


@pytest.mark.parametrize("delay", [0, 5 * 3600])
def test_a_log_of_positives_is_continued_positive_by_positive(delay: int, tmp_path: Path) -> None:
    """No drawn negative is told: the events are the rows of the log, those without negatives among them."""
    dataset, clicks = drawn_data(tmp_path, delay)
    moment, seen = moment_of(dataset, "valid"), 0
    store = loaded("memory://", dataset, moment)
    waiting = [row for row in clicks if row["time"] >= moment]
    assert len(dataset.counted["time"]) == len(clicks) > (dataset.impressions["label.click"] == 1).sum()
    for rows, request in replayed(dataset, moment):
        while waiting and waiting[0]["time"] <= request["time"]:
            row = waiting.pop(0)
            labels = {"click": 1} if row["label.like"] is None else {"click": 1, "like": row["label.like"]}
            context = {name: row[name] for name in ("position", "hour")}
            event = Event(
                id=f"{row['user']}.{row['item']}.{row['time']}",
                user=row["user"],
                item=row["item"],
                time=row["time"],
                behavior=None,
                context=context,
                labels=labels,
            )
            store.append([event])
        bare = {key: value for key, value in request.items() if key not in ("profile", "behaviors")}
        assert read_as_models_do(dataset, store.complete(bare, most=1000)) == stored(dataset, rows)
        seen += len(rows)
    assert seen > 60


def test_what_is_no_positive_is_not_counted_where_positives_are(tmp_path: Path) -> None:
    dataset, _ = drawn_data(tmp_path)
    moment = moment_of(dataset)
    store = loaded("memory://", dataset, moment)
    asked = {"user": 100, "time": moment + 60, "candidates": [{"item": 10}]}
    before = store.statistics([asked])
    shown = [Event(id=str(n), user=100, item=10, time=moment + n, behavior=None, labels={}) for n in (1, 2)]
    store.append(shown)
    store.settle([Outcome(impression="1", user=100, labels={"click": 0})])
    assert store.statistics([asked]) == before
    store.settle([Outcome(impression="2", user=100, labels={"click": 1})])
    (after,), (was,) = store.statistics([asked])[0], before[0]
    assert after["item_count"] == was["item_count"] + 1


def test_outcomes_that_are_told_later_count_like_those_that_come_along(tmp_path: Path) -> None:
    dataset = data_set(tmp_path, delay=9 * 86_400)
    moment = moment_of(dataset, "test")
    store = loaded("memory://", dataset, moment)
    for rows, request in replayed(dataset, moment):
        assert read_as_models_do(dataset, store.complete(request, most=10)) == stored(dataset, rows)
        events = impressions(dataset, rows, request)
        store.append(
            [Event(**{f: getattr(e, f) for f in e.__struct_fields__} | {"labels": {}}) for e in events]
        )
        for event in events:
            told = {name: value for name, value in (event.labels or {}).items() if value is not None}
            assert store.settle([Outcome(impression=event.id, user=event.user, labels=told)]) == [True]


@pytest.mark.parametrize("delay", [5 * 3600, pytest.param(0, marks=pytest.mark.wide)])
def test_counts_do_not_depend_on_the_order_in_which_events_arrive(delay: int, tmp_path: Path) -> None:
    dataset = data_set(tmp_path, delay)
    # A lift compares with the rate that was known when the event arrived, and what was newest then is a key,
    # so these depend on the order.
    names = [s.name for s in dataset.schema.statistics if s.of != "lift" and "after" not in s.name]
    moment = moment_of(dataset, "test")
    replay = list(replayed(dataset, moment))
    events = [event for rows, request in replay for event in impressions(dataset, rows, request)]
    last = replay[-1][1] | {"time": replay[-1][1]["time"] + 1}
    in_order = loaded("memory://", dataset, moment)
    in_order.append(events)
    expected = [{name: one[name] for name in names} for one in in_order.statistics([last])[0]]
    for seed in range(3):
        store = loaded("memory://", dataset, moment)
        order = np.random.default_rng(seed).permutation(len(events))
        for start in range(0, len(order), 7):
            store.append([events[at] for at in order[start : start + 7]])
        assert [{name: one[name] for name in names} for one in store.statistics([last])[0]] == expected


def test_a_read_up_to_an_hour_behind_is_exact_and_an_older_one_says_nothing(tmp_path: Path) -> None:
    dataset = data_set(tmp_path)
    moment = moment_of(dataset, "test")
    store, ahead = loaded("memory://", dataset, moment), loaded("memory://", dataset, moment)
    replay = list(replayed(dataset, moment))
    (rows, request) = replay[0]
    start = request["time"]
    for offset in range(0, 4 * 3600, 600):
        (event,) = impressions(dataset, rows[:1], request | {"candidates": request["candidates"][:1]})
        later = Event(
            **{f: getattr(event, f) for f in event.__struct_fields__}
            | {"time": start + offset, "id": str(offset)}
        )
        ahead.append([later])
    for offset in range(0, 4 * 3600, 600):
        asked = request | {"time": start + offset}
        ((then, *_),), ((now, *_),) = store.statistics([asked]), ahead.statistics([asked])
        if offset >= 3 * 3600 - 600:
            assert now == then
        else:
            assert "item_count" not in now
            assert "user_rate" not in now
        (event,) = impressions(dataset, rows[:1], request | {"candidates": request["candidates"][:1]})
        later = Event(
            **{f: getattr(event, f) for f in event.__struct_fields__}
            | {"time": start + offset, "id": str(offset)}
        )
        store.append([later])
    early = request | {"time": moment - 1}
    assert store.statistics([early]) == [[{} for _ in request["candidates"]]]


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_users_are_those_of_the_data_set(kind: str, tmp_path: Path) -> None:
    tables = tiny_tables(impressions=400, behaviors=2000, known_at=True)
    prepare(source_of(schema_with(0), tables), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    moment = moment_of(dataset, "valid")
    with store_url(kind, tmp_path) as url:
        store = loaded(url, dataset, moment)
        for (request,) in (requests_from_dataset(dataset, [row]) for row in range(0, 400, 19)):
            past = [row for row in request["behaviors"] if row["time"] < moment]
            found = store.user(request["user"], before=request["time"], most=10_000)
            assert found is not None
            assert (found.behaviors, found.profile) == (past, request["profile"])
        (item,) = store.items([10])
        assert item is not None
        assert item["genre"] == ["drama"]
        assert item["text"] == [0.0, 1.0, -0.5, 0.25]
        store.close()


def test_behaviors_that_become_known_during_a_replay_make_the_histories_of_training(tmp_path: Path) -> None:
    tables = tiny_tables(impressions=400, behaviors=600, known_at=True)
    prepare(source_of(schema_with(0), tables), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    moment = moment_of(dataset, "test")
    store, replay = loaded("memory://", dataset, moment), Replay(dataset)
    known, offsets = dataset.known_at, dataset.users["offsets"]
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.argsort(known, kind="stable").tolist()
    due = [at for at in order if dataset.behaviors["time"][at] >= moment]
    assert any(known[at] >= moment for at in order if at not in due)  # loaded, and shown once they are known
    for rows, request in replayed(dataset, moment):
        while due and known[due[0]] < request["time"]:
            at = due.pop(0)
            behavior = replay.behavior(at)
            fields = {n: v for n, v in behavior.items() if n not in ("item", "time", "known_at")}
            user = replay.users[int(users[at])].as_py()
            store.append(
                [
                    Event(
                        id=f"b{at}",
                        user=user,
                        item=behavior["item"],
                        time=behavior["time"],
                        known_at=behavior.get("known_at"),
                        behavior=fields,
                    )
                ]
            )
        (expected,) = requests_from_dataset(dataset, rows)
        bare = {"user": request["user"], "time": request["time"], "candidates": request["candidates"]}
        completed = store.complete(bare, most=10_000)
        assert completed["behaviors"] == expected["behaviors"]
        assert completed["profile"] == expected["profile"]
