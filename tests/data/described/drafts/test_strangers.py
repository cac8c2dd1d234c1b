"""Public logs in the layout of their files, as logs that nobody described: their drafts, and every step."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.cli import main
from clickscale.data.described.drafts.guess import guess
from tests.data.sources import real_log


@dataclass(frozen=True)
class Stranger:
    """Files of a log, and what is right about them.

    Attributes:
        tables: files below its folder, or what writes them.
        time: column and unit, or the order that stands for it.
        labels: column or condition of each.
        context, profile, items, past: columns of fields on each side.
        keys: columns by which the tables of items and users are joined, where they differ from the events'.
        left_out: columns that came with or after the outcome, or tell nothing.
        rows: impressions in the files.
    """

    folder: str
    tables: tuple[str, ...] | Callable[[Path, Path], tuple[Path, ...]]
    user: str | None
    item: str | None
    time: tuple[str, str] | str
    labels: tuple[str, ...]
    rows: int
    context: tuple[str, ...] = ()
    profile: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    split: str = "time"
    warnings: tuple[str, ...] = ()

    def paths(self, out: Path) -> tuple[Path, ...]:
        folder = real_log(self.folder)
        if callable(self.tables):
            return self.tables(folder, out)
        return tuple(folder / table for table in self.tables)


def columns(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"column_{number}" for number in range(first, last + 1))


def mind_as_lists(folder: Path, out: Path) -> tuple[Path, ...]:
    """Write MIND with one row per request: lists of shown, clicked and earlier news."""
    requests = []
    for line in (folder / "behaviors.tsv").read_text(encoding="utf-8").splitlines():
        number, user, moment, past, shown = line.split("\t")
        pairs = [entry.rsplit("-", 1) for entry in shown.split()]
        requests.append(
            {
                "impression_id": int(number),
                "user_id": user,
                "time": moment,
                "history": past.split(),
                "inview": [news for news, _ in pairs],
                "clicked": [news for news, click in pairs if click == "1"],
            }
        )
    lines = (folder / "news.tsv").read_text(encoding="utf-8").splitlines()
    keys = ("news_id", "category", "subcategory", "title")
    news = [dict(zip(keys, line.split("\t"), strict=False)) for line in lines]
    pq.write_table(pa.Table.from_pylist(requests), out / "requests.parquet")
    pq.write_table(pa.Table.from_pylist(news), out / "news.parquet")
    return out / "requests.parquet", out / "news.parquet"


FEEDBACK = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")
STAYS = ("play_time_ms", "profile_stay_time", "comment_stay_time")
ONEHOT = tuple(f"onehot_feat{number}" for number in range(18))
COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
KUAIRAND: dict[str, Any] = {
    "user": "user_id",
    "item": "video_id",
    "time": ("time_ms", "ms"),
    "labels": (*FEEDBACK, "is_profile_enter"),
    "context": ("hourmin", "duration_ms", "tab"),
    "profile": (
        "user_active_degree",
        "is_live_streamer",
        "is_video_author",
        *(name for count in COUNTS for name in (count, f"{count}_range")),
        *ONEHOT,
    ),
    "items": (
        "author_id",
        "video_type",
        "upload_dt",
        "upload_type",
        "video_duration",
        "server_width",
        "server_height",
        "music_id",
        "music_type",
        "tag",
    ),
    "past": (*FEEDBACK, "is_profile_enter", *STAYS),
}
STRANGERS = {
    "ml-1m": Stranger(
        "ml-1m",
        ("ratings.dat", "movies.dat", "users.dat"),
        user="column_1",
        item="column_2",
        time=("column_4", "s"),
        labels=("column_3 >= 4",),
        rows=1_000_209,
        items=("column_3",),
        profile=columns(2, 5),
        past=("column_3",),
        keys=("column_1",),
        left_out=("column_2",),  # titles
    ),
    "ml-100k": Stranger(
        "ml-100k",
        ("u.data", "u.item", "u.user"),
        user="column_1",
        item="column_2",
        time=("column_4", "s"),
        labels=("column_3 >= 4",),
        rows=100_000,
        items=("column_3", *columns(6, 24)),
        profile=columns(2, 5),
        past=("column_3",),
        keys=("column_1",),
        left_out=("column_2", "column_4", "column_5"),  # titles, an empty column, addresses
    ),
    "kuairand-csv": Stranger(
        "kuairand-pure-part/raw",
        (
            "log_standard_4_22_to_5_08_pure.sample.csv",
            "user_features_pure.csv",
            "video_features_basic_pure.csv",
        ),
        rows=20_000,
        left_out=("date", "is_rand", *STAYS),
        **KUAIRAND,
    ),
    "kuairand-parquet": Stranger(
        "kuairand-pure-part",
        ("interactions.parquet", "items.parquet", "user_histories.parquet", "users.parquet"),
        rows=228_329,
        history=("watch_seq", "last_time_ms"),
        left_out=("date", *STAYS),
        **KUAIRAND,
    ),
    "mind": Stranger(
        "mind-small-sample",
        ("behaviors.tsv", "news.tsv"),
        user="column_2",
        item="column_5",
        time=("column_3", "iso"),
        labels=("click",),
        rows=189_359,
        items=("column_2", "column_3"),
        keys=("column_1",),
        history=("column_4",),
        left_out=("column_1", *columns(4, 8)),
    ),
    "mind-lists": Stranger(
        "mind-small-sample",
        mind_as_lists,
        user="user_id",
        item="inview",
        time=("time", "iso"),
        labels=("clicked",),
        rows=189_359,
        items=("category", "subcategory"),
        keys=("news_id",),
        history=("history",),
        left_out=("impression_id", "title"),
    ),
    "taobao": Stranger(
        "taobao-userbehavior-sample",
        ("UserBehavior.csv",),
        user="column_1",
        item="column_2",
        time=("column_5", "s"),
        labels=(),
        rows=10_000,
        items=("column_3",),
        past=("column_4",),
        left_out=("column_4",),
        warnings=("no column says which rows are positive",),
    ),
    "ali-display": Stranger(
        "ali-display-sample",
        ("alimama_sampled_train.500.txt",),
        user=None,
        item=None,
        time="rows",
        labels=("column_267",),
        rows=500,
        context=(*columns(1, 199), *columns(201, 266)),
        left_out=("column_200",),  # one value
        warnings=("positives and negatives stand together",),
    ),
    "amazon-json": Stranger(
        "amazon2014-musical-5core/raw",
        ("Musical_Instruments_5.head1500.json",),
        user="reviewerID",
        item="asin",
        time=("unixReviewTime", "s"),
        labels=("overall >= 4",),
        rows=1_500,
        profile=("reviewerName",),
        past=("overall",),
        left_out=("helpful", "reviewText", "summary", "reviewTime"),
    ),
    "amazon-parquet": Stranger(
        "amazon2014-musical-5core",
        ("interactions.parquet", "items.parquet"),
        user="user_id",
        item="item_id",
        time=("timestamp", "s"),
        labels=("rating >= 4",),
        rows=10_261,
        past=("rating",),
        left_out=("summary", "review_text", "asin"),
    ),
    "beauty-parquet": Stranger(
        "seq-beauty",
        ("user_sequences.parquet", "items.parquet"),
        user="user_id",
        item="items",
        time="lists",
        labels=(),
        rows=198_502,
        items=("attributes",),
        keys=("item_id",),
        split="user_last",
        warnings=("no column says which rows are positive",),
    ),
    "beauty-lines": Stranger(
        "seq-beauty",
        ("Beauty.head200.txt",),
        user="user",
        item="line",
        time="lists",
        labels=(),
        rows=2_798,
        split="user_last",
        warnings=("no column says which rows are positive",),
    ),
}


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest) -> Stranger:
    """One of the logs."""
    return STRANGERS[request.param]


def fields(table: dict[str, Any]) -> list[str]:
    """List the raw columns of the fields of a table."""
    return [
        column
        for field in table.get("fields", [])
        for column in field.get("flags", (field.get("column", field["name"]),))
    ]


def test_every_role_of_the_draft_is_right(stranger: Stranger, tmp_path: Path) -> None:
    text = guess(stranger.paths(tmp_path), tmp_path)
    tree = tomllib.loads(text)
    shown, history = tree["impressions"], tree.get("history", {})
    assert tree.get("user", {}).get("column") == stranger.user
    assert tree.get("item", {}).get("column") == stranger.item
    time = shown.get("order") or (shown["time"], shown["time_unit"])
    assert time == stranger.time
    labels = [label.get("condition") or label["column"] for label in tree.get("labels", [])]
    assert tuple(labels) == stranger.labels
    assert ("negatives" in tree) == (not labels)
    assert tuple(fields(shown)) == stranger.context
    assert tuple(fields(tree.get("users", {}))) == stranger.profile
    assert tuple(fields(tree.get("items", {}))) == stranger.items
    assert tuple(fields(tree.get("behaviors", {}))) == stranger.past
    joined = [tree.get(name, {}).get(kind) for name, kind in (("items", "item"), ("users", "user"))]
    assert tuple(filter(None, joined)) == stranger.keys
    assert tuple(history[key] for key in ("items", "time") if key in history) == stranger.history
    assert tree["split"]["kind"] == stranger.split
    said = {line.split()[3] for line in text.splitlines() if line.startswith("# left out: ")}
    said -= {"like_seq", "long_watch_seq", "visible_status", "is_lowactive_period"}  # KuaiRand's other tables
    assert said == set(stranger.left_out)
    assert all(f"# WARNING: {warning}" in text for warning in stranger.warnings)
    assert text.count("# WARNING: ") == len(stranger.warnings)
    assert "# Not used" not in text


@pytest.mark.timeout(1800)  # up to a million rows
def test_every_step_runs_without_an_edit(
    stranger: Stranger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    schema = str(tmp_path / "schema.toml")
    assert main(["schema", "guess", *map(str, stranger.paths(tmp_path)), "--out", schema]) == 0
    assert main(["prepare", schema, "--out", data]) == 0
    report = json.loads((tmp_path / "data" / "manifest.json").read_text())["report"]
    for table in report.values():
        assert table["rows"] == table["kept"] + sum(table["quarantined"].values())
    assert report["impressions"]["rows"] == stranger.rows
    assert main(["leak-check", data]) == 0, capsys.readouterr().out
    assert main(["train", "mlp", "--recipe", "fast", "--length", "20", "--data", data, "--out", run]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--json"]) == 0
    (label, *_) = json.loads(capsys.readouterr().out)["labels"]
    assert 0 <= label["auc"]["value"] <= 1
