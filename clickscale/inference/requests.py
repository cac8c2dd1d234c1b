"""Raw requests: what a client sends, checked and encoded into a batch by the encoder that training used.

A request is one JSON object. Fields go by their names in the schema; ids and times are raw::

    {"user": 17, "time": 978300000,
     "profile": {"age": 25},
     "behaviors": [{"item": 1193, "time": 978200000, "rating": 5}],
     "candidates": [{"item": 661}, {"item": 914}]}

An id of several columns is sent as the list of its parts. A model of a log without users takes no ``user``
and no ``behaviors``, and one of a log without items takes candidates without ``item``.

A field that is left out or null is missing, an id or a category that training did not see is unknown; neither
is an error. Errors are: no item, a text for a number, a time in milliseconds, a misspelled key.

Everything is read column by column, fields of one type in one go: 500 candidates with 7 fields cost three
reads of arrow arrays, not 3,500 of single values. Checks look at whole columns too. Only when a check fails
are the objects walked one by one, as they were sent, to name the first mistake by its path.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.notations import POINT, in_notation
from clickscale.data.features.texts import BAD_TIME, FINE, entries_of
from clickscale.data.features.values import MISSING, read_field, read_keys
from clickscale.errors import InputError, unknown
from clickscale.features import UNKNOWN
from clickscale.inference.json_values import array_of, types_of
from clickscale.inference.request_ids import SHORT, check_id, one_id, short, with_ids, wrong_value
from clickscale.inference.request_lines import RequestLimits
from clickscale.schema import Field

Request = Mapping[str, Any]
_Ints = npt.NDArray[np.int64]

_LATEST = 100_000_000_000  # the year 5138 in seconds; the year 1973 in milliseconds
_LAST_MOMENT = 300_000_000_000  # of fields: 1979 in milliseconds, beyond 9999-12-31, which means never
_LARGEST_ID = (1 << 63) - 1
_KEYS = ("user", "time", "profile", "behaviors", "candidates")
_KEYS_OF_NOBODY = ("time", "candidates")  # of a request to a model of a log without users
_SCALARS = {int, float, str, bool, type(None)}  # the types of a JSON value that is neither list nor object
_NUMERIC = ("numeric", "timestamp")
_LIMITS = RequestLimits()


@dataclass(frozen=True)
class Encoded:
    """Requests as a batch, and what was done with them.

    Attributes:
        batch: (B, C, L) as in `clickscale.batch`; labels are unknown.
        items: raw ids of the candidates of each request; None in a log without items.
        used, ignored: behaviors of each request that are in the batch, and that were not known by its time.
    """

    batch: Batch
    items: list[list[Any]]
    used: list[int]
    ignored: list[int]


def encode_requests(
    requests: Sequence[Request], encoder: Encoder, length: int, limits: RequestLimits = _LIMITS
) -> Encoded:
    """Encode requests; each candidate sees the last ``length`` behaviors known before the request's time.

    Raises:
        InputError: names the first mistake by its path in the request; of several requests,
            ``requests[2].candidates[0].item``.
    """
    paths = [f"requests[{i}]." if len(requests) > 1 else "" for i in range(len(requests))]
    parsed = [
        _parse(request, encoder, length, limits, at) for request, at in zip(requests, paths, strict=True)
    ]
    # Objects of all requests under each other: a field is encoded once, whatever the number of requests.
    schema, context = encoder.schema, encoder.schema.context_fields()
    senders = _Table([p.sender for p in parsed], {"user": schema.user})
    profiles = _Table([p.profile for p in parsed], _by_name(schema.profile))
    history = _Table([p.behaviors for p in parsed], {"item": schema.item, **_by_name(schema.behavior)})
    shown = _Table([p.candidates for p in parsed], {"item": schema.item, **_by_name(schema.sent_fields())})
    _read([history, shown, senders, profiles])
    left, right = _Grid(history.counts, left=True), _Grid(shown.counts, left=False)
    behavior_times = np.concatenate([p.behavior_times for p in parsed])
    request_times = np.array([p.time for p in parsed], np.int64)
    user_items = left.fill(_item_rows(history, encoder), 0)  # (B, L)
    candidate_items = right.fill(_item_rows(shown, encoder), 0)  # (B, C)
    users = encoder.encode_raw(schema.user.name, senders.columns["user"].raw)[:, None]  # (B, 1)
    batch = Batch(
        user=UserSide(
            profile=_long(np.concatenate([users, _indices(profiles, schema.profile, encoder)], axis=1)),
            profile_numbers=torch.from_numpy(_numbers(profiles, schema.profile, encoder)),
            items=_long(user_items),
            actions=_long(left.fill(_indices(history, schema.behavior, encoder), 0)),
            action_numbers=torch.from_numpy(left.fill(_numbers(history, schema.behavior, encoder), np.nan)),
            times=_long(left.fill(behavior_times, 0)),
        ),
        candidates=CandidateSide(
            items=_long(candidate_items),
            context=_long(right.fill(_indices(shown, context, encoder), 0)),
            context_numbers=torch.from_numpy(right.fill(_numbers(shown, context, encoder), np.nan)),
            times=_long(np.repeat(request_times[:, None], right.width, axis=1)),
            # Only behaviors that candidates may see are in the row, so each sees them all.
            oldest=torch.zeros(candidate_items.shape, dtype=torch.int64),
            visible=torch.full(candidate_items.shape, left.width),
        ),
        labels=torch.zeros((*candidate_items.shape, 1)),
        label_mask=torch.zeros((*candidate_items.shape, 1), dtype=torch.bool),
        rows=torch.full(candidate_items.shape, -1),
    )
    key = "" if "item" in schema.absent else "item"
    items = [_column(p.candidates.rows, key) for p in parsed]
    return Encoded(batch, items, history.counts, [p.ignored for p in parsed])


def user_identity(user: Any, encoder: Encoder, path: str = "user") -> bytes:
    """Identity of a raw user id, as the encoder reads it: ``1`` and ``"1"`` are one user, ``"a"`` is another.

    Args:
        path: of the id, for messages.

    Raises:
        InputError: the value cannot be an id.
    """
    if "user" in encoder.schema.absent:
        return b"nobody"
    user = one_id(user, encoder.schema.user, path)
    check_id(user, path)
    dtype = encoder.schema.user.dtype
    if dtype == "int" and type(user) is int and 0 <= user <= _LARGEST_ID:
        return f"int:{user}".encode()  # what reading it would give, without arrow's fixed costs
    raw = read_keys(array_of([user], frozenset({type(user)}), encoder.schema.user), dtype)
    if raw.problems[0] != FINE:
        raise wrong_value(path, user, int(raw.problems[0]))
    # Not the key of a text: that is a hash, and somebody could look for a second text with the same one.
    text = str(int(raw.data[0])) if raw.texts is None else str(raw.texts[0].as_py())
    return f"{dtype}:{text}".encode()


def known_items(batch: Batch) -> list[list[bool]]:
    """Tell for each candidate of each request if the item table has it."""
    return (batch.candidates.items > UNKNOWN).tolist()


# --- the shape of one request


@dataclass(frozen=True)
class _Objects:
    """Objects of one kind in one request.

    Attributes:
        path: where they stand, such as ``requests[1].candidates``.
        positions: place of each in the list that was sent; None for an object that is not in a list.
    """

    path: str
    rows: Sequence[Mapping[str, Any]]
    positions: Sequence[int] | None = None

    def where(self, index: int, key: str) -> str:
        """Path of a value of the object ``index``."""
        at = self.path if self.positions is None else f"{self.path}[{self.positions[index]}]"
        return f"{at}.{key}" if at else key


@dataclass(frozen=True)
class _Parsed:
    """A request whose shape is right: its values are still raw."""

    time: int
    sender: _Objects
    profile: _Objects
    behaviors: _Objects
    behavior_times: _Ints
    candidates: _Objects
    ignored: int


def _parse(request: Request, encoder: Encoder, length: int, limits: RequestLimits, at: str) -> _Parsed:
    """Check the shape of one request and choose the behaviors that its candidates see."""
    schema = encoder.schema
    nobody = "user" in schema.absent
    _check_keys(request, at.removesuffix("."), _KEYS_OF_NOBODY if nobody else _KEYS)
    request = with_ids(request, schema, at)
    check_id(request.get("user"), f"{at}user")
    time = _time(request.get("time"), f"{at}time")
    profile = {} if request.get("profile") is None else request["profile"]
    _check_keys(profile, f"{at}profile", [field.name for field in schema.profile])
    timed = ["time", "known_at", *(field.name for field in schema.behavior)]
    past = _list_of(request, "behaviors", timed, limits.behaviors, at)
    times, known = _behavior_times(past, schema.known_after)
    # Candidates see what was known strictly before the request, in the order in which it became known.
    visible = np.flatnonzero(known < time)
    newest = visible[np.argsort(known[visible], kind="stable")][-length:]
    context = [field.name for field in schema.sent_fields()]
    shown = _list_of(request, "candidates", context, limits.candidates, at)
    if not shown:
        raise InputError(f"{at}candidates is empty; send at least one item to score.")
    return _Parsed(
        time=time,
        sender=_Objects(at.removesuffix("."), [request]),
        profile=_Objects(f"{at}profile", [profile]),
        behaviors=_Objects(f"{at}behaviors", [past[i] for i in newest.tolist()], newest.tolist()),
        behavior_times=times[newest],
        candidates=_Objects(f"{at}candidates", shown, range(len(shown))),
        ignored=len(past) - len(visible),
    )


def _list_of(
    request: Request, key: str, fields: Sequence[str], most: int, at: str
) -> Sequence[Mapping[str, Any]]:
    """Objects of a list of the request, each with an item and, if ``time`` is a field, with sound times."""
    rows = request.get(key)
    if rows is None:
        return []
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InputError(f"{at}{key} is {short(rows)}; send a list of objects.")
    if len(rows) > most:
        raise InputError(f"{at}{key} holds {len(rows):,} objects, more than {most:,}; send fewer at once.")
    keys, timed = ["item", *fields], "time" in fields
    # A few passes in C for sound rows; the walk names the mistake, or accepts rows of an unusual type.
    if not (_are_sound(rows, keys) and (not timed or _have_times(rows))):
        for position, row in enumerate(rows):
            path = f"{at}{key}[{position}]"
            _check_keys(row, path, keys)
            check_id(row.get("item"), f"{path}.item")
            if timed:
                _check_times(row, path)
    return rows


def _are_sound(rows: Sequence[Any], keys: Iterable[str]) -> bool:
    """Test columns: all are objects with known keys and an item. If not, a closer look at each decides."""
    if not set(map(type, rows)) <= {dict} or not set[str]().union(*rows) <= set(keys):
        return False
    items = _column(rows, "item")
    return set(map(type, items)) <= {int, float, str} and "" not in items


def _have_times(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Test columns: each has a sound time and was not known before it."""
    times = _column(rows, "time")
    known = [row.get("known_at", time) for row, time in zip(rows, times, strict=True)]
    if not set(map(type, [*times, *known])) <= {int, float}:
        return False
    # Comparisons with NaN are false, so NaN is left to the closer look.
    return all(0 <= time <= at < _LATEST for time, at in zip(times, known, strict=True))


