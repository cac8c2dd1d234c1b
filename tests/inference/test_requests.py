import copy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.features.encoder import Encoder, Vocabulary
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from clickscale.inference.requests import encode_requests, known_items, user_identity
from clickscale.schema import Field
from tests.data.tiny import DAY, START, source_of, tiny_schema, tiny_tables
from tests.trained import tiny_prepared

NOW = START + 10 * DAY


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_prepared(tmp_path_factory.mktemp("data"), known_at=True)


def request(**changes: Any) -> dict[str, Any]:
    """A sound request: two behaviors known, two candidates."""
    sound = {
        "user": 101,
        "time": NOW,
        "profile": {"gender": "m", "age": 23.0},
        "behaviors": [
            {"item": 10, "time": NOW - 200, "action": "view", "dwell": 5.0},
            {"item": 20, "time": NOW - 100, "known_at": NOW - 50, "action": "buy", "dwell": 7.0},
        ],
        "candidates": [{"item": 30, "position": 1, "hour": 4.0, "item_rate": 0.25}, {"item": 40}],
    }
    return copy.deepcopy(sound) | changes


def test_a_request_becomes_the_tensors_that_the_encoder_makes(dataset: Dataset) -> None:
    encoder = dataset.encoder
    batch = encode_requests([request()], encoder, 5).batch
    items = encoder.item_rows.values.to_pylist()
    assert batch.user.items.tolist() == [[items.index(10) + 2, items.index(20) + 2]]
    assert batch.candidates.items.tolist() == [[items.index(30) + 2, items.index(40) + 2]]
    assert batch.user.times.tolist() == [[NOW - 200, NOW - 100]]
    assert batch.candidates.times.tolist() == [[NOW, NOW]]
    assert batch.candidates.visible.tolist() == [[2, 2]]
    assert batch.candidates.oldest.tolist() == [[0, 0]]
    scale = encoder.scales["dwell"]
    expected = (np.log1p([5.0, 7.0]) - scale.mean) / scale.std
    np.testing.assert_allclose(batch.user.action_numbers[0, :, 0], expected, rtol=1e-6)


def test_what_is_left_out_is_missing_and_never_an_error(dataset: Dataset) -> None:
    bare = {"user": 101, "time": NOW, "candidates": [{"item": 30}]}
    batch = encode_requests([bare], dataset.encoder, 5).batch
    assert batch.user.profile.tolist()[0][1:] == [1]  # the gender is unknown
    assert batch.user.items.tolist() == [[0]]  # one column of padding
    assert bool(batch.user.profile_numbers.isnan().all())
    assert bool(batch.candidates.context_numbers.isnan().all())
    assert batch.candidates.context.tolist() == [[[1]]]


def test_a_value_means_the_same_whatever_stands_beside_it(dataset: Dataset) -> None:
    words = Vocabulary("string", pa.array(["1", "1e+20", "false", "true"]))
    vocabularies = dataset.encoder.vocabularies | {"action": words}
    encoder = Encoder(dataset.schema, vocabularies, dataset.encoder.scales, dataset.encoder.item_rows)
    read: list[tuple[Any, int]] = [(True, 5), (False, 4), (1, 2), (1.0, 2), (1e20, 3), ("true", 5), ("x", 1)]
    behaviors = [{"item": 10, "time": NOW - 9, "action": value} for value, _ in read]
    together = encode_requests([request(behaviors=behaviors)], encoder, 9).batch.user.actions[0, :, 0]
    assert together.tolist() == [index for _, index in read]
    for behavior, index in zip(behaviors, together.tolist(), strict=True):
        alone = encode_requests([request(behaviors=[behavior])], encoder, 9).batch.user.actions
        assert alone.item() == index


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["False", "True"], [3, 2]),
        (["0", "1", "2"], [3, 2]),
        (["False", "True", "true"], [4, 2]),  # true itself is a value
        (["no", "yes"], [1, 1]),
    ],
)
def test_true_and_false_are_spelled_as_in_the_log(
    words: list[str], expected: list[int], dataset: Dataset
) -> None:
    vocabularies = dataset.encoder.vocabularies | {"action": Vocabulary("string", pa.array(words))}
    encoder = Encoder(dataset.schema, vocabularies, dataset.encoder.scales, dataset.encoder.item_rows)
    behaviors = [{"item": 10, "time": NOW - 9, "action": value} for value in (True, False)]
    actions = encode_requests([request(behaviors=behaviors)], encoder, 9).batch.user.actions
    assert actions[0, :, 0].tolist() == expected


