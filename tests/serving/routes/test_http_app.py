"""What a client sees: answers, refusals, scopes, documents."""

import contextlib
import math
import re
import socket
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from clickscale.inference.request_lines import RequestLimits
from clickscale.inference.scorer import Scorer
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig
from clickscale.serving.access import load_access
from clickscale.serving.messages import Refusal
from clickscale.serving.sample_requests import sample_requests
from clickscale.serving.service import ServiceConfig
from clickscale.serving.versions.served_model import ScoringConfig
from tests.serving.live import Live, live
from tests.trained import tiny_artifact, tiny_prepared

RANK, EVENTS, ADMIN = (f"{scope}-0123456789abcdef" for scope in ("rank", "events", "admin"))
MSGPACK = {"Content-Type": "application/msgpack"}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    return tiny_artifact(folder, tiny_prepared(folder), "lightsuan", ("click", "like"))


@pytest.fixture(scope="module")
def server(artifact: Path):
    limits = RequestLimits(candidates=60, behaviors=100)
    config = ServiceConfig(scoring=ScoringConfig(limits=limits), body_bytes=60_000, drain_seconds=0)
    with live(artifact, config, cache=StateCache(CacheConfig(admit_after=1))) as here:
        yield here


@pytest.fixture(scope="module")
def scorer(artifact: Path) -> Scorer:
    return Scorer(artifact)


def some(scorer: Scorer, count: int = 1, candidates: int = 5, behaviors: int = 7) -> list[dict[str, Any]]:
    return sample_requests(scorer.artifact.encoder, count, candidates, behaviors)


def test_scores_are_those_of_the_scorer_in_the_order_of_the_request(server: Live, scorer: Scorer) -> None:
    for request in some(scorer, 4):
        expected = scorer.score(request)
        status, answer = server.call("/v1/rank", request)
        assert status == 200
        assert answer["model"] == scorer.artifact.digest[:12]
        for place, label in enumerate(("click", "like")):
            assert np.abs(np.array(answer["scores"][label]) - expected.probabilities[:, place]).max() <= 1e-6


def test_binary_answers_hold_the_same_scores(server: Live, scorer: Scorer) -> None:
    [request] = some(scorer, candidates=60)
    _, plain = server.call("/v1/rank", request)
    status, packed = server.call("/v1/rank", msgspec.msgpack.encode(request), headers=MSGPACK)
    assert status == 200
    scores = np.frombuffer(msgspec.msgpack.decode(packed)["scores"]["click"], "<f4")
    assert np.abs(scores - np.array(plain["scores"]["click"])).max() <= 1e-6


def test_a_bare_id_stands_for_a_candidate(server: Live, scorer: Scorer) -> None:
    request = {"user": 101, "time": 1_700_000_000}
    _, short = server.call("/v1/rank", request | {"candidates": [10, 20]})
    _, long = server.call("/v1/rank", request | {"candidates": [{"item": 10}, {"item": 20}]})
    assert short["scores"] == long["scores"]


def test_what_is_unknown_or_missing_is_told(server: Live) -> None:
    past = [{"item": 777, "time": 1_690_000_000}, {"item": 10, "time": 1_800_000_000}]
    request = {"user": 9_999, "time": 1_700_000_000, "candidates": [10, 555], "behaviors": past}
    _, answer = server.call("/v1/rank", request | {"profile": {"age": 30}})
    assert answer["unknown"] == {"user": True, "candidates": [1], "behaviors": 1}
    assert answer["missing"]["profile"] == ["gender"]
    assert "item_rate" in answer["missing"]["statistics"]
    assert answer["missing"]["context"] == ["position", "hour"]
    told = [{"item": 10, "hour": 3}, {"item": 20, "position": None}]
    assert server.call("/v1/rank", request | {"candidates": told})[1]["missing"]["context"] == []
    assert (answer["behaviors_used"], answer["behaviors_ignored"]) == (1, 1)


