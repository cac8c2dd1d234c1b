"""KuaiRand-Pure, -1K, -27K: exposures of short videos with many kinds of feedback (Kuaishou, CC BY-SA 4.0).

Layout (suffix X is ``pure``, ``1k`` or ``27k``, found by the files; in a folder or its folder ``data``):
``log_standard_*_X*.csv`` and ``log_random_*_X*.csv`` (exposures, ``time_ms`` in milliseconds; the columns
``date`` and ``hourmin`` contradict it in places and are not used), ``user_features_X.csv``,
``video_features_basic_X.csv``. ``video_features_statistic_X.csv`` averages over the whole month, later
clicks included, and is never read.

Protocol: every exposure is an impression with the labels click, long_view, like, follow, comment, forward,
hate and profile_enter, and becomes a behavior with its feedback as attributes once that feedback is known:
after the time spent on the video, its comments and the author's page. Impressions are split 80 / 10 / 10 by
global time. Statistics count a label 10 minutes after its exposure, by when 99.99% are known. Exact
repetitions of a row, which the published files hold, go to quarantine.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters._about import About
from clickscale.data.source import Source, TableName
from clickscale.data.tables.casts import integers, numbers, seconds
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.raw_tables import find_file, read
from clickscale.errors import InputError
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema

_DELAY = 600  # seconds
CATEGORY = "tag"
RETURNING = True
_LABELS = {
    "click": "is_click",
    "long_view": "long_view",
    "like": "is_like",
    "follow": "is_follow",
    "comment": "is_comment",
    "forward": "is_forward",
    "hate": "is_hate",
    "profile_enter": "is_profile_enter",
}
_FEEDBACK = {"clicked": "is_click", "viewed_long": "long_view", "liked": "is_like", "seen_in_tab": "tab"}
_SPENT = ("play_time_ms", "profile_stay_time", "comment_stay_time")  # all in milliseconds
_TEXTS = (
    "user_active_degree",
    "is_lowactive_period",
    "is_live_streamer",
    "is_video_author",
    "follow_user_num_range",
    "fans_user_num_range",
    "friend_user_num_range",
    "register_days_range",
)
_CODES = tuple(f"onehot_feat{index}" for index in range(18))
_VIDEO = ("author_id", "video_type", "upload_type", "music_id", "music_type", "tag")

ABOUT = About(
    title="exposures of short videos with many kinds of feedback: Pure, 1K or 27K",
    size="Pure 0.2 GB, 1K 2 GB, 27K 46 GB",
    licence="CC BY-SA 4.0",
    where="https://zenodo.org/records/10439422",
)


def source(folder: Path, *, random: bool = False) -> Source:
    """The log as a `Source`.

    Args:
        folder: holds the CSV files of one of the three sizes.
        random: also read the exposures of videos drawn at random (``log_random_*``).
    """
    users = find_file(folder, *(f"user_features_{suffix}.csv" for suffix in ("pure", "1k", "27k")))
    suffix = users.name.split(".")[0].removeprefix("user_features_")
    videos = find_file(folder, f"video_features_basic_{suffix}.csv")
    logs = _logs(users.parent, suffix, random)

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for chunk in read(users, ["user_id", *_TEXTS, *_CODES]):
            yield "users", _users(chunk)
        for chunk in read(videos, ["video_id", *_VIDEO, "video_duration", "upload_dt"]):
            yield "items", _items(chunk)
        columns = ["user_id", "video_id", "time_ms", "tab", *_LABELS.values(), *_SPENT]
        for log in logs:
            for chunk in read(log, columns):
                yield from _exposures(chunk)

    return Source(schema=_schema(suffix), chunks=chunks)


def _logs(folder: Path, suffix: str, random: bool) -> list[Path]:
    kinds = ("standard", "random") if random else ("standard",)
    paths = [path for kind in kinds for path in sorted(folder.glob(f"log_{kind}_*_{suffix}*.csv*"))]
    if not paths:
        raise InputError(
            f"{folder} has user_features_{suffix}.csv but no log_standard_*_{suffix}.csv; add the exposures."
        )
    return paths


def _schema(suffix: str) -> Schema:
    return Schema(
        name=f"kuairand-{suffix}",
        user=Field(name="user", column="user_id", dtype="int"),
        item=Field(name="item", column="video_id", dtype="int"),
        labels=tuple(Label(name=name, column=column, delay=_DELAY) for name, column in _LABELS.items()),
        profile=(*(Field(name=name) for name in _TEXTS), *(Field(name=name, dtype="int") for name in _CODES)),
        behavior=(
            Field(name="clicked", column="is_click"),
            Field(name="viewed_long", column="long_view"),
            Field(name="liked", column="is_like"),
            Field(name="seen_in_tab", column="tab", dtype="int", shares="tab"),
        ),
        items=(
            Field(name="author_id", dtype="int", min_count=2),
            Field(name="video_type"),
            Field(name="upload_type"),
            Field(name="music_id", dtype="int", min_count=2),
            Field(name="music_type", dtype="int"),
            Field(name="tag", dtype="int", values=4, separator=","),
            Field(name="duration", column="video_duration", kind="numeric", transform="log1p"),
            Field(name="uploaded", column="upload_dt", kind="timestamp"),
        ),
        context=(Field(name="tab", dtype="int"),),
    ).validate()


def _users(chunk: Chunk) -> pa.RecordBatch:
    columns = {"user": integers(chunk["user_id"])}
    columns |= {name: _not_negative(chunk[name]) for name in _TEXTS}
    columns |= {name: integers(_not_negative(chunk[name])) for name in _CODES}
    return canonical(columns, chunk.problem)


def _not_negative(values: pa.Array) -> pa.Array:
    """Replace codes below zero, such as -124, by null: they mean unknown."""
    return pc.if_else(pc.starts_with(values, "-"), pa.scalar(None, pa.string()), values)


def _items(chunk: Chunk) -> pa.RecordBatch:
    uploaded, unread = seconds(chunk["upload_dt"], "iso")
    columns = {
        "item": integers(chunk["video_id"]),
        **{name: chunk[name] if name == "tag" else integers(_not_negative(chunk[name])) for name in _VIDEO},
        "duration": numbers(chunk["video_duration"]),
        "uploaded": uploaded,
    }
    return canonical(columns, mark(chunk.problem, unread, "bad_time"))


def _exposures(chunk: Chunk) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    time, unread = seconds(chunk["time_ms"], "ms")
    problem = mark(chunk.problem, unread, "bad_time")
    event = {"user": integers(chunk["user_id"]), "item": integers(chunk["video_id"]), "time": time}
    feedback = {name: integers(chunk[column]) for name, column in _FEEDBACK.items()}
    yield "behaviors", canonical({**event, "known_at": _known_at(time, chunk), **feedback}, problem)
    labels = {label_of(name): integers(chunk[column]) for name, column in _LABELS.items()}
    yield "impressions", canonical({**event, **labels, "tab": integers(chunk["tab"])}, problem)


def _known_at(time: pa.Array, chunk: Chunk) -> pa.Array:
    """Compute the first full second after the exposure and the time spent on it."""
    spent = np.zeros(len(chunk))
    for name in _SPENT:
        values = numbers(chunk[name])
        if pa.types.is_floating(values.type):  # otherwise preparation quarantines the rows
            spent += np.clip(values.fill_null(0).to_numpy(zero_copy_only=False), 0, 1e12)
    missing = time.is_null().to_numpy(zero_copy_only=False)
    whole = time.fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(whole + 1 + np.ceil(spent / 1000).astype(np.int64), mask=missing)
