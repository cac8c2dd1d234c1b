import builtins
from pathlib import Path

import msgspec
import numpy as np
import pytest

from clickscale.baselines import trees
from clickscale.baselines.trees import _beyond, _features, _TreesConfig, train_trees
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ConfigError, DataError, SchemaError
from tests.data.tiny import DAY, STATISTICS, source_of, tiny_dataset, tiny_schema, tiny_source, tiny_tables
from tests.inference.test_statistic_counters import drawn_data

FEW = _TreesConfig(rounds=30, least_rows=5, leaves=7)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    tables = {"behaviors": 300, "impressions": 900}
    source = tiny_source(known_at=True, statistics=STATISTICS, **tables)
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("trees"), source))


def column(data: Dataset, name: str, **options) -> np.ndarray:
    table = _features(data, np.arange(len(data.impressions["time"])), **options)
    return table.values[:, table.names.index(name)]


def behaviors_of(data: Dataset, row: int) -> np.ndarray:
    """Rows of the behaviors that an impression sees."""
    begin = data.users["offsets"][data.impressions["user"][row]]
    return np.arange(begin, begin + data.impressions["visible"][row])


def genres(data: Dataset, item: int) -> set[int]:
    return set(data.items["field.genre"][item].tolist()) - {0}


def test_a_rate_is_that_of_the_rows_strictly_before(data):
    time, item, click = (data.impressions[name] for name in ("time", "item", "label.click"))
    expected = []
    for row in range(len(time)):
        before, same = time < time[row], (item == item[row]) & (time < time[row])
        overall = click[before].mean() if before.any() else 0.5
        expected.append((click[same].sum() + 4 * overall) / (same.sum() + 4))
    np.testing.assert_allclose(column(data, "rate(item)", prior=4.0), expected, rtol=1e-5)


def test_a_lift_compares_labels_with_what_their_items_promised(data):
    time, user, click = (data.impressions[name] for name in ("time", "user", "label.click"))
    surprise = click - column(data, "rate(item)", prior=4.0).astype(float)
    for name, window in (("lift(user)", 10**9), ("lift(user 7d)", 7 * DAY)):
        expected = []
        for row in range(len(time)):
            seen = (user == user[row]) & (time < time[row]) & (time >= time[row] - window)
            expected.append(surprise[seen].sum() / (seen.sum() + 4))
        np.testing.assert_allclose(column(data, name, prior=4.0), expected, atol=1e-5)


def test_where_negatives_were_drawn_positives_are_counted(tmp_path):
    data, clicks = drawn_data(tmp_path)
    time, item = data.impressions["time"], data.items["ids"][data.impressions["item"]]
    sold, when = (np.array([row[name] for row in clicks]) for name in ("item", "time"))
    known = when < time[:, None]
    own = (known & (sold == item[:, None])).sum(axis=1)
    np.testing.assert_allclose(column(data, "count(item)"), own)
    share = (own + 4 / 1000) / (known.sum(axis=1) + 4) * 1000
    np.testing.assert_allclose(column(data, "share(item)", prior=4.0), share, rtol=1e-5)
    names = _features(data, np.arange(3)).names
    assert {"share(item 30d)", "share(user*genre)", "count(user)"} <= set(names)
    assert not [name for name in names if name.startswith(("rate", "lift"))]


def test_behaviors_are_counted_if_they_were_known(data):
    items = data.behaviors["item"]
    same_item, shared_genres, since = [], [], []
    for row, item in enumerate(data.impressions["item"]):
        seen = behaviors_of(data, row)
        own = seen[items[seen] == item]
        same_item.append(len(own))
        wanted = genres(data, item)
        shared_genres.append(
            np.mean([sum(g in genres(data, items[place]) for place in seen) for g in wanted])
        )
        since.append(data.impressions["time"][row] - data.known_at[own[-1]] if len(own) else np.nan)
    np.testing.assert_array_equal(column(data, "behaviors(user*item)"), same_item)
    np.testing.assert_allclose(column(data, "behaviors(user*genre)"), shared_genres, rtol=1e-5)
    np.testing.assert_array_equal(column(data, "seconds_since(same_item)"), np.array(since, np.float32))


def test_seconds_are_counted_from_the_ends_of_what_is_visible(data):
    for name, place in (("newest", -1), ("oldest", 0)):
        found = column(data, f"seconds_since({name})")
        for row in range(0, len(found), 7):
            seen = behaviors_of(data, row)
            expected = data.impressions["time"][row] - data.known_at[seen[place]] if len(seen) else np.nan
            np.testing.assert_equal(found[row], np.float32(expected))


