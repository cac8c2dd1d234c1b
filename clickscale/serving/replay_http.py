"""A running server as the target of a replay."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from clickscale.errors import ConfigError, StoreError
from clickscale.serving.store.protocol import Event

_PATIENCE = 30.0  # seconds for an answer
# Too busy, or this process itself was held up for seconds between the headers and the end of a body, as on a
# machine that other programs share. Asking again is safe, since events have ids.
_AGAIN = (408, 429)


class ServerTarget:
    """A server by its URL, asked in JSON over one connection.

    Attributes:
        versions: answers of each version of the model, which may change during a replay.
        states: answers by how the state of the user was found, as far as the server tells.

    Args:
        token: of a caller who may rank and send events; empty where none is needed.

    Raises:
        ConfigError: the URL names no server.
    """

    def __init__(self, url: str, token: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no server; write http://HOST:PORT.")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=_PATIENCE)
        self._url, self._prefix = url, parts.path.rstrip("/")
        # A replay asks whether scores are right, not whether they are fast.
        self._headers = {"content-type": "application/json", "x-deadline-ms": f"{_PATIENCE * 1e3:.0f}"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self.versions, self.states = Counter[str](), Counter[str]()

    def rank(self, request: Mapping[str, Any]) -> dict[str, Sequence[float | None]]:
        """Ask for scores."""
        answer = self._post("/v1/rank", request)
        if answer.get("degraded"):
            raise StoreError(f"The store of {self._url} failed during the replay; its log says why.")
        self.versions[answer["model"]] += 1
        if "cache" in answer:
            self.states[answer["cache"]] += 1
        scores: dict[str, Sequence[float | None]] = answer["scores"]
        return scores

    def append(self, events: Sequence[Event]) -> None:
        """Send events."""
        self._post("/v1/events", {"events": [msgspec.to_builtins(event) for event in events]})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post a document; again if the server is busy, or if it waited too long for the body.

        Raises:
            StoreError: the server does not answer, or refuses.
        """
        data, until = json.dumps(body).encode(), time.monotonic() + _PATIENCE
        status, text, wait = self._ask(path, data)
        while status in _AGAIN and time.monotonic() + wait < until:
            time.sleep(wait)
            status, text, wait = self._ask(path, data)
        if status != 200:
            shown = text[:500].decode("utf-8", "replace")
            raise StoreError(f"{self._url}{path} answers {status}: {shown}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _ask(self, path: str, data: bytes) -> tuple[int, bytes, float]:
        """Status and body of the answer, and seconds after which the server wants to be asked again."""
        try:
            self._connection.request("POST", self._prefix + path, data, self._headers)
            response = self._connection.getresponse()
            wait = response.headers.get("retry-after", "")
            return response.status, response.read(), float(wait) if wait.isdecimal() else 1.0
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise StoreError(f"{self._url} does not answer ({error}); start it: clickscale serve") from error
