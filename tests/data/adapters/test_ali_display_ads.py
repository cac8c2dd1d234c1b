"""Ali_Display_Ad_Click in its published layout of four files."""

import pytest

from clickscale.data.adapters import ali_display_ads
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from tests.data.sources import check_columns, drained

DAY = 86_400
NOON = 1494072000  # 2017-05-06 12:00 UTC


@pytest.fixture
def folder(tmp_path):
    samples = "user,time_stamp,adgroup_id,pid,nonclk,clk\n" + "".join(
        f"581738,{NOON + day * DAY},{1 + day % 2},430548_1007,{1 - day % 2},{day % 2}\n" for day in range(8)
    )
    (tmp_path / "raw_sample.csv").write_text(samples)
    ads = "1,6406,83237,1,95471,170.0\n2,6250,83237,1,NULL,9.9\n"
    (tmp_path / "ad_feature.csv").write_text("adgroup_id,cate_id,campaign_id,customer,brand,price\n" + ads)
    profile = (
        "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
        "new_user_class_level \n581738,0,5,2,5,,3,0,3\n"
    )
    (tmp_path / "user_profile.csv").write_text(profile)
    log = (
        "user,time_stamp,btag,cate,brand\n"
        f"581738,{NOON - 5},pv,6250,91286\n581738,{NOON - 4},cart,6250,91286\n"
        f"581738,{NOON - 3},fav,6250,\n581738,x,pv,1,2\n"
    )
    (tmp_path / "behavior_log.csv").write_text(log)
    return tmp_path


def test_ads_and_pairs_of_category_and_brand_share_the_item_table(folder):
    source = ali_display_ads.source(folder)
    check_columns(source)
    items = {row["item"]: row for row in drained(source)["items"]}
    assert set(items) == {"a:1", "a:2", "b:6250:91286", "b:6250:", "b:1:2"}
    assert (items["a:2"]["category"], items["a:2"]["brand"], items["a:2"]["price"]) == (6250, None, 9.9)
    assert (items["b:6250:91286"]["category"], items["b:6250:91286"]["brand"]) == (6250, 91286)
    assert items["b:6250:91286"]["campaign"] is None


def test_behaviors_carry_their_action_and_pair(folder):
    behaviors = drained(ali_display_ads.source(folder))["behaviors"]
    assert [(b["item"], b["action"], b["problem"]) for b in behaviors] == [
        ("b:6250:91286", "pv", None),
        ("b:6250:91286", "cart", None),
        ("b:6250:", "fav", None),
        ("b:1:2", "pv", "bad_time"),
    ]


def test_the_header_that_ends_in_a_space_and_missing_levels_are_read(folder):
    (user,) = drained(ali_display_ads.source(folder))["users"]
    assert (user["pvalue_level"], user["new_user_class_level"]) == (None, "3")


def test_the_last_day_is_for_test(folder, tmp_path):
    manifest = prepare(ali_display_ads.source(folder), tmp_path / "out")
    midnight = NOON - NOON % DAY
    assert manifest.boundaries == (midnight + 6 * DAY, midnight + 7 * DAY)
    assert manifest.report["impressions"].kept == 8


def test_a_column_under_another_name_is_an_error(folder):
    path = folder / "raw_sample.csv"
    path.write_text(path.read_text().replace("clk\n", "click\n", 1))
    with pytest.raises(InputError, match=r"raw_sample\.csv: Unknown column 'clk'"):
        drained(ali_display_ads.source(folder))
