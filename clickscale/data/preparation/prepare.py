"""Preparation of a raw log into a data set (`clickscale.data.layout`), in bounded memory and all or nothing.

1. *read*: stream the log once, check every row, keep good rows as records on disk, bad ones in quarantine;
2. *sort*: deal the records out to buckets of users, sort each by time, drop repeated rows, count the visible
   behaviors of each impression, draw negatives if the log has none;
3. *fit*: find the ends of train and valid, and fit vocabularies and scales on the training part;
4. *encode*: turn raw columns into indices and scaled numbers, compute point-in-time statistics;
5. write the summary and the manifest, flush everything to disk and rename the folder to its final name.

Memory is bounded by ``chunk_rows`` rows of the log as read, ``memory_rows`` rows of about 128 bytes of
records (some three times over while they are sorted; one user's rows must fit), some 100 bytes per user and
item, and the vocabularies; it does not grow with the number of rows. The bytes written depend only on the
log. A killed run starts again from the beginning and reads nothing that the first one left.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clickscale.arrays import Progress
from clickscale.config_text import to_json
from clickscale.data.columns import NpyWriter, blocks, open_column, write_column
from clickscale.data.dataset import Columns
from clickscale.data.features.derived import write_derived
from clickscale.data.features.encoder import Encoder, Vocabulary
from clickscale.data.features.statistics import write_statistics
from clickscale.data.features.texts import text_buffers
from clickscale.data.layout import DATA_SET, Manifest, hashes_of, write_manifest
from clickscale.data.preparation.assemble import Assembly, Match
from clickscale.data.preparation.fitting import (
    fit_encoder,
    notes_on_scales,
    scale_made,
    training_part,
    with_negatives,
)
from clickscale.data.preparation.intake import Intake, read_log
from clickscale.data.preparation.negatives import note_on_negatives
from clickscale.data.preparation.records import TABLES, ids_of, table_fields
from clickscale.data.preparation.summary import SUMMARY, summarize
from clickscale.data.source import PART, Source, TableName
from clickscale.data.split import Division, boundaries, check_split, division_warnings
from clickscale.errors import ConfigError, DataError
from clickscale.features import FIRST, PADDING, POSITIVES, column_of, label_of
from clickscale.files import building, failpoint
from clickscale.locks import WRITER
from clickscale.schema import Field

_FEW_IDS = 10  # so few may lack attributes by chance


def prepare(
    source: Source,
    out: Path,
    *,
    overwrite: bool = False,
    max_quarantined: float = 0.5,
    chunk_rows: int = 1 << 17,
    memory_rows: int = 1 << 20,
    progress: Progress | None = None,
) -> Manifest:
    """Prepare a log; see the module docstring.

    Args:
        out: folder of the data set, which must not exist unless ``overwrite``.
        max_quarantined: largest share of impressions that may be unusable.
        chunk_rows, memory_rows: bounds of memory.
        progress: called with (stage, steps done, steps to do or None if not known).

    Raises:
        DataError: the log has too few usable impressions, ``out`` exists, or the disk is full.
        InputError: a table cannot be read or lacks a column.
        ConfigError: the schema contradicts itself, or the split is out of range.
    """
    with_negatives(source.schema, source.negatives).validate()
    check_split(source.split)
    source.sampling.check(source.schema, source.negatives)
    if source.split.is_by_user and "user" in source.schema.indistinct:
        raise ConfigError(
            f"The split {source.split.kind!r} cuts each user's impressions, and the log has no users; "
            "choose 'time' or 'day'."
        )
    if min(chunk_rows, memory_rows) < 1:
        raise DataError(f"chunk_rows and memory_rows must be at least 1; got {chunk_rows} and {memory_rows}.")
    with building(out, DATA_SET, overwrite=overwrite) as folder:
        run = _Preparation(source, folder, max_quarantined, chunk_rows, memory_rows, progress or _silent)
        return run.all_steps()


def _silent(stage: str, done: int, total: int | None) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class _Preparation:
    """Steps of a preparation; each reads the files that the one before it wrote into ``folder``."""

    source: Source
    folder: Path
    max_quarantined: float
    chunk_rows: int
    memory_rows: int
    tell: Progress
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    def all_steps(self) -> Manifest:
        """Run all steps up to the manifest."""
        intake = self.read()
        failpoint("prepare_read")
        users, items = _all_ids(intake, "user"), _all_ids(intake, "item")
        self.sort(intake, users, items)
        failpoint("prepare_sort")
        split, shown = self.source.split, self.folder / "impressions"
        given = open_column(shown / f"{PART}.npy") if split.is_given else None
        fixed = boundaries(open_column(shown / "time.npy"), split, given)
        encoder = self.encode(intake, users, items, fixed)
        failpoint("prepare_encode")
        return self.describe(intake, encoder, fixed)

    def read(self) -> Intake:
        """Run step 1."""
        intake = read_log(
            self.source, self.folder / "spill", self.chunk_rows, lambda done: self.tell("read", done, None)
        )
        intake.quarantine.check(self.max_quarantined)
        self.notes.extend([*self.source.findings(), *intake.notes_on_labels()])
        return intake

    def sort(self, intake: Intake, users: Vocabulary, items: Vocabulary) -> None:
        """Run step 2."""
        total = sum(intake.quarantine.kept(table) for table in ("behaviors", "impressions"))
        assembly = Assembly(
            intake=intake,
            out=self.folder,
            raw=self.raw,
            users=users,
            items=items,
            negatives=self.source.negatives,
            sampling=self.source.sampling,
            chunk_rows=self.chunk_rows,
            memory_rows=self.memory_rows,
        )
        assembly.write(lambda done: self.tell("sort", done, total))
        for table, match in assembly.matches.items():
            self.notes.extend(_note_on_match(match, table, self.source))
        names = self.source.names
        if names.get("behaviors") != names.get("impressions"):
            self.notes.extend(_note_on_match(_users_with_histories(self.folder), "behaviors", self.source))
        shutil.rmtree(self.folder / "spill")
        intake.quarantine.check(self.max_quarantined)
        intake.quarantine.write(self.folder / "quarantine")

    def encode(self, intake: Intake, users: Vocabulary, items: Vocabulary, fixed: tuple[int, ...]) -> Encoder:
        """Run steps 3 and 4."""
        schema = with_negatives(self.source.schema, self.source.negatives)
        part = training_part(self.folder, self.raw, schema, self.source.split, fixed)
        encoder = fit_encoder(part, intake.distinct, users, items)
        tables = (*TABLES, POSITIVES) if self.source.negatives else TABLES
        columns = [(table, field) for table in tables for field in table_fields(schema, table)]
        for done, (table, field) in enumerate(columns):
            self.tell("encode", done, len(columns))
            _encode_column(self.folder, self.raw, table, field, encoder)
        self.tell("encode", len(columns), len(columns))
        _write_ids(self.folder / "users", schema.user, users, encoder, 0)
        _write_ids(self.folder / "items", schema.item, items, encoder, FIRST)
        self.notes.extend(write_derived(self.folder, encoder))
        write_statistics(self.folder, schema, memory_rows=self.memory_rows, progress=self.tell)
        encoder = scale_made(self.folder, part, encoder)
        encoder.save(self.folder)
        shutil.rmtree(self.raw)
        return encoder

    def describe(self, intake: Intake, encoder: Encoder, fixed: tuple[int, ...]) -> Manifest:
        """Run step 5 up to the renaming."""
        self.source.finish(self.folder)
        rows = {"users": "users/offsets", "items": "items/first_seen"}
        rows |= {table: f"{table}/time" for table in ("behaviors", "impressions")}
        counts = {table: len(open_column(self.folder / f"{name}.npy")) for table, name in rows.items()}
        counts["users"] -= 1
        shown = Columns(self.folder / "impressions")
        offsets = open_column(self.folder / "users/impressions.npy")
        given = shown[PART] if self.source.split.is_given else None
        division = Division(self.source.split, fixed, offsets, shown["user"], shown["time"], given)
        labels = {label.name: shown[label_of(label.name)] for label in encoder.schema.labels}
        summary = summarize(shown, division.part, labels, self.source.split, encoder.schema.indistinct)
        (self.folder / SUMMARY).write_text(to_json(summary) + "\n", encoding="utf-8")
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != WRITER)
        files, samples = hashes_of(self.folder, [str(path.relative_to(self.folder)) for path in paths])
        manifest = Manifest(
            schema=encoder.schema,
            features=encoder.features(),
            counts=counts,
            split=self.source.split,
            boundaries=fixed,
            report=intake.quarantine.report(),
            files=files,
            samples=samples,
            notes=(
                *self.source.notes,
                *note_on_negatives(self.source.negatives, self.source.sampling, intake.quarantine.counts),
                *division_warnings(self.source.split, division, offsets, shown["time"]),
                *self.notes,
                *notes_on_scales(encoder),
            ),
            known_at=intake.known_at,
        )
        write_manifest(self.folder, manifest)
        return manifest


def _all_ids(intake: Intake, role: str) -> Vocabulary:
    """Collect all ids of the log, inside and outside of the training part."""
    field = intake.schema.user if role == "user" else intake.schema.item
    return Vocabulary(field.dtype, intake.distinct[ids_of(role)].sorted())


def _encode_column(folder: Path, raw: Path, table: str, field: Field, encoder: Encoder) -> None:
    """Turn the raw values of a field into its final column."""
    source = raw / table / f"{column_of(field.name)}.npy"
    column = open_column(source)
    kind = {"categorical": "i4", "content": "f2"}.get(field.kind, "f4")
    with NpyWriter(folder / table / source.name, kind, column.shape[1:]) as writer:
        for rows in blocks(len(column)):
            encoded = encoder.encode_raw(field.name, column[rows])
            if table == "items" and rows.start == 0 and field.kind == "categorical":
                encoded[0] = PADDING
            writer.append(encoded)
    source.unlink()


def _write_ids(folder: Path, field: Field, ids: Vocabulary, encoder: Encoder, reserved: int) -> None:
    """Write the raw ids of a table after ``reserved`` rows without an id, and the encoded field of the id."""
    assert ids.values is not None, "ids are kept exactly"
    column = np.arange(reserved, dtype=np.int32)  # rows 0 and 1 of the item table: padding and unknown
    encoded = encoder.encode_field(field.name, ids.values)
    write_column(folder / f"{column_of(field.name)}.npy", np.concatenate([column, encoded]))
    if ids.dtype == "int":
        write_column(folder / "ids.npy", np.concatenate([np.full(reserved, -1), ids.values.to_numpy()]))
        return
    ends, data = text_buffers(ids.values)
    write_column(folder / "ids.ends.npy", np.concatenate([np.zeros(reserved, np.int64), ends]))
    write_column(folder / "ids.bytes.npy", data)


def _note_on_match(match: Match, table: TableName, source: Source) -> Iterator[str]:
    """Say that few users or items of the events occur in a table that describes users, items or histories.

    Raises:
        DataError: none does.
    """
    if not match.described or not match.events or 2 * match.both >= match.events:
        return
    names = {name: source.names.get(name, name) for name in TABLES}
    histories = table == "behaviors"
    sources = [names["impressions"], *([] if histories else [names["behaviors"]])]
    events = " and ".join(dict.fromkeys(sources))
    ids = "users" if histories else table
    known = f"{match.both:,} of {match.events:,} {ids} of {events} occur in {names[table]}"
    if not match.both and match.events >= _FEW_IDS:
        raise DataError(
            f"{known}, which has {match.described:,} others; check that its column of ids is the one that "
            "the events name, in the same notation."
        )
    yield f"WARNING: {known}; the others have no {'history' if histories else 'attributes'}."


def _users_with_histories(folder: Path) -> Match:
    """Count the users with impressions, with behaviors, and with both."""
    shown, past = (
        np.diff(open_column(folder / "users" / f"{name}.npy")) > 0 for name in ("impressions", "offsets")
    )
    return Match(int(shown.sum()), int(past.sum()), int((shown & past).sum()))
