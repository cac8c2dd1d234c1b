"""Semantic ids: residual k-means by hand, fitted on the training part alone."""

import json

import numpy as np
import pytest

from clickscale.data.columns import write_column
from clickscale.data.content.extend import Addition, add_item_features
from clickscale.data.content.semantic_id import (
    _assign,
    _fit_codebooks,
    _items_of_training,
    _kmeans,
    _nearest,
    _prefixes,
    add_semantic_ids,
)
from clickscale.data.dataset import open_dataset
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DataError, SchemaError
from clickscale.schema import Field
from tests.data.given_parts import without_valid
from tests.data.tiny import tiny_dataset, tiny_source

SQUARE = np.array([[10, 1], [10, -1], [-10, 1], [-10, -1]], np.float32)


def made_up(items):
    """Vectors of which items 0, 1 and 5 have none."""
    vectors = np.random.default_rng(1).normal(size=(items, 4))
    vectors[[0, 1, 5]] = 0
    return vectors


def with_vectors(path, folder, vectors):
    """The data set with the content feature ``v``."""
    dataset = open_dataset(path)

    def write(goal):
        write_column(goal / "items" / "field.v.npy", vectors.astype(np.float16))
        return Addition((Field(name="v", kind="content", width=vectors.shape[1]),))

    add_item_features(dataset, folder / "with-v", write)
    return open_dataset(folder / "with-v")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("log"), tiny_source(items=60, behaviors=40, impressions=80))


@pytest.fixture
def dataset(log, tmp_path):
    return with_vectors(log, tmp_path, made_up(open_dataset(log).features.items))


def test_two_levels_explain_a_rectangle_of_points():
    books = _fit_codebooks(SQUARE, np.arange(4), 2, 2, 0, None)
    assert sorted(books[0].tolist()) == [[-10, 0], [10, 0]]
    assert sorted(books[1].tolist()) == [[0, -1], [0, 1]]
    codes, errors = _assign(SQUARE, np.arange(4), books)
    assert len({tuple(row) for row in codes.tolist()}) == 4
    assert codes[0, 0] == codes[1, 0] != codes[2, 0]
    assert codes[0, 1] == codes[2, 1] != codes[1, 1]
    assert errors.tolist() == [[1, 0]] * 4


def test_kmeans_finds_well_separated_clusters_and_no_more_centroids_than_points():
    random = np.random.default_rng(0)
    centers = np.array([[0, 0], [50, 0], [0, 50]], np.float32)
    points = np.repeat(centers, 20, axis=0) + random.normal(size=(60, 2)).astype(np.float32)
    found = _kmeans(points, 3, np.random.default_rng(7))
    assert np.abs(np.sort(found, axis=0) - np.sort(centers, axis=0)).max() < 1
    assert len(_kmeans(np.repeat(centers, 5, axis=0), 10, np.random.default_rng(0))) == 3


def test_centroids_are_means_of_their_points_and_none_is_empty():
    points = np.random.default_rng(3).normal(size=(400, 5)).astype(np.float32)
    centroids = _kmeans(points, 16, np.random.default_rng(0), rounds=200)
    labels = _nearest(points, centroids)
    assert set(labels) == set(range(16))
    means = np.stack([points[labels == code].mean(0) for code in range(16)])
    assert np.abs(means - centroids).max() < 1e-5


def test_nearest_compares_true_distances():
    points, centroids = np.random.default_rng(0).normal(size=(2, 50, 3)).astype(np.float32)
    distance = ((points[:, None] - centroids[None]) ** 2).sum(-1)
    assert (_nearest(points, centroids) == distance.argmin(1)).all()


def test_a_prefix_is_one_number_and_different_prefixes_differ():
    codes = np.array([[1, 2, 3], [1, 3, 3], [0, 2, 3]])
    assert _prefixes(codes, 10).tolist() == [[1, 12, 123], [1, 13, 133], [0, 2, 23]]
    assert codes.tolist() == [[1, 2, 3], [1, 3, 3], [0, 2, 3]], "the codes are not changed"


def test_items_of_training_were_seen_before_validation_began(log):
    dataset = open_dataset(log)
    known = _items_of_training(dataset)
    begin = dataset.boundaries[0]
    early = {
        int(item)
        for table in (dataset.behaviors, dataset.impressions)
        for item, time in zip(table["item"], table["time"], strict=True)
        if time < begin
    }
    assert set(np.flatnonzero(known).tolist()) == early
    assert 0 < known.sum() < len(known) - 2


