"""JSON that carries its own hash: a file whose content changed after it was written is refused by name.

A document is an object with one more key, ``sha256``, the hash of the rest::

    {"loss": 0.61, "sha256": "4e1c..."}

A list of documents is a file of JSON lines whose last line holds the hash of the lines before it. The hash is
of the values, so a file that was only indented in another way is still sound.

Only `clickscale.files` hashes and replaces files; this module says what the bytes of such a file are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clickscale.errors import DamagedError
from clickscale.files import replace_text, sha256_text

_HASH = "sha256"


def sealed(document: Mapping[str, Any]) -> str:
    """Text of a document with its hash, keys in order."""
    plain = json.loads(json.dumps(dict(document)))  # as a reader will find it: keys are texts, tuples lists
    complete = plain | {_HASH: _hash(plain)}
    try:
        return indented(complete, ascii_only=False) + "\n"
    except UnicodeEncodeError:  # a path may hold bytes that are not UTF-8
        return indented(complete) + "\n"


def indented(value: Any, *, ascii_only: bool = True) -> str:
    """Write a value over several lines, keys in order: `json.dumps` with an indent takes ten times as long.

    Raises:
        UnicodeEncodeError: ``ascii_only`` is false, and a text cannot be written as UTF-8.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=ascii_only).encode()
    try:
        return msgspec.json.format(text, indent=2).decode()
    except msgspec.DecodeError:  # NaN and infinity are no JSON, but Python reads them
        return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=ascii_only)


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document whole or not at all."""
    replace_text(path, sealed(document))


def read_document(path: Path, advice: str) -> dict[str, Any]:
    """Read a document, without its hash.

    Args:
        advice: end of an error, such as ``evaluate the run again``.

    Raises:
        DamagedError: the file cannot be read, or its content is not what was written.
    """
    return unsealed(_bytes_of(path, advice), path, advice)


def unsealed(data: bytes, path: Path, advice: str) -> dict[str, Any]:
    """Content of a document whose bytes were read already; see `read_document`."""
    tree = _parsed(data, str(path), advice)
    if not isinstance(tree, dict) or not isinstance(tree.get(_HASH), str):
        raise DamagedError(
            f"{path} is damaged, or an earlier release wrote it: it holds no hash of its own; {advice}."
        )
    expected = tree.pop(_HASH)
    _compare(_hash(tree), expected, path, advice)
    return tree


def maybe_document(path: Path, advice: str) -> dict[str, Any] | None:
    """Read a document; None if there is no such file."""
    return read_document(path, advice) if path.exists() else None


def write_documents(path: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    """Write a list of documents, one a line, whole or not at all."""
    lines = [json.dumps(dict(document)) for document in documents]
    last = json.dumps({_HASH: sha256_text("\n".join(lines))})
    replace_text(path, "".join(f"{line}\n" for line in (*lines, last)))


def read_documents(path: Path, advice: str) -> list[dict[str, Any]]:
    """Read a list of documents; arguments and errors are those of `read_document`."""
    text = _bytes_of(path, advice).decode("utf-8", "replace")
    *lines, last = text.splitlines() or [""]
    seal = _parsed(last.encode(), str(path), advice)
    if not isinstance(seal, dict) or not isinstance(seal.get(_HASH), str):
        raise DamagedError(
            f"{path} is damaged, or an earlier release wrote it: its last line holds no hash; {advice}."
        )
    _compare(sha256_text("\n".join(lines)), seal[_HASH], path, advice)
    return [json.loads(line) for line in lines]


def _bytes_of(path: Path, advice: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(f"Cannot read {path}: {error.strerror}; {advice}.") from error


def _parsed(data: bytes, name: str, advice: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{name} is damaged ({error}); {advice}.") from error


def _compare(found: str, expected: str, path: Path, advice: str) -> None:
    if found != expected:
        raise DamagedError(
            f"{path} is damaged, or was changed by hand: sha256 of its content {found}, expected {expected};"
            f" {advice}."
        )


def _hash(plain: Mapping[str, Any]) -> str:
    """Hash of the values, whatever the order of keys."""
    return sha256_text(json.dumps(plain, sort_keys=True))
