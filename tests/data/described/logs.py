"""A small log in any format, its preparation and its draft."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.layout import Manifest
from clickscale.data.preparation.prepare import prepare
from clickscale.features import FIRST, UNKNOWN

START = 1_704_067_200
Row = dict[str, Any]
TABLE = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "clicked", column = "clicked" }]
[impressions]
files = "FILES"
time = "time"
"""


def clicks(count: int = 600) -> list[Row]:
    """Impressions of 40 users and 25 items, a good half of them clicked."""
    draw = random.Random(7)
    return [
        {
            "user_id": f"u{draw.randrange(40)}",
            "item_id": f"i{n % 25}",
            "time": START + 60 * n,
            "clicked": int(draw.random() < 0.55),
        }
        for n in range(count)
    ]


def csv_text(rows: list[Row], separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(str(value) for value in row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def save(folder: Path, rows: list[Row], name: str = "clicks.csv") -> Path:
    path = folder / name
    if name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text(csv_text(rows))
    return path


def prepared(folder: Path, toml: str = "", files: str = "clicks.csv", **options: Any) -> Manifest:
    (folder / "log.toml").write_text(TABLE.replace("FILES", files) + toml)
    return prepare(load_log(folder / "log.toml"), folder / "out", overwrite=True, **options)


def drafted(folder: Path, *names: str) -> str:
    """The draft of tables, which must lead to a data set without a change."""
    text = guess([folder / name for name in names], folder)
    (folder / "draft.toml").write_text(text)
    prepare(load_log(folder / "draft.toml"), folder / "drafted", overwrite=True)
    return text


def shares_missing(folder: Path, table: str, field: str) -> float:
    column = getattr(open_dataset(folder / "out"), table)[f"field.{field}"]
    rows = column[FIRST:] if table == "items" else column
    return float(np.mean(np.isnan(rows) if rows.dtype.kind == "f" else rows == UNKNOWN))
