"""KuaiRand in its published layout."""

import pytest

from clickscale.data.adapters import kuairand, open_source
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from tests.data.sources import check_columns, counted, drained, real_log

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range," + ",".join(f"onehot_feat{n}" for n in range(18)) + "\n"
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag\n"
)


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    early = "7,70,20220408,0,1650812741436,1,0,0,0,0,0,1,61802,49866,0,500,0,0,1\n"
    late = "7,71,20220422,0,1650812841000,0,0,0,0,0,0,0,0,11933,0,0,0,0,4\n"
    (data / "log_standard_4_08_to_4_21_1k.csv").write_text(LOG + early)
    (data / "log_standard_4_22_to_5_08_1k.csv").write_text(LOG + late)
    (data / "log_random_4_22_to_5_08_1k.csv").write_text(LOG + late.replace("71", "72"))
    ranges = '7,full_active,0,-124,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,'
    (data / "user_features_1k.csv").write_text(
        USERS + ranges + "1,1,29,949,,0,0,14,135,6,3,0,0.0,1.0,0.0,0.0,0.0,0.0\n"
    )
    known = "70,9,NORMAL,2022-04-10,LongImport,0.0,87433.0,720.0,1280.0,9155697141,9.0,"
    videos = known + '"39,2"\n' + "71,3,AD,,Web,0,,,,,,\n"
    (data / "video_features_basic_1k.csv").write_text(VIDEOS + videos)
    return tmp_path


def test_exposures_are_impressions_with_eight_labels_and_behaviors_known_later(folder):
    source = kuairand.source(folder)
    check_columns(source)
    tables = drained(source)
    first = tables["impressions"][0]
    assert (first["user"], first["item"], first["time"], first["tab"]) == (7, 70, 1650812741, 1)
    labels = {
        name.removeprefix("label."): value for name, value in first.items() if name.startswith("label.")
    }
    assert [name for name, value in labels.items() if value] == ["click", "long_view"]
    assert len(labels) == 8
    behaviors = tables["behaviors"]
    # 61.802 s of playing and 0.5 s in the comments, after a second that had begun 0.436 s before
    assert [b["known_at"] - b["time"] for b in behaviors] == [1 + 63, 1 + 0]
    assert [(b["clicked"], b["viewed_long"], b["liked"], b["seen_in_tab"]) for b in behaviors] == [
        (1, 1, 0, 1),
        (0, 0, 0, 4),
    ]


def test_unknown_codes_of_users_are_missing_and_ranges_stay_whole(folder):
    (user,) = drained(kuairand.source(folder))["users"]
    assert user["is_live_streamer"] is None
    assert user["fans_user_num_range"] == "[100,1k)"
    assert (user["onehot_feat4"], user["onehot_feat8"], user["onehot_feat13"]) == (None, 135, 1)


def test_videos_have_tags_a_duration_and_a_day_of_upload(folder):
    known, bare = drained(kuairand.source(folder))["items"]
    assert (known["tag"], known["duration"], known["uploaded"]) == ("39,2", 87433.0, 1649548800)
    assert (bare["tag"], bare["duration"], bare["uploaded"], bare["music_type"]) == (None, None, None, None)


def test_random_exposures_are_read_if_asked_for(folder):
    assert counted(kuairand.source(folder))["impressions"] == 2
    assert counted(open_source("kuairand", folder, {"random": "true"}))["impressions"] == 3


def test_a_folder_without_logs_is_an_error(folder):
    for path in (folder / "data").glob("log_*"):
        path.unlink()
    with pytest.raises(InputError, match="log_standard"):
        kuairand.source(folder)


def test_the_real_sample_prepares_and_only_repeated_rows_are_lost(tmp_path):
    source = kuairand.source(real_log("kuairand-pure-part") / "raw")
    manifest = prepare(source, tmp_path / "out")
    assert manifest.report["impressions"].rows == 20_000
    assert manifest.report["users"].kept == 27_285
    assert set(manifest.report["impressions"].quarantined) <= {"duplicate"}
    assert manifest.known_at
