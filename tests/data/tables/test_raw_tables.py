"""Tables in any format: Parquet, the format by the name, files by their folder."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.tables.raw_tables import detect_format, find_file, read
from clickscale.errors import InputError
from tests.data.raw import rows, written


def test_a_missing_file_is_named(tmp_path):
    for name in ("t.csv", "t.parquet", "t.jsonl", "t.csv.gz"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            rows(tmp_path / name)


def test_an_unknown_ending_is_an_error_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"\.parquet"):
        rows(tmp_path / "t.xlsx")


def test_an_unknown_ending_is_read_by_the_first_bytes(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.item")
    (tmp_path / "t.user").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "t.log").write_bytes(b'{"a": 1}\n')
    (tmp_path / "t.bin").write_bytes(b"a,b\n\x00\x01\x02\n")
    (tmp_path / "t.none").write_bytes(b"")
    assert [detect_format(tmp_path / f"t.{ending}") for ending in ("item", "user", "log")] == [
        "parquet",
        "csv",
        "jsonl",
    ]
    (row,) = rows(tmp_path / "t.user")
    assert (row["a"], row["b"]) == ("1", "2")
    for ending in ("bin", "none"):
        with pytest.raises(InputError, match="Cannot tell the format"):
            detect_format(tmp_path / f"t.{ending}")


def test_parquet_keeps_its_types_and_decodes_dictionaries(tmp_path):
    path = tmp_path / "t.parquet"
    colors = pa.array(["red", None, "red"]).dictionary_encode()
    pq.write_table(
        pa.table({"n": pa.array([1, 2, 3], pa.int32()), "color": colors, "x": [0.5, None, 1.0]}), path
    )
    (chunk,) = read(path, ["color", "n"])
    assert chunk.rows.schema.names == ["color", "n"]
    assert chunk["n"].type == pa.int32()
    assert chunk["color"].to_pylist() == ["red", None, "red"]
    assert chunk["color"].type == pa.string()


def test_parquet_text_that_is_not_utf8_costs_one_row(tmp_path):
    path = tmp_path / "t.parquet"
    text = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers())
    pq.write_table(pa.table({"t": text}), path)
    assert [r["problem"] for r in rows(path)] == [None, "invalid_utf8"]


def test_lists_of_text_that_is_not_utf8_cost_one_row(tmp_path):
    path = tmp_path / "t.parquet"
    raw = pa.array([b"a", b"\xff", b"b"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    lists = pa.ListArray.from_arrays([0, 1, 1, 3], text, mask=pa.array([False, True, False]))
    pq.write_table(pa.table({"t": lists}), path)
    assert [(r["t"], r["problem"]) for r in rows(path)] == [
        (["a"], None),
        (None, None),
        (["\ufffd", "b"], "invalid_utf8"),
    ]


def test_damaged_parquet_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": list(range(10_000))}), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-4], b"", b"PAR1" + b"x" * 50 + b"PAR1"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"t\.parquet"):
            rows(path)


def test_a_changed_byte_anywhere_in_parquet_is_read_or_named_and_never_a_crash(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"n": list(range(300)), "t": [f"text {n}" for n in range(300)]}), path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            rows(path)
        except InputError as error:
            assert "t.parquet" in str(error)  # noqa: PT017 (most changes are read, and that is fine)


def test_a_file_is_found_in_the_folder_or_one_below_or_gzipped(tmp_path):
    inner = tmp_path / "ml-1m"
    inner.mkdir()
    path = written(inner, "x", "ratings.dat.gz")
    assert find_file(tmp_path, "ratings.dat") == path
    assert find_file(inner, "other.dat", "ratings.dat") == path
    with pytest.raises(InputError, match=r"does not hold u\.data; it holds ml-1m"):
        find_file(tmp_path, "u.data")
    with pytest.raises(InputError, match="is not a folder"):
        find_file(tmp_path / "absent", "u.data")


LINES = (
    '{"user": "u1", "events": [{"item": "a", "at": 5}, {"item": "b", "at": 6, "tags": ["x", "y"]}]}\n'
    '{"user": "u2", "events": []}\n'
    "broken\n"
    '{"user": "u3"}\n'
    '{"user": "u4", "events": [{"item": "c", "at": 7}]}\n'
)


@pytest.mark.parametrize(
    "columns", [["user", "events.item", "events.at"], ["events.at", "user", "events.item"]]
)
def test_each_object_of_a_list_is_a_row_beside_the_values_of_its_line(tmp_path, columns):
    path = written(tmp_path, LINES.encode(), "t.jsonl")
    (chunk,) = read(path, columns, unnest="events")
    assert chunk.rows.schema.names == columns
    assert chunk["user"].to_pylist() == ["u1", "u1", None, "u4"]
    assert chunk["events.item"].to_pylist() == ["a", "b", None, "c"]
    assert chunk["events.at"].to_pylist() == [5, 6, None, 7]
    assert chunk.problem.to_pylist() == [None, None, "bad_row", None]


def test_values_of_the_line_repeat_for_each_object_of_its_list(tmp_path):
    path = written(tmp_path, LINES.encode(), "t.jsonl")
    (chunk,) = read(path, ["user"], unnest="events")
    assert chunk["user"].to_pylist() == ["u1", "u1", None, "u4"]
    (whole,) = read(path, unnest="events")
    assert [each and each["item"] for each in whole["events"].to_pylist()] == ["a", "b", None, "c"]
    (tags,) = read(path, ["events.tags"], unnest="events")
    assert tags["events.tags"].to_pylist() == [None, ["x", "y"], None, None]


def test_lists_of_objects_in_parquet_are_taken_apart_likewise(tmp_path):
    events = [[{"item": "a", "at": 5}, {"item": "b", "at": 6}], None, [{"item": "c", "at": 7}]]
    pq.write_table(pa.table({"user": ["u1", "u2", "u3"], "events": events}), tmp_path / "t.parquet")
    (chunk,) = read(tmp_path / "t.parquet", ["events.item", "user"], unnest="events")
    assert chunk["events.item"].to_pylist() == ["a", "b", "c"]
    assert chunk["user"].to_pylist() == ["u1", "u1", "u3"]


def test_a_line_without_a_list_costs_itself_alone(tmp_path):
    lines = [
        {"user": "u1", "events": [{"item": "a", "at": 5}]},
        {"user": "u2", "events": "none"},
        {"user": "u3", "events": {"item": "b"}},
        {"user": "u4", "events": '[{"item": "c", "at": 7}]'},
        {"user": "u5"},
    ]
    path = written(tmp_path, "".join(f"{json.dumps(line)}\n" for line in lines).encode(), "t.jsonl")
    (chunk,) = read(path, ["user", "events.item", "events.at"], unnest="events")
    assert chunk["user"].to_pylist() == ["u1", None, None, "u4"]
    assert chunk["events.item"].to_pylist() == ["a", None, None, "c"]
    assert chunk["events.at"].to_pylist() == [5, None, None, 7]
    assert chunk.problem.to_pylist() == [None, "bad_row", "bad_row", None]


def test_values_of_objects_without_a_common_type_become_texts(tmp_path):
    events = [[{"item": "a", "at": 5}, {"item": 7, "at": "soon"}], [], None, [{"at": 6}]]
    lines = "".join(f"{json.dumps({'user': 'u', 'events': each})}\n" for each in events)
    path = written(tmp_path, lines.encode(), "t.jsonl")
    (chunk,) = read(path, ["events.item", "events.at"], unnest="events")
    assert chunk["events.item"].to_pylist() == ["a", "7", None]
    assert chunk["events.at"].to_pylist() == ["5", "soon", "6"]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_a_column_without_lists_is_not_taken_apart(name, tmp_path):
    path = tmp_path / name
    pq.write_table(pa.table({"user": ["u1", "u2"]}), path)
    if name == "t.jsonl":
        path = written(tmp_path, b'{"user": "u1"}\n{"user": "u2"}\n', name)
    with pytest.raises(
        InputError, match=r"lists in column 'user' apart, which has no lists, .* such as 'u1'"
    ):
        list(read(path, ["user"], unnest="user"))
