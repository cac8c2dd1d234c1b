"""Requests to models of logs with ids of several columns, without users, or without items."""

from typing import Any

import pytest
import torch

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from clickscale.inference.requests import encode_requests, user_identity

LINES = ["a,b,item,kind,time,clicked"] + [
    f"{n % 3},x{n % 2},i{n % 5},k{n % 2},{1_600_000_000 + n},{n % 2}" for n in range(60)
]


def dataset_of(folder: Any, toml: str) -> Dataset:
    (folder / "log.csv").write_text("\n".join(LINES) + "\n")
    text = f'name = "x"\nlabels = [{{ name = "click", column = "clicked" }}]\n{toml}'
    (folder / "log.toml").write_text(text)
    prepare(load_log(folder / "log.toml"), folder / "out")
    return open_dataset(folder / "out")


@pytest.fixture
def composite(tmp_path: Any) -> Dataset:
    toml = (
        'user = { name = "user", column = ["a", "b"] }\nitem = { name = "item", column = ["item", "kind"] }\n'
    )
    return dataset_of(tmp_path, toml + '[impressions]\nfiles = "log.csv"\n')


@pytest.fixture
def nobody(tmp_path: Any) -> Dataset:
    return dataset_of(tmp_path, '[impressions]\nfiles = "log.csv"\nfields = [{ name = "kind" }]\n')


def asked(user: Any, item: Any) -> dict[str, Any]:
    past = [{"item": item, "time": 1_600_000_100}]
    return {"user": user, "time": 1_600_000_200, "behaviors": past, "candidates": [{"item": item}]}


@pytest.mark.parametrize("user", [["2", "x0"], [2, "x0"], [2.0, "x0"], "2|x0"])
def test_an_id_of_several_columns_is_the_list_of_its_parts(composite: Dataset, user: Any) -> None:
    encoded = encode_requests([asked(user, ["i1", "k1"])], composite.encoder, 5)
    known = encode_requests([asked("2|x0", "i1|k1")], composite.encoder, 5)
    assert int(encoded.batch.user.profile[0, 0]) > 1
    assert torch.equal(encoded.batch.user.profile, known.batch.user.profile)
    assert int(encoded.batch.candidates.items[0, 0]) == int(encoded.batch.user.items[0, -1]) > 1
    assert user_identity(user, composite.encoder) == user_identity("2|x0", composite.encoder)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (asked(["2"], ["i1", "k1"]), r"user is \['2'\]; send 2 values: a, b"),
        (asked(["2", ["x"]], ["i1", "k1"]), "user is .*send 2 values"),
        (asked([None, None], ["i1", "k1"]), "user is null"),
        (asked("2|x0", ["i1"]), r"behaviors\[0\].item is \['i1'\]; send 2 values: item, kind"),
    ],
)
def test_parts_that_are_missing_are_named(composite: Dataset, request_: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        encode_requests([request_], composite.encoder, 5)


def test_a_request_without_a_user_and_an_item_is_what_the_model_learned(nobody: Dataset) -> None:
    request = {"time": 1_600_000_200, "candidates": [{"kind": "k0"}, {"kind": "never"}]}
    encoded = encode_requests([request], nobody.encoder, 5)
    assert int(encoded.batch.user.profile[0, 0]) == int(nobody.users["field.user"][0]) == 2
    assert encoded.batch.candidates.items[0].tolist() == [int(nobody.impressions["item"][0])] * 2
    assert encoded.batch.candidates.context[0, 1].tolist() == [1]
    assert encoded.items == [[None, None]]
    assert user_identity(None, nobody.encoder) == user_identity(7, nobody.encoder)


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ({"user": 3, "time": 1_600_000_200, "candidates": [{"kind": "k0"}]}, "Unknown key 'user'"),
        ({"time": 1_600_000_200, "behaviors": [], "candidates": [{"kind": "k0"}]}, "Unknown key 'behaviors'"),
        ({"time": 1_600_000_200, "candidates": [{"item": 3}]}, r"candidates\[0\].item: .*has no items"),
        ({"time": 1_600_000_200, "candidates": [3]}, r"candidates\[0\] is 3; send an object"),
        ({"time": 1_600_000_200, "candidates": []}, "candidates is empty"),
    ],
)
def test_what_such_a_model_does_not_know_is_refused(nobody: Dataset, request_: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        encode_requests([request_], nobody.encoder, 5)
