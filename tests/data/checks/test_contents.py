import json
from pathlib import Path

import numpy as np
import pytest

from clickscale.data.checks.contents import inspect_dataset
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.prepare import prepare
from tests.data.tiny import (
    STATISTICS,
    source_of,
    tiny_dataset,
    tiny_schema,
    tiny_source,
    tiny_tables,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("inspect"), tiny_source(statistics=STATISTICS)))


def prepared(folder: Path, tables) -> Dataset:
    prepare(source_of(tiny_schema(), tables), folder / "out")
    return open_dataset(folder / "out")


def test_rates_by_day_are_those_of_the_raw_rows(tmp_path):
    tables = tiny_tables(impressions=40)
    found = inspect_dataset(prepared(tmp_path, tables)).days
    raw = {}
    for row in tables["impressions"]:
        raw.setdefault(int(np.datetime64(row["time"], "s").astype("datetime64[D]").astype(int)), []).append(
            row
        )
    assert [day.day for day in found] == [str(np.datetime64(day, "D")) for day in sorted(raw)]
    for day, rows in zip(found, (raw[day] for day in sorted(raw)), strict=True):
        likes = [row["label.like"] for row in rows if row["label.like"] is not None]
        assert day.impressions == len(rows)
        assert day.rates["click"] == pytest.approx(np.mean([row["label.click"] for row in rows]))
        assert day.rates["like"] == (pytest.approx(np.mean(likes)) if likes else None)


def test_visible_behaviors_are_counted_in_bins(data):
    found, visible = inspect_dataset(data), data.impressions["visible"]
    assert sum(count for _, count in found.lengths) == len(visible)
    assert dict(found.lengths)[2] == int(((visible >= 2) & (visible < 5)).sum())
    assert found.empty == pytest.approx(np.mean(visible == 0))
    assert found.visible["0"] == visible.min()
    assert found.visible["1"] == visible.max()
    assert found.visible["0.5"] == np.quantile(visible, 0.5, method="lower")


def test_unknown_values_are_counted_where_models_meet_them(data):
    found = {field.name: field for field in inspect_dataset(data).fields}
    user, item = data.impressions["user"], data.impressions["item"]
    ages = data.users["field.age"][user]
    assert found["age"].unknown == pytest.approx(np.mean(np.isnan(ages)))
    assert 0 < found["age"].unknown < 1
    assert found["genre"].unknown == pytest.approx(np.mean(data.items["field.genre"][item][:, 0] == 1))
    assert found["text"].unknown == pytest.approx(np.mean(~data.items["field.text"][item].any(axis=1)))
    assert found["text"].unknown > 0
    assert found["action"].unknown == 0
    assert (found["action"].side, found["action"].size) == ("behavior", 5)
    assert found["item_rate"].side == "statistic"


def test_parts_have_dates_users_and_rates(data):
    found = inspect_dataset(data).parts
    rows = data.part("train")
    train = found["train"]
    assert train.impressions == len(rows)
    assert train.users == len(np.unique(data.impressions["user"][rows]))
    assert np.datetime64(train.last.replace(" ", "T")).astype(int) == data.impressions["time"][rows].max()
    assert train.rates["click"] == pytest.approx(np.mean(data.impressions["label.click"][rows] == 1))
    assert train.last < found["valid"].first <= found["valid"].last < found["test"].first


def test_quarantined_rows_are_told_by_reason(tmp_path):
    tables = tiny_tables()
    tables["impressions"][3]["time"] = 5
    tables["impressions"][4]["user"] = None
    found = inspect_dataset(prepared(tmp_path, tables))
    assert found.rows["impressions"] == 120
    assert found.quarantined["impressions"] == {"null_user": 1, "time_out_of_bounds": 1}


def test_an_inspection_is_plain_values(data):
    tree = json.loads(json.dumps(inspect_dataset(data).to_dict(), allow_nan=False))
    assert tree["counts"]["impressions"] == 120
    files = [path for path in data.path.rglob("*") if path.is_file() and path.name != "manifest.json"]
    assert tree["bytes"] == sum(path.stat().st_size for path in files)
