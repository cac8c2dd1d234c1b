"""Samples of TorchEasyRec: Parquet tables with list columns, beside a pipeline ``.config``.

The features of the configuration are taken over as far as they are columns of the tables; those that the
library computes from others are named as left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clickscale.data.described.drafts.libraries.declared import (
    DeclaredField,
    DeclaredKind,
    DeclaredLog,
    located,
)
from clickscale.data.described.drafts.libraries.prototext import Tree, parse_prototext
from clickscale.data.tables.folders import matching_files
from clickscale.data.tables.raw_tables import column_names
from clickscale.errors import ConfigError, unknown

_KINDS: dict[str, DeclaredKind] = {"id_feature": "categorical", "raw_feature": "numeric"}
_LISTS: dict[str, DeclaredKind] = {"sequence_id_feature": "sequence", "sequence_raw_feature": "numbers"}
_GROUP = "sequence_feature"
_COMPUTED: dict[str, DeclaredKind] = {  # from other columns, unless the tables hold the result
    "combo_feature": "categorical",
    "lookup_feature": "numeric",
    "match_feature": "numeric",
    "expr_feature": "numeric",
    "overlap_feature": "numeric",
    "kv_dot_product": "numeric",
    "tokenize_feature": "categorical",
    "custom_feature": "numeric",
}
_KNOWN = (*_KINDS, *_LISTS, _GROUP, *_COMPUTED)
_DELIMITER = ";"  # between the behaviors of a sequence that is a text
_SEVERAL = "\x1d"  # between the values of a feature that is a text


def is_torcheasyrec(path: Path) -> bool:
    """True for a pipeline configuration with features."""
    return (
        path.suffix == ".config"
        and path.is_file()
        and "feature_configs" in path.read_text("utf-8", "replace")
    )


def torcheasyrec_log(path: Path) -> DeclaredLog:
    """Read a pipeline configuration.

    Raises:
        ConfigError: it cannot be read, or a feature is of an unknown type.
        InputError: the data are not beside it.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8: {error}.") from error
    tree = parse_prototext(text, str(path))
    if "train_input_path" not in tree:
        raise ConfigError(f"{path} has no train_input_path; name the files of the training samples.")
    keys = {"train": "train_input_path", "test": "eval_input_path"}
    files = {
        part: located(path, key, str(tree[key][-1]), [".parquet"])
        for part, key in keys.items()
        if key in tree
    }
    first = matching_files("train_input_path", files["train"].parent, files["train"].name)[0]
    known = set(column_names(first))
    fields, left_out = [], {}
    owners: dict[str, str] = {}  # features of one value by their name and by that of their embedding
    for declared in _declared(path, tree.get("feature_configs", [])):
        column = next((name for name in declared.columns if name in known), "")
        if column or not declared.computed:
            fields.append(declared.field(column or declared.columns[0]))
            if fields[-1].kind == "categorical":
                owners |= {declared.name: declared.name, declared.embedding: declared.name}
        else:
            left_out[declared.name] = "the library computes it from other columns"
    options = tree.get("data_config", [{}])[-1]
    labels = options.get("label_fields", []) if isinstance(options, dict) else []
    if not labels:
        raise ConfigError(f"{path}: data_config has no label_fields; name the columns with the outcomes.")
    return DeclaredLog(
        name=path.stem,
        library="TorchEasyRec",
        config=path,
        files=files,
        fields=tuple(_sharing(field, owners) for field in fields),
        labels=tuple(map(str, labels)),
        left_out=left_out,
    )


class _Declared:
    """One feature as the configuration has it.

    Attributes:
        columns: names under which it may stand in the tables, the likeliest first.
        computed: the library makes it from other columns.
    """

    def __init__(self, path: Path, kind: str, tree: Tree, group: Tree | None = None) -> None:
        self.tree, self.kind, self.computed = tree, kind, kind in _COMPUTED
        self._path = path
        self.own = _one(tree, "feature_name")
        if not self.own:
            raise ConfigError(f"{path}: a {kind} has no feature_name; give it one.")
        self.embedding = _one(tree, "embedding_name") or self.own
        self.source, _, entered = _one(tree, "expression").rpartition(":")
        self.group, self.delimiter, self.most = "", "", 0
        self.name, self.columns = self.own, [self.own, entered or self.own]
        if self.computed:  # its inputs are not the feature
            self.columns = [self.own]
        if group is not None:
            self.group = _one(group, "sequence_name")
            self.name = f"{self.group}__{self.own}"
            self.columns = [f"{self.group}__{name}" for name in (self.own, entered or self.own)]
        if group is not None or kind in _LISTS:
            listing = tree if group is None else group
            self.delimiter = _one(listing, "sequence_delim") or _DELIMITER
            self.most = _whole(path, listing, "sequence_length", 0)

    def field(self, column: str) -> DeclaredField:
        """The feature in a column of the tables."""
        kind = {**_KINDS, **_LISTS, **_COMPUTED}[self.kind]
        if self.group:
            kind = "numbers" if kind == "numeric" else "sequence"
        elif kind == "numeric" and _whole(self._path, self.tree, "value_dim", 1) > 1:
            kind = "vector"
        listed = kind in ("sequence", "numbers")
        return DeclaredField(
            name=self.name,
            kind=kind,
            column=column,
            source="user" if listed else self.source,
            separator=self.delimiter if listed else _one(self.tree, "separator") or _SEVERAL,
            most=self.most,
            shares=self.embedding if listed else "",
            group=self.group,
        )


def _declared(path: Path, configs: Sequence[Any]) -> Iterator[_Declared]:
    """Features one by one, those of sequences with their group."""
    for config in configs:
        for kind, trees in config.items() if isinstance(config, dict) else ():
            if kind not in _KNOWN:
                raise ConfigError(f"{path}: feature_configs: " + unknown("feature type", kind, _KNOWN))
            for tree in trees:
                if kind != _GROUP:
                    yield _Declared(path, kind, tree)
                    continue
                for inner in tree.get("features", []):
                    yield from (
                        _of_group(path, one, each, tree) for one, all_ in inner.items() for each in all_
                    )


def _of_group(path: Path, kind: str, tree: Tree, group: Tree) -> _Declared:
    if kind not in _KNOWN or kind == _GROUP:
        raise ConfigError(f"{path}: features of a sequence: " + unknown("feature type", kind, _KNOWN))
    return _Declared(path, kind, tree, group)


def _sharing(field: DeclaredField, owners: Mapping[str, str]) -> DeclaredField:
    """The field with the name of the feature whose embedding it shares, if there is such a feature."""
    return replace(field, shares=owners.get(field.shares, ""))


def _whole(path: Path, tree: Tree, name: str, default: int) -> int:
    """The last value of a name as a number; ``default`` without one."""
    text = _one(tree, name) or str(default)
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ConfigError(f"{path}: {name} is {text[:40]!r}; write a whole number of at least 0.")
    return int(text)


def _one(tree: Tree, name: str) -> str:
    """The last value of a name, as the text form has it; empty without one."""
    values = tree.get(name, [""])
    return values[-1] if isinstance(values[-1], str) else ""