def _behavior_times(rows: Sequence[Mapping[str, Any]], known_after: int) -> tuple[_Ints, _Ints]:
    """(N,) seconds of checked behaviors, and (N,) seconds at which each was known.

    Args:
        known_after: seconds after which one is known that does not tell it, as in the log.
    """
    times = [int(row["time"]) for row in rows]
    known = [row.get("known_at") for row in rows]
    known = [time + known_after if at is None else int(at) for time, at in zip(times, known, strict=True)]
    return np.array(times, np.int64), np.array(known, np.int64)


def _check_times(row: Mapping[str, Any], path: str) -> None:
    """Refuse a behavior without a time, or known before it."""
    time = _time(row.get("time"), f"{path}.time")
    known = time if row.get("known_at") is None else _time(row["known_at"], f"{path}.known_at")
    if known < time:
        raise InputError(f"{path}.known_at is {known}, before the behavior's own time {time}.")


def _check_keys(value: Any, path: str, keys: Sequence[str]) -> None:
    """Refuse what is not an object, and keys that mean nothing."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path or 'the request'} is {short(value)}; send an object.")
    for key in value:
        if key not in keys:
            raise InputError(f"{path or 'the request'}: " + unknown("key", str(key)[:SHORT], keys))


def _time(value: Any, path: str) -> int:
    """Seconds since 1970 UTC."""
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{path} is {short(value)}; send seconds since 1970 (UTC) as a number.")
    if value < 0:
        raise InputError(f"{path} is {short(value)}, before 1970; send seconds since 1970 (UTC).")
    if value >= _LATEST:
        raise InputError(
            f"{path} is {short(value)}, which looks like milliseconds; send seconds since 1970 (UTC)."
        )
    return int(value)


# --- columns of many objects


@dataclass
class _Column:
    """One field of the objects of a table.

    Attributes:
        values: N scalars, or for a field of several values N lists; None where missing.
        types: Python's types of the scalars that are there.
        raw, problems: keys or numbers, and what is wrong with each (`read_field`); filled in by `_read`.
    """

    field: Field
    values: list[Any]
    types: frozenset[type]
    raw: npt.NDArray[Any]
    problems: npt.NDArray[np.uint8]


class _Table:
    """Objects of one kind from all requests, and their fields as columns by the key that clients send."""

    def __init__(self, parts: Sequence[_Objects], fields: Mapping[str, Field]) -> None:
        self.counts = [len(part.rows) for part in parts]
        self.rows = [row for part in parts for row in part.rows]
        self._parts = parts
        self.columns = {key: self._column(key, field) for key, field in fields.items()}

    def _column(self, key: str, field: Field) -> _Column:
        values = _column(self.rows, key)
        types = frozenset(map(type, values))
        if field.values > 1 or not types <= _SCALARS:
            values = [_raw_value(field, value, self, key, index) for index, value in enumerate(values)]
            types = types_of(values)
        return _Column(field, values, types - {type(None)}, np.zeros(0), np.zeros(0, np.uint8))

    def where(self, key: str, index: int) -> str:
        """Path of a value."""
        for part in self._parts:
            if index < len(part.rows):
                return part.where(index, key)
            index -= len(part.rows)
        raise AssertionError("a row belongs to one of the requests")


def _read(tables: Sequence[_Table]) -> None:
    """Read all columns; those of one kind in one go, since a read costs 20 to 100 us however few its values.

    Raises:
        InputError: names the first value that cannot be read.
    """
    groups: dict[tuple[object, ...], list[_Column]] = {}
    for column in (column for table in tables for column in table.columns.values()):
        groups.setdefault(_reads_like(column), []).append(column)
    # A read of one long array instead of many short ones: see the docstring.
    for columns in groups.values():
        values = list(chain.from_iterable(column.values for column in columns))
        field, types = columns[0].field, frozenset[type]().union(*(column.types for column in columns))
        if (field.notation or field.unit) and str in types:
            values, types = in_notation(values, field.notation or POINT), frozenset([str])
        raw = read_field(field, array_of(values, types, field))
        stops = np.cumsum([len(column.values) for column in columns]).tolist()
        for column, stop in zip(columns, stops, strict=True):
            part = slice(stop - len(column.values), stop)
            column.raw, column.problems = raw.data[part], raw.problems[part]
            if column.field.kind == "timestamp":  # milliseconds would be clipped to the latest moment
                late = np.abs(column.raw) > _LAST_MOMENT
                column.problems = np.where(late, BAD_TIME, column.problems).astype(np.uint8)
    # Errors only now, in the order of the tables, so that the named one does not depend on the grouping.
    for table in tables:
        for key, column in table.columns.items():
            if column.problems.any():
                index = int(column.problems.argmax())
                where, value, code = (
                    table.where(key, index),
                    table.rows[index][key],
                    int(column.problems[index]),
                )
                raise wrong_value(where, value, code, is_moment=column.field.kind == "timestamp")


def _reads_like(column: _Column) -> tuple[object, ...]:
    """A key that columns share if one array can hold them; slow mixed types are read on their own."""
    field, types = column.field, column.types
    if field.kind in _NUMERIC and types <= {int, float}:
        return ("numbers",)
    if field.kind == "categorical" and field.values == 1 and not field.url and len(types) <= 1:
        written = types or {str if field.dtype == "string" else int}  # a column of nulls fits any other
        return (field.dtype, *written)
    return (id(column),)


def _item_rows(table: _Table, encoder: Encoder) -> _Ints:
    """(N,) rows of the item table; 1 for items that it does not have."""
    keys = table.columns["item"].raw
    if (keys == MISSING).any():
        index = int((keys == MISSING).argmax())
        item = short(table.rows[index]["item"])
        raise InputError(f"{table.where('item', index)} is {item}, which names no item.")
    return encoder.item_rows.lookup(keys).astype(np.int64)


def _indices(table: _Table, fields: Sequence[Field], encoder: Encoder) -> _Ints:
    """(N, columns) of the categorical fields."""
    parts = []
    for field in fields:
        if field.kind == "categorical":
            keys = table.columns[field.name].raw
            if bool in table.columns[field.name].types and field.dtype == "string":
                keys = encoder.vocabulary(field.name).as_spelled(keys)
            parts.append(encoder.encode_raw(field.name, keys).reshape(-1, field.values))
    return np.concatenate([np.zeros((len(table.rows), 0), np.int64), *parts], axis=1).astype(np.int64)


def _numbers(table: _Table, fields: Sequence[Field], encoder: Encoder) -> npt.NDArray[np.float32]:
    """(N, F) of the numeric fields and timestamps; NaN for numbers that are derived of others."""
    names = [field.name for field in fields if field.kind in _NUMERIC]
    numbers = np.full((len(table.rows), len(names)), np.nan, np.float32)
    for column, name in enumerate(names):
        if name in table.columns:
            numbers[:, column] = encoder.encode_raw(name, table.columns[name].raw)
    return numbers


def _by_name(fields: Sequence[Field]) -> dict[str, Field]:
    """The fields that clients send, by name; frozen content is a matter of items only."""
    return {field.name: field for field in fields if field.kind != "content"}


def _column(rows: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """Values of one key, None where an object does not have it."""
    return [row.get(key) for row in rows]


def _raw_value(field: Field, value: Any, table: _Table, key: str, index: int) -> Any:
    """One value; for a field of several values a list, a text divided by the field's separator.

    Raises:
        InputError: an object, a list of lists, or a list where one value belongs.
    """
    several = isinstance(value, list | tuple)
    if several and field.values == 1 and len(value) <= 1:  # as a list column of a log is read
        value = value[0] if value else None
        several = isinstance(value, list | tuple)  # a list within the list is refused below
    if isinstance(value, Mapping) or (several and field.values == 1):
        raise InputError(f"{table.where(key, index)} is {short(value)}; send one value.")
    if several and any(isinstance(one, Mapping | list | tuple) for one in value):
        raise InputError(f"{table.where(key, index)} is {short(value)}; send a flat list.")
    if field.values == 1 or value is None or several:
        return value
    return entries_of(value, field.separator) if isinstance(value, str) and field.separator else [value]


class _Grid:
    """Positions of the rows of every request in a padded array."""

    def __init__(self, counts: Sequence[int], left: bool) -> None:
        self.width = max(1, *counts)
        column = np.arange(self.width)
        count = np.array(counts)[:, None]
        self._present = column >= self.width - count if left else column < count  # (B, width)

    def fill(self, values: npt.NDArray[Any], padding: float) -> npt.NDArray[Any]:
        """(N, ...) values of the flat rows -> (B, width, ...)."""
        # Padding is index 0, or NaN for numbers, as in training.
        padded = np.full((*self._present.shape, *values.shape[1:]), padding, values.dtype)
        padded[self._present] = values
        return padded


def _long(values: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64))