def test_with_a_split_by_user_only_items_of_training_impressions_are_known(log):
    dataset = open_dataset(log, Split(kind="user_time"))
    known = _items_of_training(dataset)
    assert set(np.flatnonzero(known)) == set(dataset.impressions["item"][dataset.part("train")])


def test_with_given_parts_an_item_of_the_test_part_is_unknown_however_early(tmp_path):
    dataset = without_valid(tmp_path)
    known = set(np.flatnonzero(_items_of_training(dataset)))
    assert known == set(dataset.impressions["item"][dataset.part("train")])
    assert known < {2, 3, 4, 5, 6}


def test_later_items_change_nothing_about_the_ids_of_the_others(log, dataset, tmp_path):
    known = _items_of_training(dataset)
    moved = made_up(len(known))
    moved[2:][~known[2:]] += 100
    other = with_vectors(log, tmp_path / "moved", moved)
    columns = []
    for place, one in enumerate((dataset, other)):
        add_semantic_ids(one, "v", tmp_path / str(place), levels=2, codes=4)
        columns.append(open_dataset(tmp_path / str(place)).items["field.sid_2"])
    assert (columns[0][known] == columns[1][known]).all()
    assert (columns[0] != columns[1]).any()


def test_ids_are_item_features_and_items_without_a_vector_are_unknown(dataset, tmp_path):
    made = add_semantic_ids(dataset, "v", tmp_path / "a", levels=2, codes=4)
    known = _items_of_training(dataset)
    assert (made.items, made.fitted, made.missing) == (len(known) - 2, known.sum() - known[5], 1)
    first = open_dataset(tmp_path / "a")
    first.verify()
    for name in ("sid_1", "sid_2"):
        column = first.items[f"field.{name}"]
        assert column[:2].tolist() == [0, 1]
        assert column[5] == 1, "an item without a vector is unknown"
        trained = known & (np.arange(len(known)) != 5)
        assert (column[trained] >= 2).all()
        assert column.max() < next(f.size for f in first.features.item if f.name == name)
    assert made.levels[0].ids == made.levels[0].codes == 4
    assert 1 >= made.levels[0].unexplained > made.levels[1].unexplained > 0
    assert json.loads((tmp_path / "a" / "content" / "sid.json").read_text())["fitted"] == made.fitted


def test_items_of_a_level_share_what_comes_before_it(dataset, tmp_path):
    add_semantic_ids(dataset, "v", tmp_path / "a", levels=2, codes=4)
    items = open_dataset(tmp_path / "a").items
    pairs = set(zip(items["field.sid_2"].tolist(), items["field.sid_1"].tolist(), strict=True))
    known = {pair for pair in pairs if pair[0] > 1}
    assert len(known) == len({second for second, _ in known}), "one prefix per value of level 2"


def test_codes_alone_repeat_under_every_prefix(dataset, tmp_path):
    made = add_semantic_ids(dataset, "v", tmp_path / "a", levels=2, codes=4, prefix=False)
    assert [level.ids for level in made.levels] == [4, 4]
    assert made.levels[1].unknown == 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(dataset, tmp_path):
    columns = []
    for place, seed in enumerate((3, 3, 4)):
        out = tmp_path / str(place)
        add_semantic_ids(dataset, "v", out, levels=2, codes=8, seed=seed)
        columns.append((out / "items" / "field.sid_2.npy").read_bytes())
    assert columns[0] == columns[1] != columns[2]


def test_what_makes_no_sense_is_refused(dataset, tmp_path):
    out = tmp_path / "a"
    with pytest.raises(DataError, match=r"1000 codes need as many.*--codes"):
        add_semantic_ids(dataset, "v", out, codes=1000)
    with pytest.raises(ConfigError, match="levels=40"):
        add_semantic_ids(dataset, "v", out, levels=40)
    with pytest.raises(SchemaError, match="no content field 'picture'"):
        add_semantic_ids(dataset, "picture", out)
    add_semantic_ids(dataset, "v", out, levels=1, codes=4)
    with pytest.raises(SchemaError, match="already has a field 'sid_1'"):
        add_semantic_ids(open_dataset(out), "v", tmp_path / "b", levels=1, codes=4)
    assert not (tmp_path / "b").exists()
