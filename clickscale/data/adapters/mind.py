"""MIND, small and large: news impressions of six weeks of 2019 (Microsoft; research use, no
redistribution).

Layout: ``behaviors.tsv`` (impression id, user, time such as "11/9/2019 2:14:46 PM", ids of clicked news,
shown news such as "N35729-0") and ``news.tsv`` (id, category, subcategory, title, abstract, address,
entities), in one folder or in several side by side (``MINDsmall_train``, ``MINDsmall_dev``). Times name no
zone and are taken as UTC.

Protocol: one line is one request, each shown news an impression with the label click (unknown in a test
part that hides it). A click becomes a behavior, known one second after its impression. The clicks of the
weeks before the log have an order but no times: they are placed one second apart just before the user's
first impression. Impressions are split 80 / 10 / 10 by global time. News that are in several folders
count once; the repetitions go to quarantine.

Memory grows with the number of users (their first moment), not of lines.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.adapters._about import About
from clickscale.data.source import Source, TableName
from clickscale.data.tables.chunks import Chunk, canonical, mark
from clickscale.data.tables.delimited import TextFormat
from clickscale.data.tables.raw_tables import find_file, read
from clickscale.features import label_of
from clickscale.schema import Field, Label, Schema

CATEGORY = "category"
RETURNING = True
_LINES = TextFormat(separator="\t", names=("impression", "user", "time", "clicked", "shown"), quote="")
_NEWS = TextFormat(
    separator="\t",
    names=(
        "item",
        "category",
        "subcategory",
        "title",
        "abstract",
        "address",
        "entities",
        "abstract_entities",
    ),
    quote="",
)
_SHOWN = r"^(?P<item>.+?)(?:-(?P<click>[01]))?$"

ABOUT = About(
    title="news impressions of six weeks, small (50,000 users) or large (1 million)",
    size="small 80 MB, large 1.5 GB",
    licence="Microsoft Research License, no redistribution",
    where="https://msnews.github.io",
)


def source(folder: Path, *, title: bool = False) -> Source:
    """The log as a `Source`.

    Args:
        folder: holds the two files, or folders that hold them.
        title: add the words of the title as an item field (hashed, the first 12).
    """
    logs = _all_files(folder, "behaviors.tsv")
    news = _all_files(folder, "news.tsv")
    words = (
        Field(name="words", column="title", vocabulary="hash", buckets=1 << 16, values=12, separator=" "),
    )
    schema = Schema(
        name="mind",
        user=Field(name="user"),
        item=Field(name="item"),
        labels=(Label(name="click", delay=1),),
        items=(Field(name="category"), Field(name="subcategory"), *(words if title else ())),
        behavior_label="click",
    ).validate()

    def chunks() -> Iterator[tuple[TableName, pa.RecordBatch]]:
        for path in news:
            for chunk in read(path, ["item", "category", "subcategory", "title"], text=_NEWS):
                yield "items", _items(chunk, title)
        first = _first_moments(logs)
        for path in logs:
            for chunk in read(path, ["user", "time", "clicked", "shown"], text=_LINES):
                yield from _requests(chunk, first)

    notes = ("Clicks before the log have no times; they stand one second apart before the first impression.",)
    return Source(schema=schema, chunks=chunks, notes=notes)


def _all_files(folder: Path, name: str) -> list[Path]:
    """Find the file in the folder, or those in the folders below it: train, then dev, then test."""
    first = find_file(folder, name)
    return [first] if first.parent == folder else sorted(folder.glob(f"*/{first.name}"), key=_part)


def _part(path: Path) -> tuple[int, str]:
    order = [index for index, part in enumerate(("train", "dev", "test")) if path.parent.name.endswith(part)]
    return (order[0] if order else 3, path.parent.name)


def _items(chunk: Chunk, title: bool) -> pa.RecordBatch:
    columns = {name: chunk[name] for name in ("item", "category", "subcategory")}
    if title:
        letters = pc.replace_substring_regex(pc.utf8_lower(chunk["title"]), r"[^\pL\pN]+", " ")
        columns["words"] = pc.utf8_trim_whitespace(letters)
    return canonical(columns, chunk.problem)


def _times(values: pa.Array) -> pa.Array:
    moments = pc.strptime(values, format="%m/%d/%Y %I:%M:%S %p", unit="s", error_is_null=True)
    return moments.cast(pa.int64())


def _first_moments(logs: list[Path]) -> dict[str, int]:
    """Find the time of every user's first impression.

    A user leaves the dict as soon as the clicks before that impression are placed.
    """
    first: dict[str, int] = {}
    for path in logs:
        for chunk in read(path, ["user", "time"], text=_LINES):
            table = pa.table({"user": chunk["user"], "time": _times(chunk["time"])})
            least = table.filter(pc.is_valid(table["time"])).group_by("user").aggregate([("time", "min")])
            for user, time in zip(least["user"].to_pylist(), least["time_min"].to_pylist(), strict=True):
                first[user] = min(time, first.get(user, time))
    return first


def _requests(chunk: Chunk, first: dict[str, int]) -> Iterator[tuple[TableName, pa.RecordBatch]]:
    time = _times(chunk["time"])
    unread = pc.and_(pc.is_null(time), pc.is_valid(chunk["time"])).to_numpy(zero_copy_only=False)
    problem = mark(chunk.problem, unread, "bad_time")
    earlier = _earlier_clicks(chunk["user"], time, chunk["clicked"], first)
    if earlier.num_rows:
        yield "behaviors", earlier
    # A line without news is still a row: its empty list gives an impression without an item.
    shown = pc.split_pattern(chunk["shown"].fill_null(""), " ")
    line = pc.list_parent_indices(shown)
    pairs = pc.extract_regex(shown.flatten(), _SHOWN)
    item, click = pc.struct_field(pairs, "item"), pc.struct_field(pairs, "click")
    click = pc.if_else(pc.equal(click, ""), pa.scalar(None, pa.string()), click).cast(pa.int8())
    event = {"user": chunk["user"].take(line), "item": item, "time": time.take(line)}
    clicked = pc.equal(click, 1).fill_null(False)
    clicks = {name: values.filter(clicked) for name, values in event.items()}
    clicks["known_at"] = pc.add(clicks["time"], 1)
    yield "behaviors", canonical(clicks, problem.take(line).filter(clicked))
    yield "impressions", canonical({**event, label_of("click"): click}, problem.take(line))


def _earlier_clicks(
    user: pa.Array, time: pa.Array, clicked: pa.Array, first: dict[str, int]
) -> pa.RecordBatch:
    """Make behaviors from the list in the line of a user's first impression."""
    lines = [
        line
        for line, (name, moment) in enumerate(zip(user.to_pylist(), time.to_pylist(), strict=True))
        if moment is not None and first.get(name) == moment and first.pop(name) == moment
    ]
    chosen = pa.array(lines, pa.int64())
    lists = pc.split_pattern(clicked.take(chosen).fill_null(""), " ")
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    line = np.repeat(np.arange(len(lines)), counts)
    position = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
    moments = time.take(chosen).to_numpy(zero_copy_only=False)[line] - counts[line] + position
    item = lists.flatten()
    columns = {
        "user": user.take(chosen).take(pa.array(line)),
        "item": item,
        "time": pa.array(moments, pa.int64()),
    }
    columns["known_at"] = columns["time"]
    named = pc.not_equal(item, "")  # an empty list is one empty text
    problem = pa.nulls(len(item), pa.string())
    return canonical(columns, problem).filter(named)
