"""Option structs as text: read from TOML or JSON, written as JSON, changed by ``a.b=c`` overrides.

An unknown key or choice is an error that names the nearest known one.
"""

import json
import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from clickscale.errors import ConfigError, unknown

T = TypeVar("T", bound=msgspec.Struct)

# Messages of msgspec, steps of its paths, and its types in the words of a document.
_WRONG = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `\w+`")
_LACKING = re.compile(r"Object missing required field `(?P<key>[^`]+)`")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table of keys",
}


def parse(text: str) -> Any:
    """Value of an override as TOML reads it (``3``, ``0.1``, ``true``, ``[1, 2]``); anything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def override(config: T, assignments: Sequence[str]) -> T:
    """Return ``config`` with each ``a.b=c`` applied in order.

    Raises:
        ConfigError: an assignment without ``=``, an unknown key, or a value of the wrong type.
    """
    return assign(config, [("the overrides", split_assignments(assignments))])


def split_assignments(assignments: Sequence[str]) -> list[tuple[str, Any]]:
    """Keys and values of texts ``a.b=c``.

    Raises:
        ConfigError: a text has no ``=``.
    """
    pairs = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(
                f"Override {assignment!r} has no '='; write key=value, such as optimizer.learning_rate=0.001."
            )
        pairs.append((key.strip(), parse(value.strip())))
    return pairs


def assign(config: T, layers: Sequence[tuple[str, Sequence[tuple[str, Any]]]]) -> T:
    """Return ``config`` with dotted keys set, layer by layer; a later value of a key wins.

    Args:
        layers: where values come from, for errors, and their keys and values.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    tree = msgspec.to_builtins(config)
    for origin, pairs in layers:
        for key, value in pairs:
            try:
                _assign(tree, key, value)
            except ConfigError as error:
                raise ConfigError(f"{origin}: {error}") from error
    return build(type(config), tree, " and ".join(origin for origin, _ in layers))


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in a nested dict; only keys that exist may be set."""
    *parents, last = key.split(".")
    branch: Any = tree
    for depth, name in enumerate([*parents, last]):
        if not isinstance(branch, dict) or name not in branch:
            known = branch if isinstance(branch, dict) else ()
            asked = ".".join([*parents, last][: depth + 1])
            raise ConfigError(unknown("option", asked, _dotted(parents[:depth], known)))
        if depth < len(parents):
            branch = branch[name]
    branch[last] = value


def _dotted(parents: Sequence[str], names: Any) -> list[str]:
    """Full dotted names of the keys of one level."""
    return [".".join([*parents, name]) for name in names]


def build(kind: type[T], tree: Any, origin: str) -> T:
    """Make a struct of ``kind`` from plain values; errors say where they came from (``origin``)."""
    try:
        return msgspec.convert(tree, kind)
    except Exception as error:
        _refuse_unknown(kind, tree, origin, "")
        if isinstance(error, msgspec.ValidationError):
            raise ConfigError(f"{origin}: {_explained(str(error), tree)}") from error
        if isinstance(error, ValueError | TypeError):
            raise ConfigError(f"{origin}: {error}") from error
        raise


def _explained(message: str, tree: Any) -> str:
    """Write the message of a conversion as a key, its value and what it must be."""
    told, _, path = message.partition(" - at `$")
    path = path.rstrip("`").removeprefix(".")
    if wrong := _WRONG.fullmatch(told):
        wanted = [_WORDS.get(kind, kind) for kind in wrong["wanted"].split(" | ") if kind != "null"]
        return f"{path or 'the whole'} is {_value_at(tree, path)}, and must be {' or '.join(wanted)}."
    if lacking := _LACKING.fullmatch(told):
        return f"{path}{path and ': '}the key {lacking['key']!r} is missing."
    return f"{path}{path and ': '}{told}."


def _value_at(tree: Any, path: str) -> str:
    """Write the value at a path such as ``labels[0].delay``; ``[...]`` hides which of a mapping it is."""
    if "[...]" in path:
        return "something else"
    for key, place in _STEP.findall(path):
        tree = tree[key or int(place)]
    return reprlib.repr(tree)


def _refuse_unknown(kind: Any, tree: Any, origin: str, path: str) -> None:
    """Name the first key or choice of ``tree`` that ``kind`` does not take, with the nearest one of its."""
    if isinstance(tree, list):
        held = [(place, entry) for place, entry in enumerate(tree) if isinstance(entry, str | list | dict)]
        for place, entry in held:
            for inner in get_args(kind):
                _refuse_unknown(inner, entry, origin, f"{path}[{place}]")
        return
    if isinstance(tree, str) and get_origin(kind) is Literal and tree not in get_args(kind):
        raise ConfigError(f"{origin}: " + unknown(path, tree, get_args(kind)))
    if not isinstance(tree, dict):
        return
    if get_origin(kind) is dict:  # keys are data, only the values have fields
        for key, value in tree.items():
            _refuse_unknown(get_args(kind)[1], value, origin, f"{path}.{key}" if path else str(key))
        return
    structs = [kind, *get_args(kind)]
    structs = [s for s in structs if isinstance(s, type) and issubclass(s, msgspec.Struct)]
    if len(structs) != 1:
        return
    fields = _types_of(structs[0])
    for key, value in tree.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in fields:
            known = [f"{path}.{field}" if path else field for field in fields]
            raise ConfigError(f"{origin}: " + unknown("key", name, known))
        _refuse_unknown(fields[key], value, origin, name)


@cache  # large documents hold thousands of the same structs
def _types_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Type of each field of a struct by its key in a document."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def load_toml(path: Path, kind: type[T]) -> T:
    """Read a struct from a TOML file.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not fit ``kind``.
    """
    return build(kind, _read_toml(path), str(path))


def read_assignments(path: Path) -> list[tuple[str, Any]]:
    """Dotted keys and values of a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    return list(_leaves(_read_toml(path), ""))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Values of nested tables by dotted key."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_json(config: msgspec.Struct) -> str:
    """Deterministic, indented JSON of a struct."""
    return json.dumps(msgspec.to_builtins(config), indent=2, sort_keys=True, ensure_ascii=False)


def load_json(text: str | bytes, kind: type[T], origin: str) -> T:
    """Read a struct from JSON text; errors name ``origin``."""
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{origin} is not valid JSON: {error}.") from error
    return build(kind, tree, origin)
