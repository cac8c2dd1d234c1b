"""A running server as the target of a replay."""

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from clickscale.errors import ConfigError, StoreError
from clickscale.serving.store.protocol import Event

_PATIENCE = 30.0  # seconds for an answer


class ServerTarget:
    """A server by its URL, asked in JSON over one connection.

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
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"

    def rank(self, request: Mapping[str, Any]) -> dict[str, Sequence[float | None]]:
        """Ask for scores."""
        scores: dict[str, Sequence[float | None]] = self._post("/v1/rank", request)["scores"]
        return scores

    def append(self, events: Sequence[Event]) -> None:
        """Send events."""
        self._post("/v1/events", {"events": [msgspec.to_builtins(event) for event in events]})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Post a document.

        Raises:
            StoreError: the server does not answer, or refuses.
        """
        try:
            self._connection.request("POST", self._prefix + path, json.dumps(body).encode(), self._headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise StoreError(f"{self._url} does not answer ({error}); start it: clickscale serve") from error
        if response.status != 200:
            shown = text[:500].decode("utf-8", "replace")
            raise StoreError(f"{self._url}{path} answers {response.status}: {shown}")
        answer: dict[str, Any] = json.loads(text)
        return answer
