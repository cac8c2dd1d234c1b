"""Open Inference Protocol: metadata, tensors in JSON and in binary, errors, and a public client."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.inference.scorer import Scorer
from clickscale.serving.load_driver import Client, Target
from tests.serving.live import Live, live
from tests.trained import tiny_artifact, tiny_prepared

MODEL = "/v2/models/clickscale"
REQUEST = {
    "user": 101,
    "time": 1_700_000_000,
    "profile": {"gender": "f", "age": 30.0},
    "behaviors": [
        {"item": 10, "time": 1_600_000_000, "action": "view", "dwell": 3.5},
        {"item": 30, "time": 1_600_000_050, "action": "buy", "dwell": 7.0},
    ],
    "candidates": [{"item": 10, "hour": 3.0}, {"item": 20, "hour": 3.0}, {"item": 777, "hour": 3.0}],
}
TENSORS: list[tuple[str, str, list[Any]]] = [
    ("user", "INT64", [101]),
    ("time", "INT64", [1_700_000_000]),
    ("profile.gender", "BYTES", ["f"]),
    ("profile.age", "FP64", [30.0]),
    ("behavior.item", "INT64", [10, 30]),
    ("behavior.time", "INT64", [1_600_000_000, 1_600_000_050]),
    ("behavior.action", "BYTES", ["view", "buy"]),
    ("behavior.dwell", "FP32", [3.5, 7.0]),
    ("item", "INT64", [10, 20, 777]),
    ("candidate.hour", "FP32", [3.0, 3.0, 3.0]),
]
KINDS = {"INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("oip")
    return tiny_artifact(folder, tiny_prepared(folder), "din", ("click", "like"))


@pytest.fixture(scope="module")
def server(artifact: Path):
    with live(artifact) as here:
        yield here


@pytest.fixture(scope="module")
def expected(artifact: Path) -> Any:
    return Scorer(artifact).score(REQUEST).probabilities


def plain() -> dict[str, Any]:
    inputs = [{"name": n, "datatype": d, "shape": [len(v)], "data": v} for n, d, v in TENSORS]
    return {"id": "r1", "inputs": inputs}


def packed(values: list[Any], kind: str) -> bytes:
    if kind != "BYTES":
        return np.array(values, KINDS[kind]).tobytes()
    return b"".join(len(one).to_bytes(4, "little") + one.encode() for one in values)


def test_health_and_metadata(server: Live) -> None:
    assert server.get("/v2/health/live")[0] == server.get("/v2/health/ready")[0] == 200
    assert server.get("/v2")[1]["extensions"] == ["binary_tensor_data"]
    _, model = server.get(MODEL)
    assert {one["name"]: one["datatype"] for one in model["inputs"]}.items() >= {
        "time": "INT64", "item": "INT64", "profile.gender": "BYTES", "behavior.dwell": "FP64"
    }.items()  # fmt: skip
    assert [one["name"] for one in model["outputs"]] == ["click", "like"]
    [version] = model["versions"]
    assert server.get(f"{MODEL}/versions/{version}/ready")[1]["ready"]
    assert server.get(f"{MODEL}/versions/v9")[0] == server.get("/v2/models/other")[0] == 404


def test_tensors_in_json(server: Live, expected: Any) -> None:
    status, answer = server.call(f"{MODEL}/infer", plain())
    assert (status, answer["id"]) == (200, "r1")
    found = {one["name"]: one for one in answer["outputs"]}
    assert found["click"]["shape"] == [3]
    assert np.abs(np.array(found["click"]["data"]) - expected[:, 0]).max() <= 1e-6
    assert np.abs(np.array(found["like"]["data"]) - expected[:, 1]).max() <= 1e-6


def test_tensors_in_binary(server: Live, expected: Any) -> None:
    pieces = [packed(values, kind) for _, kind, values in TENSORS]
    inputs = [
        {"name": n, "datatype": d, "shape": [len(v)], "parameters": {"binary_data_size": len(piece)}}
        for (n, d, v), piece in zip(TENSORS, pieces, strict=True)
    ]
    outputs = [{"name": "like", "parameters": {"binary_data": True}}, {"name": "click"}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()

    async def ask() -> tuple[int, bytes]:
        headers = {"Inference-Header-Content-Length": str(len(head))}
        client = Client(Target(server.target.host, server.target.port, f"{MODEL}/infer", headers))
        answer = await client.post(head + b"".join(pieces))
        client.close()
        return answer

    status, body = asyncio.run(ask())
    assert status == 200
    tail = 3 * 4
    answer = json.loads(body[:-tail])
    assert answer["outputs"][0]["parameters"] == {"binary_data_size": tail}
    assert np.abs(np.frombuffer(body[-tail:], "<f4") - expected[:, 1]).max() <= 1e-6
    assert np.abs(np.array(answer["outputs"][1]["data"]) - expected[:, 0]).max() <= 1e-6


ITEM = {"name": "item", "datatype": "INT64", "shape": [1], "data": [1]}
WRONG = [
    ("an input twice", {"inputs": [ITEM, ITEM]}, "given twice"),
    ("no time", {"inputs": [ITEM]}, "'time' is missing"),
    ("an unknown input", {"inputs": [ITEM | {"name": "x"}]}, "'x'"),
    ("a wrong shape", {"inputs": [ITEM | {"shape": [2]}]}, "shape"),
    ("a negative shape", {"inputs": [ITEM | {"shape": [-1]}]}, "shape"),
    ("a datatype", {"inputs": [ITEM | {"datatype": "INT9"}]}, "INT9"),
    ("an object", {"inputs": [ITEM | {"data": [{}]}]}, "numbers"),
    ("depth", {"inputs": [ITEM | {"data": [[[[1]]]]}]}, "deeply"),
    ("no bytes", {"inputs": [ITEM | {"parameters": {"binary_data_size": 8}}]}, "binary_data_size"),
    ("an output", plain() | {"outputs": [{"name": "buy"}]}, "no output 'buy'"),
    ("no candidates", {"inputs": plain()["inputs"][:2]}, "candidates is empty"),
]


@pytest.mark.parametrize(("body", "text"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_tensors_are_refused_in_the_form_of_the_protocol(server: Live, body: Any, text: str) -> None:
    status, answer = server.call(f"{MODEL}/infer", body)
    assert status in (400, 422)
    assert list(answer) == ["error"]
    assert text in answer["error"]


@pytest.mark.parametrize("size", [b"\xb2", b"1" * 5_000, b"-1", b"1e1", b""])
def test_a_size_of_the_json_that_is_no_number_is_refused(server: Live, size: bytes) -> None:
    lines = (f"POST {MODEL}/infer HTTP/1.1", "Host: x", "Content-Length: 2", "Connection: close")
    head = "\r\n".join(lines).encode() + b"\r\nInference-Header-Content-Length: " + size
    with socket.create_connection((server.target.host, server.target.port), timeout=10) as connection:
        connection.sendall(head + b"\r\n\r\n{}")
        answer = b"".join(iter(lambda: connection.recv(10_000), b""))
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b"Inference-Header-Content-Length is" in answer


def test_a_public_client_is_served(server: Live, expected: Any) -> None:
    http = pytest.importorskip("tritonclient.http", reason="the client of NVIDIA Triton is not installed")
    client = http.InferenceServerClient(f"{server.target.host}:{server.target.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("clickscale")
    assert client.get_model_metadata("clickscale")["name"] == "clickscale"
    for binary in (True, False):
        inputs = []
        for name, kind, values in TENSORS:
            dtype = np.object_ if kind == "BYTES" else KINDS[kind]
            tensor = http.InferInput(name, [len(values)], kind)
            tensor.set_data_from_numpy(np.array(values, dtype), binary_data=binary)
            inputs.append(tensor)
        outputs = [http.InferRequestedOutput("click", binary_data=binary)]
        for wanted in (outputs, None):
            answer = client.infer("clickscale", inputs, outputs=wanted)
            assert np.abs(answer.as_numpy("click") - expected[:, 0]).max() <= 1e-6
    with pytest.raises(http.InferenceServerException, match="time"):
        client.infer("clickscale", inputs[:1])
    client.close()
