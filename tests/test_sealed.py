import json
import math
from pathlib import Path
from typing import Any

import pytest

from clickscale.errors import DamagedError
from clickscale.sealed import (
    indented,
    maybe_document,
    read_document,
    read_documents,
    write_document,
    write_documents,
)

ADVICE = "make it again"
DOCUMENT: dict[str, Any] = {
    "loss": 0.1 + 0.2,
    "none": None,
    "text": "Straße 😀 \ud800",
    "nested": {"b": [1, 2.5, float("inf")], "a": {"10": True, "9": False}},
}


def test_a_document_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_document(path, DOCUMENT | {"tuple": (1, 2), "keys": {10: 1, 9: 2}})
    assert read_document(path, ADVICE) == DOCUMENT | {"tuple": [1, 2], "keys": {"10": 1, "9": 2}}
    assert maybe_document(path, ADVICE) is not None
    assert maybe_document(tmp_path / "none.json", ADVICE) is None
    assert len(json.loads(path.read_text())["sha256"]) == 64


def test_only_values_are_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_document(path, {"b": 1, "a": [1, 2]})
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(tree.items())), indent=7))
    assert read_document(path, ADVICE) == {"a": [1, 2], "b": 1}


@pytest.mark.parametrize("lines", [1, 3])
def test_any_flipped_bit_is_found_or_changes_nothing(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "a.jsonl"
    documents = [{"a": 1.5, "b": [number, "text"]} for number in range(lines)]
    write_documents(path, documents) if lines > 1 else write_document(path, documents[0])
    content = path.read_bytes()
    silent, refusals = 0, set()
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(bytes(changed))
            try:
                found = read_documents(path, ADVICE) if lines > 1 else [read_document(path, ADVICE)]
            except DamagedError as error:
                refusals.add(str(path) in str(error) and str(error).endswith("make it again."))
            else:
                assert found == documents
                silent += 1
    assert refusals == {True}
    assert silent < len(content) / 10  # blanks


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"\xff", "is damaged"),
        (b"[]", "holds no hash of its own"),
        (b"{}", "holds no hash of its own"),
        (b'{"a": 1, "sha256": 5}', "holds no hash of its own"),
        (
            b'{"a": 1, "sha256": "00"}',
            "damaged, or was changed by hand: sha256 of its content .*, expected 00",
        ),
        (b"[" * 100_000, "is damaged"),
    ],
)
def test_what_is_no_document_is_refused_by_name(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=f"a.json .*{problem}.*; make it again"):
        read_document(path, ADVICE)
    with pytest.raises(DamagedError, match=r"a\.json"):
        read_documents(path, ADVICE)


def test_a_list_that_lost_lines_at_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_documents(path, [{"a": 1}, {"a": 2}])
    assert read_documents(path, ADVICE) == [{"a": 1}, {"a": 2}]
    *lines, seal = path.read_text().splitlines()
    for kept in ([lines[0], seal], lines, [lines[0]], [lines[1], lines[0], seal]):
        path.write_text("".join(f"{line}\n" for line in kept))
        with pytest.raises(DamagedError, match=r"a\.jsonl"):
            read_documents(path, ADVICE)


def test_a_folder_in_the_place_of_a_document_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DamagedError, match=r"Cannot read .*a.json: Is a directory; make it again"):
        maybe_document(tmp_path / "a.json", ADVICE)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    "value", [{"b": [1, {"é": [[], {}, None, 1e-7]}], "a": '\n"'}, 2.5, [math.nan, -math.inf]]
)
def test_a_value_over_several_lines_is_what_python_writes(value: object, ascii_only: bool) -> None:
    written = indented(value, ascii_only=ascii_only)
    assert written == json.dumps(value, indent=2, sort_keys=True, ensure_ascii=ascii_only)
