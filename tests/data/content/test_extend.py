"""More item features: the old data set stays as it is, the new one is whole or absent."""

import os

import numpy as np
import pytest

from clickscale.data.columns import write_column
from clickscale.data.content import extend
from clickscale.data.content.extend import Addition, add_item_features, item_vectors, new_names
from clickscale.data.dataset import open_dataset
from clickscale.data.features.encoder import Vocabulary
from clickscale.data.layout import TableReport
from clickscale.errors import DataError, SchemaError
from clickscale.schema import Field
from tests.data.tiny import tiny_dataset


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(tiny_dataset(tmp_path))


def shelf(dataset, folder):
    """Writes the categorical item feature ``shelf``."""
    import pyarrow as pa

    column = np.full(dataset.features.items, 3, np.int32)
    column[:2] = 0, 1
    write_column(folder / "items" / "field.shelf.npy", column)
    vocabulary = Vocabulary("int", pa.array([10, 20]))
    return Addition((Field(name="shelf", dtype="int"),), {"shelf": vocabulary}, {"shelf": TableReport(5, 5)})


def test_a_feature_is_added_and_the_old_data_set_keeps_every_byte(dataset, tmp_path):
    out = tmp_path / "more"
    manifest = add_item_features(dataset, out, lambda folder: shelf(dataset, folder))
    old, new = open_dataset(dataset.path), open_dataset(out)
    old.verify()
    new.verify()
    assert [feature.name for feature in new.features.item][-1] == "shelf"
    assert new.features.item[-1].size == 4
    assert new.encoder.features() == manifest.features == new.features
    assert new.encoder.vocabulary("shelf").values.to_pylist() == [10, 20]
    assert new.items["field.shelf"].tolist()[2:] == [3] * (new.features.items - 2)
    assert new.manifest.report["shelf"].rows == 5
    assert old.features == dataset.features
    assert "shelf" not in old.schema.fields()


def test_what_is_equal_is_a_second_name_and_what_differs_is_not(dataset, tmp_path):
    out = tmp_path / "more"
    add_item_features(dataset, out, lambda folder: shelf(dataset, folder))
    for name in dataset.manifest.files:
        same = os.path.samefile(dataset.path / name, out / name)
        assert same is (name not in extend._REWRITTEN), name
    assert not os.path.samefile(dataset.path / "manifest.json", out / "manifest.json")


def test_files_are_copied_where_there_are_no_hard_links(dataset, tmp_path, monkeypatch):
    def refuse(source, goal):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    add_item_features(dataset, tmp_path / "more", lambda folder: shelf(dataset, folder))
    open_dataset(tmp_path / "more").verify()


def test_in_place_the_new_data_set_takes_the_folder_and_mapped_columns_stay_readable(dataset):
    times = dataset.impressions["time"]
    before = times.copy()
    add_item_features(dataset, dataset.path, lambda folder: shelf(dataset, folder))
    new = open_dataset(dataset.path)
    new.verify()
    assert "shelf" in new.schema.fields()
    assert (times == before).all()
    assert sorted(path.name for path in dataset.path.parent.iterdir()) == ["tiny"]


def test_a_failure_leaves_nothing_behind(dataset, tmp_path):
    def fail(folder):
        shelf(dataset, folder)
        raise RuntimeError("stopped")

    for out in (tmp_path / "more", dataset.path):
        with pytest.raises(RuntimeError, match="stopped"):
            add_item_features(dataset, out, fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
    open_dataset(dataset.path).verify()
    assert open_dataset(dataset.path).features == dataset.features


def test_another_data_set_is_replaced_only_with_overwrite(dataset, tmp_path):
    out = tmp_path / "more"
    add_item_features(dataset, out, lambda folder: shelf(dataset, folder))
    with pytest.raises(DataError, match="--overwrite"):
        add_item_features(dataset, out, lambda folder: shelf(dataset, folder))
    add_item_features(dataset, out, lambda folder: shelf(dataset, folder), overwrite=True)


@pytest.mark.parametrize(
    ("name", "message"), [("genre", "already has a field 'genre'"), ("a b", "must be letters")]
)
def test_names_that_are_taken_or_are_no_names_are_refused(dataset, name, message):
    with pytest.raises(SchemaError, match=message):
        new_names(dataset.schema, name)


def test_a_content_field_that_is_not_there_is_named_with_those_that_are(dataset):
    assert item_vectors(dataset, "text").shape == (dataset.features.items, 4)
    with pytest.raises(SchemaError, match="no content field 'genre'; it has text"):
        item_vectors(dataset, "genre")
