"""The file of options in a folder of many runs: the same call continues it, and another one is refused."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from clickscale.config import Config
from clickscale.config_text import build, load_json, to_json
from clickscale.data.layout import MANIFEST
from clickscale.errors import RunError
from clickscale.files import checksum, replace_text
from clickscale.locks import is_empty

_OPTIONS = "options.json"
C = TypeVar("C", bound=Config)


class _Asked(Config, frozen=True):
    """Options, and the hash of the manifest of the data."""

    config: dict[str, Any]
    data: str


def claim_options(
    out: Path,
    config: C,
    data: Path,
    *,
    what: str,
    free: Collection[str],
    more: Callable[[C], Sequence[str]] = lambda stored: (),
    earlier: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Begin in ``out``, or continue what is there; the hash of the manifest of the data set ``data``.

    Args:
        what: kind of work that the folder holds, such as ``benchmark``.
        free: options that may change.
        more: further changes that are refused, each in a few words.
        earlier: values of options that a file of an earlier version lacks.

    Raises:
        RunError: the folder holds something else, or work with other options or data, or cannot be written.
    """
    manifest = refuse_other_work(out, config, data, what=what, free=free, more=more, earlier=earlier)
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / _OPTIONS, to_json(_Asked(config=msgspec.to_builtins(config), data=manifest)))
    return manifest


def refuse_other_work(
    out: Path,
    config: C,
    data: Path,
    *,
    what: str,
    free: Collection[str],
    more: Callable[[C], Sequence[str]] = lambda stored: (),
    earlier: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """Raise where `claim_options` would, and write nothing; the hash of the manifest of the data set.

    Raises:
        RunError: the folder holds something else, or work with other options or data, or cannot be written.
    """
    _require_writable(out)
    manifest = checksum(data / MANIFEST)
    if (stored := _stored(out)) is not None:
        before = build(type(config), {**earlier, **stored.config}, str(out / _OPTIONS))
        changed = [
            f"{name} is {getattr(before, name)!r}, not {getattr(config, name)!r}"
            for name in config.__struct_fields__
            if name not in free and getattr(before, name) != getattr(config, name)
        ]
        changed += [*more(before), *(["the data set is another one"] if stored.data != manifest else [])]
        if changed:
            raise RunError(f"{out} holds another {what}: {'; '.join(changed)}. Choose another folder.")
    elif not is_empty(out) and not all(one.name.endswith(".partial") for one in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no {what}; choose another folder.")
    return manifest


def _require_writable(out: Path) -> None:
    """Raise a `RunError` if ``out`` is no folder that can be written, nor one that can be made."""
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise RunError(f"{nearest} is a file, and {out} is to be a folder; choose another folder.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(f"{out} cannot be written: no permission in {nearest}; choose another folder.")


def stored_options(
    out: Path, kind: type[C], *, earlier: Mapping[str, Any] = MappingProxyType({})
) -> C | None:
    """The options with which the work in ``out`` was begun or last continued; None if there is none."""
    stored = _stored(out)
    return build(kind, {**earlier, **stored.config}, str(out / _OPTIONS)) if stored else None


def _stored(out: Path) -> _Asked | None:
    path = out / _OPTIONS
    return load_json(path.read_bytes(), _Asked, str(path)) if path.is_file() else None
