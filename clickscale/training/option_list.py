"""List the options of a run, with type, default and meaning, as their structs and docstrings tell them.

The meaning of an option stands in the section ``Attributes:`` of its struct, after its name or after several
names: ``width, d: ...``.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from clickscale.config import Config
from clickscale.models import model_config
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.run.run_config import TrainConfig


@dataclass(frozen=True)
class _Option:
    """One key of ``--set``; ``default`` is as TOML writes it, ``"required"`` if there is none."""

    key: str
    type: str
    default: str
    meaning: str


def train_options(model: str = "", grade: str = "size-2") -> list[_Option]:
    """Options of ``train``, with those of a model after ``model.`` if one is named.

    Raises:
        ConfigError: unknown model or grade.
    """
    own = list(_options_of(type(config := model_config(model, grade)), config, "model.")) if model else []
    return [*_options_of(TrainConfig), *own]


def distill_options() -> list[_Option]:
    """Options of ``distill`` that ``train`` does not have."""
    known = {option.key for option in _options_of(TrainConfig)}
    return [option for option in _options_of(DistillConfig) if option.key not in known]


def _options_of(kind: type[Config], config: Config | None = None, prefix: str = "") -> Iterator[_Option]:
    """Options of a struct and of the structs in it, in their order.

    Args:
        config: a struct whose values are the defaults; None takes those of ``kind``.
        prefix: of every key.
    """
    meanings = _meanings_of(kind)
    for field in msgspec.structs.fields(kind):
        default = getattr(config, field.name) if config is not None else _default(field)
        inner = _struct_in(field.type)
        if inner is None:
            meaning = meanings.get(field.name, "")
            yield _Option(f"{prefix}{field.name}", _type_text(field.type), _default_text(default), meaning)
        else:
            current = default if isinstance(default, Config) else None
            yield from _options_of(inner, current, f"{prefix}{field.name}.")


def _meanings_of(kind: type[Config]) -> dict[str, str]:
    """Meaning of each option of a struct that its docstring or that of a struct above it tells."""
    meanings: dict[str, str] = {}
    for above in reversed(kind.__mro__):
        if issubclass(above, Config) and above is not Config:
            names = [field.name for field in msgspec.structs.fields(above)]
            meanings |= _entries(above.__doc__ or "", names)
    return meanings


def _entries(docstring: str, names: list[str]) -> dict[str, str]:
    """Entries ``name: meaning`` or ``name, name: meaning`` of a section ``Attributes:``."""
    section = inspect.cleandoc(docstring).partition("Attributes:\n")[2]
    section = re.split(r"\n\n|\n(?=\S)", section)[0]
    text = " ".join(section.split()).replace("``", "`")
    name = "|".join(names)
    # An entry may follow another one on the same line.
    starts = list(re.finditer(rf"(?:^|(?<=\S ))((?:{name})(?:, (?:{name}))*): ", text))
    ends = [start.start() for start in starts][1:] + [len(text)] * bool(starts)
    return {
        option: text[start.end() : end].strip()
        for start, end in zip(starts, ends, strict=True)
        for option in start.group(1).split(", ")
    }


def _struct_in(kind: Any) -> type[Config] | None:
    """The struct that a field holds, if it holds one, perhaps besides None."""
    structs = [one for one in (kind, *get_args(kind)) if inspect.isclass(one) and issubclass(one, Config)]
    return structs[0] if structs else None


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _default_text(value: Any) -> str:
    if value is msgspec.NODEFAULT:
        return "required"
    if isinstance(value, tuple):
        return f"[{', '.join(_default_text(one) for one in value)}]"
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type_text(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(str(choice) for choice in arguments)
    if origin is tuple:
        return f"list of {_type_text(arguments[0])}"
    if origin in (Union, UnionType):
        # An option that is not set is left to the recipe; no value of --set says so.
        return " | ".join(_type_text(one) for one in arguments if one is not type(None))
    return {str: "text", int: "integer", float: "number", bool: "true | false"}.get(kind, str(kind))
