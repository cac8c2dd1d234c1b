"""New item features for a prepared data set, written as another data set that shares all other files.

A data set is never changed: its readers map its columns into memory, and runs remember its hashes. So the
new columns go into a new folder, together with a new encoder and manifest. All other files are hard links,
or copies where the file system has no hard links. The new folder may replace the old one (``out`` is the
folder itself). This happens in one move. Readers of the old folder keep their mapped files, and runs that
were trained before refuse the new one, since a model is built from the features of its data.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from clickscale.data.dataset import Dataset
from clickscale.data.features.encoder import JSON, TENSORS, Encoder, Vocabulary
from clickscale.data.layout import DATA_SET, MANIFEST, Manifest, TableReport, hashes_of, write_manifest
from clickscale.errors import SchemaError
from clickscale.features import column_of
from clickscale.files import building
from clickscale.locks import WRITER
from clickscale.schema import Field, Schema

_REWRITTEN = frozenset({MANIFEST, JSON, TENSORS})  # these differ, so they must not share their bytes


@dataclass(frozen=True)
class Addition:
    """New item features whose columns were written.

    Attributes:
        fields: the new item fields, in order; ``items/field.NAME.npy`` is there for each.
        vocabularies: by field name, for the categorical ones.
        report: rows of the tables that were read, kept and quarantined.
    """

    fields: tuple[Field, ...]
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)
    report: Mapping[str, TableReport] = field(default_factory=dict)


def add_item_features(
    dataset: Dataset, out: Path, write: Callable[[Path], Addition], *, overwrite: bool = False
) -> Manifest:
    """Make ``out`` a data set that has more item features, all or nothing; see the module docstring.

    Args:
        out: folder to write; ``dataset.path`` itself puts the new data set in place of the old one.
        write: writes the new columns into a folder; it must not open a file that exists.
        overwrite: replace another data set in ``out``.

    Raises:
        DataError: ``out`` exists and may not be replaced, or the disk is full.
        SchemaError: a new field contradicts the schema.
    """
    same = os.path.abspath(out) == os.path.abspath(dataset.path)
    with building(out, DATA_SET, overwrite=overwrite or same) as folder:
        _link_files(dataset.path, folder)
        addition = write(folder)
        encoder = _extended_encoder(dataset.encoder, addition)
        encoder.save(folder)
        manifest = _manifest(dataset, folder, encoder, addition)
        write_manifest(folder, manifest)
    return manifest


def new_names(schema: Schema, *names: str) -> None:
    """Refuse names of fields that the data set has already.

    Raises:
        SchemaError: names the field and the way out.
    """
    for name in names:
        if name in schema.fields():
            raise SchemaError(
                f"The data set already has a field {name!r}; choose another name, or start from the data set"
                " without it."
            )
        if problems := Field(name=name).problems():
            raise SchemaError("; ".join(problems) + ".")


def _link_files(source: Path, goal: Path) -> None:
    """Link every file of a data set below ``goal``, except those that change."""
    for path in sorted(source.rglob("*")):
        target = goal / path.relative_to(source)
        if path.is_dir():
            target.mkdir()
        elif path.relative_to(source).as_posix() not in _REWRITTEN:
            try:
                os.link(path, target)
            except OSError:  # another disk, or a file system without hard links
                shutil.copyfile(path, target)


def _extended_encoder(encoder: Encoder, addition: Addition) -> Encoder:
    """Return the encoder with the new fields after the old ones."""
    schema = msgspec.structs.replace(encoder.schema, items=(*encoder.schema.items, *addition.fields))
    return Encoder(
        schema.validate(),
        encoder.vocabularies | dict(addition.vocabularies),
        encoder.scales,
        encoder.item_rows,
    )


def _manifest(dataset: Dataset, folder: Path, encoder: Encoder, addition: Addition) -> Manifest:
    """Make the manifest of the extended data set; linked files keep their hashes."""
    old = dataset.manifest
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != WRITER)
    names = [path.relative_to(folder).as_posix() for path in paths]
    kept = [name for name in names if name in old.files and name not in _REWRITTEN]
    files, samples = hashes_of(folder, [name for name in names if name not in kept])
    files |= {name: old.files[name] for name in kept}
    samples |= {name: old.samples[name] for name in kept}
    return msgspec.structs.replace(
        old,
        schema=encoder.schema,
        features=encoder.features(),
        report=old.report | dict(addition.report),
        files=files,
        samples=samples,
    )


def item_vectors(dataset: Dataset, name: str) -> npt.NDArray[Any]:
    """(items, width) vectors of a content field.

    Raises:
        SchemaError: the data set has no content field of that name.
    """
    known = [feature.name for feature in dataset.features.item if feature.kind == "content"]
    if name not in known:
        raise SchemaError(
            f"The data set has no content field {name!r}; it has {', '.join(known) or 'none'}. Add one with:"
            " clickscale content import, or clickscale content embed."
        )
    return dataset.items[column_of(name)]


def write_facts(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Write the origin of a feature into ``content/NAME.json`` of the data set."""
    (folder / "content").mkdir(exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(facts, order="sorted"), indent=2)
    (folder / "content" / f"{name}.json").write_bytes(text + b"\n")


def as_index_column(vocabulary: Vocabulary, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Look up (items,) indices of keys (items,); row 0 is padding and gets index 0."""
    column = vocabulary.lookup(keys)
    column[0] = 0
    return column