def test_ids_that_were_never_seen_are_unknown(dataset: Dataset) -> None:
    encoded = encode_requests([request(user=7, candidates=[{"item": 31}, {"item": 30}])], dataset.encoder, 5)
    assert encoded.batch.user.profile[0, 0] == 1
    assert encoded.batch.candidates.items[0, 0] == 1
    assert known_items(encoded.batch) == [[False, True]]


def test_behaviors_are_seen_from_the_moment_they_are_known_and_not_at_it(dataset: Dataset) -> None:
    behaviors = [
        {"item": 10, "time": NOW - 500, "known_at": NOW},  # known at the moment itself: too late
        {"item": 20, "time": NOW + 1},
        {"item": 30, "time": NOW - 300, "known_at": NOW - 1},
        {"item": 40, "time": NOW - 400},
        {"item": 50, "time": NOW - 400},
    ]
    encoded = encode_requests([request(behaviors=behaviors)], dataset.encoder, 5)
    items = [dataset.encoder.item_rows.values[i - 2].as_py() for i in encoded.batch.user.items[0].tolist()]
    assert items == [40, 50, 30]  # by the moment they became known; equal moments as they came
    assert (encoded.used, encoded.ignored) == ([3], [2])


def test_behaviors_are_known_as_long_after_their_time_as_in_the_log(dataset: Dataset) -> None:
    schema = msgspec.structs.replace(dataset.schema, known_after=100)
    encoder = Encoder(schema, dataset.encoder.vocabularies, dataset.encoder.scales, dataset.encoder.item_rows)
    behaviors = [
        {"item": 10, "time": NOW - 100},
        {"item": 20, "time": NOW - 101},
        {"item": 30, "time": NOW - 50, "known_at": NOW - 50},  # what a behavior tells itself counts
    ]
    encoded = encode_requests([request(behaviors=behaviors)], encoder, 5)
    assert encoded.batch.user.times.tolist() == [[NOW - 50, NOW - 101]]
    assert encoded.ignored == [1]


def test_only_the_newest_behaviors_are_taken(dataset: Dataset) -> None:
    behaviors = [{"item": 10 * (i + 1), "time": NOW - 100 + i} for i in range(6)]
    encoded = encode_requests([request(behaviors=behaviors)], dataset.encoder, 4)
    assert encoded.batch.user.times.tolist() == [[NOW - 98, NOW - 97, NOW - 96, NOW - 95]]
    assert (encoded.used, encoded.ignored) == ([4], [0])


def test_requests_of_different_lengths_are_padded_on_their_sides(dataset: Dataset) -> None:
    short = request(behaviors=[], candidates=[{"item": 30}])
    batch = encode_requests([request(), short], dataset.encoder, 5).batch
    assert (batch.user.items > 0).tolist() == [[True, True], [False, False]]
    assert (batch.candidates.items > 0).tolist() == [[True, True], [True, False]]
    assert batch.candidates.visible.tolist() == [[2, 2], [2, 2]]
    one = encode_requests(
        [request(behaviors=request()["behaviors"][:1]), request()], dataset.encoder, 5
    ).batch
    assert (one.user.items > 0).tolist() == [[False, True], [True, True]]


def test_values_mean_the_same_however_json_writes_them(dataset: Dataset) -> None:
    plain = encode_requests([request()], dataset.encoder, 5).batch
    mixed = request(user="101", time=float(NOW))
    mixed["behaviors"][0]["item"] = "10"
    mixed["behaviors"][1]["item"] = 20.0
    mixed["candidates"][0]["position"] = "1"
    mixed["candidates"][0]["hour"] = "4"
    other = encode_requests([mixed], dataset.encoder, 5).batch
    assert torch.equal(plain.user.items, other.user.items)
    assert torch.equal(plain.user.profile, other.user.profile)
    assert torch.equal(plain.candidates.context, other.candidates.context)
    assert torch.equal(
        plain.candidates.context_numbers.nan_to_num(9), other.candidates.context_numbers.nan_to_num(9)
    )


