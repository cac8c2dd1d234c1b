"""The OpenAPI document: schemas from the messages, examples from the vocabularies of the served model.

The examples are requests that this server answers; a test sends each of them.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from clickscale.serving.messages import (
    JSON,
    MSGPACK,
    ErrorAnswer,
    EventsAnswer,
    EventsRequest,
    ForgetRequest,
    RankAnswer,
    RankRequest,
    VersionRequest,
)
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.service import Service

_COMPONENT = "#/components/schemas/{name}"
_MESSAGES = (RankRequest, RankAnswer, EventsRequest, EventsAnswer, VersionRequest, ForgetRequest, ErrorAnswer)
_ERRORS = {
    400: "The body cannot be parsed.",
    401: "No known token.",
    403: "The token lacks the scope.",
    408: "The body took too long.",
    413: "The body, or a list in it, is too large.",
    415: "Another form than JSON or MessagePack.",
    422: "A value is wrong; the message names it by its path.",
    429: "Overloaded; try again after Retry-After.",
    503: "Not ready, stopping, or the store failed.",
    504: "The deadline passed.",
    507: "The store has no room left.",
}
_NO_STORE = {409: "This server has no store."}
_VERSIONS = {404: "No version of this name.", 409: "The version is refused, or this is not possible now."}


def operation(
    tag: str,
    text: str,
    asked: type[Any] | None = None,
    answer: type[Any] | None = None,
    *,
    forms: int = 1,
    errors: Mapping[int, str] = _ERRORS,
) -> dict[str, Any]:
    """Arguments of a route that describe it."""
    extra: dict[str, Any] = {}
    kinds = (JSON, MSGPACK)[:forms]
    if asked is not None:
        content = {form: {"schema": {"$ref": _COMPONENT.format(name=asked.__name__)}} for form in kinds}
        extra["requestBody"] = {"required": True, "content": content}
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "Done."}}
    if answer is not None:
        schema = {"$ref": _COMPONENT.format(name=answer.__name__)}
        responses[200]["content"] = {form: {"schema": schema} for form in kinds}
    if asked is not None:
        error = {"content": {JSON: {"schema": {"$ref": _COMPONENT.format(name="ErrorAnswer")}}}}
        responses |= {code: {"description": why, **error} for code, why in sorted(errors.items())}
    return {"tags": [tag], "summary": text, "openapi_extra": extra, "responses": responses}


RANK = operation("Ranking", "Score candidates for a user", RankRequest, RankAnswer, forms=2)
EVENTS = operation(
    "Events", "Tell what users did", EventsRequest, EventsAnswer, forms=2, errors=_ERRORS | _NO_STORE
)
MODELS = operation("Models", "Versions and what they do")
LOAD, PROMOTE, UNLOAD = (
    operation("Administration", text, VersionRequest, errors=_ERRORS | _VERSIONS)
    for text in ("Load a version, perhaps as shadow or canary", "Let a version answer", "Let go of a version")
)
FORGET = operation("Administration", "Delete what is kept of a user", ForgetRequest)
LIVE = operation("Probes", "503 if the process should be started again")
READY = operation("Probes", "503 while no requests should be sent")
METRICS = operation("Probes", "Metrics for Prometheus")


def document(app: FastAPI, service: Service | None) -> dict[str, Any]:
    """The OpenAPI document of a server, with examples from the model of a service."""
    tree = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, schemas = msgspec.json.schema_components(_MESSAGES, ref_template=_COMPONENT)
    components = tree.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    tree["security"] = [{"token": []}, {}]
    for (path, form), examples in ({} if service is None else _examples(service)).items():
        body = tree["paths"][path]["post"]["requestBody"]["content"][form]
        body["examples"] = {name: {"value": value} for name, value in examples.items()}
    return tree


def _examples(service: Service) -> dict[tuple[str, str], dict[str, Any]]:
    """Requests by path, form and name; none before a model is loaded."""
    current = service.versions.current
    if current is None:
        return {}
    [inline] = sample_requests(current.artifact.encoder, 1, 3, 2)
    bare = {key: value for key, value in inline.items() if key not in ("profile", "behaviors")}
    if "item" not in current.artifact.encoder.schema.absent:
        bare["candidates"] = [one["item"] for one in bare["candidates"]]
    examples = {
        ("/v1/rank", JSON): {
            "user_inline": inline,
            "user_by_id": bare,
            "with_deadline": bare | {"deadline_ms": 500},
        }
    }
    if service.store is not None and "user" not in current.artifact.encoder.schema.absent:
        past = {**inline["behaviors"][0], "id": "e-1", "user": inline["user"]}
        time, item = past.pop("time"), past.pop("item")
        fields = {name: past.pop(name) for name in list(past) if name not in ("id", "user")}
        event = past | {"item": item, "time": time, "behavior": fields}
        examples[("/v1/events", JSON)] = {"one_event": {"events": [event]}}
    return examples
