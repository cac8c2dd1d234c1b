import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clickscale import files
from clickscale.data.dataset import open_dataset
from clickscale.data.layout import MANIFEST
from clickscale.data.source import PARTS, Split
from clickscale.errors import ConfigError, DamagedError, DataError
from tests.data.resealed import reseal
from tests.data.tiny import DAY, START, tiny_dataset, tiny_source


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    """A data set of one's own to damage."""
    return Path(shutil.copytree(path, tmp_path / "copy"))


def test_columns_have_the_lengths_that_the_manifest_counts(path: Path) -> None:
    dataset = open_dataset(str(path))
    counts = dataset.manifest.counts
    for name, columns in (
        ("behaviors", dataset.behaviors),
        ("impressions", dataset.impressions),
        ("items", dataset.items),
    ):
        plain = [columns[key] for key in columns if not key.startswith("ids.")]
        assert {len(column) for column in plain} == {counts[name]}
    assert len(dataset.users["offsets"]) == len(dataset.users["impressions"]) == counts["users"] + 1
    assert dataset.users["offsets"][-1] == counts["behaviors"]
    assert dataset.users["impressions"][-1] == counts["impressions"]
    assert dataset.labels == ("click", "like")
    assert dataset.features.items == counts["items"]


def test_columns_are_a_mapping_of_read_only_maps(path: Path) -> None:
    items = open_dataset(path).items
    assert sorted(items) == list(items)
    assert len(items) == len(list((path / "items").glob("*.npy")))
    assert "field.genre" in items
    assert items["field.genre"] is items["field.genre"]
    with pytest.raises(ValueError, match="read-only"):
        items["field.genre"][0] = 1
    with pytest.raises(KeyError, match=r"did you mean 'field.genre'"):
        _ = items["field.gener"]


def test_models_get_the_attributes_of_items_alone(path: Path) -> None:
    dataset = open_dataset(path)
    assert set(dataset.item_columns()) == {
        f"field.{name}" for name in ("item_id", "genre", "price", "released", "text")
    }
    assert not dataset.item_columns()["field.genre"][0].any()  # padding


def test_known_at_is_the_time_where_the_log_says_nothing_else(path: Path, tmp_path: Path) -> None:
    dataset = open_dataset(path)
    np.testing.assert_array_equal(dataset.known_at, dataset.behaviors["time"])
    late = open_dataset(tiny_dataset(tmp_path, tiny_source(known_at=True)))
    assert (late.known_at >= late.behaviors["time"]).all()
    assert (late.known_at > late.behaviors["time"]).any()


def test_the_encoder_is_that_of_preparation(path: Path) -> None:
    dataset = open_dataset(path)
    assert dataset.encoder is dataset.encoder
    assert dataset.encoder.features() == dataset.features


# --- splits


def part_times(path: Path, split: Split | None) -> list[np.ndarray]:
    """Times of the impressions of each part; the parts are disjoint and complete."""
    dataset = open_dataset(path, split)
    rows = [dataset.part(name) for name in PARTS]
    assert all((np.diff(part) > 0).all() and part.dtype == np.int64 for part in rows)
    assert sorted(np.concatenate(rows).tolist()) == list(range(dataset.manifest.counts["impressions"]))
    assert dataset.parts().dtype == np.uint8
    return [dataset.impressions["time"][part] for part in rows]


@pytest.mark.parametrize("split", [None, Split(), Split(valid=0.25, test=0.3)])
def test_a_split_by_time_cuts_the_log_twice(path: Path, split: Split | None) -> None:
    train, valid, test = part_times(path, split)
    assert train.max() < valid.min() <= valid.max() < test.min()
    bounds = open_dataset(path, split).boundaries
    assert bounds == (valid.min(), test.min())
    share = split or Split()
    assert abs(len(test) / 120 - share.test) <= 0.02
    assert abs(len(valid) / 120 - share.valid) <= 0.02


