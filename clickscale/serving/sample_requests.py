"""Requests made up from the vocabularies of an artifact: for warming up, for documents, for load.

They are valid by the schema, their ids are known, and nothing in them comes from a log of users except ids
of items and values of fields. Users are made up of known ids only where a caller asks for them.
"""

import random
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from clickscale.data.features.encoder import DAY, Encoder
from clickscale.schema import Field

NOW = 1_700_000_000  # a moment for artifacts that tell none
_STEP = 60  # seconds between two behaviors


def sample_requests(
    encoder: Encoder,
    count: int,
    candidates: int,
    behaviors: int,
    *,
    time: int = NOW,
    seed: int = 0,
    with_user: bool = True,
) -> list[dict[str, Any]]:
    """Requests with so many candidates and behaviors each; equal arguments give equal requests."""
    chooser = random.Random(seed)
    schema = encoder.schema
    context = [field for field in schema.sent_fields() if field.kind != "content"]
    known = time - schema.known_after
    requests = []
    for _ in range(count):
        request: dict[str, Any] = {
            "time": time,
            "candidates": [
                _item(encoder, chooser) | _values(encoder, context, chooser) for _ in range(candidates)
            ],
        }
        if "user" not in schema.absent:
            if with_user:
                request["user"] = _id(encoder, schema.user, chooser)
            request["profile"] = _values(encoder, schema.profile, chooser)
            request["behaviors"] = [
                _item(encoder, chooser)
                | {"time": max(known - _STEP * (behaviors - row), 0)}
                | _values(encoder, schema.behavior, chooser)
                for row in range(behaviors)
            ]
        requests.append(request)
    return requests


def _item(encoder: Encoder, chooser: random.Random) -> dict[str, Any]:
    if "item" in encoder.schema.absent:
        return {}
    return {"item": _of(encoder.item_rows.values, encoder.schema.item, chooser)}


def _id(encoder: Encoder, field: Field, chooser: random.Random) -> Any:
    return _of(encoder.vocabulary(field.name).values, field, chooser)


def _of(values: pa.Array | None, field: Field, chooser: random.Random) -> Any:
    """One of some ids; a made up one where the vocabulary keeps none."""
    if values is None or not len(values):
        return 1 if field.dtype == "int" else "1"
    return values[chooser.randrange(len(values))].as_py()


def _values(encoder: Encoder, fields: Sequence[Field], chooser: random.Random) -> dict[str, Any]:
    """A value for every field."""
    found: dict[str, Any] = {}
    for field in fields:
        if field.kind == "categorical":
            found[field.name] = _id(encoder, field, chooser)
        elif field.kind in ("numeric", "timestamp"):
            found[field.name] = round(encoder.scales[field.name].mean, 6)
            if field.kind == "timestamp":
                found[field.name] *= DAY
    return found
