"""Bytes of a prepared data set against the same impressions with copied histories.

    python benchmarks/bench_storage.py PREPARED [--length 200] [--every 32]

The copied form is what peers store: in every row the profile, the candidate with its attributes, the label,
and a padded history of item ids and event fields (attributes of the items in it are left out, in its favor).
Its plain size is arithmetic. Its size as Parquet (zstd) is measured on one n-th of the rows: random ones, as
in a shuffled file that is trained from in order, and those of every n-th user by user and time, where
neighbors repeat each other and zstd finds the copies again. Training from that file needs another shuffle,
and every look at it decompresses the copies: it is small on disk only.
"""

import argparse
import tempfile
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickscale.arrays import Array
from clickscale.data.dataset import Columns, Dataset, open_dataset


def flat(columns: Columns, at: Array) -> dict[str, Array]:
    """Fields of some rows, one column per value."""
    found = {}
    for name in columns:
        if name.startswith("field.") and columns[name].dtype != np.float16:
            values = columns[name][at]
            parts = values.reshape(len(at), -1).T
            found |= {f"{name}.{place}": part for place, part in enumerate(parts)}
    return found


def copied(dataset: Dataset, rows: Array, length: int) -> pa.Table:
    """The copied form of some impressions."""
    impressions, behaviors = dataset.impressions, dataset.behaviors
    user = np.asarray(impressions["user"])[rows]
    offset = np.asarray(dataset.users["offsets"])[user]
    place = offset[:, None] + impressions["visible"][rows][:, None] - length + np.arange(length)
    there = place >= offset[:, None]
    columns = flat(dataset.users, user) | flat(dataset.items, impressions["item"][rows])
    columns |= flat(impressions, rows) | {"time": impressions["time"][rows]}
    columns |= {name: impressions[name][rows] for name in impressions if name.startswith("label.")}
    arrays = {name: pa.array(values) for name, values in columns.items()}
    names = ["item", *(name for name in behaviors if name.startswith("field."))]
    for name in names:
        values = np.where(there, behaviors[name][np.where(there, place, 0)], 0).astype(np.int32)
        arrays[f"history.{name}"] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)
    return pa.table(arrays)


def written(table: pa.Table) -> int:
    """Bytes of a table as zstd Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copied.parquet"
        pq.write_table(table, path, compression="zstd")
        return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prepared", type=Path, help="a prepared data set, such as MovieLens-1M")
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--every", type=int, default=32, help="write one n-th of the rows")
    options = parser.parse_args()
    dataset = open_dataset(options.prepared)
    ours = sum(path.stat().st_size for path in options.prepared.rglob("*") if path.is_file())
    count = len(dataset.impressions["user"])
    rows = np.flatnonzero(np.asarray(dataset.impressions["user"]) % options.every == 0)
    scattered = np.random.default_rng(0).permutation(count)[: len(rows)]
    sample = copied(dataset, rows, options.length)
    per_row = sample.nbytes / len(rows)
    histories = sum(sample[name].nbytes for name in sample.column_names if name.startswith("history."))
    per_row_long = per_row + histories / len(rows)  # int64 histories, as tensors want them
    print(f"prepared: {ours / 1e6:,.1f} MB for {count:,} impressions, for any length")
    sizes = {
        "int32, plain": per_row,
        "int64 histories, plain": per_row_long,
        "zstd Parquet, random order": written(copied(dataset, scattered, options.length)) / len(rows),
        "zstd Parquet, by user and time": written(sample) / len(rows),
    }
    for name, size in sizes.items():
        total = size * count
        print(f"copied, L = {options.length}, {name:32} {total / 1e6:9,.1f} MB  {total / ours:6.1f}x")


if __name__ == "__main__":
    main()
