"""The labels of a draft: columns with outcomes, or negatives that are drawn."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clickscale.data.described.drafts.event_tables import Events
from clickscale.data.described.drafts.joined.outcome_tables import OutcomeTable
from clickscale.data.described.drafts.labels.label_search import SHOWN
from clickscale.data.described.drafts.labels.outcome_words import OutcomeName, positive_of
from clickscale.data.described.drafts.roles.column_values import codes_of
from clickscale.data.described.drafts.roles.moments import moments_beside
from clickscale.data.described.drafts.samples import Column
from clickscale.data.described.drafts.toml_lines import identifier, quoted, remark
from clickscale.data.described.rows import as_text
from clickscale.data.features.ratings import plain_ratings
from clickscale.data.tables.casts import detect_unit, seconds

_NEGATIVES = 4
_KNOWN = 0.99  # share of the outcomes that are known once a label counts
_SAME = 0.999  # share of the rows that have a moment where they are positive, or neither
_DAY = 86_400
_SOON = 3_600  # seconds until an outcome is known that any history waits for
_AT = "(at|on|time|ts|timestamp|date|datetime)"
_UNITS = "s|sec|ms|millis|us|micros|ns|utc"
_WHOLE = r"(?:/|\b(?:of|von|sur|de|su|van) )\s*(?P<whole>[1-9][0-9]{0,2})\b"
_SEVERAL = 0.01  # share of rows that may count several impressions
_WARNING = """\
# WARNING: no column says which rows are positive; if one does, guess again with --label COLUMN. So every row
# counts as a positive, and for each of them that many items which existed at its time are drawn as negatives.
# Figures on such negatives are not comparable with figures on negatives that users saw. A label is written as
#   labels = [{ name = "click", column = "clicked" }]
#   labels = [{ name = "like", condition = "rating >= 4" }]"""


def delays_of(events: Events, outcomes: Sequence[OutcomeTable]) -> dict[str, int]:
    """Return the seconds until the outcome of each label is known, by its column; 0 where nothing tells."""
    joined = {table.name: delay for table in outcomes if (delay := table.delay(events))}
    return {
        column.name: joined.get(column.name, 0) or _own_delay(events, column, condition)
        for column, condition, _ in events.labels
    }


def late_outcomes(events: Events, delays: Mapping[str, int]) -> dict[str, str]:
    """Name the columns of labels that a history does without, since it would wait for them, and say why.

    It shows an event once all of it is known. So it would lack most of what users came from, where they
    come back sooner than an outcome is known.
    """
    user, time = events.user, events.time
    if user is None or time is None or events.shape.order or pa.types.is_nested(user.values.type):
        return {}
    moments = seconds(time.values, detect_unit(time.known))[0]
    rows = pa.table({"user": codes_of(user.values), "at": moments}).drop_null()
    rows = rows.sort_by([("user", "ascending"), ("at", "ascending")])
    gaps = np.diff(rows["at"].to_numpy())[np.diff(rows["user"].to_numpy()) == 0]
    usual = float(np.median(gaps[gaps > 0])) if gaps.any() else 0.0
    late = {name: delay for name, delay in delays.items() if delay > max(_SOON, usual)}
    why = "it is known only after {:,} s, and most users come back sooner"
    return {name: why.format(delay) for name, delay in late.items()}


def label_lines(events: Events, outcomes: Sequence[OutcomeTable], delays: Mapping[str, int]) -> Iterator[str]:
    """Yield the labels of a log, or a warning and the draw of negatives.

    Args:
        delays: those of `delays_of`.
    """
    if not events.labels:
        yield _WARNING
        for name, why in events.unfit.items():
            yield f"# WARNING: {remark(name)} may be the outcome: {why}."
        flags = [quoted(c.name) for c in events.head.columns.values() if c.is_flag or _says_yes(c)]
        if flags:
            yield f"# Columns with two values, such as 0 and 1: {', '.join(flags)}."
        yield f"negatives = {_NEGATIVES}"
        yield '# negatives_by = "popularity"  # draws that take popularity out of what is measured'
        return
    yield from _counted_lines(events)
    yield from _scale_lines(events)
    yield "# Outcomes of an impression; training takes the first one unless --labels names others."
    yield "labels = ["
    seen: set[str] = set()
    for column, condition, why in events.labels:
        name = "click" if events.shape.holds_requests else _name(column.name, condition)
        if name in seen:
            continue  # the same outcome again, such as its moment
        seen.add(name)
        source = f"condition = {quoted(condition)}" if condition else f"column = {quoted(column.name)}"
        if column.unknown:
            source += f", known = {quoted(f'{column.name} != {column.unknown}')}"
        if delay := delays[column.name]:
            source += f", delay = {delay}"  # only then is it known to statistics and to histories
            why += f"; {delay} s until it is known"
        elif column.name in [table.name for table in outcomes]:
            why += "; add delay = seconds until it is known, or else it is taken to be known at once"
        yield f"  {{ name = {quoted(name)}, {source} }},  # {why}"
    yield "]"


