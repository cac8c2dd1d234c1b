"""The OpenAPI document: schemas from the messages, examples from the vocabularies of the served model.

The examples are requests that this server answers; a test sends each of them.
"""

import re
from collections.abc import Iterable
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
from clickscale.serving.routes.open_inference import NAME, InferRequest, tensors_of
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.service import Service

_PROTOCOL = "Open Inference"
_IN_BRACES = re.compile("{(.*?)}")
_COMPONENT = "#/components/schemas/{name}"
_MESSAGES = (
    RankRequest,
    RankAnswer,
    EventsRequest,
    EventsAnswer,
    VersionRequest,
    ForgetRequest,
    ErrorAnswer,
    InferRequest,
)
_ERRORS = {
    400: "The body cannot be parsed.",
    401: "No known token.",
    403: "The token lacks the scope.",
    404: "No model or version of this name.",
    408: "The body took too long.",
    409: "Not possible here or now; the message says why.",
    413: "The body, or a list in it, is too large.",
    415: "Another form than JSON or MessagePack.",
    422: "A value is wrong; the message names it by its path.",
    429: "Overloaded; try again after Retry-After.",
    503: "Not ready, stopping, or the store failed.",
    504: "The deadline passed.",
    507: "The store has no room left.",
}
_OF_BODIES = (400, 401, 403, 408, 413, 415, 422, 429, 503)


def _operation(
    tag: str,
    text: str,
    asked: type[Any] | None = None,
    answer: type[Any] | None = None,
    *,
    forms: int = 1,
    errors: Iterable[int] = (),
    parameters: Iterable[tuple[str, str, str]] = (),
    refusal: type[Any] | None = ErrorAnswer,
) -> dict[str, Any]:
    """Arguments of a route that describe it.

    Args:
        asked: message in the body, if there is one.
        forms: 2 for JSON and MessagePack.
        errors: statuses beside those that every body may get.
        parameters: name, place and type of each.
        refusal: message of all statuses but 200; None leaves it open.
    """
    extra: dict[str, Any] = {}
    if described := [_parameter(*one) for one in parameters]:
        extra["parameters"] = described
    kinds = (JSON, MSGPACK)[:forms]
    if asked is not None:
        content = {form: {"schema": {"$ref": _COMPONENT.format(name=asked.__name__)}} for form in kinds}
        extra["requestBody"] = {"required": True, "content": content}
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "Done."}}
    if answer is not None:
        schema = {"$ref": _COMPONENT.format(name=answer.__name__)}
        responses[200]["content"] = {form: {"schema": schema} for form in kinds}
    error: dict[str, Any] = {}
    if refusal is not None:
        error["content"] = {JSON: {"schema": {"$ref": _COMPONENT.format(name=refusal.__name__)}}}
    for status in sorted({*errors, *(_OF_BODIES if asked is not None else ())}):
        responses[status] = {"description": _ERRORS[status], **error}
    return {"tags": [tag], "summary": text, "openapi_extra": extra, "responses": responses}


def _parameter(name: str, place: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": kind}}


RANK = _operation(
    "Ranking",
    "Score candidates for a user",
    RankRequest,
    RankAnswer,
    forms=2,
    errors=(504,),
    parameters=[("X-Deadline-Ms", "header", "number")],
)
EVENTS = _operation("Events", "Tell what users did", EventsRequest, EventsAnswer, forms=2, errors=(409, 507))
MODELS = _operation("Models", "Versions and what they do", errors=(401, 403))
LOAD, PROMOTE, UNLOAD = (
    _operation("Administration", text, VersionRequest, errors=(404, 409))
    for text in ("Load a version, perhaps as shadow or canary", "Let a version answer", "Let go of a version")
)
FORGET = _operation("Administration", "Delete what is kept of a user", ForgetRequest, errors=(507,))
LIVE = _operation("Probes", "503 if the process should be started again", errors=(503,), refusal=None)
READY = _operation("Probes", "503 while no requests should be sent", errors=(503,), refusal=None)
METRICS = _operation("Probes", "Metrics for Prometheus")


def protocol_operation(path: str, text: str) -> dict[str, Any]:
    """Arguments of a route of the Open Inference Protocol."""
    parameters = [(name, "path", "string") for name in _IN_BRACES.findall(path)]
    if path.endswith("/infer"):
        parameters.append(("X-Deadline-Ms", "header", "number"))
        return _operation(
            _PROTOCOL, text, InferRequest, errors=(404, 504), parameters=parameters, refusal=None
        )
    errors = [503] if path.endswith(("/ready", "/live")) else []
    if parameters:
        errors = [404, 503] if errors else [401, 403, 404, 503]
    return _operation(_PROTOCOL, text, errors=errors, parameters=parameters, refusal=None)


def document(app: FastAPI, service: Service | None) -> dict[str, Any]:
    """The OpenAPI document of a server, with examples from the model of a service."""
    tree = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, schemas = msgspec.json.schema_components(_MESSAGES, ref_template=_COMPONENT)
    components = tree.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    tree["security"] = [{"token": []}, {}]
    for methods in tree["paths"].values():
        for parameter in (one for method in methods.values() for one in method.get("parameters", ())):
            if (value := _named(service).get(parameter["name"])) is not None:
                parameter["example"] = value
    for (path, form), examples in ({} if service is None else _examples(service)).items():
        body = tree["paths"][path]["post"]["requestBody"]["content"][form]
        body["examples"] = {name: {"value": value} for name, value in examples.items()}
    return tree


def _named(service: Service | None) -> dict[str, Any]:
    """Examples of parameters."""
    current = None if service is None else service.versions.current
    return {"model": NAME, "X-Deadline-Ms": 500} | ({} if current is None else {"version": current.version})


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
    tensors = tensors_of(current, inline["time"], bare.get("user"), inline["candidates"])
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        examples[(f"{path}/infer", JSON)] = {"user_by_id": tensors}
    if service.store is not None and "user" not in current.artifact.encoder.schema.absent:
        past = {**inline["behaviors"][0], "id": "e-1", "user": inline["user"]}
        time, item = past.pop("time"), past.pop("item")
        fields = {name: past.pop(name) for name in list(past) if name not in ("id", "user")}
        event = past | {"item": item, "time": time, "behavior": fields}
        examples[("/v1/events", JSON)] = {"one_event": {"events": [event]}}
    return examples
