"""Raw requests: what a client sends, checked and encoded into a batch by the encoder that training used.

A request is one JSON object. Fields go by their names in the schema; ids and times are raw::

    {"user": 17, "time": 978300000,
     "profile": {"age": 25},
     "behaviors": [{"item": 1193, "time": 978200000, "rating": 5}],
     "candidates": [{"item": 661}, {"item": 914}]}

A field that is left out or null is missing, an id or a category that training did not see is unknown; neither
is an error. What cannot be right is: no item, a text for a number, a time in milliseconds, a misspelled key.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.data.features.encoder import Encoder
from clickscale.data.features.texts import FINE, PROBLEMS
from clickscale.data.features.values import MISSING, read_field, read_keys
from clickscale.errors import InputError, unknown
from clickscale.schema import UNKNOWN, Field

Request = Mapping[str, Any]
_LATEST = 100_000_000_000  # the year 5138 in seconds; the year 1973 in milliseconds
_KEYS = ("user", "time", "profile", "behaviors", "candidates")


@dataclass(frozen=True)
class Encoded:
    """Requests as a batch, and what was done with them.

    Attributes:
        batch: (B, C, L) as in `clickscale.batch`; labels are unknown.
        items: raw ids of the candidates of each request.
        used, ignored: behaviors of each request that are in the batch, and that were not known by its time.
    """

    batch: Batch
    items: list[list[Any]]
    used: list[int]
    ignored: list[int]


def encode_requests(requests: Sequence[Request], encoder: Encoder, length: int) -> Encoded:
    """Encode requests; each candidate sees the last ``length`` behaviors known before the request's time.

    Raises:
        InputError: names the first thing that cannot be right, by its path in the request; of several
            requests, ``requests[2].candidates[0].item``.
    """
    many = len(requests) > 1
    places = [f"requests[{i}]." if many else "" for i in range(len(requests))]
    parsed = [_parse(request, encoder, length, at) for request, at in zip(requests, places, strict=True)]
    behaviors, candidates = [p.behaviors for p in parsed], [p.candidates for p in parsed]
    table = _Table(encoder)
    schema = encoder.schema
    history, shown = _Grid(behaviors, left=True), _Grid(candidates, left=False)
    times = np.array([p.time for p in parsed], np.int64)
    user_items = history.fill(table.items(history.flat), 0)
    candidate_items = shown.fill(table.items(shown.flat), 0)
    people = [p.profile for p in parsed]
    batch = Batch(
        user=UserSide(
            profile=_long(table.indices((schema.user, *schema.profile), people)),
            profile_numbers=torch.from_numpy(table.numbers(schema.profile, people)),
            items=_long(user_items),
            actions=_long(history.fill(table.indices(schema.behavior, history.flat), 0)),
            action_numbers=torch.from_numpy(
                history.fill(table.numbers(schema.behavior, history.flat), np.nan)
            ),
            times=_long(history.fill(np.array([row.time for row in history.flat], np.int64), 0)),
        ),
        candidates=CandidateSide(
            items=_long(candidate_items),
            context=_long(shown.fill(table.indices(schema.context_fields(), shown.flat), 0)),
            context_numbers=torch.from_numpy(
                shown.fill(table.numbers(schema.context_fields(), shown.flat), np.nan)
            ),
            times=_long(np.repeat(times[:, None], shown.width, axis=1)),
            oldest=torch.zeros(candidate_items.shape, dtype=torch.int64),
            visible=torch.full(candidate_items.shape, history.width),
        ),
        labels=torch.zeros((*candidate_items.shape, 1)),
        label_mask=torch.zeros((*candidate_items.shape, 1), dtype=torch.bool),
        rows=torch.full(candidate_items.shape, -1),
    )
    items = [[row.values["item"] for row in rows] for rows in candidates]
    return Encoded(batch, items, [len(rows) for rows in behaviors], [p.ignored for p in parsed])


# --- reading one request


@dataclass(frozen=True)
class _Row:
    """One object of a request: its path, its values by field, its time (behaviors), paths that differ."""

    path: str
    values: Mapping[str, Any]
    time: int = 0
    paths: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def where(self, key: str) -> str:
        """Path of one of its values."""
        return self.paths.get(key, f"{self.path}.{key}")


@dataclass(frozen=True)
class _Parsed:
    time: int
    profile: _Row
    behaviors: list[_Row]
    candidates: list[_Row]
    ignored: int


def _parse(request: Request, encoder: Encoder, length: int, at: str) -> _Parsed:
    """Check the shape of one request and choose the behaviors that its candidates see."""
    schema = encoder.schema
    _known_keys(request, at.removesuffix("."), _KEYS)
    _given(request.get("user"), f"{at}user", "an id that was never seen is fine")
    time = _time(request.get("time"), f"{at}time")
    profile = {} if request.get("profile") is None else request["profile"]
    _known_keys(profile, f"{at}profile", [field.name for field in schema.profile])
    behaviors, ignored = _visible(_behaviors(request, schema.behavior, at), time)
    candidates = list(_rows(request, "candidates", [f.name for f in schema.context_fields()], at))
    if not candidates:
        raise InputError(f"{at}candidates is empty; send at least one item to score.")
    name = schema.user.name
    user = _Row(f"{at}profile", {**profile, name: request["user"]}, paths={name: f"{at}user"})
    return _Parsed(time, user, behaviors[-length:], candidates, ignored)


def _behaviors(request: Request, fields: Sequence[Field], at: str) -> Iterator[tuple[int, _Row]]:
    """(known at, row) of every behavior."""
    for row in _rows(request, "behaviors", ["time", "known_at", *(field.name for field in fields)], at):
        time = _time(row.values.get("time"), f"{row.path}.time")
        known = row.values.get("known_at")
        known = time if known is None else _time(known, f"{row.path}.known_at")
        if known < time:
            raise InputError(f"{row.path}.known_at is {known}, before the behavior's own time {time}.")
        yield known, _Row(row.path, row.values, time)


def _visible(behaviors: Iterator[tuple[int, _Row]], time: int) -> tuple[list[_Row], int]:
    """Behaviors known strictly before ``time``, oldest first, and how many others there were."""
    every = list(behaviors)
    seen = sorted((known, place) for place, (known, _) in enumerate(every) if known < time)
    return [every[place][1] for _, place in seen], len(every) - len(seen)


def _rows(request: Request, key: str, fields: Sequence[str], at: str) -> Iterator[_Row]:
    """Objects of a list of the request, each with an item."""
    rows = request.get(key)
    if rows is None:
        rows = []
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InputError(f"{at}{key} is {_short(rows)}; send a list of objects.")
    for place, row in enumerate(rows):
        path = f"{at}{key}[{place}]"
        _known_keys(row, path, ["item", *fields])
        _given(row.get("item"), f"{path}.item", "an id that was never seen is fine")
        yield _Row(path, row)


def _known_keys(value: Any, path: str, keys: Sequence[str]) -> None:
    """Refuse what is not an object, and keys that mean nothing."""
    if not isinstance(value, Mapping):
        raise InputError(f"{path or 'the request'} is {_short(value)}; send an object.")
    for key in value:
        if key not in keys:
            raise InputError(f"{path or 'the request'}: " + unknown("key", str(key), keys))


def _given(value: Any, path: str, hint: str) -> None:
    if value is None or value == "":
        raise InputError(f"{path} is {'null' if value is None else 'empty'}; send an id ({hint}).")
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        raise InputError(f"{path} is {_short(value)}; send one id.")


def _time(value: Any, path: str) -> int:
    """Seconds since 1970 UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{path} is {_short(value)}; send seconds since 1970 (UTC) as a number.")
    if value < 0:
        raise InputError(f"{path} is {value}, before 1970; send seconds since 1970 (UTC).")
    if value >= _LATEST:
        raise InputError(f"{path} is {value}, which looks like milliseconds; send seconds since 1970 (UTC).")
    return int(value)