def with_candidate(**changes: Any) -> dict[str, Any]:
    changed = request()
    changed["candidates"][1] |= changes
    return changed


def with_behavior(**changes: Any) -> dict[str, Any]:
    changed = request()
    changed["behaviors"][0] |= changes
    return changed


BAD = {
    "not an object": ([1, 2], r"the request is \[1, 2\]; send an object"),
    "misspelled key": (request(candidate=[]), r"Unknown key 'candidate'; did you mean 'candidates'"),
    "misspelled field": (
        request(profile={"gendr": "m"}),
        r"profile: Unknown key 'gendr'; did you mean 'gender'",
    ),
    "profile of another kind": (request(profile=[1]), r"profile is \[1\]; send an object"),
    "no user": (request(user=None), "user is null; send an id"),
    "empty user": (request(user=""), "user is empty; send an id"),
    "user of the wrong type": (request(user="anna"), "user is 'anna': bad value"),
    "negative user": (request(user=-3), "user is -3: negative id"),
    "fractional user": (request(user=3.5), r"user is 3.5: bad value"),
    "huge user": (request(user=1 << 70), "user is 1180591620717411303424: id overflow"),
    "list as user": (request(user=[1]), r"user is \[1\]; send one id"),
    "no time": (request(time=None), "time is missing; send seconds"),
    "time as text": (request(time="2020-01-01"), "time is '2020-01-01'; send seconds"),
    "time as truth": (request(time=True), "time is True; send seconds"),
    "milliseconds": (request(time=NOW * 1000), "looks like milliseconds; send seconds"),
    "not a number": (request(time=float("nan")), "time is nan; send seconds"),
    "before 1970": (request(time=-1), "time is -1, before 1970"),
    "no candidates": (request(candidates=[]), "candidates is empty; send at least one"),
    "candidates null": (request(candidates=None), "candidates is empty; send at least one"),
    "candidates of another kind": (request(candidates="30"), "candidates is '30'; send a list of objects"),
    "candidate of another kind": (request(candidates=[30]), r"candidates\[0\] is 30; send an object"),
    "item null": (with_candidate(item=None), r"candidates\[1\].item is null; send an id"),
    "profile as list": (request(profile=[]), r"profile is \[\]; send an object"),
    "item missing": (request(candidates=[{"position": 1}]), r"candidates\[0\].item is null; send an id"),
    "item as text": (with_candidate(item="x"), r"candidates\[1\].item is 'x': bad value"),
    "item blank": (with_candidate(item="  "), r"candidates\[1\].item is '  ', which names no item"),
    "number as text": (with_candidate(hour="late"), r"candidates\[1\].hour is 'late': bad number"),
    "half a surrogate pair": (with_candidate(item="\ud800"), r"candidates\[1\].item is .*: invalid utf8"),
    "number infinite": (with_candidate(hour=float("inf")), r"candidates\[1\].hour is inf: non finite"),
    "object as number": (
        with_candidate(hour={"h": 1}),
        r"candidates\[1\].hour is \{'h': 1\}; send one value",
    ),
    "unknown context": (
        with_candidate(houre=1),
        r"candidates\[1\]: Unknown key 'houre'; did you mean 'hour'",
    ),
    "item attribute": (with_candidate(genre="war"), r"candidates\[1\]: Unknown key 'genre'"),
    "behavior without time": (with_behavior(time=None), r"behaviors\[0\].time is missing; send seconds"),
    "behavior in milliseconds": (with_behavior(time=NOW * 1000), r"behaviors\[0\].time is .* milliseconds"),
    "known too early": (with_behavior(known_at=NOW - 900), r"behaviors\[0\].known_at is .*, before"),
    "behavior item": (with_behavior(item=-1), r"behaviors\[0\].item is -1: negative id"),
    "behavior field": (with_behavior(dwell=[1, 2]), r"behaviors\[0\].dwell is \[1, 2\]; send one value"),
}


