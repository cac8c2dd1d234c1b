"""Layout of the folder of a prepared data set: its files, and the manifest that describes them.

::

    manifest.json                schema, features, counts, split, report of rows, hashes of all files, its own
    encoder.json                 vocabularies and scales (see `clickscale.data.features.encoder`)
    encoder.safetensors
    users/offsets.npy            (users + 1,) int64: behaviors of user u are rows offsets[u]:offsets[u + 1]
    users/impressions.npy        (users + 1,) int64: the same for impressions
    users/field.NAME.npy         (users,) or (users, values) int32 indices, or (users,) float32
    users/ids.npy                (users,) int64 raw ids, ascending; ids that are text: their UTF-8 bytes in a
                                 row in ``ids.bytes.npy``, where each id ends in ``ids.ends.npy``
    behaviors/time.npy           (behaviors,) int64 seconds
    behaviors/known_at.npy       (behaviors,) int64 seconds, if the log has it; the timeline is sorted by it
    behaviors/item.npy           (behaviors,) int32 rows of the item table
    behaviors/field.NAME.npy     (behaviors,) or (behaviors, values)
    items/field.NAME.npy         (items,) or (items, values) int32, float32, or (items, width) float16 content
    items/first_seen.npy         (items,) int64 seconds: first time in the log, -1 if never
    items/ids...                 as for users; rows 0 (padding) and 1 (unknown) have no id: -1, or empty text
    impressions/user.npy         (impressions,) int32; sorted by user, then time, then order in the log
    impressions/time.npy         (impressions,) int64 seconds
    impressions/item.npy         (impressions,) int32
    impressions/row.npy          (impressions,) int64: number of the row in the log, from 0; a drawn negative
                                 has that of its positive (absent from data sets of earlier releases)
    impressions/visible.npy      (impressions,) int32: behaviors of the user known strictly before the time
    impressions/newest.npy       (impressions,) int32: item of the user's newest positive, if a key reads it
    impressions/part.npy         (impressions,) uint8: 0 train, 1 valid, 2 test, if the log names its parts
    impressions/field.NAME.npy   context fields and statistics
    impressions/label.NAME.npy   (impressions,) int8: 0, 1, or -1 for unknown
    positives/...                in a log whose negatives were drawn, all its positives, also those without
                                 fair negatives, with user, time, item, row, context fields and labels as of
                                 impressions. Statistics count them
    users/positives.npy          (users + 1,) int64: as for behaviors
    quarantine/TABLE.jsonl       the first rows of each reason for which rows of the table were not used
    summary.json                 size, rate and cold ids of each part (`clickscale.data.preparation.summary`)
    truth/...                    true click probabilities of a simulated world (`clickscale.world.truth`)
    content/NAME.json            where a feature comes from added later (`clickscale.data.content.extend`)

Missing attributes are index 1 (categorical; then 0 for the other places of a field of several values), NaN
(numeric) or a row of zeros (content).
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from clickscale.config import Config
from clickscale.config_text import build
from clickscale.data.source import Split
from clickscale.errors import ConfigError, DamagedError, DataError
from clickscale.features import Features
from clickscale.files import FileEntry, FolderKind, file_entry, sample_hash
from clickscale.schema import Schema
from clickscale.sealed import sealed, unsealed

MANIFEST = "manifest.json"
_LAYOUT_VERSION = 3
DATA_SET = FolderKind("a prepared data set", DataError, MANIFEST)
ADVICE = "prepare the data set again"  # where its files are damaged


class TableReport(Config, frozen=True):
    """Counts of the rows of one table: ``rows == kept + sum(quarantined.values())``."""

    rows: int
    kept: int
    quarantined: dict[str, int] = {}


class Manifest(Config, frozen=True):
    """Everything known of a prepared data set; written last, so a folder without it is not a data set.

    Attributes:
        counts: ``users``, ``items`` (rows 0 and 1 included), ``behaviors``, ``impressions``.
        boundaries: first second of valid and of test, where they are the same for all users; see
            `clickscale.data.split.boundaries`.
        report: one entry per table.
        notes: sentences that every report of results repeats.
        files: relative path -> size and hash of every other file.
        samples: relative path -> hash of a few pieces of the file, which are compared whenever the data set
            is opened.
    """

    schema: Schema
    features: Features
    counts: dict[str, int]
    split: Split
    boundaries: tuple[int, ...]
    report: dict[str, TableReport]
    files: dict[str, FileEntry]
    samples: dict[str, str]
    notes: tuple[str, ...] = ()
    known_at: bool = False
    version: int = _LAYOUT_VERSION


class _Versioned(msgspec.Struct):
    """The one key that every version of a manifest has: another version may have other keys besides."""

    version: int


def hashes_of(folder: Path, names: Iterable[str]) -> tuple[dict[str, FileEntry], dict[str, str]]:
    """Entries ``files`` and ``samples`` of a manifest for files of a data set."""
    paths = {name: folder / name for name in names}
    return (
        {name: file_entry(path) for name, path in paths.items()},
        {name: sample_hash(path) for name, path in paths.items()},
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes the folder a data set, with its own hash."""
    (folder / MANIFEST).write_text(sealed(msgspec.to_builtins(manifest)), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Manifest of a prepared data set.

    Raises:
        DataError: the folder is not a prepared data set, or one of another layout version.
        DamagedError: the manifest cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"{folder} is not a prepared data set (no {MANIFEST}); make one with: clickscale prepare"
        )
    data = path.read_bytes()
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version == _LAYOUT_VERSION:
            return build(Manifest, unsealed(data, path, ADVICE), str(path))
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as error:
        raise DamagedError(f"{path} is damaged ({error}); {ADVICE}.") from error
    raise DataError(f"{folder} has layout {version}, this release reads {_LAYOUT_VERSION}; prepare again.")