def test_a_split_by_day_keeps_the_last_days(path: Path) -> None:
    train, valid, test = part_times(path, Split(kind="day", valid=2, test=3))
    midnight = (int(test.max()) // DAY - 2) * DAY
    assert valid.max() < midnight <= test.min()
    assert train.max() < midnight - 2 * DAY <= valid.min()
    assert open_dataset(path, Split(kind="day", valid=2, test=3)).boundaries == (midnight - 2 * DAY, midnight)


def test_a_split_by_each_users_time_keeps_the_end_of_every_user(path: Path) -> None:
    split = Split(kind="user_time", valid=0.2, test=0.2)
    dataset = open_dataset(path, split)
    assert dataset.boundaries == ()
    part_times(path, split)
    parts, user = dataset.parts(), dataset.impressions["user"]
    for one in np.unique(user):
        mine = parts[user == one]
        assert (np.diff(mine.astype(int)) >= 0).all()  # impressions stand in time order
        shares = np.bincount(mine, minlength=3) / len(mine)
        np.testing.assert_allclose(shares, (0.6, 0.2, 0.2), atol=1.01 / len(mine))


def test_another_split_leaves_the_data_set_as_it_was(path: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in path.rglob("*")}
    part_times(path, Split(valid=0.3, test=0.3))
    assert {file.name: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    open_dataset(path).verify()


def test_a_split_of_the_source_is_the_default(tmp_path: Path) -> None:
    split = Split(kind="day", valid=1, test=4)
    dataset = open_dataset(tiny_dataset(tmp_path, tiny_source(split=split)))
    assert dataset.split == dataset.manifest.split == split
    assert dataset.boundaries == dataset.manifest.boundaries == open_dataset(dataset.path, split).boundaries
    assert dataset.boundaries[0] > START


def test_shares_that_make_no_sense_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="must leave a share for training"):
        open_dataset(path, Split(valid=0.5, test=0.5)).part("train")
    with pytest.raises(DataError, match=r"^The split by day \(valid 1, test 400\) leaves no impression"):
        open_dataset(path, Split(kind="day", valid=1, test=400)).part("test")


def test_an_unknown_part_is_named(path: Path) -> None:
    with pytest.raises(
        DataError, match=r"Unknown part 'trian'; did you mean 'train'\? Known: test, train, valid"
    ):
        open_dataset(path).part("trian")


# --- folders that are no data set, or no longer


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, path: Path) -> None:
    for other in (tmp_path, tmp_path / "absent", path / MANIFEST):
        with pytest.raises(DataError, match=r"is not a prepared data set .* clickscale prepare"):
            open_dataset(other)


@pytest.mark.parametrize("name", ["impressions/time.npy", "users/offsets.npy", "encoder.json"])
def test_a_missing_or_cut_file_is_named(copy: Path, name: str) -> None:
    file = copy / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=rf"{name} is damaged: .* bytes instead of .*; prepare"):
        open_dataset(copy)
    file.unlink()
    with pytest.raises(DamagedError, match=f"{name} is missing; prepare the data set again"):
        open_dataset(copy)


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_changed_byte_of_a_small_file_is_found_when_the_data_set_is_opened(
    copy: Path, where: float
) -> None:
    file = copy / "behaviors" / "time.npy"
    flip(file, int(where * (file.stat().st_size - 1)))
    with pytest.raises(DamagedError, match=r"behaviors/time.npy is damaged: sha256 of its sampled pieces"):
        open_dataset(copy)


def test_a_changed_byte_between_the_samples_of_a_large_file_is_found_by_comparing_every_byte(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SAMPLE", 64)
    reseal(copy)
    file = copy / "behaviors" / "time.npy"
    flip(file, 80)
    dataset = open_dataset(copy)
    with pytest.raises(DamagedError, match=r"behaviors/time.npy is damaged: sha256 [0-9a-f]{64}, expected"):
        dataset.verify()
    flip(file, file.stat().st_size // 2)
    with pytest.raises(DamagedError, match="sampled pieces"):
        open_dataset(copy)


def test_a_damaged_encoder_is_refused_whole_since_artifacts_take_it_over(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SAMPLE", 64)
    reseal(copy)
    flip(copy / "encoder.safetensors", -80)
    dataset = open_dataset(copy)
    with pytest.raises(DamagedError, match=r"encoder.safetensors is damaged"):
        _ = dataset.encoder


def test_a_moved_boundary_of_the_split_is_found(copy: Path) -> None:
    boundaries = open_dataset(copy).boundaries
    rewrite(copy, boundaries=[boundaries[0], boundaries[1] + 60])
    with pytest.raises(DamagedError, match=r"manifest.json is damaged, or was changed by hand"):
        open_dataset(copy)


def test_a_column_that_is_no_array_is_damaged(copy: Path) -> None:
    file = copy / "behaviors" / "time.npy"
    file.write_bytes(b"x" * file.stat().st_size)
    reseal(copy)
    with pytest.raises(DamagedError, match=r"Cannot read .*time.npy .*prepare the data set again"):
        _ = open_dataset(copy).behaviors["time"]


def rewrite(folder: Path, **changes: object) -> None:
    """Change keys of the manifest."""
    file = folder / MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_manifest_of_another_version_is_refused(copy: Path) -> None:
    rewrite(copy, version=99)
    with pytest.raises(DataError, match="has layout 99, this release reads 3; prepare again"):
        open_dataset(copy)


def test_a_manifest_of_a_later_version_with_new_keys_is_refused_for_its_version(copy: Path) -> None:
    rewrite(copy, version=4, something_new=True)
    with pytest.raises(DataError, match="has layout 4, this release reads 3"):
        open_dataset(copy)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"version": 3}', b'{"version": "3"}', b"{}"])
def test_a_manifest_that_is_not_one_is_damaged(copy: Path, text: bytes) -> None:
    (copy / MANIFEST).write_bytes(text)
    with pytest.raises(DamagedError, match=r"manifest.json is damaged.*prepare the data set again"):
        open_dataset(copy)
