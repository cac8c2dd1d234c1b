"""Messages of the server: what clients send and receive, as JSON or as MessagePack.

Bodies are decoded straight into these structs, so a wrong type, an unknown key or a list nested too deeply is
refused while it is read. `Refusal` is the answer to a request that gets no scores.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from clickscale.errors import unknown
from clickscale.serving.store.protocol import Event, Outcome

JSON, MSGPACK = "application/json", "application/msgpack"

Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar]  # a list: an id of several columns, or a field of several values
Fields = dict[str, Value]
T = TypeVar("T")


class RankRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Candidates to score for a user at a time.

    Attributes:
        time: seconds since 1970 (UTC).
        candidates: objects with an ``item`` and context fields; a bare id stands for ``{"item": id}``.
        user: raw id. What the store knows of this user fills in what is left out here.
        profile: profile fields by name.
        behaviors: earlier behaviors, each with ``item``, ``time`` and the fields of the schema.
        deadline_ms: milliseconds from arrival after which an answer is of no use.
    """

    time: int | float
    candidates: list[Value | Fields]
    user: Value = None
    profile: Fields | None = None
    behaviors: list[Fields] | None = None
    deadline_ms: float | None = None

    def plain(self) -> dict[str, Any]:
        """The request in the form that a `Scorer` takes."""
        request: dict[str, Any] = {
            "time": self.time,
            "candidates": [one if isinstance(one, dict) else {"item": one} for one in self.candidates],
        }
        given = {"user": self.user, "profile": self.profile, "behaviors": self.behaviors}
        return request | {key: value for key, value in given.items() if value is not None}


class Unknown(msgspec.Struct, kw_only=True):
    """What of a request the model does not know.

    Attributes:
        user: the id was not in the training part.
        candidates: positions of items that were not in the log.
        behaviors: number of behaviors with such items, among those used.
    """

    user: bool
    candidates: list[int]
    behaviors: int


class Missing(msgspec.Struct, kw_only=True):
    """What of the declared fields a request came without, and the store did not have either.

    Attributes:
        statistics: of a candidate or more; such scores are not those that evaluation measured.
        context: context fields that no candidate has.
    """

    profile: list[str]
    statistics: list[str]
    context: list[str]


CacheStatus = Literal["hit", "append", "miss", "off"]


class RankAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Scores in the order of the request.

    Attributes:
        model: version that scored all candidates.
        scores: probabilities by label; null (NaN in MessagePack) where the model gave no finite number.
        behaviors_used, behaviors_ignored: behaviors that candidates saw, and that were not known yet.
        cache: how the state of the user was found; only for callers who may administer.
        degraded: ``["store"]`` if the store failed, so that only what the request brought was used.
    """

    model: str
    scores: dict[str, Any]
    unknown: Unknown
    missing: Missing
    behaviors_used: int
    behaviors_ignored: int
    cache: CacheStatus | None = None
    degraded: list[str] = []


class UserProfile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The profile of a user, instead of what the store has."""

    user: Value = None
    profile: Fields


class EventsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What users did, and what became known of earlier impressions.

    Attributes:
        profiles: of users, new ones among them; kept before the events are counted.
        events: to append; an id that is known already is not appended again, so sending twice is safe.
        outcomes: labels of impressions that were sent earlier.
    """

    events: list[Event] = []
    outcomes: list[Outcome] = []
    profiles: list[UserProfile] = []


class EventsAnswer(msgspec.Struct, kw_only=True):
    """For each event and outcome in order: True if it is new. An outcome needs a known impression."""

    appended: list[bool]
    settled: list[bool]


class VersionRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A published version to load, promote, try or unload.

    Attributes:
        as_: ``shadow`` scores beside the current version, ``canary`` answers a share of the users.
        share: part of the users of a canary.
    """

    version: str
    as_: Literal["loaded", "shadow", "canary"] = msgspec.field(default="loaded", name="as")
    share: float = 0.05


class ForgetRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A user of whom nothing is to be kept."""

    user: Value


class ErrorBody(msgspec.Struct, kw_only=True):
    """Reason of a refusal: a short code for programs, a sentence for people."""

    code: str
    message: str


class ErrorAnswer(msgspec.Struct, kw_only=True):
    """Answer to a request that was refused."""

    error: ErrorBody


class Refusal(Exception):
    """Ends the handling of a request with a status other than 200.

    Attributes:
        retry_after: seconds after which the client may try again; 0 for no such advice.
        close: the connection cannot be used further, since a body was not read to its end.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: float = 0.0, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after, self.close = status, code, retry_after, close

    def body(self, flat: bool = False) -> bytes:
        """The refusal as JSON; ``flat`` gives only the sentence, as the Open Inference Protocol has it."""
        if flat:
            return msgspec.json.encode({"error": str(self)})
        return msgspec.json.encode(ErrorAnswer(error=ErrorBody(code=self.code, message=str(self))))