def test_a_kept_state_is_found_and_appended_to(server: Live, scorer: Scorer) -> None:
    [request] = some(scorer, behaviors=9)
    request["user"] = 105
    first, last = request | {"behaviors": request["behaviors"][:8]}, request
    found = [server.call("/v1/rank", one)[1] for one in (first, first, last)]
    assert [one["cache"] for one in found] == ["miss", "hit", "append"]
    expected = scorer.score(last).probabilities[:, 0]
    assert np.abs(np.array(found[2]["scores"]["click"]) - expected).max() <= 1e-5


GOOD = {"user": 101, "time": 1_700_000_000, "candidates": [10]}
WRONG = [
    ("not JSON", b"{", 400, "unreadable_body"),
    ("not UTF-8", b'{"user": "\xff"}', 400, "unreadable_body"),
    ("NaN", b'{"user": 1, "time": NaN, "candidates": [1]}', 400, "unreadable_body"),
    ("no candidates", GOOD | {"candidates": []}, 422, "candidates is empty"),
    ("no time", {"user": 1, "candidates": [1]}, 422, "time is missing."),
    ("a text as time", GOOD | {"time": "now"}, 422, "time is of type str; send int or float."),
    ("a number as body", b"7", 422, "The request is of type int; send object."),
    ("a key too much", GOOD | {"salt": 1}, 422, "Unknown key 'salt'. Known: behaviors, candidates"),
    ("a misspelled key", GOOD | {"deadline": 1}, 422, "did you mean 'deadline_ms'?"),
    ("milliseconds", GOOD | {"time": 1_700_000_000_000}, 422, "milliseconds"),
    ("null item", GOOD | {"candidates": [{"item": None}]}, 422, "candidates[0].item"),
    ("a text for a number", GOOD | {"profile": {"age": "old"}}, 422, "profile.age"),
    ("half a user", GOOD | {"user": 1.5}, 422, "user is 1.5: bad value; send a whole number"),
    ("an object as user", GOOD | {"user": {"a": 1}}, 422, "user"),
    ("too many candidates", GOOD | {"candidates": [1] * 61}, 413, "candidates holds 61"),
    ("a large integer", GOOD | {"user": 1 << 70}, 422, "user"),
    ("a large body", b" " * 60_001, 413, "60001 bytes"),
    ("a key twice", b'{"user": 1, "time": 1, "user": 2, "candidates": [1]}', 400, "the key 'user' twice"),
    (
        "a key twice, with a space",
        b'{"user": 1, "time" : 1, "time" :2, "candidates": [1]}',
        400,
        "'time' twice",
    ),
    ("a field twice", b'{"user": 1, "time": 1, "candidates": [{"item": 1, "item": 2}]}', 400, "'item' twice"),
    (
        "a key twice in other letters",
        b'{"user": 1, "time": 1, "candidates": [{"item": 1, "\\u0069tem": 2}]}',
        400,
        "repeated_key",
    ),
    ("deep", b'{"candidates":' + b"[" * 20_000, 422, "candidates"),
    ("deep in a value", b'{"time": 1, "candidates": [{"item": ' + b"[" * 20_000, 422, "candidates[0]"),
]


@pytest.mark.parametrize(("body", "status", "text"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG])
def test_a_wrong_request_is_refused_by_its_path(server: Live, body: Any, status: int, text: str) -> None:
    got, answer = server.call("/v1/rank", body)
    assert got == status
    assert text in answer["error"]["message"] or text == answer["error"]["code"]
    assert server.call("/v1/rank", GOOD)[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"user": 101, "time": 1700000000, "candidates": [10], "profile": {"gender": "\\":a \\": \\t:"}}',
        b'{"user": 101, "time": 1700000000, "candidates": [{"item" : 10}, {"item":20}], "behaviors": null}',
        b'{"user":101,"time"\n:1700000000,\r\n"candidates"\t:[{"item":10}],"profile":{"gender":"f","age":3}}',
    ],
)
def test_colons_in_texts_and_spaces_before_colons_repeat_no_key(server: Live, body: bytes) -> None:
    status, answer = server.call("/v1/rank", body)
    assert status == 200, answer