def _short(value: Any) -> str:
    """A value as an error message shows it."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- encoding columns of many rows


class _Table:
    """Encodes the fields of rows, one column at a time."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def items(self, rows: Sequence[_Row]) -> npt.NDArray[np.int64]:
        """(N,) rows of the item table; 1 for items it does not have."""
        field = self._encoder.schema.item
        keys = self._read(field, rows, "item")
        missing = np.flatnonzero(keys == MISSING)
        if len(missing):
            row = rows[int(missing[0])]
            raise InputError(f"{row.path}.item is {_short(row.values['item'])}, which names no item.")
        return self._encoder.item_rows.lookup(keys).astype(np.int64)

    def indices(self, fields: Sequence[Field], rows: Sequence[_Row]) -> npt.NDArray[np.int64]:
        """(N, columns) of the categorical fields."""
        parts = [self._column(field, rows) for field in fields if field.kind == "categorical"]
        parts = [part if part.ndim == 2 else part[:, None] for part in parts]
        return np.concatenate([np.zeros((len(rows), 0), np.int64), *parts], axis=1).astype(np.int64)

    def numbers(self, fields: Sequence[Field], rows: Sequence[_Row]) -> npt.NDArray[np.float32]:
        """(N, F) of the numeric fields and timestamps."""
        parts = [
            self._column(field, rows)[:, None] for field in fields if field.kind in ("numeric", "timestamp")
        ]
        return np.concatenate([np.zeros((len(rows), 0)), *parts], axis=1).astype(np.float32)

    def _column(self, field: Field, rows: Sequence[_Row]) -> npt.NDArray[Any]:
        return self._encoder.encode_raw(field.name, self._read(field, rows, field.name))

    def _read(self, field: Field, rows: Sequence[_Row], key: str) -> npt.NDArray[Any]:
        """Keys or numbers of one field; the first value that cannot be read is an error."""
        raw = read_field(field, arrow([_value(field, row.values.get(key), row.where(key)) for row in rows]))
        wrong = np.flatnonzero(raw.problems != FINE)
        if len(wrong):
            row, problem = rows[int(wrong[0])], PROBLEMS[raw.problems[wrong[0]]]
            raise InputError(f"{row.where(key)} is {_short(row.values[key])}: {problem.replace('_', ' ')}.")
        return raw.data


