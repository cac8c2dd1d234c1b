"""Files with one object per line: a broken line costs only itself."""

import json

import pytest

from clickscale.data.tables import json_lines
from clickscale.data.tables.json_lines import json_line, read_lines
from clickscale.errors import InputError
from tests.data.raw import rows, written


def test_json_lines_hold_numbers_lists_and_broken_lines(tmp_path):
    lines = ['{"u": 1, "tags": ["a", "b"], "x": 0.5}', "{broken", "[1]", '{"u": 2, "x": NaN}', ""]
    found = rows(written(tmp_path, "\n".join(lines), "t.jsonl"), ["u", "tags"])
    assert found == [
        {"u": 1, "tags": ["a", "b"], "problem": None},
        {"u": None, "tags": None, "problem": "bad_row"},
        {"u": None, "tags": None, "problem": "bad_row"},
        {"u": 2, "tags": None, "problem": None},
    ]


def test_json_values_of_several_kinds_become_text_and_huge_numbers_survive(tmp_path):
    lines = [json.dumps({"u": value}) for value in (1, "x", 10**30, {"deep": 1}, None)]
    found = [r["u"] for r in rows(written(tmp_path, "\n".join(lines), "t.jsonl"))]
    assert found == ["1", "x", str(10**30), '{"deep": 1}', None]


def test_json_bytes_that_are_not_utf8_cost_one_row(tmp_path):
    path = written(tmp_path, b'{"u": "a"}\n{"u": "\xff"}\n', "t.jsonl")
    assert [r["problem"] for r in rows(path)] == [None, "invalid_utf8"]


def test_a_json_column_that_no_line_has_is_an_error(tmp_path):
    with pytest.raises(InputError, match="did you mean 'user'"):
        rows(written(tmp_path, '{"user": 1}\n', "t.jsonl"), ["usr"])


def test_literal_lines_are_read_and_never_run(tmp_path):
    marker = tmp_path / "ran"
    lines = ["{'asin': 'A', 'price': 1.5}", f"__import__('pathlib').Path({str(marker)!r}).touch()", "{" * 500]
    path = written(tmp_path, "\n".join(lines) + "\n", "meta.json")
    (chunk,) = read_lines(path, ["asin", "price"], json_line)
    assert chunk["asin"].to_pylist() == ["A", None, None]
    assert chunk.problem.to_pylist() == [None, "bad_row", "bad_row"]
    assert not marker.exists()


def test_a_file_without_an_object_is_an_error_that_says_so(tmp_path):
    path = written(tmp_path, "[\n[1],\n]\n", "t.jsonl")
    with pytest.raises(InputError, match="none of its first 3 lines is a JSON object"):
        rows(path)
    assert [row["problem"] for row in rows(path, ["a"])] == ["bad_row"] * 3


@pytest.mark.parametrize("written_as", ["one line", "a line each", "indented", "with NaN", "with a mark"])
@pytest.mark.parametrize("name", ["t.json", "t.unknown"])
def test_an_array_of_objects_is_read_as_lines_are(tmp_path, monkeypatch, written_as, name):
    monkeypatch.setattr(json_lines, "_ENTRIES", 2)
    objects = [{"u": n, "tags": [f"a{n}", "b"], "in": {"x": n / 2}} for n in range(5)]
    last = {"u": 9, "in": {"x": float("nan")}} if written_as == "with NaN" else {"u": 9}
    texts = [json.dumps(each) for each in [*objects, last]]
    text = f"[{', '.join(texts)}]"
    text = "[" + ",\n".join(texts) + "]\n" if written_as == "a line each" else text
    text = json.dumps([*objects, last], indent=2) if written_as == "indented" else text
    text = "\ufeff" + text if written_as == "with a mark" and name == "t.json" else text
    path = written(tmp_path, text, name)
    found = rows(path, ["u", "tags", "in.x"])
    assert [row["u"] for row in found] == [0, 1, 2, 3, 4, 9]
    assert [row["tags"] for row in found][1:3] == [["a1", "b"], ["a2", "b"]]
    assert [row["in.x"] for row in found][:5] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert {row["problem"] for row in found} == {None}


def test_an_entry_of_an_array_that_is_no_object_costs_one_row(tmp_path):
    found = rows(written(tmp_path, '[{"u": 1}, 7, {"u": 2}]', "t.json"))
    assert [(row["u"], row["problem"]) for row in found] == [(1, None), (None, "bad_row"), (2, None)]


def test_arrays_that_are_cut_short_or_too_large_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="begins as a JSON array and is none"):
        rows(written(tmp_path, '[{"u": 1}, {"u": 2}', "t.json"))
    monkeypatch.setattr(json_lines, "_LARGEST", 8)
    with pytest.raises(InputError, match=r"jq -c '\.\[\]' t\.json"):
        rows(written(tmp_path, '[{"u": 1}, {"u": 2}]', "t.json"))


def test_lines_as_python_prints_objects_are_read():
    assert json_line(b"{u'a': u'x', 'b': [1.5, None, True]}") == {"a": "x", "b": [1.5, None, True]}
    with pytest.raises(ValueError):
        json_line(b"{'a': open('x')}")  # nothing is run