def test_other_encodings_and_forms_are_refused(server: Live) -> None:
    assert server.call("/v1/rank", GOOD, headers={"Content-Encoding": "gzip"})[0] == 415
    assert server.call("/v1/rank", GOOD, headers={"Content-Type": "text/plain"})[0] == 415
    assert server.call("/v1/rank", GOOD, headers={"X-Deadline-Ms": "soon"})[0] == 422


def test_an_expired_deadline_is_refused_without_scoring(server: Live) -> None:
    assert server.service is not None
    before = server.service.engine.stats.jobs
    status, answer = server.call("/v1/rank", GOOD | {"deadline_ms": 0})
    assert (status, answer["error"]["code"]) == (504, "deadline")
    assert server.call("/v1/rank", GOOD, headers={"X-Deadline-Ms": "0"})[0] == 504
    assert server.service.engine.stats.jobs == before


def test_a_deadline_that_is_no_number_is_refused(server: Live) -> None:
    packed = msgspec.msgpack.encode(GOOD | {"deadline_ms": math.nan})
    status, answer = server.call("/v1/rank", packed, headers=MSGPACK)
    assert (status, answer["error"]["code"]) == (422, "invalid_request")


def test_a_client_that_sends_far_too_much_still_reads_why_it_is_refused(server: Live) -> None:
    for times, message in ((7, "420000 bytes, more than 60,000"), (9, "540000 bytes, more than 60,000")):
        head = f"POST /v1/rank HTTP/1.1\r\nHost: here\r\nContent-Length: {times * 60_000}\r\n\r\n"
        with socket.create_connection((server.target.host, server.target.port), timeout=10) as connection:
            connection.sendall(head.encode())
            if times < 8:  # beyond that the answer comes before the body
                for _ in range(times):
                    connection.sendall(b" " * 60_000)
            answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 413")
        assert message.encode() in answer