def _value(field: Field, value: Any, path: str) -> Any:
    """A raw value: a scalar, or for a field of several values a list, a text divided by its separator.

    Raises:
        InputError: an object, a list of lists, or a list where one value belongs.
    """
    several = isinstance(value, list | tuple)
    if isinstance(value, Mapping) or (several and field.values == 1):
        raise InputError(f"{path} is {_short(value)}; send one value.")
    if several and any(isinstance(one, Mapping | list | tuple) for one in value):
        raise InputError(f"{path} is {_short(value)}; send a flat list.")
    if field.values == 1 or value is None or several:
        return value
    return value.split(field.separator) if isinstance(value, str) and field.separator else [value]


def arrow(values: Sequence[Any]) -> pa.Array:
    """Raw JSON values, all scalars or all lists, as one array; mixed types become text, which reads alike."""
    scalars = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    if len({type(one) for one in scalars if one is not None}) <= 1:
        try:
            return pa.array(values)
        except OverflowError:  # an integer of more than 64 bits; read as text, it is reported as such
            pass
    return pa.array([[*map(_text, v)] if isinstance(v, list | tuple) else _text(v) for v in values])


def _text(value: Any) -> str | None:
    """A scalar as the encoder writes it: 3.0 is "3", true is "1" where a number stands beside it."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(int(value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class _Grid:
    """Where the rows of every request stand in a padded array."""

    def __init__(self, rows: Sequence[Sequence[_Row]], left: bool) -> None:
        self.flat = [row for some in rows for row in some]
        self.width = max([1, *(len(some) for some in rows)])
        count = np.array([len(some) for some in rows])
        column = np.arange(self.width)
        self._present = column >= self.width - count[:, None] if left else column < count[:, None]

    def fill(self, values: npt.NDArray[Any], padding: float) -> npt.NDArray[Any]:
        """(N, ...) values of the flat rows -> (B, width, ...)."""
        padded = np.full((*self._present.shape, *values.shape[1:]), padding, values.dtype)
        padded[self._present] = values
        return padded


def _long(values: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64))


def user_identity(user: Any, encoder: Encoder) -> bytes:
    """Who a raw user id is, as the encoder reads it: ``1`` and ``"1"`` are one user, ``"a"`` is another.

    Raises:
        InputError: nothing that can be an id.
    """
    _given(user, "user", "an id that was never seen is fine")
    raw = read_keys(arrow([user]), encoder.schema.user.dtype)
    if raw.problems[0] != FINE:
        raise InputError(f"user is {_short(user)}: {PROBLEMS[raw.problems[0]].replace('_', ' ')}.")
    # Not the key of a text, which is a hash that somebody could look for a second text for.
    text = str(int(raw.data[0])) if raw.texts is None else str(raw.texts[0].as_py())
    return f"{encoder.schema.user.dtype}:{text}".encode()


def known_items(batch: Batch) -> list[list[bool]]:
    """Of every candidate, whether the item table has it."""
    return (batch.candidates.items > UNKNOWN).tolist()
