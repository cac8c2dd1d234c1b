"""The folder of many runs belongs to one set of options and to one data set."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from clickscale.config import Config
from clickscale.config_text import load_json, to_json
from clickscale.data.layout import MANIFEST
from clickscale.errors import RunError
from clickscale.files import checksum, replace_text

_OPTIONS = "options.json"


class Claim(Config, frozen=True, kw_only=True):
    """Hash of the manifest of the data; each kind of experiment adds its options as ``config``."""

    data: str


T = TypeVar("T", bound=Claim)


def claim(
    out: Path,
    kind: type[T],
    config: Any,
    *,
    noun: str,
    free: Collection[str],
    lost: Callable[[T], list[str]] = lambda stored: [],
) -> None:
    """Begin an experiment in ``out``, or continue the one there.

    Args:
        config: its options, of the type of ``kind.config``; its ``data`` is the prepared data set.
        noun: name of such an experiment, for errors.
        free: options that may change.
        lost: complaints about free options of the stored experiment that may not become fewer.

    Raises:
        RunError: the folder holds something else, or an experiment with other options or data.
    """
    make: Callable[..., T] = kind
    asked = make(config=config, data=checksum(Path(config.data) / MANIFEST))
    path = out / _OPTIONS
    if path.is_file():
        stored = load_json(path.read_bytes(), kind, str(path))
        before, now = _options(stored), _options(asked)
        changed = [
            f"{name} is {before[name]!r}, not {now[name]!r}"
            for name in now
            if name not in free and before[name] != now[name]
        ]
        changed += lost(stored)
        changed += ["the data set is another one"] if stored.data != asked.data else []
        if changed:
            raise RunError(f"{out} holds another {noun}: {'; '.join(changed)}. Choose another folder.")
    elif out.is_dir() and any(not one.name.endswith(".partial") for one in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no {noun}; choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    replace_text(path, to_json(asked))


def _options(claim: Claim) -> dict[str, Any]:
    config: Config = getattr(claim, "config")  # noqa: B009 - each kind of experiment has a type of its own
    return {name: getattr(config, name) for name in config.__struct_fields__}