def test_nothing_later_changes_a_feature(tmp_path):
    tables = tiny_tables(impressions=300)
    end = sorted(row["time"] for row in tables["impressions"])[150]
    early = {name: [row for row in rows if row.get("time", 0) <= end] for name, rows in tables.items()}
    found = []
    for name, kept in (("all", tables), ("early", early)):
        prepare(source_of(tiny_schema(), kept), tmp_path / name)
        data = open_dataset(tmp_path / name)
        rows = np.flatnonzero(data.impressions["time"] <= end)
        table = _features(data, rows)
        # fields themselves are encoded by the vocabulary and the scales of each data set's own training part
        point_in_time = [
            place
            for place, one in enumerate(table.names)
            if not one.startswith(("profile", "item(", "context"))
        ]
        found.append(table.values[:, point_in_time])
        assert len(point_in_time) > 20
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_declared_statistics_are_features_only_if_wanted(data):
    rows = np.arange(50)
    with_them, without = _features(data, rows), _features(data, rows, statistics=False)
    declared = {f"statistic({statistic.name})" for statistic in STATISTICS}
    assert set(with_them.names) - set(without.names) == declared
    assert with_them.categories == ("profile(gender)", "context(position)")


def test_what_the_trees_make_beyond_the_declared_statistics_is_named(data):
    names = _features(data, np.arange(5)).names
    named = _beyond(data, names)
    assert "lift(user)" in named
    assert "seconds_since(newest)" in named
    assert "count(item)" not in named  # item_count is declared
    assert "rate(item)" in named  # the declared one looks three days back
    assert not any(name.startswith(("statistic", "profile", "context")) for name in named)
    assert train_trees(data, config=FEW).to_dict()["beyond"] == list(named)


def test_declared_statistics_count_through_the_test_part_as_the_trees_do(data):
    test = data.part("test")
    scale = data.encoder.scales["item_count"]
    stored = np.expm1(data.impressions["field.item_count"][test] * scale.std + scale.mean)
    np.testing.assert_allclose(stored, column(data, "count(item)")[test], atol=1e-3)
    time, item = data.impressions["time"], data.impressions["item"]
    later = [
        ((item == item[row]) & (time < time[row]) & (np.arange(len(time)) >= test.min())) for row in test
    ]
    assert np.any(later)  # some count rows of the test part itself


def test_trees_predict_every_impression_of_valid_and_test(data):
    found = train_trees(data, config=FEW)
    for part in ("valid", "test"):
        predictions = found.predictions[part]
        np.testing.assert_array_equal(predictions.row, data.part(part))
        assert predictions.logits.shape == (len(predictions), 1)
        assert (predictions.part, predictions.grouping, predictions.label_names) == (
            part,
            "impression",
            ("click",),
        )
    clicked = found.predictions["test"].labels[:, 0] == 1
    logits = found.predictions["test"].logits[:, 0]
    assert logits[clicked].mean() > logits[~clicked].mean() + 0.3
    assert sum(found.importance.values()) == pytest.approx(1)
    assert found.to_dict()["trees"] == found.trees > 0


def test_a_log_without_users_has_trees(tmp_path):
    plain, held = tiny_schema(), tiny_tables()
    rows = [row | {"user": 100 + n} for n, row in enumerate(held["impressions"])]
    schema = msgspec.structs.replace(plain, profile=(), behavior=(), absent=("user",)).validate()
    source = source_of(schema, {"items": held["items"], "impressions": rows})
    nobody = open_dataset(tiny_dataset(tmp_path, source))
    assert len(nobody.behaviors["item"]) == 0
    found = train_trees(nobody, config=FEW)
    assert np.isfinite(found.predictions["test"].logits).all()


def test_the_same_seed_grows_the_same_trees(data):
    first, again, other = (train_trees(data, seed=seed, config=FEW).predictions["test"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert not np.array_equal(first.logits, other.logits)


def test_unknown_labels_are_neither_learned_nor_counted(data):
    found = train_trees(data, label="like", config=FEW).predictions["test"]
    stored = data.impressions["label.like"][data.part("test")]
    np.testing.assert_array_equal(found.label_mask[:, 0], stored >= 0)
    assert (stored < 0).any()


def test_an_unknown_label_is_named(data):
    with pytest.raises(SchemaError, match="did you mean 'like'"):
        train_trees(data, label="lke", config=FEW)


def test_a_label_without_two_outcomes_is_refused(tmp_path):
    tables = tiny_tables()
    tables["impressions"] = [{**row, "label.click": 1} for row in tables["impressions"]]
    prepare(source_of(tiny_schema(), tables), tmp_path / "out")
    with pytest.raises(DataError, match="only one outcome of the label"):
        train_trees(open_dataset(tmp_path / "out"), config=FEW)


def test_without_lightgbm_the_error_says_how_to_get_it(data, monkeypatch):
    load = builtins.__import__

    def missing(name, *args, **options):
        if name == "lightgbm":
            raise ImportError(name)
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"pip install 'clickscale\[trees\]'"):
        train_trees(data, config=FEW)


def test_loading_the_package_does_not_load_lightgbm():
    source = Path(trees.__file__).read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if line.startswith(("import lightgbm", "from lightgbm"))]