def test_headers_without_an_end_are_refused(server: Live) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1_000) for number in range(100))
    for endless in (b"GET / HTTP/1.1\r\n" + lines, b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\nX: "):
        with socket.create_connection((server.target.host, server.target.port), timeout=10) as connection:
            sent = 0
            with contextlib.suppress(ConnectionError):
                connection.sendall(endless)
                while sent < 40_000_000:
                    sent += connection.send(b"a" * 10_000)
            assert sent < 20_000_000  # what the system holds for a connection, not more
    assert server.call("/v1/rank", GOOD, headers={"X-Long": "a" * 60_000})[0] == 200


def test_bodies_that_arrive_together_are_bounded(artifact: Path) -> None:
    config = ServiceConfig(body_bytes=60_000, bodies_bytes=100_000, drain_seconds=0)
    head = b"POST /v1/rank HTTP/1.1\r\nHost: here\r\nContent-Length: 50000\r\n\r\n" + b" " * 49_000
    with live(artifact, config) as here, contextlib.ExitStack() as stack:
        answers = []
        for _ in range(3):
            connection = socket.create_connection((here.target.host, here.target.port), timeout=10)
            stack.enter_context(connection).sendall(head)
            connection.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                answers.append(connection.recv(10_000))
        assert [answer.startswith(b"HTTP/1.1 429") for answer in answers] == [True]
        stack.close()
        assert here.call("/v1/rank", GOOD)[0] == 200


def raw_request(body: bytes, *headers: str) -> bytes:
    lines = ["POST /v1/rank HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def statuses(text: bytes) -> list[int]:
    return [int(part.split()[0]) for part in text.split(b"HTTP/1.1 ")[1:]]


def heard(connection: socket.socket, answers: int) -> bytes:
    """What arrives until so many answers are there."""
    connection.settimeout(10)
    text = b""
    while len(statuses(text)) < answers or not text.endswith(b"}"):
        text += connection.recv(65_536)
    return text


def waiting_for_too_long() -> None:
    raise Refusal(429, "overloaded", "More requests wait than can be scored in time.", 3.2)


def timed(server: Live) -> float:
    """Seconds that the application spent on requests to score."""
    _, text = server.get("/metrics")
    named = 'clickscale_answer_seconds_sum{route="rank"} '
    return float(text.decode().partition(named)[2].partition("\n")[0])


def test_overload_is_refused_before_the_application_and_the_connection_goes_on(
    server: Live, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = msgspec.json.encode(some(scorer)[0])
    assert server.call("/v1/rank", body)[0] == 200
    before = timed(server)
    assert server.service is not None
    with socket.create_connection((server.target.host, server.target.port)) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(server.service.engine, "check_room", waiting_for_too_long)
            for _ in range(3):
                connection.sendall(raw_request(body)[:-100])  # refused before the body is whole
                answer = heard(connection, 1)
                connection.sendall(body[-100:])
                assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
                assert b"retry-after: 3\r\n" in answer.lower()
                error = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["error"]
                assert error["code"] == "overloaded"
            assert timed(server) == before
        connection.sendall(raw_request(body))
        assert statuses(heard(connection, 1)) == [200]


def test_an_early_refusal_passes_no_answer_that_is_due_before_it(
    server: Live, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two requests in one packet finds room; the second does not, and still comes second."""
    body = msgspec.json.encode(some(scorer)[0])
    asked = []

    def room_for_one() -> None:
        asked.append(1)
        if len(asked) > 2:  # looked at twice for the first: with its headers, and by its route
            waiting_for_too_long()

    assert server.service is not None
    monkeypatch.setattr(server.service.engine, "check_room", room_for_one)
    with socket.create_connection((server.target.host, server.target.port)) as connection:
        connection.sendall(2 * raw_request(body))
        assert statuses(heard(connection, 2)) == [200, 429]


def test_a_deadline_may_be_infinite(server: Live) -> None:
    packed = msgspec.msgpack.encode(GOOD | {"deadline_ms": math.inf})
    assert server.call("/v1/rank", packed, headers=MSGPACK)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/rank", 405, "method"),
        ("POST", "/v1", 404, "no_route"),
        ("POST", "/v1/rank/", 404, "no_route"),
    ],
)
def test_a_wrong_route_is_refused_in_the_same_form(
    server: Live, method: str, path: str, status: int, code: str
) -> None:
    got, answer = server.call(path, {}, method=method)
    assert (got, answer["error"]["code"]) == (status, code)
    assert server.get("/v2/nothing") == (404, {"error": "Not Found: GET /v2/nothing; see /docs."})


def test_events_need_a_store_and_versions_a_folder_of_them(server: Live) -> None:
    assert server.call("/v1/events", {"events": []})[1]["error"]["code"] == "no_store"
    assert server.call("/v1/admin/load", {"version": "v1"})[0] == 403


def test_every_example_of_the_document_is_answered(server: Live) -> None:
    _, document = server.get("/openapi.json")
    count = 0
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            parameters = described.get("parameters", [])
            values = {one["name"]: one["example"] for one in parameters if one["in"] == "path"}
            assert set(values) == set(re.findall("{(.*?)}", path))
            content = described.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                assert server.call(path.format(**values), example["value"], method=method.upper())[0] == 200
                count += 1
    assert count == 5
    references = set(_references(document))
    assert references <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert "#/components/schemas/RankRequest" in references


def _references(tree: Any) -> Any:
    if isinstance(tree, dict):
        yield from (value for key, value in tree.items() if key == "$ref")
        tree = list(tree.values())
    for inner in tree if isinstance(tree, list) else ():
        yield from _references(inner)


def test_metrics_tell_nothing_of_users_and_do_not_grow_with_them(server: Live, scorer: Scorer) -> None:
    def series() -> set[str]:
        _, text = server.get("/metrics")
        return {line.rpartition(b" ")[0].decode() for line in text.splitlines() if line[:1] != b"#"}

    server.call("/v1/rank", GOOD)
    before = series()
    for user in range(40):
        assert server.call("/v1/rank", GOOD | {"user": 10_000 + user})[0] == 200
    assert series() == before
    assert any(name.startswith("clickscale_answers_total") for name in before)
    assert not [name for name in before if "1000" in name]


def test_models_are_listed(server: Live, scorer: Scorer) -> None:
    status, answer = server.get("/v1/models")
    [model] = answer["models"]
    assert (status, answer["state"], model["state"], model["model"]) == (200, "ready", "serving", "lightsuan")
    assert model["digest"] == scorer.artifact.digest


def test_the_wrong_number_of_a_model_is_null(artifact: Path) -> None:
    with live(artifact) as here:
        assert here.service is not None
        current = here.service.versions.current
        assert current is not None
        with torch.no_grad():
            current.scorer.model.inputs.table.weight[-1] = math.nan
            for parameter in current.scorer.model.parameters():
                parameter.mul_(math.nan)
        status, answer = here.call("/v1/rank", GOOD)
        assert (status, answer["scores"]["click"]) == (200, [None])
        assert current.facts.not_finite == 1


# --- tokens


@pytest.fixture(scope="module")
def guarded(artifact: Path, tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("tokens") / "tokens.txt"
    file.write_text(f"# who\nweb rank {RANK}\nlog events {EVENTS}\nops admin,rank {ADMIN}\n", "utf-8")
    with live(artifact, access=load_access(file)) as here:
        yield here


ROUTES = [
    ("POST", "/v1/rank", "rank"),
    ("POST", "/v1/events", "events"),
    ("GET", "/v1/models", "rank"),
    ("POST", "/v1/admin/load", "admin"),
    ("POST", "/v1/admin/promote", "admin"),
    ("POST", "/v1/admin/unload", "admin"),
    ("POST", "/v1/admin/forget", "admin"),
    ("GET", "/v2/models/clickscale", "rank"),
    ("POST", "/v2/models/clickscale/infer", "rank"),
    ("GET", "/livez", ""),
    ("GET", "/readyz", ""),
    ("GET", "/metrics", ""),
    ("GET", "/v2/health/live", ""),
    ("GET", "/openapi.json", ""),
    ("GET", "/docs", ""),
]
TOKENS = {"rank": RANK, "events": EVENTS, "admin": ADMIN}


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES, ids=[route[1] for route in ROUTES])
def test_each_route_takes_the_tokens_of_its_scope(guarded: Live, method: str, path: str, scope: str) -> None:
    def ask(header: str | None) -> int:
        headers = {} if header is None else {"Authorization": header}
        return guarded.call(path, {}, method=method, headers=headers)[0]

    if not scope:
        assert ask(None) == 200
        return
    assert [ask(None), ask("Bearer "), ask("Bearer wrong-wrong-wrong"), ask(f"Basic {TOKENS[scope]}")] == [
        401
    ] * 4
    for name, token in TOKENS.items():
        allowed = name == scope or (name == "admin" and scope == "rank")
        assert (ask(f"Bearer {token}") in (401, 403)) is not allowed


def test_a_wrong_token_is_told_so_at_overload_too(guarded: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert guarded.service is not None
    monkeypatch.setattr(guarded.service.engine, "check_room", waiting_for_too_long)
    for token, status in (("x" * 20, 401), (EVENTS, 403), (RANK, 429)):
        assert guarded.call("/v1/rank", {}, headers={"Authorization": f"Bearer {token}"})[0] == status


def test_only_administrators_learn_how_the_state_was_found(guarded: Live) -> None:
    seen = {
        name: "cache"
        in guarded.call("/v1/rank", GOOD, headers={"Authorization": f"Bearer {TOKENS[name]}"})[1]
        for name in ("rank", "admin")
    }
    assert seen == {"rank": False, "admin": True}


def test_examples_hold_ids_of_the_log_and_need_a_token(guarded: Live) -> None:
    def examples(headers: dict[str, str]) -> bool:
        document = guarded.get("/openapi.json", headers)[1]
        content = document["paths"]["/v1/rank"]["post"]["requestBody"]["content"]
        return "examples" in content["application/json"]

    assert examples({"Authorization": f"Bearer {RANK}"})
    assert not examples({})
    assert not examples({"Authorization": f"Bearer {EVENTS}"})