def _says_yes(column: Column) -> bool:
    """True for two words of which one means yes, such as ``evet``, and for a mark such as X or nothing."""
    if not pa.types.is_string(column.values.type) or column.distinct > 2:
        return False
    is_told = column.distinct == 2 or column.values.null_count > 0
    return is_told and positive_of(column.known.unique().to_pylist()) is not None


def _counted_lines(events: Events) -> Iterator[str]:
    """Warn of rows that count several impressions, as reports by the hour and the day do."""
    counts = [events.head.columns[name] for name, why in events.shape.left_out.items() if why == SHOWN]
    for column in counts:
        several = 0.0 if column.floats is None else float(np.mean(np.asarray(column.floats) > 1))
        if several > _SEVERAL:
            told = f"count several impressions ({remark(column.name)})"
            yield f"# WARNING: {several:.0%} of the rows {told}, so a"
            yield "# label says whether any of them had the outcome, and predictions are no rates of"
            yield "# impressions. Export one row for each impression, if you can."


def _scale_lines(events: Events) -> Iterator[str]:
    """Warn of ratings of several wholes, of which a condition compares what was given."""
    for column, condition, _ in events.labels:
        if not condition or not pa.types.is_string(column.values.type):
            continue
        given = plain_ratings(column.known)
        wholes = pc.struct_field(pc.extract_regex(column.known, _WHOLE), "whole")
        told = pc.if_else(pc.equal(given, column.known), None, wholes).drop_null().value_counts().to_pylist()
        often = [each["values"] for each in told if each["counts"] > _SEVERAL * len(given)]
        if len(often) > 1:
            of = " and of ".join(sorted(often))
            yield f"# WARNING: {remark(column.name)} has ratings out of {of}, and"
            yield f"# {remark(condition)} compares what was given, whatever the whole. Bring them to one."


def _own_delay(events: Events, label: Column, condition: str) -> int:
    """Return the seconds until nearly all outcomes were known, by their moments; 0 without any.

    The moments are the label itself, as ``install_time``, or beside it, as ``clicked_at`` is by ``clicked``,
    or any that rows have just where the first label is positive. Of dates, an outcome is known once the day
    is over.
    """
    stem = re.sub(r"^((is|was|did|has)_)+|(ed|e)?$", "", OutcomeName(label.name).snake)
    if condition.endswith("> 0"):  # a moment that is 0 where nothing happened
        label = replace(label, values=pc.if_else(pc.equal(as_text(label.values), "0"), None, label.values))
    moments = [label] if label.unit else []
    for column in events.head.columns.values():
        words = OutcomeName(column.name).snake
        if column.unit and len(stem) > 2 and re.fullmatch(rf"{re.escape(stem)}(ed|e)?_{_AT}", words):
            moments.append(column)
    if not moments and events.truth is not None and label.name == events.labels[0][0].name:
        moments = [column for column in events.head.columns.values() if _marks(column, events.truth)]
    if not moments or events.time is None or events.shape.order:
        return 0
    done, shown = moments_beside(moments[0], events.time, None)
    are_days = not (done[np.isfinite(done)] % _DAY).any()
    later = (done - shown)[np.isfinite(done - shown)] + are_days * _DAY
    return int(np.ceil(np.quantile(np.maximum(later, 0), _KNOWN))) if len(later) else 0


def _marks(column: Column, positive: npt.NDArray[np.float64]) -> bool:
    """True for moments that a row has just where it is positive."""
    if not column.unit or not column.values.null_count:
        return False
    known = np.isfinite(positive)
    same = np.asarray(column.values.is_valid())[known] == (positive[known] > 0)
    return bool(np.mean(same) >= _SAME)


def _name(column: str, condition: str) -> str:
    """Name a label after its column, or after the value that is positive."""
    said = OutcomeName(column)
    own = identifier(column if column.isascii() else said.snake or column)
    if said.is_inverted:
        act = re.sub(r"^((is|was|did|has)_)?(not|non|no|un)_?", "", own)
        return act if act != own else f"not_{own.removeprefix('is_')}"
    if said.is_moment or condition.endswith("!= ''"):
        return re.sub(rf"_?{_AT}(_({_UNITS}))?$", "", said.snake or own.lower())
    if condition.endswith("'") and "!=" not in condition and said.tells_events and not said.has_word:
        return identifier(condition.split("'")[1])
    if ">=" in condition and not condition.endswith(">= 1") and not said.has_word:
        return "like"
    return own.removeprefix("is_") if own != "f_" else "outcome"
