"""Open Inference Protocol, version 2: tensors in, tensors out, for clients and gateways that speak it.

One request ranks the candidates of one user. Inputs, in any order (C candidates, L behaviors):

==================== ======= ====================================================
``time``             [1]     seconds since 1970
``item``             [C]     raw ids
``candidate.NAME``   [C]     a context field
``user``             [1]     raw id
``profile.NAME``     [1]     a profile field
``behavior.item``    [L]     also ``behavior.time``, and ``behavior.NAME`` of fields
==================== ======= ====================================================

A second dimension holds the parts of an id of several columns, or the values of a field of several values.
Ids and categories are integers or BYTES (text in UTF-8), as the schema has them. Each label is an output of
FP32 [C]. Tensors may follow the JSON in binary (extension ``binary_tensor_data``).
"""

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from fastapi import Request, Response

from clickscale.schema import Field
from clickscale.serving.messages import JSON, MSGPACK, RankRequest, Refusal, Value, decode, score_column
from clickscale.serving.routes.bodies import Bodies, deadline_of, watching
from clickscale.serving.service import Service
from clickscale.serving.versions.served_model import ServedModel
from clickscale.version import __version__

NAME = "clickscale"  # the one model of a server, whatever its version
_HEADER = "Inference-Header-Content-Length"
_DATATYPES = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_ROLES = ("candidate", "profile", "behavior")


class _Input(msgspec.Struct, kw_only=True):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct, kw_only=True):
    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, kw_only=True):
    """A request to score, as tensors."""

    inputs: list[_Input]
    outputs: list[_Output] = []
    id: str = ""
    parameters: dict[str, Any] = {}


Route = tuple[str, str, Callable[[Request], Awaitable[Response]], str]


def routes(service: Service, bodies: Bodies) -> Iterator[Route]:
    """Path, method, handler and description of every route."""
    handlers = _Handlers(service, bodies)
    yield "/v2", "GET", handlers.server, "Name, version and extensions"
    yield "/v2/health/live", "GET", handlers.live, "Liveness"
    yield "/v2/health/ready", "GET", handlers.ready, "Readiness"
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        yield path, "GET", handlers.metadata, "Inputs and outputs of the model"
        yield f"{path}/ready", "GET", handlers.model_ready, "Readiness of the model"
        yield f"{path}/infer", "POST", handlers.infer, "Score candidates"


