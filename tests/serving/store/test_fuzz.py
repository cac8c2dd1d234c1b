"""Any event is either refused as wrong input or kept, and what is kept never spoils a later request."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickscale.errors import InputError
from clickscale.inference.scorer import Scorer
from clickscale.serving.store.keyed_store import KeyedStore
from clickscale.serving.store.opening import open_store
from clickscale.serving.store.protocol import Event, Outcome
from clickscale.serving.store.reading import Reading
from tests.data.tiny import START
from tests.trained import tiny_artifact, tiny_prepared

ASKED = {"time": START + 10**8, "candidates": [{"item": 20}, {"item": 999}]}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(st.characters(), max_size=6)  # halves of surrogate pairs included
    | st.sampled_from(["103", 103, 103.0, "view", "war|drama", "\0", "20", 20, START, START + 5, 1e300, ""])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(["action", "dwell", "position", "hour", "item", "time", "known_at", "gender", "x"])
fields = st.none() | st.dictionaries(names, values, max_size=3) | values
labels = (
    st.none()
    | st.dictionaries(st.sampled_from(["click", "like", "x"]), st.sampled_from([0, 1, None, 2, True, "1"]))
    | values
)
ids = st.sampled_from([103, "103", 104]) | values


@pytest.fixture(scope="module", params=["int", pytest.param("string", marks=pytest.mark.wide)])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[KeyedStore, Scorer]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    dataset = tiny_prepared(folder, known_at=True, string_ids=request.param == "string")
    scorer = Scorer(tiny_artifact(folder, dataset))
    return open_store("memory://", Reading.of(scorer.artifact)), scorer


def is_served(store: KeyedStore, scorer: Scorer, user: Any) -> None:
    """A user's next request is answered, whatever events came before."""
    response = scorer.score(store.complete({"user": user, **ASKED}, most=100))
    assert all(0 <= score <= 1 for score in response.probabilities[:, 0].tolist())
    assert response.missing == ()


@settings(max_examples=200)
@given(
    identity=st.text(st.characters(), max_size=4) | values,
    user=ids,
    item=st.sampled_from([20, "20", 30]) | values,
    time=st.integers(START, START + 10**6) | values,
    known=st.none() | st.integers(START, START + 10**6) | values,
    behavior=fields,
    context=fields,
    outcomes=labels,
)
def test_an_event_is_refused_or_kept(
    served: tuple[KeyedStore, Scorer],
    identity: Any,
    user: Any,
    item: Any,
    time: Any,
    known: Any,
    behavior: Any,
    context: Any,
    outcomes: Any,
) -> None:
    store, scorer = served
    event = Event(
        id=identity,
        user=user,
        item=item,
        time=time,
        known_at=known,
        behavior=behavior,
        context=context,
        labels=outcomes,
    )
    try:
        (fresh,) = store.append([event])
    except InputError:
        return
    assert store.append([event]) == [False]
    assert fresh in (True, False)  # ids are drawn again
    is_served(store, scorer, user)
    store.settle([Outcome(impression=identity, user=user, labels={"click": 1})])
    is_served(store, scorer, user)


@settings(max_examples=100)
@given(user=values, items=st.lists(values, max_size=3), time=values)
def test_any_question_is_refused_or_answered(
    served: tuple[KeyedStore, Scorer], user: Any, items: list[Any], time: Any
) -> None:
    store, _ = served
    for ask in (
        lambda: store.user(user, before=START, most=10),
        lambda: store.items(items),
        lambda: store.delete_user(user),
        lambda: store.complete({"user": user, "time": time, "candidates": items}, most=5),
        lambda: store.put_users([(user, {"age": time})]),
        lambda: store.put_items([(user, {"price": time, "genre": items})]),
    ):
        try:
            ask()
        except InputError:
            continue


@given(profile=st.dictionaries(st.sampled_from(["age", "gender", "x"]), values, max_size=2))
def test_a_profile_is_refused_or_serves(served: tuple[KeyedStore, Scorer], profile: dict[str, Any]) -> None:
    store, scorer = served
    try:
        store.put_users([(105, profile)])
    except InputError:
        return
    is_served(store, scorer, 105)


def test_events_of_json_are_checked_while_they_are_read() -> None:
    event = msgspec.json.decode(b'{"id": "e1", "user": 103, "item": 20, "time": 5}', type=Event)
    assert (event.behavior, event.labels, event.known_at) == (msgspec.UNSET, None, None)
    for wrong in (b'{"id": 1, "time": 5}', b'{"id": "e", "time": "5"}', b'{"id": "e", "time": 5, "usr": 1}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(wrong, type=Event)
