"""Whatever a line of requests holds, it costs no other line its answer, and never ends the program."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.cli import main
from clickscale.errors import InputError
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.scorer import Scorer
from tests.inference.mutated import mutated
from tests.trained import tiny_artifact, tiny_prepared


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.wide)], ids=["int ids", "text ids"]
)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An artifact, sound requests, and the line that each is answered with."""
    folder = tmp_path_factory.mktemp("served")
    dataset = tiny_prepared(folder, known_at=True, string_ids=request.param)
    artifact = tiny_artifact(folder, dataset, "din", ("click", "like"))
    requests = list(requests_from_dataset(dataset, dataset.part("test")))
    scorer = Scorer(artifact)
    answers = [json.dumps(scorer.score(one).to_dict(), ensure_ascii=False) for one in requests]
    return artifact, requests, answers


def refuse_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


def check(served: Any, folder: Path, count: int, seed: int) -> dict[str, int]:
    """Score ``count`` mutated lines, each followed by a sound one; count what became of them."""
    artifact, requests, answers = served
    random = np.random.default_rng(seed)
    lines: list[bytes] = []
    for number in range(count):
        which = number % len(requests)
        lines += [mutated(requests[which], random), json.dumps(requests[which]).encode()]
    (folder / "requests.jsonl").write_bytes(b"\n".join(lines))
    code = main(
        ["score", str(artifact), str(folder / "requests.jsonl"), "--out", str(folder / "answers.jsonl")]
    )
    assert code in (0, 2)
    found = (folder / "answers.jsonl").read_text("utf-8").split("\n")
    assert found.pop() == ""
    assert len(found) == 2 * count
    told = {"scored": 0, "refused": 0}
    for number, (strange, sound) in enumerate(zip(found[::2], found[1::2], strict=True)):
        assert sound == answers[number % len(requests)]
        answer = json.loads(strange, parse_constant=refuse_constant)
        if "error" in answer:
            assert answer["line"] == 2 * number + 1
            assert "defect" not in answer["error"], (answer, lines[2 * number][:2000])
            assert len(answer["error"]) < 1_000
            told["refused"] += 1
        else:
            scores = [c[label] for c in answer["candidates"] for label in ("click", "like")]
            assert scores
            assert all(math.isfinite(score) and 0 <= score <= 1 for score in scores)
            told["scored"] += 1
    assert sorted(path.name for path in folder.iterdir()) == ["answers.jsonl", "requests.jsonl"]
    return told


def test_mutated_requests_cost_no_other_its_answer(served: Any, tmp_path: Path) -> None:
    told = check(served, tmp_path, 150, seed=0)
    assert min(told.values()) > 20  # mutations reach beyond the parser


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_mutated_requests_cost_no_other_its_answer(served: Any, tmp_path: Path) -> None:
    told = check(served, tmp_path, 10_000, seed=1)
    assert min(told.values()) > 500


def test_a_list_within_a_list_of_one_value_is_refused(served: Any) -> None:
    artifact, requests, _ = served
    for strange in ([[]], [["i1"]], [{}]):
        profile = dict.fromkeys(requests[0]["profile"], strange)
        with pytest.raises(InputError, match=r"send (one value|a flat list)"):
            Scorer(artifact).score(requests[0] | {"profile": profile})
