"""Derived numbers: against plain arithmetic on raw values, and alike in batches, requests and draws."""

import datetime as dt
import zoneinfo
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.features.derived import DerivedNumbers
from clickscale.data.features.encoder import Encoder
from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.errors import InputError, SchemaError
from clickscale.evaluation.evaluate import predict
from clickscale.features import column_of, numeric
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from clickscale.schema import Derived, Field, Schema
from clickscale.training.distill.unlabelled import UnlabelledCandidates
from tests.data.tiny import DAY, STATISTICS, source_of, tiny_dataset, tiny_schema, tiny_tables
from tests.trained import LENGTH, tiny_artifact

LIKES = {100: "drama|war", 101: "comedy", 102: "war|opera|drama", 103: "opera", 104: "", 105: "drama"}
PLACES = ((52.52, 13.405), (48.8566, 2.3522), (-33.87, 151.21), (None, 0.0))  # Berlin, Paris, Sydney
BERLIN_PARIS, BERLIN_SYDNEY = 877.5, 16_095.0  # kilometers
JOINED = {user: 1_600_000_000 - 77 * 3600 * user for user in range(100, 107)}
DERIVED = (
    Derived(name="released_age", of="age", by=("released",)),
    Derived(name="joined_age", of="age", by=("joined",)),
    Derived(name="genre_likes", of="matches", by=("genre", "likes")),
    Derived(name="likes_mood", of="matches", by=("likes", "mood")),
    Derived(name="apart", of="difference", by=("price", "age")),
    Derived(name="until", of="difference", by=("released", "joined")),
    Derived(name="there", of="local_hour", by=("zone",)),
    Derived(name="weekday", of="local_weekday", by=("zone",)),
    Derived(name="away", of="local_hour", by=("offset",)),
    Derived(name="share", of="ratio", by=("price", "hour")),
    Derived(name="worth", of="product", by=("price", "east")),
    Derived(name="way", of="distance", by=("north", "east", "shop_north", "shop_east")),
)
NOW = tuple(Field(name=name, kind="numeric") for name in ("north", "east", "offset"))
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Mars/Base")
NAMES = [number.name for number in DERIVED]


def schema() -> Schema:
    plain = tiny_schema(statistics=STATISTICS)
    likes = Field(name="likes", values=3, separator="|", shares="genre")
    return structs.replace(
        plain,
        profile=(*plain.profile, likes, Field(name="joined", kind="timestamp"), Field(name="zone")),
        items=(*plain.items, *(Field(name=name, kind="numeric") for name in ("shop_north", "shop_east"))),
        context=(*plain.context, Field(name="mood", shares="genre"), *NOW),
        derived=DERIVED,
    ).validate()