_decoders: dict[tuple[str, Any], Any] = {}
_defaults: dict[type, list[tuple[str, Any]]] = {}  # of the fields of each kind of message
# Sentences of the decoder.
_TYPES = re.compile("Expected `(.*)`, got `(.*)`")
_LACKING = re.compile("Object missing required field `(.*)`")
_STRANGE = re.compile("Object contains unknown field `(.*)`", re.DOTALL)
_WORD = re.compile("Invalid enum value '(.*)'", re.DOTALL)
_BEFORE_COLONS = np.frombuffer(b'" \t\r\n', np.uint8)  # JSON takes white space between a key and its colon


def decode(body: bytes, form: str, kind: type[T]) -> T:
    """Read a body of the form `JSON` or `MSGPACK`.

    Raises:
        Refusal: 400 if it cannot be parsed, or if an object of JSON gives a key twice; 422 if it has another
            shape than ``kind``.
    """
    decoder = _decoders.get((form, kind))
    if decoder is None:
        made = msgspec.json.Decoder(kind) if form == JSON else msgspec.msgpack.Decoder(kind)
        decoder = _decoders.setdefault((form, kind), made)
    try:
        message: T = decoder.decode(body)
        if form == JSON and _may_repeat(body, _least_keys(message)):
            json.loads(body, object_pairs_hook=_once)
        return message
    except msgspec.ValidationError as error:
        raise Refusal(422, "invalid_request", _told(str(error), kind)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise Refusal(400, "unreadable_body", f"The body is not {form}: {error}.") from error


def encode(answer: Any, form: str) -> bytes:
    """Write an answer in a form."""
    return msgspec.json.encode(answer) if form == JSON else msgspec.msgpack.encode(answer)


def score_column(column: npt.NDArray[np.float64], form: str) -> list[float | None] | bytes:
    """Probabilities (C,) of one label: a list with null for what is not finite, or float32 bytes."""
    if form == MSGPACK:
        return column.astype("<f4").tobytes()
    if np.isfinite(column).all():
        return column.tolist()
    return [score if np.isfinite(score) else None for score in column.tolist()]


# The decoder takes the last of equal keys. Parsing a large body a second time only to find them would cost
# more than the rest of reading it. Counting keys in two ways costs little, and nearly always proves that none
# is repeated.


def _may_repeat(body: bytes, least: int) -> bool:
    """True if JSON may have more keys than ``least``: colons after a quote or a space, perhaps in texts."""
    if body.count(b":") <= least:
        return False
    text = np.frombuffer(body, np.uint8)
    before = text[np.flatnonzero(text == ord(":")) - 1]
    return int(np.isin(before, _BEFORE_COLONS).sum()) > least


def _least_keys(message: Any) -> int:
    """Number of different keys from which a message was made at least; defaults may have been left out."""
    kind = type(message)
    if kind not in _defaults:
        _defaults[kind] = [(one.name, _default_of(one)) for one in msgspec.structs.fields(kind)]
    count = 0
    for name, default in _defaults[kind]:
        value = getattr(message, name)
        if value != default:
            count += 1
            if type(value) is dict:
                count += len(value)
            elif type(value) is list:
                count += sum([len(one) for one in value if type(one) is dict])
                count += sum([_least_keys(one) for one in value if isinstance(one, msgspec.Struct)])
    return count


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    made = field.default_factory
    return field.default if made is msgspec.NODEFAULT else made()  # NODEFAULT equals no value


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuse the pairs of an object of which two have one key."""
    seen = set[str]()
    for name, _ in pairs:
        if name in seen:
            text = f"The body gives the key {name[:64]!r} twice in one object; send each key once."
            raise Refusal(400, "repeated_key", text)
        seen.add(name)


def _told(message: str, kind: type) -> str:
    """The message of the decoder in the form of our own: the path, the value, and what to send instead."""
    text, _, path = message.partition(" - at `$")
    path = path.rstrip("`").removeprefix(".")
    if found := _TYPES.fullmatch(text):
        return f"{path or 'The request'} is of type {found[2]}; send {found[1].replace(' | ', ' or ')}."
    if found := _LACKING.fullmatch(text):
        return f"{path}{path and '.'}{found[1]} is missing."
    if found := _STRANGE.fullmatch(text):
        return f"{path}{path and ': '}" + unknown("key", found[1], _keys_at(path, kind))
    if (found := _WORD.fullmatch(text)) and "." not in path:
        return f"{path}: " + unknown("word", found[1], get_args(_fields_of(kind)[path].type))
    return f"{path}{path and ': '}{text}."


def _fields_of(kind: type) -> dict[str, msgspec.structs.FieldInfo]:
    return {one.encode_name: one for one in msgspec.structs.fields(kind)}


def _keys_at(path: str, kind: type) -> Iterable[str]:
    """Keys of the object at a path, which is a message or stands in a list of one."""
    if path:
        [kind] = get_args(_fields_of(kind)[path.partition("[")[0]].type)
    return _fields_of(kind)
