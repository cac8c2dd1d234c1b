"""Taobao UserBehavior in its published layout."""

import pytest

from clickscale.data.adapters import open_source, taobao_userbehavior
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import ConfigError
from clickscale.schema import usual_statistics
from tests.data.sources import check_columns, drained, real_log


@pytest.fixture
def folder(tmp_path):
    lines = (
        "1,268,46,pv,1511544070\n1,268,46,buy,1511544170\n2,300,50,pv,1511561733\n1,300,50,fav,-5\n"
        "3,300,50,pv,2015\n4,9,50\n"
    )
    (tmp_path / "UserBehavior.csv").write_text(lines)
    return tmp_path


def test_every_event_is_a_behavior_and_views_are_positive_impressions(folder):
    source = taobao_userbehavior.source(folder)
    check_columns(source)
    tables = drained(source)
    assert [b["action"] for b in tables["behaviors"]] == ["pv", "buy", "pv", "fav", "pv", None]
    assert [(r["user"], r["item"]) for r in tables["impressions"]] == [
        (1, 268),
        (2, 300),
        (3, 300),
        (None, None),
    ]
    assert tables["impressions"][-1]["problem"] == "bad_row"
    assert [(i["item"], i["category"]) for i in tables["items"]] == [(268, 46), (300, 50)]
    assert source.negatives == source.schema.sampled_negatives == 4


def test_the_positive_type_and_the_negatives_are_options(folder):
    source = open_source("taobao-userbehavior", folder, {"positive": "buy", "negatives": "1"})
    assert source.negatives == 1
    assert source.schema.statistics == usual_statistics("category", drawn=True)
    assert [r["item"] for r in drained(source)["impressions"]] == [268, None]
    with pytest.raises(ConfigError, match="positive = 'view'"):
        open_source("taobao-userbehavior", folder, {"positive": "view"})


def test_times_outside_of_the_nine_days_go_to_quarantine(folder, tmp_path):
    more = "5,268,46,pv,1511561734\n5,7,50,cart,1511544000\n6,300,50,pv,1511561800\n"
    with (folder / "UserBehavior.csv").open("a") as stream:
        stream.write(more)  # two positives whose items were there before
    manifest = prepare(taobao_userbehavior.source(folder, negatives=1), tmp_path / "out")
    report = manifest.report["behaviors"]
    assert report.quarantined == {"bad_row": 1, "time_out_of_bounds": 2}
    assert (report.rows, report.kept) == (9, 6)
    assert manifest.report["impressions"].quarantined["first_of_item"] == 2
    assert manifest.counts["impressions"] == 4


def test_the_real_sample_prepares_whole(tmp_path):
    manifest = prepare(taobao_userbehavior.source(real_log("taobao-userbehavior-sample")), tmp_path / "out")
    assert manifest.report["behaviors"].quarantined == {"time_out_of_bounds": 4}
    assert manifest.report["behaviors"].kept == 9_996
    assert manifest.counts["users"] == 114
    assert any("negatives" in note for note in manifest.notes)
    report = manifest.report["impressions"]
    assert report.quarantined["first_of_item"] == 6_902  # most items of so small a sample come once
    assert manifest.counts["impressions"] == 5 * report.kept
