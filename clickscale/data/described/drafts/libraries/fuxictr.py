"""Logs that were prepared for FuxiCTR: tables beside a ``dataset_config.yaml``.

The file declares one or several data sets: the tables of each part, the columns of features with their kind,
and the label. Only values that YAML calls safe are read, so no object is ever made from it.

Blocks of Parquet that the library has encoded already stand beside a ``feature_map.json``, which names the
same things; their values are indices. The pickle beside them is not read.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clickscale.data.described.drafts.libraries.declared import (
    DeclaredField,
    DeclaredKind,
    DeclaredLog,
    located,
)
from clickscale.data.tables.folders import matching_files
from clickscale.data.tables.raw_tables import column_names
from clickscale.errors import ConfigError, InputError, unknown

_KINDS: dict[str, DeclaredKind] = {
    "categorical": "categorical",
    "numeric": "numeric",
    "sequence": "sequence",
    "embedding": "vector",
    "meta": "meta",
}
_FORMATS = ("csv", "parquet")
_MAP = "feature_map.json"
_CONFIG = "dataset_config.yaml"
_COPY = "copy_from("  # the one step of preparing that names another column and nothing else


def is_fuxictr(path: Path) -> bool:
    """True for a YAML file that declares columns of features, or the map of those that were encoded."""
    if path.name == _MAP:
        return path.is_file()
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return False
    return path.name == _CONFIG or "feature_cols" in path.read_text("utf-8", "replace")


def fuxictr_log(path: Path, dataset: str = "") -> DeclaredLog:
    """Read a ``dataset_config.yaml``, or a ``feature_map.json``.

    Args:
        dataset: name of a data set among several; may be empty if there is one, or the data of one only.

    Raises:
        ConfigError: the file is no YAML, or what it declares is incomplete or unknown.
        InputError: the data are not beside it.
    """
    if path.name == _MAP:
        return _encoded_log(path)
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    found = {str(name): one for name, one in _mapping(tree, path, "the file").items() if _declares(one)}
    if "feature_cols" in tree:  # one data set, whose keys stand at the top
        found = {str(tree.get("dataset_id", path.parent.name)): tree}
    name = dataset or _only(path, found)
    if name not in found:
        raise ConfigError(f"{path}: " + unknown("data set", name, found))
    declared = found[name]
    labels = declared.get("label_col") or []
    labels = labels if isinstance(labels, list) else [labels]
    if not labels:
        raise ConfigError(f"{path}: data set {name!r} has no label_col; name the column with the outcome.")
    files = _files(path, declared)
    first = matching_files("train_data", files["train"].parent, files["train"].name)[0]
    fields = list(_fields(path, declared, column_names(first)))
    return DeclaredLog(
        name=name,
        library="FuxiCTR",
        config=path,
        files=files,
        fields=tuple(field for field, left_out in fields if not left_out),
        labels=tuple(_label(path, label) for label in labels),
        left_out={field.name: left_out for field, left_out in fields if left_out},
    )


def _encoded_log(path: Path) -> DeclaredLog:
    """Read the map of a data set that the library has encoded."""
    try:
        tree = _mapping(json.loads(path.read_text("utf-8")), path, "the file")
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}.") from error
    features, labels = tree.get("features"), tree.get("labels")
    if not isinstance(features, list) or not isinstance(labels, list) or not labels:
        raise ConfigError(
            f"{path} names no features and labels; it must be the {_MAP} of an encoded data set."
        )
    named = {str(name): spec for one in features for name, spec in _mapping(one, path, "a feature").items()}
    fields = [
        _field(path, {**_mapping(spec, path, name), "name": name}, "features", {})
        for name, spec in named.items()
    ]
    files = {}
    for part in ("train", "valid", "test"):
        try:
            files[part] = located(path, part, part, [".parquet"])
        except InputError:
            if part == "train":
                raise
    return DeclaredLog(
        name=str(tree.get("dataset_id", path.parent.name)),
        library="FuxiCTR",
        config=path,
        files=files,
        fields=tuple(fields),
        labels=tuple(map(str, labels)),
    )


def _label(path: Path, declared: object) -> str:
    if not isinstance(declared, Mapping):
        raise ConfigError(f"{path}: label_col has {declared!r}; write a mapping, such as {{name: click}}.")
    return _text(path, declared, "name", "label_col")


def _declares(tree: object) -> bool:
    return isinstance(tree, Mapping) and "feature_cols" in tree


def _mapping(tree: object, path: Path, what: str) -> Mapping[str, Any]:
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: {what} must be a mapping of keys to values, as in feature_cols: [...].")
    return tree


def _only(path: Path, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Name the one data set of the file, or the one whose training data are there."""
    there = []
    for name, declared in found.items() if len(found) > 1 else ():
        try:
            _files(path, declared)
        except InputError:
            continue
        there.append(name)
    names = there if len(there) == 1 else list(found)
    if not names:
        raise ConfigError(f"{path} declares no data set: none of its entries has feature_cols.")
    if len(names) != 1:
        raise ConfigError(
            f"{path} declares {len(names)} data sets: {', '.join(sorted(names))}; choose one by "
            "--dataset NAME."
        )
    return names[0]


