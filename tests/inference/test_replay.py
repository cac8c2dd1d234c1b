from pathlib import Path

import msgspec
import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import DataError
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.requests import encode_requests
from clickscale.schema import Field
from tests.data.tiny import source_of, tiny_schema, tiny_tables
from tests.trained import tiny_prepared


@pytest.mark.parametrize("string_ids", [False, True])
def test_requests_hold_the_raw_values_of_the_log(string_ids: bool, tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path, known_at=True, string_ids=string_ids)
    tables = tiny_tables(known_at=True, string_ids=string_ids)
    logged = {(row["user"], row["item"], row["time"]): row for row in tables["impressions"]}
    past = {(row["user"], row["item"], row["time"]): row for row in tables["behaviors"]}
    people = {row["user"]: row for row in tables["users"]}
    requests = requests_from_dataset(dataset, dataset.part("train"))
    assert sum(len(request["candidates"]) for request in requests) == len(dataset.part("train"))
    seen = 0
    for request in requests:
        person = people.get(request["user"], {})
        assert request["profile"].get("gender") == person.get("gender")
        for candidate in request["candidates"]:
            row = logged[request["user"], candidate["item"], request["time"]]
            assert candidate["position"] == row["position"]
            assert candidate["hour"] == pytest.approx(row["hour"], abs=1e-4)
            assert 0 <= candidate["item_rate"] <= 1
        for behavior in request["behaviors"]:
            row = past[request["user"], behavior["item"], behavior["time"]]
            assert (behavior["known_at"], behavior["action"]) == (row["known_at"], row["action"])
            assert behavior["dwell"] == pytest.approx(row["dwell"], rel=1e-4)
            assert behavior["known_at"] < request["time"]
            seen += 1
    assert seen > 100


def test_neighbors_of_one_moment_share_a_request(tmp_path: Path) -> None:
    tables = tiny_tables()
    first = tables["impressions"][0]
    tables["impressions"] += [first | {"item": item} for item in (20, 30, 40) if item != first["item"]]
    prepare(source_of(tiny_schema(), tables), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    requests = requests_from_dataset(dataset, np.arange(len(dataset.impressions["time"])))
    shared = [r for r in requests if r["time"] == first["time"] and r["user"] == first["user"]]
    assert len(shared) == 1
    assert {candidate["item"] for candidate in shared[0]["candidates"]} >= {20, 30, 40, first["item"]} - {0}
    assert requests_from_dataset(dataset, []) == []


@pytest.mark.parametrize("dtype", ["string", "int"])
def test_unknown_values_keep_their_places_in_lists(dtype: str, tmp_path: Path) -> None:
    liked = Field(name="liked", values=3, min_count=2, dtype=dtype)  # type: ignore[arg-type]
    schema = msgspec.structs.replace(tiny_schema(), profile=(liked,))
    tables = tiny_tables()
    for number, row in enumerate(tables["users"]):
        row["liked"] = [[70 + number, 1], [0, 80 + number, 1], [90 + number], []][number % 4]
    prepare(source_of(schema, tables), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    stored = dataset.users["field.liked"][dataset.impressions["user"]]
    assert {(1, 3, 0), (2, 1, 3), (1, 0, 0)} <= set(map(tuple, stored.tolist()))
    for row, expected in enumerate(stored.tolist()):
        encoded = encode_requests(requests_from_dataset(dataset, [row]), dataset.encoder, 1)
        assert encoded.batch.user.profile[0, 1:].tolist() == expected


def test_a_hashed_field_cannot_be_read_back(tmp_path: Path) -> None:
    schema = tiny_schema()
    hashed = Field(name="gender", vocabulary="hash", buckets=50)
    schema = msgspec.structs.replace(schema, profile=(hashed, schema.profile[1]))
    prepare(source_of(schema, tiny_tables()), tmp_path / "out")
    dataset: Dataset = open_dataset(tmp_path / "out")
    with pytest.raises(DataError, match="'gender' is hashed"):
        requests_from_dataset(dataset, dataset.part("test"))