@pytest.mark.parametrize(("bad", "problem"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_right_is_named_by_its_path(bad: Any, problem: str, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=problem):
        encode_requests([bad], dataset.encoder, 5)


def test_moments_of_fields_are_seconds_up_to_the_last_day_of_calendars(tmp_path: Path) -> None:
    expires = Field(name="expires", kind="timestamp")
    schema = msgspec.structs.replace(tiny_schema(), context=(expires,))
    tables = tiny_tables()
    for row in tables["impressions"]:
        row["expires"] = row["time"] + DAY
    prepare(source_of(schema, tables), tmp_path / "out")
    encoder = open_dataset(tmp_path / "out").encoder
    for moment in (-62_135_596_800, 253_402_300_799):  # of the years 1 and 9999
        encode_requests([request(candidates=[{"item": 30, "expires": moment}])], encoder, 5)
    with pytest.raises(
        InputError, match=r"candidates\[0\].expires is 16.*: bad time; send seconds since 1970"
    ):
        encode_requests([request(candidates=[{"item": 30, "expires": 1_600_000_000_000}])], encoder, 5)


def test_of_several_requests_the_wrong_one_is_named(dataset: Dataset) -> None:
    with pytest.raises(InputError, match=r"requests\[1\]\.candidates\[1\]\.item is null"):
        encode_requests([request(), with_candidate(item=None)], dataset.encoder, 5)
    with pytest.raises(InputError, match=r"requests\[1\]\.user is 'anna'"):
        encode_requests([request(), request(user="anna")], dataset.encoder, 5)


def test_text_ids_and_several_values_are_read_as_in_the_log(tmp_path: Path) -> None:
    schema = tiny_schema(dtype="string")
    tags = Field(name="tags", values=2, separator="|")
    tables = tiny_tables(string_ids=True)
    for place, row in enumerate(tables["impressions"]):
        row["tags"] = ["a|b", "b", "c|a|b"][place % 3]
    schema = msgspec.structs.replace(schema, context=(*schema.context, tags))
    prepare(source_of(schema, tables), tmp_path / "out")
    encoder = open_dataset(tmp_path / "out").encoder
    one = {"user": "u101", "time": NOW, "candidates": [{"item": "i10", "tags": "c|a|b"}, {"item": "i20"}]}
    two = copy.deepcopy(one)
    two["candidates"][0]["tags"] = ["c", "a"]  # type: ignore[index]
    first, second = (encode_requests([r], encoder, 5).batch.candidates for r in (one, two))
    assert torch.equal(first.context, second.context)
    assert first.context[0, :, 1:].tolist() == [[4, 2], [1, 0]]  # c, a; missing
    assert bool((first.items > 1).all())


def test_candidates_of_mixed_types_and_keys_are_read_as_each_would_be_alone(dataset: Dataset) -> None:
    chance = np.random.default_rng(0)
    values: dict[str, list[Any]] = {
        "position": [1, "2", 3.0, None, True],
        "hour": [4.0, 5, "6.5", None, False, 1 << 60],
        "item_rate": [0.5, 1, None],
        "user_genre_rate": [None],
    }
    candidates = []
    for number in range(60):
        candidate: dict[str, Any] = {"item": [10, "20", 30.0, 31][number % 4]}
        for key, some in values.items():
            if chance.random() < 0.7:
                candidate[key] = some[chance.integers(len(some))]
        candidates.append(candidate)
    together = encode_requests([request(candidates=candidates)], dataset.encoder, 5).batch.candidates
    single = [request(candidates=[candidate]) for candidate in candidates]
    alone = [encode_requests([one], dataset.encoder, 5).batch.candidates for one in single]
    for name in ("items", "context", "context_numbers", "times"):
        expected = torch.cat([getattr(side, name) for side in alone], dim=1)
        torch.testing.assert_close(getattr(together, name), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("other", [4, 4.5, True, None])
def test_nan_is_a_missing_number_beside_numbers_of_any_type(dataset: Dataset, other: float | None) -> None:
    candidates = [{"item": 30, "hour": float("nan")}, {"item": 40, "hour": other}]
    numbers = encode_requests(
        [request(candidates=candidates)], dataset.encoder, 5
    ).batch.candidates.context_numbers
    assert bool(numbers[0, 0].isnan().all())
    assert bool(numbers[0, 1].isnan().all()) == (other is None)


def test_an_identity_does_not_depend_on_how_an_id_is_written(dataset: Dataset) -> None:
    written = [101, "101", 101.0, "+101", "101.0"]
    assert {user_identity(user, dataset.encoder) for user in written} == {b"int:101"}