def _files(path: Path, declared: Mapping[str, Any]) -> dict[str, Path]:
    """Path or pattern of each part."""
    format = declared.get("data_format", "csv")
    if format not in _FORMATS:
        raise ConfigError(
            f"{path}: data_format is {format!r}, and {' and '.join(_FORMATS)} can be read; write the "
            "tables in one of them."
        )
    if not declared.get("train_data"):
        raise ConfigError(f"{path} names no train_data; name the file or folder with the training rows.")
    keys = {part: f"{part}_data" for part in ("train", "valid", "test")}
    named = {part: str(declared[key]) for part, key in keys.items() if declared.get(key)}
    return {part: located(path, keys[part], text, [f".{format}"]) for part, text in named.items()}


def _fields(
    path: Path, declared: Mapping[str, Any], known: Collection[str]
) -> Iterator[tuple[DeclaredField, str]]:
    """Fields of ``feature_cols``, and why each is left out; one entry may name several columns.

    Args:
        known: columns of the tables. A feature that a step of preparing makes is left out if it is not there.
    """
    entries = declared["feature_cols"]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ConfigError(f"{path}: feature_cols must be a list of columns.")
    for number, entry in enumerate(entries):
        where = f"feature_cols[{number}]"
        entry = _mapping(entry, path, where)
        step, names = entry.get("preprocess"), entry.get("name")
        for name in names if isinstance(names, list) else [names]:
            field, why = _field(path, {**entry, "name": name}, where, declared), ""
            if entry.get("active", True) is False:
                why = "the configuration has it as not active"
            elif step and field.column not in known:
                why = f"the library computes it by {step}"
            yield field, why


def _field(path: Path, entry: Mapping[str, Any], where: str, declared: Mapping[str, Any]) -> DeclaredField:
    name = _text(path, entry, "name", where)
    type = entry.get("type")
    if not isinstance(type, str) or type not in _KINDS:
        raise ConfigError(f"{path}: {where} ({name}): " + unknown("type", str(type), _KINDS))
    steps = str(entry.get("preprocess") or "")
    column = steps[len(_COPY) :].rstrip(")") if steps.startswith(_COPY) else name
    return DeclaredField(
        name=name,
        kind=_KINDS[type],
        column=column,
        source=str(entry.get("source") or ""),
        separator=str(entry.get("splitter") or ""),
        most=_count(path, entry, "max_len", where, 0),
        shares=str(entry.get("share_embedding") or ""),
        min_count=_count(
            path, entry, "min_categr_count", where, _count(path, declared, "min_categr_count", "", 1)
        ),
    )


def _text(path: Path, entry: Mapping[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(
            f"{path}: {where}: {key} is {value!r}; write a text, in quotes if YAML reads another."
        )
    return str(value)


def _count(path: Path, entry: Mapping[str, Any], key: str, where: str, default: int) -> int:
    value = entry.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            f"{path}: {where or 'the data set'}: {key} is {value!r}; write a number of at least 0."
        )
    return max(value, default if default == 0 else 1)
