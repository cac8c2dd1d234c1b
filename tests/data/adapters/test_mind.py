"""MIND in its published layout."""

import pytest

from clickscale.data.adapters import mind
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from tests.data.sources import check_columns, drained, real_log

NINE = 1573290000  # 11/9/2019 9:00:00 AM, UTC


@pytest.fixture
def folder(tmp_path):
    lines = (
        "2\tU1\t11/9/2019 10:00:00 AM\tN5 N6 N5\tN1-0 N2-1\n"
        "1\tU1\t11/9/2019 9:00:00 AM\tN5 N6 N5\tN3-1 N1-0 N4-1\n"
        "3\tU2\t11/9/2019 12:00:00 PM\t\tN1-0\n"
        "4\tU3\tyesterday\tN5\tN1-0\n"
        "broken line\n"
    )
    (tmp_path / "behaviors.tsv").write_text(lines)
    news = 'N1\tsports\tmore_sports\tA "quoted" Man\'s Title\tabstract\thttp://x\t[]\t[]\nN2\tnews\tus\tTitle\t\thttp://y\t[]\t[]\n'
    (tmp_path / "news.tsv").write_text(news)
    return tmp_path


def test_every_shown_news_is_an_impression_of_its_line(folder):
    source = mind.source(folder)
    check_columns(source)
    found = [
        (r["user"], r["item"], r["time"], r["label.click"], r["problem"])
        for r in drained(source)["impressions"]
    ]
    assert found == [
        ("U1", "N1", NINE + 3600, 0, None),
        ("U1", "N2", NINE + 3600, 1, None),
        ("U1", "N3", NINE, 1, None),
        ("U1", "N1", NINE, 0, None),
        ("U1", "N4", NINE, 1, None),
        ("U2", "N1", NINE + 3 * 3600, 0, None),
        ("U3", "N1", None, 0, "bad_time"),
        (None, None, None, None, "bad_row"),
    ]


def test_earlier_clicks_stand_before_the_first_impression_in_their_order(folder):
    behaviors = drained(mind.source(folder))["behaviors"]
    earlier = [(b["user"], b["item"], b["time"]) for b in behaviors if b["known_at"] == b["time"]]
    assert earlier == [("U1", "N5", NINE - 3), ("U1", "N6", NINE - 2), ("U1", "N5", NINE - 1)]


def test_clicks_become_behaviors_known_a_second_later(folder):
    behaviors = drained(mind.source(folder))["behaviors"]
    clicks = [(b["item"], b["time"]) for b in behaviors if b["known_at"] == b["time"] + 1]
    assert clicks == [("N2", NINE + 3600), ("N3", NINE), ("N4", NINE)]


def test_a_part_without_labels_has_unknown_ones(folder):
    (folder / "behaviors.tsv").write_text("1\tU1\t11/13/2019 1:02:03 PM\tN5\tN1 N2\n")
    assert [r["label.click"] for r in drained(mind.source(folder))["impressions"]] == [None, None]


def test_parts_in_folders_of_their_own_are_read_in_order(folder, tmp_path_factory):
    both = tmp_path_factory.mktemp("mind")
    for part, day in (("MINDsmall_dev", 15), ("MINDsmall_train", 9)):
        (both / part).mkdir()
        (both / part / "behaviors.tsv").write_text(f"1\tU1\t11/{day}/2019 9:00:00 AM\tN5\tN1-1\n")
        (both / part / "news.tsv").write_text((folder / "news.tsv").read_text())
    tables = drained(mind.source(both))
    assert [r["time"] for r in tables["impressions"]] == [NINE, NINE + 6 * 86_400]
    assert [b["time"] for b in tables["behaviors"] if b["item"] == "N5"] == [NINE - 1]
    assert len(tables["items"]) == 4


def test_titles_are_words_if_asked_for(folder):
    source = mind.source(folder, title=True)
    check_columns(source)
    assert [item["words"] for item in drained(source)["items"]] == ["a quoted man s title", "title"]


def test_a_missing_table_is_named(folder):
    (folder / "news.tsv").unlink()
    with pytest.raises(InputError, match=r"does not hold news\.tsv"):
        mind.source(folder)


def test_the_real_sample_prepares_whole(tmp_path):
    manifest = prepare(mind.source(real_log("mind-small-sample")), tmp_path / "out")
    report = manifest.report["impressions"]
    assert report.rows == 189_359
    assert report.kept == 189_359 - report.quarantined.get("duplicate", 0)
    assert manifest.counts["users"] == 4637