class _Handlers:
    def __init__(self, service: Service, bodies: Bodies) -> None:
        self._service, self._bodies = service, bodies

    async def server(self, request: Request) -> Response:
        return _json({"name": NAME, "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        return _json({"live": self._service.is_alive}, 200 if self._service.is_alive else 503)

    async def ready(self, request: Request) -> Response:
        return _json({"ready": self._service.is_ready}, 200 if self._service.is_ready else 503)

    async def model_ready(self, request: Request) -> Response:
        model, ready = self._model(request), self._service.is_ready
        return _json({"name": NAME, "ready": ready and model is not None}, 200 if ready else 503)

    async def metadata(self, request: Request) -> Response:
        self._service.access.admit(request.headers.get("authorization"), "rank")
        return _json(_describe(self._model(request)))

    async def infer(self, request: Request) -> Response:
        service, arrived = self._service, time.monotonic()
        caller = service.access.admit(request.headers.get("authorization"), "rank")
        model = self._model(request)
        service.engine.check_room()
        body = await self._bodies.read(request)
        head = _head_size(request, len(body))
        asked = decode(body[:head], JSON, InferRequest)
        ranking = _rank_request(asked.inputs, body[head:])
        async with watching(request):
            # A named version answers itself; without one, the version that the user's request would get.
            only = model if "version" in request.path_params else None
            ranked, model = await service.score(ranking, caller, arrived, deadline_of(request), only)
        columns = {label: ranked.probabilities[:, place] for place, label in enumerate(model.labels)}
        return _answer(asked, model.version, columns)

    def _model(self, request: Request) -> ServedModel:
        """The model of a path."""
        if request.path_params["model"] != NAME:
            raise Refusal(404, "unknown_model", f"There is no model but {NAME!r}.")
        if "version" in request.path_params:
            return self._service.versions.named(request.path_params["version"])
        return self._service.versions.choose("")


def asked_user(request: Request, body: bytes) -> Value:
    """The raw id of the user that a request to score is about; None without one.

    Raises:
        Refusal: the request cannot be read.
    """
    head = _head_size(request, len(body))
    return _rank_request(decode(body[:head], JSON, InferRequest).inputs, body[head:]).user


def tensors_of(
    model: ServedModel, time: int, user: Any, candidates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A request in the form of the protocol, its values in JSON; None as user for a log without users."""
    columns: dict[str, list[Any]] = {"time": [time]} | ({} if user is None else {"user": [user]})
    for candidate in candidates:
        for name, value in candidate.items():
            columns.setdefault("item" if name == "item" else f"candidate.{name}", []).append(value)
    kinds = {one["name"]: one["datatype"] for one in _describe(model)["inputs"]}
    return {
        "inputs": [
            {"name": name, "datatype": kinds[name], "shape": [len(rows)], "data": rows}
            for name, rows in columns.items()
        ]
    }


def _json(tree: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(tree), status, media_type=JSON)


def _describe(model: ServedModel) -> dict[str, Any]:
    """Metadata of a model."""
    schema = model.artifact.encoder.schema
    inputs = [{"name": "time", "datatype": "INT64", "shape": [1]}]
    if "item" not in schema.absent:
        inputs.append(_tensor("item", schema.item, -1))
    inputs += [_tensor(f"candidate.{one.name}", one, -1) for one in schema.sent_fields()]
    if "user" not in schema.absent:
        inputs.append(_tensor("user", schema.user, 1))
        inputs += [_tensor(f"profile.{one.name}", one, 1) for one in schema.profile]
        inputs.append(_tensor("behavior.item", schema.item, -1))
        inputs.append({"name": "behavior.time", "datatype": "INT64", "shape": [-1]})
        inputs += [_tensor(f"behavior.{one.name}", one, -1) for one in schema.behavior]
    outputs = [{"name": label, "datatype": "FP32", "shape": [-1]} for label in model.labels]
    return {
        "name": NAME,
        "versions": [model.version],
        "platform": "clickscale_pytorch",
        "inputs": inputs,
        "outputs": outputs,
    }


def _tensor(name: str, field: Field, rows: int) -> dict[str, Any]:
    whole = field.kind == "categorical" and field.dtype == "int"
    kind = "INT64" if whole else "BYTES" if field.kind == "categorical" else "FP64"
    several = field.parts or (field.values if field.values > 1 else 0)
    return {"name": name, "datatype": kind, "shape": [rows, several] if several else [rows]}


def _head_size(request: Request, size: int) -> int:
    """Bytes of the JSON in front of the binary tensors."""
    text = request.headers.get(_HEADER)
    if text is None:
        return size
    # `int` takes neither what passes `isdigit` beside digits, such as a raised 2, nor thousands of digits.
    if not text.isdecimal() or len(text) > 18 or int(text) > size:
        raise Refusal(400, "unreadable_body", f"{_HEADER} is {text[:32]!r}, and the body has {size} bytes.")
    return int(text)


# --- tensors to a request


def _rank_request(inputs: Sequence[_Input], binary: bytes) -> RankRequest:
    """The request that the tensors describe."""
    values: dict[str, list[Any]] = {}
    begin = 0
    for tensor in inputs:
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            rows = _plain_rows(tensor)
        else:
            if type(size) is not int or not 0 <= size <= len(binary) - begin:
                raise Refusal(400, "unreadable_body", f"{tensor.name}: binary_data_size is {size!r}.")
            rows = _binary_rows(tensor, binary[begin : begin + size])
            begin += size
        if tensor.name in values:
            raise Refusal(400, "invalid_request", f"Input {tensor.name!r} is given twice.")
        values[tensor.name] = rows
    if begin != len(binary):
        raise Refusal(400, "unreadable_body", f"{len(binary) - begin} bytes belong to no input.")
    return _request_of(values)


def _request_of(values: dict[str, list[Any]]) -> RankRequest:
    sides: dict[str, dict[str, list[Any]]] = {role: {} for role in _ROLES}
    single: dict[str, Any] = {}
    for name, rows in values.items():
        role, _, field = name.partition(".")
        if name in ("time", "user"):
            single[name] = _only(name, rows)
        elif name == "item":
            sides["candidate"]["item"] = rows
        elif role in sides and field:
            sides[role][field] = rows
        else:
            raise Refusal(400, "invalid_request", f"There is no input {name[:64]!r}; see the metadata.")
    if "time" not in single:
        raise Refusal(400, "invalid_request", "Input 'time' is missing.")
    profile = {name: _only(f"profile.{name}", rows) for name, rows in sides["profile"].items()}
    return RankRequest(
        time=single["time"],
        user=single.get("user"),
        profile=profile or None,
        behaviors=_objects("behavior", sides["behavior"]) if sides["behavior"] else None,
        candidates=[*_objects("candidate", sides["candidate"])],
    )


def _only(name: str, rows: Sequence[Any]) -> Any:
    if len(rows) != 1:
        raise Refusal(400, "invalid_request", f"Input {name!r} has {len(rows)} rows; it needs 1.")
    return rows[0]


def _objects(role: str, columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Columns of equal length as objects."""
    lengths = {len(rows) for rows in columns.values()}
    if len(lengths) > 1:
        raise Refusal(400, "invalid_request", f"Inputs of the {role}s have {sorted(lengths)} rows.")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain_rows(tensor: _Input) -> list[Any]:
    """Rows of a tensor that stands in the JSON, flat or nested."""
    flat = list(_flattened(tensor.data or [], 0))
    if tensor.datatype != "BYTES" and tensor.datatype not in _DATATYPES:
        raise Refusal(400, "invalid_request", f"{tensor.name}: unknown datatype {tensor.datatype[:32]!r}.")
    return _shaped(tensor, flat)


def _flattened(values: Sequence[Any], depth: int) -> Iterator[Any]:
    for value in values:
        if not isinstance(value, list):
            if value is not None and not isinstance(value, str | int | float | bool):
                raise Refusal(400, "invalid_request", "Data of a tensor are numbers, texts or lists of them.")
            yield value
        elif depth < 2:
            yield from _flattened(value, depth + 1)
        else:
            raise Refusal(400, "invalid_request", "Data of a tensor are nested too deeply.")


def _binary_rows(tensor: _Input, data: bytes) -> list[Any]:
    if tensor.datatype == "BYTES":
        return _shaped(tensor, _texts(tensor.name, data))
    if tensor.datatype not in _DATATYPES:
        raise Refusal(400, "invalid_request", f"{tensor.name}: unknown datatype {tensor.datatype[:32]!r}.")
    kind = np.dtype(_DATATYPES[tensor.datatype])
    if len(data) % kind.itemsize:
        raise Refusal(400, "unreadable_body", f"{tensor.name}: {len(data)} bytes of {tensor.datatype}.")
    return _shaped(tensor, np.frombuffer(data, kind).tolist())


def _texts(name: str, data: bytes) -> list[str]:
    """Texts, each after its length in four bytes."""
    found, begin = [], 0
    while begin < len(data):
        end = begin + 4 + int.from_bytes(data[begin : begin + 4], "little")
        if end > len(data) or begin + 4 > len(data):
            raise Refusal(400, "unreadable_body", f"{name}: a text ends after the data.")
        try:
            found.append(data[begin + 4 : end].decode())
        except UnicodeDecodeError as error:
            raise Refusal(400, "unreadable_body", f"{name}: a text is not UTF-8.") from error
        begin = end
    return found


def _shaped(tensor: _Input, flat: list[Any]) -> list[Any]:
    """Rows of flat values: scalars for one dimension, lists for two."""
    shape = tensor.shape
    if len(shape) not in (1, 2) or any(size < 0 for size in shape) or math.prod(shape) != len(flat):
        raise Refusal(400, "invalid_request", f"{tensor.name}: {len(flat)} values do not have shape {shape}.")
    if len(shape) == 1:
        return flat
    width = shape[1]
    return [flat[row * width : (row + 1) * width] for row in range(shape[0])]  # (N * width,) -> (N, width)


# --- scores to tensors


def _answer(asked: InferRequest, version: str, columns: dict[str, Any]) -> Response:
    """The response, its tensors in JSON or in binary as the client wants each."""
    all_binary = asked.parameters.get("binary_data_output") is True
    wanted = asked.outputs or [_Output(name=name) for name in columns]
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for one in wanted:
        if one.name not in columns:
            raise Refusal(400, "invalid_request", f"There is no output {one.name[:64]!r}.")
        column = columns[one.name]
        described: dict[str, Any] = {"name": one.name, "datatype": "FP32", "shape": [len(column)]}
        if one.parameters.get("binary_data", all_binary) is True:
            data = score_column(column, MSGPACK)
            assert isinstance(data, bytes), "this form is binary"
            binary.append(data)
            described["parameters"] = {"binary_data_size": len(data)}
        else:
            described["data"] = score_column(column, JSON)
        outputs.append(described)
    tree: dict[str, Any] = {"model_name": NAME, "model_version": version, "outputs": outputs}
    if asked.id:
        tree["id"] = asked.id
    head = msgspec.json.encode(tree)
    if not binary:
        return Response(head, media_type=JSON)
    return Response(
        head + b"".join(binary), headers={_HEADER: str(len(head))}, media_type="application/octet-stream"
    )
