import dataclasses
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from clickscale.errors import DamagedError, DataError, InputError
from clickscale.evaluation.predictions import Predictions, common_rows, concatenate
from tests.forked_commands import CommandServer
from tests.kills import killed_everywhere


def predictions(
    rows: list[int], seed: int = 0, label_names: tuple[str, ...] = ("click", "buy")
) -> Predictions:
    """Logits drawn by seed; every fact about a row, its labels too, depends on its id alone."""
    row, count, labels = np.array(rows, np.int64), len(rows), len(label_names)
    wanted = np.array([len(name) for name in label_names])
    return Predictions(
        row=row,
        user=row // 3,
        time=1_700_000_000 + row * 60,
        labels=((row[:, None] + wanted) % 2).astype(np.float32),
        label_mask=(row[:, None] % (wanted + 2)) > 0,
        logits=np.random.default_rng(seed).normal(size=(count, labels)).astype(np.float32),
        behaviors=(row % 50).astype(np.int32),
        item_age=row * 1000 - 1,
        user_activity=(row // 3 * 2).astype(np.int32),
        label_names=label_names,
        part="test",
        grouping="request",
    )


def assert_equal(a: Predictions, b: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        mine, theirs = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        assert np.asarray(mine).dtype == np.asarray(theirs).dtype


def replaced(whole: Predictions, **changes: Any) -> Predictions:
    return dataclasses.replace(whole, **changes)


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("rows", [[], [4], list(range(100))])
def test_what_is_saved_is_loaded(tmp_path: Path, rows: list[int]) -> None:
    whole = predictions(rows)
    whole.save(tmp_path / "test.safetensors")
    assert_equal(Predictions.load(tmp_path / "test.safetensors"), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["test.safetensors"]


def test_views_with_gaps_are_saved_as_what_they_show(tmp_path: Path) -> None:
    whole = predictions(list(range(10)))
    every_second = whole.take(np.arange(10) % 2 == 0)
    strided = replaced(every_second, logits=whole.logits[::2], labels=np.asfortranarray(every_second.labels))
    strided.save(tmp_path / "file")
    assert_equal(Predictions.load(tmp_path / "file"), every_second)


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    predictions([1, 2, 3]).save(path)
    good = path.read_bytes()
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 0x10
        path.write_bytes(bad)
        with pytest.raises((DamagedError, InputError), match=r"is damaged|evaluate the run again"):
            Predictions.load(path)


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_a_truncated_file_is_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file"
    predictions([1, 2, 3]).save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedError, match="is damaged"):
        Predictions.load(path)


def test_a_missing_file_and_a_file_of_another_kind_are_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No predictions at .*nowhere"):
        Predictions.load(tmp_path / "nowhere")
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "weights")
    with pytest.raises(InputError, match="holds None"):
        Predictions.load(tmp_path / "weights")


def test_a_file_without_one_of_the_arrays_is_damaged(tmp_path: Path) -> None:
    about = {"label_names": ["click"], "part": "test", "grouping": "request"}
    metadata = {"format": "clickscale-predictions-1", "about": json.dumps(about), "sha256": "0"}
    save_file({"row": np.zeros(3, np.int64)}, tmp_path / "file", metadata)
    with pytest.raises(DamagedError, match="is damaged"):
        Predictions.load(tmp_path / "file")


def test_a_full_disk_is_a_clear_error_and_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    old, new = predictions([1, 2]), predictions(list(range(2000)))
    old.save(path)
    with disk_full_after(4096), pytest.raises(DataError, match=r"Cannot write predictions to .*file"):
        new.save(path)
    assert_equal(Predictions.load(path), old)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


SAVE = """
from tests.evaluation.test_predictions import predictions

def start(folder):
    predictions([1]).save(folder / "file")

def act(folder):
    predictions([1, 2]).save(folder / "file")
"""


def test_death_at_any_moment_of_saving_leaves_the_older_or_the_newer_file(
    tmp_path: Path, command_server: CommandServer
) -> None:
    lengths = [
        len(Predictions.load(folder / "file")) for folder in killed_everywhere(SAVE, tmp_path, command_server)
    ]
    assert lengths == sorted(lengths)
    assert set(lengths) == {1, 2}


def test_whoever_reads_the_older_file_keeps_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    predictions([1, 2]).save(path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        predictions(list(range(50))).save(path)
        assert reader.read() == before
    assert len(Predictions.load(path)) == 50


def test_saving_over_a_folder_is_a_clear_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="Cannot write predictions"):
        predictions([1]).save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot write predictions"):
        predictions([1]).save(tmp_path / "no" / "file")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"user": np.zeros(2, np.int64)}, r"user is int64 \(2,\); expected int64 \(3,\)"),
        ({"time": np.zeros(3, np.float64)}, "time is float64"),
        ({"logits": np.zeros((3, 1), np.float32)}, r"logits is float32 \(3, 1\); expected float32 \(3, 2\)"),
        ({"logits": np.zeros((3, 2), np.float64)}, "logits is float64"),
        ({"label_mask": np.ones((3, 2), np.float32)}, "label_mask is float32"),
        ({"row": [1, 2, 3]}, "row is a list"),
        ({"row": np.int64(3)}, "row is a int64"),
        ({"label_names": ("click", "click")}, "one distinct name per label"),
        ({"label_names": ()}, "one distinct name per label"),
    ],
)
def test_shapes_and_types_are_checked(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        replaced(predictions([1, 2, 3]), **changes)


def test_shards_are_put_together() -> None:
    whole = predictions(list(range(7)))
    shards = [whole.take(np.arange(start, 7, 2)) for start in range(2)]
    together = concatenate(shards)
    np.testing.assert_array_equal(together.row, [0, 2, 4, 6, 1, 3, 5])
    assert_equal(together.take(np.argsort(together.row)), whole)


def test_shards_that_overlap_or_differ_are_refused() -> None:
    one = predictions([1, 2])
    with pytest.raises(DataError, match="Impression row 2 comes 2 times; 1 of 4 rows are repeated"):
        concatenate([one, predictions([2, 3])])
    with pytest.raises(DataError, match="part 'test' and 'train'"):
        concatenate([one, replaced(predictions([3]), part="train")])
    with pytest.raises(DataError, match="grouping"):
        concatenate([one, replaced(predictions([3]), grouping="timeline")])
    with pytest.raises(DataError, match="label_names"):
        concatenate([one, predictions([3], label_names=("click",))])
    with pytest.raises(DataError, match="Nothing to concatenate"):
        concatenate([])


def test_labels_are_selected_by_name_and_in_order() -> None:
    whole = predictions([1, 2, 3])
    turned = whole.select_labels(["buy", "click"])
    assert turned.label_names == ("buy", "click")
    np.testing.assert_array_equal(turned.logits, whole.logits[:, ::-1])
    np.testing.assert_array_equal(turned.label_mask, whole.label_mask[:, ::-1])
    with pytest.raises(DataError, match="No label 'like'"):
        whole.select_labels(["like"])


def test_two_runs_are_joined_by_row_id_whatever_their_order() -> None:
    a, b = predictions([5, 1, 3], seed=1), predictions([3, 5, 1], seed=2)
    joined_a, joined_b = common_rows(a, b)
    assert_equal(joined_a, a.take(np.array([1, 2, 0])))
    assert_equal(joined_b, b.take(np.array([2, 0, 1])))


def test_runs_of_different_labels_are_joined_on_those_they_share() -> None:
    a, b = predictions([1, 2], label_names=("like", "click", "buy")), predictions([1, 2])
    joined_a, joined_b = common_rows(a, b)
    assert joined_a.label_names == joined_b.label_names == ("click", "buy")
    np.testing.assert_array_equal(joined_a.logits, a.logits[:, 1:])
    with pytest.raises(DataError, match="share no label"):
        common_rows(predictions([1], label_names=("like",)), predictions([1]))


def test_rows_of_one_run_only_are_refused_or_dropped_on_request() -> None:
    a, b = predictions([1, 2, 3]), predictions([2, 3, 4, 5])
    with pytest.raises(DataError, match="2 shared, 1 only in the first, 2 only in the second"):
        common_rows(a, b)
    joined_a, joined_b = common_rows(a, b, allow_missing=True)
    np.testing.assert_array_equal(joined_a.row, [2, 3])
    np.testing.assert_array_equal(joined_b.row, [2, 3])
    with pytest.raises(DataError, match="0 shared"):
        common_rows(predictions([1]), predictions([2]), allow_missing=True)


@pytest.mark.parametrize("fact", ["user", "time", "labels", "label_mask"])
def test_rows_that_mean_something_else_in_the_other_run_are_refused(fact: str) -> None:
    a, b = predictions([1, 2, 3]), predictions([3, 2, 1])
    changed = getattr(b, fact).copy()
    changed[0] = ~changed[0] if fact == "label_mask" else 1 - changed[0]
    complaint = rf"Row 3 has {'labels' if fact == 'label_mask' else fact} .*\(1 such rows\)"
    with pytest.raises(DataError, match=complaint):
        common_rows(a, replaced(b, **{fact: changed}))


def test_labels_that_both_runs_do_not_know_may_differ() -> None:
    a = predictions([2, 4])
    unknown = np.zeros((2, 2), bool)
    common_rows(replaced(a, label_mask=unknown), replaced(a, label_mask=unknown, labels=1 - a.labels))


def test_a_row_that_a_run_scored_twice_is_refused() -> None:
    with pytest.raises(DataError, match="row 1 comes 2 times"):
        common_rows(predictions([1, 1, 2]), predictions([1, 2]))
