from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import DataError
from clickscale.features import UNKNOWN
from clickscale.inference.replay import requests_from_dataset
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


@pytest.mark.parametrize("dtype", ["int", "string"])
def test_unknown_values_of_a_list_come_back_as_values_that_are_unknown(tmp_path: Path, dtype: str) -> None:
    words = Field(name="words", values=3, separator=" ", dtype=dtype, min_count=2)  # type: ignore[arg-type]
    schema = tiny_schema()
    schema = msgspec.structs.replace(schema, context=(*schema.context, words))
    tables = tiny_tables()
    for number, row in enumerate(tables["impressions"]):  # the second word is in one row only
        row["words"] = f"{number % 3} {1000 + number} {number % 2 + 7}" if number % 4 else ""
    prepare(source_of(schema, tables), tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    rows = dataset.part("test")
    sent = [
        one.get("words") for request in requests_from_dataset(dataset, rows) for one in request["candidates"]
    ]
    stored = np.asarray(dataset.impressions["field.words"][rows])
    assert (stored[:, 1] == UNKNOWN).any()
    kind = pa.list_(pa.string() if dtype == "string" else pa.int64())
    np.testing.assert_array_equal(dataset.encoder.encode_field("words", pa.array(sent, kind)), stored)


def test_a_hashed_field_cannot_be_read_back(tmp_path: Path) -> None:
    schema = tiny_schema()
    hashed = Field(name="gender", vocabulary="hash", buckets=50)
    schema = msgspec.structs.replace(schema, profile=(hashed, schema.profile[1]))
    prepare(source_of(schema, tiny_tables()), tmp_path / "out")
    dataset: Dataset = open_dataset(tmp_path / "out")
    with pytest.raises(DataError, match="'gender' is hashed"):
        requests_from_dataset(dataset, dataset.part("test"))
