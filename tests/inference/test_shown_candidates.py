from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clickscale.data.features.values import read_keys
from clickscale.errors import InputError
from clickscale.inference.scorer import Scorer
from clickscale.inference.shown_candidates import plain_ids, read_shown
from tests.trained import tiny_artifact, tiny_prepared


@pytest.mark.parametrize("value", ["12", "a b", "é", 12, 12.0, 0.5, 1e30, True, -3, "007"])
def test_a_plain_id_is_the_text_that_the_encoder_reads(value: Any) -> None:
    (plain,) = plain_ids([value], "string")
    read = read_keys(pa.array([value]), "string")
    assert read_keys(pa.array([plain]), "string").data[0] == read.data[0]


@pytest.mark.parametrize("value", ["12", " 12 ", 12, 12.0, True, (1 << 62) + 1])
def test_a_plain_id_is_the_integer_that_the_encoder_reads(value: Any) -> None:
    (plain,) = plain_ids([value], "int")
    assert read_keys(pa.array([value]), "int").data[0] == plain


def test_key_fields_of_a_request_are_read_with_the_items(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    request = {
        "user": "101",
        "time": 1_600_000_000,
        "profile": {"gender": "m"},
        "behaviors": [{"item": 10, "time": 5}],
        "candidates": [{"item": 10, "position": 2}, {"item": 4711}],
    }
    shown = read_shown(request, dataset.encoder)
    assert (shown.time, shown.user, shown.items, shown.rows[1]) == (1_600_000_000, 101, [10, 4711], 1)
    assert shown.profile["gender"].tolist() == [[dataset.encoder.encode_field("gender", pa.array(["m"]))[0]]]
    known, unknown = dataset.encoder.encode_field("position", pa.array([2, None])).tolist()
    assert shown.context["position"].tolist() == [[known], [unknown]]
    with pytest.raises(InputError, match=r"candidates is empty"):
        read_shown({**request, "candidates": []}, dataset.encoder)
    with pytest.raises(InputError, match="send an object"):
        read_shown([request], dataset.encoder)  # type: ignore[arg-type]


def test_a_statistic_is_missing_if_one_candidate_lacks_it(tmp_path: Path) -> None:
    scorer = Scorer(tiny_artifact(tmp_path, tiny_prepared(tmp_path)))
    request: dict[str, Any] = {"user": 101, "time": 1_600_000_000}
    full = {"item": 10, "item_rate": 0.5, "item_count": 0, "user_genre_rate": 0.1}
    complete = scorer.score(request | {"candidates": [full, full]})
    assert complete.missing == ()
    assert complete.to_dict()["missing"] == []
    lacking = [full, full | {"item_count": None}, {"item": 10, "item_rate": 0.2, "item_count": 3}]
    answers = scorer.score_many([request | {"candidates": lacking}, request | {"candidates": [full]}])
    assert [answer.missing for answer in answers] == [("item_count", "user_genre_rate"), ()]