def tables() -> dict[Any, list[dict[str, Any]]]:
    """A tiny log with more users' attributes: one user lacks them, one has no likes, one unknown likes."""
    found = tiny_tables()
    for row in found["users"]:
        row |= {"likes": LIKES.get(row["user"]), "joined": JOINED[row["user"]]}
        row["zone"] = ZONES[row["user"] % len(ZONES)]
    for number, row in enumerate(found["impressions"]):
        row["mood"] = ["war", "drama", "comedy"][number % 3]
        row |= dict(zip(("north", "east"), PLACES[number % len(PLACES)], strict=True))
        row["offset"] = (-5.5, 0, 2, None)[number % 4]
    for number, row in enumerate(found["items"]):
        row |= dict(zip(("shop_north", "shop_east"), PLACES[number // 2 % len(PLACES)], strict=True))
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("data"), source_of(schema(), tables())))


def stored(dataset: Dataset, name: str) -> np.ndarray:
    return np.asarray(dataset.impressions[column_of(name)])


def raw(dataset: Dataset, name: str) -> np.ndarray:
    """Numbers before they were standardized."""
    scale = dataset.encoder.scales[name]
    return stored(dataset, name).astype(np.float64) * scale.std + scale.mean


def shown(dataset: Dataset) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Impressions in the order of the data set, with the rows of their users and items."""
    held = tables()
    users = {row["user"]: row for row in held["users"]}
    items = {row["item"]: row for row in held["items"]}
    rows = [held["impressions"][row] for row in np.asarray(dataset.impressions["row"]).tolist()]
    return [(row, users.get(row["user"], {}), items.get(row["item"], {})) for row in rows]


def test_ages_are_days_from_a_moment_to_the_impression(dataset: Dataset) -> None:
    for name, field, side in (("released_age", "released", 2), ("joined_age", "joined", 1)):
        moments = np.array([each[side].get(field, np.nan) for each in shown(dataset)])
        times = np.array([each[0]["time"] for each in shown(dataset)])
        ages = np.expm1(raw(dataset, name))  # log1p, and none is negative here
        assert np.nanmin(times - moments) > 0
        np.testing.assert_allclose(ages, (times - moments) / DAY, rtol=1e-4, atol=0.02)
        assert np.isnan(ages).any()
        assert np.isfinite(ages).sum() > 80


def test_matches_count_the_values_in_common(dataset: Dataset) -> None:
    known = {"drama", "comedy", "war"}  # opera is no genre of the training part, so it can match nothing
    expected: dict[str, list[float]] = {"genre_likes": [], "likes_mood": []}
    for row, user, item in shown(dataset):
        likes = set((user.get("likes") or "").split("|")) & (known | {"opera"})
        genres, mood = set((item.get("genre") or "").split("|")) & known, {row["mood"]}
        for name, other in (("genre_likes", genres), ("likes_mood", mood)):
            is_known = bool(likes) and bool(other)
            expected[name].append(float(len(likes & other)) if is_known else np.nan)
    for name, values in expected.items():
        np.testing.assert_allclose(raw(dataset, name), values, atol=1e-5)
    assert {0.0, 1.0, 2.0} <= set(expected["genre_likes"])
    assert np.isnan(expected["genre_likes"]).any()


def test_distances_are_kilometers_on_the_globe(dataset: Dataset) -> None:
    way = np.expm1(raw(dataset, "way"))
    places = [
        ((row["north"], row["east"]), (item.get("shop_north"), item.get("shop_east")))
        for row, _, item in shown(dataset)
    ]
    berlin, paris, sydney, nowhere = PLACES
    for pair, expected in (
        ((berlin, berlin), 0),
        ((berlin, paris), BERLIN_PARIS),
        ((sydney, berlin), BERLIN_SYDNEY),
    ):
        found = way[[each == pair for each in places]]
        assert len(found) > 2
        np.testing.assert_allclose(found, expected, rtol=5e-3, atol=0.5)
    assert np.isnan(way[[nowhere in each for each in places]]).all()


def test_numbers_are_compared(dataset: Dataset) -> None:
    nothing = {"price": None, "age": None}
    facts = [nothing | row | item | user for row, user, item in shown(dataset)]
    price, age, hour, east = (
        np.array([row[name] for row in facts], float) for name in ("price", "age", "hour", "east")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(hour > 0, price / hour, np.nan)
    worth = raw(dataset, "worth")
    np.testing.assert_allclose(raw(dataset, "apart"), price - age, atol=1e-3)
    np.testing.assert_allclose(np.expm1(raw(dataset, "share")), shares, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.sign(worth) * np.expm1(np.abs(worth)), price * east, rtol=1e-4, atol=1e-3)
    assert (hour == 0).any()
    assert np.isfinite(shares).sum() > 50


def test_the_difference_of_two_moments_is_in_days(dataset: Dataset) -> None:
    nothing = {"released": None, "joined": None}
    facts = [nothing | item | user for _, user, item in shown(dataset)]
    released, joined = (np.array([row[name] for row in facts], float) for name in ("released", "joined"))
    np.testing.assert_allclose(raw(dataset, "until"), (released - joined) / DAY, atol=0.02)
    assert np.isfinite(released - joined).sum() > 50


def test_local_times_are_those_on_the_clocks_of_a_zone(dataset: Dataset) -> None:
    hours, days = [], []
    for row, user, _ in shown(dataset):
        known = user.get("zone", "Mars/Base") != "Mars/Base"
        zone = zoneinfo.ZoneInfo(user["zone"]) if known else dt.UTC
        clock = dt.datetime.fromtimestamp(row["time"], zone)
        hours.append(clock.hour + clock.minute / 60 + clock.second / 3600 if known else np.nan)
        days.append(clock.weekday() if known else np.nan)
    np.testing.assert_allclose(raw(dataset, "there"), hours, atol=1e-3)
    np.testing.assert_allclose(raw(dataset, "weekday"), days, atol=1e-4)
    assert 20 < np.isfinite(hours).sum() < len(hours)
    away = [
        np.nan if row["offset"] is None else (row["time"] / 3600 + row["offset"]) % 24
        for row, _, _ in shown(dataset)
    ]
    np.testing.assert_allclose(raw(dataset, "away"), away, atol=1e-3)


def test_a_note_counts_the_impressions_without_a_known_zone(dataset: Dataset) -> None:
    lacking, total = int(np.isnan(raw(dataset, "there")).sum()), len(raw(dataset, "there"))
    said = (
        f"there is missing in {lacking} of {total} impressions, whose zone is missing, rare or no time zone"
    )
    assert any(said in note and "'Mars/Base'" in note for note in dataset.manifest.notes)


def test_a_moment_after_the_impression_gives_a_negative_age(tmp_path: Path) -> None:
    held = tables()
    for row in held["items"]:
        row["released"] += 2_000 * DAY  # announced, and released after the log
    later = open_dataset(tiny_dataset(tmp_path, source_of(schema(), held)))
    ages = raw(later, "released_age")
    assert np.nanmax(ages) < 0  # sign(x) log(1 + |x|)
    assert np.nanstd(ages) > 0


@pytest.mark.parametrize("grouping", ["timeline", "request", "impression"])
def test_a_batch_is_filled_with_what_is_stored(dataset: Dataset, grouping: Grouping) -> None:
    derived = DerivedNumbers(dataset.encoder, dataset.item_columns())
    names = [feature.name for feature in numeric(dataset.features.context)]
    columns = [names.index(name) for name in NAMES]
    options = LoaderConfig(grouping=grouping, length=6, window=8, batch_size=30, labels=("click",))
    for batch in Loader(dataset, "train", options).batches():
        expected = batch.candidates.context_numbers
        emptied = expected.clone()
        emptied[:, :, columns] = torch.nan
        bare = replace(batch, candidates=replace(batch.candidates, context_numbers=emptied))
        filled = derived.fill(bare).candidates.context_numbers
        mask = batch.candidates.mask
        assert torch.equal(filled[mask].nan_to_num(-99), expected[mask].nan_to_num(-99))


@pytest.mark.parametrize("model", ["din", "suan", "est"])
def test_requests_without_them_score_as_evaluated(dataset: Dataset, model: str, tmp_path: Path) -> None:
    scorer = Scorer(tiny_artifact(tmp_path, dataset, model))
    offline = predict(scorer.model, dataset, "test", length=LENGTH, grouping="request", labels=("click",))
    requests = requests_from_dataset(dataset, offline.row)
    assert not {*NAMES} & {key for request in requests for one in request["candidates"] for key in one}
    responses = scorer.score_many(requests)
    assert not any(response.missing for response in responses)
    online = np.concatenate([response.logits for response in responses])
    np.testing.assert_allclose(online, offline.logits, atol=1e-5, rtol=2e-6)
    later = [request | {"time": request["time"] + 300 * DAY} for request in requests]
    older = np.concatenate([response.logits for response in scorer.score_many(later)])
    assert np.abs(older - online).max() > 1e-3


def test_a_request_that_carries_one_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    scorer = Scorer(tiny_artifact(tmp_path, dataset))
    request = {"user": 101, "time": 1_600_000_100, "candidates": [{"item": 10, "released_age": 3.0}]}
    with pytest.raises(InputError, match=r"candidates\[0\].*'released_age'"):
        scorer.score(request)


def test_a_request_with_a_date_says_what_to_send(dataset: Dataset, tmp_path: Path) -> None:
    scorer = Scorer(tiny_artifact(tmp_path, dataset))
    request = {"user": 101, "time": 1_600_000_100, "candidates": [{"item": 10}]}
    with pytest.raises(InputError, match=r"joined is '2020-01-01': bad number; send seconds since 1970 UTC"):
        scorer.score(request | {"profile": {"joined": "2020-01-01"}})


def test_drawn_candidates_have_their_own(dataset: Dataset) -> None:
    options = LoaderConfig(grouping="request", length=6, batch_size=30, labels=("click",))
    draw = UnlabelledCandidates(dataset, 4, seed=0)
    names = [feature.name for feature in numeric(dataset.features.context)]
    ages, released = [], []
    for step, batch in enumerate(Loader(dataset, "train", options).batches()):
        longer = draw(batch, step)
        numbers = longer.candidates.context_numbers
        new = longer.candidates.mask & (longer.rows < 0)
        ages += numbers[new][:, names.index("released_age")].tolist()
        released += dataset.items[column_of("released")][longer.candidates.items[new]].tolist()
    there = np.isfinite(ages) & np.isfinite(released)
    assert there.sum() > 100
    assert (
        np.corrcoef(np.array(ages)[there], np.array(released)[there])[0, 1] < -0.8
    )  # the later, the younger


def test_a_log_without_any_keeps_the_file_of_its_encoder(tmp_path: Path) -> None:
    plain = open_dataset(tiny_dataset(tmp_path))
    assert "derived" not in (plain.path / "encoder.json").read_text()


def test_an_encoder_is_read_back_whole(dataset: Dataset, tmp_path: Path) -> None:
    dataset.encoder.save(tmp_path)
    again = Encoder.load(tmp_path)
    assert again.schema.derived == DERIVED
    assert again.equals(dataset.encoder)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (Derived(name="x", of="age", by=("relaesed",)), "'relaesed' is not a field of items"),
        (Derived(name="x", of="age", by=("price",)), "of 'age' is by fields of the kinds timestamp, in"),
        (
            Derived(name="x", of="age", by=("released", "joined")),
            "of 'age' is by fields of the kinds timestamp, in",
        ),
        (
            Derived(name="x", of="matches", by=("genre",)),
            "of 'matches' is by fields of the kinds categorical, categorical, in",
        ),
        (
            Derived(name="x", of="difference", by=("price", "joined")),
            "the kinds numeric, numeric, or timestamp, timestamp, in",
        ),
        (Derived(name="x", of="local_hour", by=("released",)), "the kinds categorical, or numeric, in"),
        (Derived(name="x", of="local_hour", by=("likes",)), "'likes', which needs one value and an exact"),
        (Derived(name="x", of="ratio", by=("released", "joined")), "the kinds numeric, numeric, in"),
        (Derived(name="x", of="matches", by=("genre", "released")), "of 'matches' is by fields of the kinds"),
        (
            Derived(name="x", of="distance", by=("north", "east")),
            "of 'distance' is by fields of the kinds numeric, n",
        ),
        (Derived(name="x", of="matches", by=("genre", "gender")), "add shares = 'genre' to 'gender'"),
        (Derived(name="x", of="matches", by=("genre", "action")), "'action' is not a field of items"),
        (Derived(name="genre", of="age", by=("released",)), "name 'genre' is used twice"),
        (Derived(name="two words", of="age", by=("released",)), "'two words' must be letters"),
    ],
)
def test_what_cannot_be_derived_is_refused(number: Derived, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        structs.replace(schema(), derived=(number,)).validate()
