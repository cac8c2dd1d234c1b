"""Protocol buffers in their text form, read as a tree without knowing their messages."""

import re
from typing import Any

from clickscale.errors import ConfigError

Tree = dict[str, list[Any]]  # every value of a name, in order; a message is a tree

_TOKEN = re.compile(
    r"\s+|\#[^\n]*|(?P<text>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')|(?P<mark>[{}\[\]<>:,;])|(?P<word>[^\s{}\[\]<>:,;#\"']+)"
)
_CLOSING = {"{": "}", "<": ">"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.))", re.DOTALL)
_DEEPEST = 50


def parse_prototext(text: str, where: str) -> Tree:
    """Parse a text; numbers and names stay texts.

    Args:
        where: name of the file, for messages.

    Raises:
        ConfigError: a line cannot be read.
    """
    return _Parser(text, where).message("", 0)


class _Parser:
    """Tokens of a text, and the place of the next one."""

    def __init__(self, text: str, where: str) -> None:
        self._where = where
        self._tokens: list[tuple[int, str]] = []
        place, line = 0, 1
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise ConfigError(
                    f"{where}:{line}: cannot read {text[place : place + 20].splitlines()[0]!r}."
                )
            if found.lastgroup:
                self._tokens.append((line, found.group()))
            line += found.group().count("\n")
            place = found.end()
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        if not token:
            raise ConfigError(
                f"{self._where}: the text ends inside of a message; a closing brace is missing."
            )
        self._next += 1
        return token

    def _refuse(self, token: str) -> ConfigError:
        line = self._tokens[self._next - 1][0]
        return ConfigError(f"{self._where}:{line}: {token!r} stands where a name or a value is expected.")

    def message(self, closing: str, depth: int) -> Tree:
        """Fields up to the closing mark."""
        tree: Tree = {}
        while self._peek() != closing:
            name = self._take()
            if not re.fullmatch(r"[\w.]+", name) or depth > _DEEPEST:
                raise self._refuse(name)
            tree.setdefault(name, []).extend(self._values(depth))
            if self._peek() in (",", ";"):
                self._take()
        if closing:
            self._take()
        return tree

    def _values(self, depth: int) -> list[Any]:
        """Values after a name: one, a list in brackets, or texts one after the other, which are joined."""
        if self._peek() == ":":
            self._take()
        if self._peek() != "[":
            return [self._value(depth)]
        self._take()
        values = []
        while self._peek() != "]":
            values.append(self._value(depth))
            if self._peek() == ",":
                self._take()
        self._take()
        return values

    def _value(self, depth: int) -> Any:
        token = self._take()
        if token in _CLOSING:
            return self.message(_CLOSING[token], depth + 1)
        if token[0] not in "\"'":
            if re.fullmatch(r"[{}\[\]<>:,;]", token):
                raise self._refuse(token)
            return token
        text = _unquoted(token)
        while self._peek()[:1] in ('"', "'") and self._peek():
            text += _unquoted(self._take())
        return text


def _unquoted(token: str) -> str:
    def plain(found: re.Match[str]) -> str:
        hexadecimal, octal, letter = found.groups()
        if letter is not None:
            return _ESCAPES.get(letter, letter)
        return chr(int(hexadecimal, 16) if hexadecimal else int(octal, 8))

    return _ESCAPE.sub(plain, token[1:-1])
