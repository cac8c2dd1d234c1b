"""Tokens: who may rank, send events, or administer.

A file or the environment variable ``CLICKSCALE_TOKENS`` holds one token a line::

    # name    scopes         token
    web       rank,events    3f1c0a...
    deploy    admin          b90e77...

The name is the tenant: callers of different names share no state of a user. Without tokens a server lets
anybody who reaches it rank and send events, and nobody administer.
"""

import hmac
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from clickscale.errors import ConfigError, unknown
from clickscale.serving.messages import Refusal

VARIABLE = "CLICKSCALE_TOKENS"
Scope = Literal["rank", "events", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)
_SHORTEST = 16  # characters of a token; shorter ones can be guessed


@dataclass(frozen=True)
class Caller:
    """A caller that was let in; the name is the tenant."""

    name: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class _Token:
    caller: Caller
    secret: bytes


_ANYBODY = Caller("", frozenset({"rank", "events"}))


class Access:
    """Compares tokens; an empty list of tokens lets anybody rank and send events."""

    def __init__(self, tokens: Sequence[_Token] = ()) -> None:
        self._tokens = tuple(tokens)

    @property
    def is_open(self) -> bool:
        """True if no token is needed."""
        return not self._tokens

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names of all callers."""
        return tuple({token.caller.name for token in self._tokens}) or (_ANYBODY.name,)

    def admit(self, header: str | None, scope: Scope) -> Caller:
        """The caller of an ``Authorization`` header.

        Raises:
            Refusal: 401 without a known token, 403 if it does not have the scope.
        """
        caller = _ANYBODY if self.is_open else self._named(header)
        if scope not in caller.scopes:
            if self.is_open:
                raise Refusal(403, "forbidden", "This server has no tokens, so nobody may administer it.")
            raise Refusal(403, "forbidden", f"This token does not have the scope {scope!r}.")
        return caller

    def _named(self, header: str | None) -> Caller:
        kind, _, secret = (header or "").partition(" ")
        given = secret.strip().encode("utf-8", "surrogateescape")
        found = None
        # Every token is compared, each in constant time, so that time tells nothing about any of them.
        for token in self._tokens:
            if hmac.compare_digest(token.secret, given):
                found = token.caller
        if kind.lower() != "bearer" or found is None:
            raise Refusal(401, "unauthorized", "Send a known token: Authorization: Bearer TOKEN.")
        return found


def load_access(path: Path | None) -> Access:
    """Tokens of a file, or of the environment if no file is given.

    Raises:
        ConfigError: the file cannot be read, or a line is wrong; the message holds no token.
    """
    if path is None:
        return Access(list(_tokens(os.environ.get(VARIABLE, "").splitlines(), VARIABLE)))
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the tokens of {path}: {error}.") from error
    tokens = list(_tokens(lines, str(path)))
    if not tokens:
        raise ConfigError(f"{path} holds no token; write lines such as: web rank,events TOKEN")
    return Access(tokens)


def _tokens(lines: Iterable[str], origin: str) -> Iterable[_Token]:
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            raise ConfigError(f"{origin} line {number} has {len(words)} words; write: NAME SCOPE,SCOPE TOKEN")
        name, scopes, secret = words
        for scope in scopes.split(","):
            if scope not in SCOPES:
                raise ConfigError(f"{origin} line {number}: " + unknown("scope", scope, SCOPES))
        if len(secret) < _SHORTEST:
            raise ConfigError(
                f"{origin} line {number}: the token of {name} has {len(secret)} characters; make it"
                f" {_SHORTEST} or more, for instance with: openssl rand -hex 24"
            )
        yield _Token(Caller(name, frozenset(scopes.split(","))), secret.encode())
