"""Public logs: one file per log, read in the layout in which it is published.

The file ``movielens_1m.py`` is the adapter ``movielens-1m``. It offers ``source(folder, *, options)`` and the
constants ``ABOUT``, ``CATEGORY``, the item field that tells the kind of an item, and ``RETURNING``, whether
users come back after days; its docstring describes the content of the log and the protocol. A new file is a
new adapter. Every adapter has the option ``statistics``: declare the usual statistics, as the draft for a log
of your own does.
"""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from clickscale.config_text import parse
from clickscale.data.adapters._about import About
from clickscale.data.source import Source
from clickscale.errors import ConfigError, unknown
from clickscale.schema import usual_statistics

_STATISTICS = "statistics"  # the option that every adapter has


def adapter_names() -> list[str]:
    """Names of all adapters, sorted."""
    modules = pkgutil.iter_modules(__path__)
    return sorted(module.name.replace("_", "-") for module in modules if not module.name.startswith("_"))


def _describe_adapter(name: str) -> str:
    """First paragraph of an adapter's docstring."""
    return inspect.cleandoc(_module(name).__doc__ or "").split("\n\n")[0].replace("\n", " ")


def about(name: str) -> About:
    """Title, size, licence and origin of the log that an adapter reads."""
    found: About = _module(name).ABOUT
    return found


def _adapter_options(name: str) -> dict[str, tuple[Any, Any]]:
    """Options of an adapter: name -> (type, default)."""
    function = _module(name).source
    kinds = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    own = {key: (kinds[key], parameters[key].default) for key in parameters if key != "folder"}
    return {_STATISTICS: (bool, True), **own}


def open_source(name: str, folder: Path, options: Mapping[str, Any] | None = None) -> Source:
    """The log in ``folder`` through the adapter ``name``; option values may be text, as on a command line.

    Raises:
        ConfigError: an unknown adapter or option, or a value of the wrong type.
        InputError: a file of the log is missing or damaged.
    """
    kinds = _adapter_options(name)
    values = {}
    for key, value in (options or {}).items():
        if key not in kinds:
            raise ConfigError(f"Adapter {name}: " + unknown("option", key, kinds))
        values[key] = _convert(name, key, value, kinds[key][0])
    declared = values.pop(_STATISTICS, True)
    module = _module(name)
    opened: Source = module.source(folder, **values)
    return _with_statistics(opened, module.CATEGORY, module.RETURNING) if declared else opened


def _with_statistics(source: Source, category: str, returning: bool) -> Source:
    """Declare the usual statistics of a log; without those by category if it lacks that field."""
    there = category in {field.name for field in source.schema.items}
    drawn = source.negatives > 0
    statistics = usual_statistics(category if there else "", returning=returning, drawn=drawn)
    return replace(source, schema=msgspec.structs.replace(source.schema, statistics=statistics).validate())


def _convert(name: str, key: str, value: Any, kind: Any) -> Any:
    if isinstance(value, kind) if isinstance(kind, type) else value is None:
        return value
    if Path in (kind, *typing.get_args(kind)):
        return Path(value)
    try:
        return msgspec.convert(parse(value) if isinstance(value, str) else value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Adapter {name}, option {key} = {value!r}: {error}.") from error


def _module(name: str) -> Any:
    if name not in adapter_names():
        raise ConfigError(unknown("adapter", name, adapter_names()))
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
