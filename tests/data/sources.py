"""What a source yields, as lists of dicts; where the real logs are."""

import os
from pathlib import Path
from typing import Any

import pytest

from clickscale.data.source import Source


def drained(source: Source) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, in order."""
    found: dict[str, list[dict[str, Any]]] = {"users": [], "items": [], "behaviors": [], "impressions": []}
    for name, batch in source.chunks():
        found[name] += batch.to_pylist()
    return found


def counted(source: Source) -> dict[str, int]:
    """Rows of every table."""
    found = dict.fromkeys(("users", "items", "behaviors", "impressions"), 0)
    for name, batch in source.chunks():
        found[name] += batch.num_rows
    return found


def expected_columns(source: Source) -> dict[str, set[str]]:
    """Columns that the schema asks of each table, the problem column included."""
    schema = source.schema
    names = {
        "users": {"user", *(field.name for field in schema.profile)},
        "items": {"item", *(field.name for field in schema.items)},
        "behaviors": {"user", "item", "time", *(field.name for field in schema.behavior)},
        "impressions": {"user", "item", "time", *(field.name for field in schema.context)},
    }
    if not source.negatives:
        names["impressions"] |= {f"label.{label.name}" for label in schema.labels}
    return {name: columns | {"problem"} for name, columns in names.items()}


def check_columns(source: Source) -> None:
    """Every batch carries exactly the columns of its table (``known_at`` and evidence are optional)."""
    wanted = expected_columns(source)
    for name, batch in source.chunks():
        assert set(batch.schema.names) - {"known_at", "problem_value"} == wanted[name], name


def real_log(name: str) -> Path:
    """Folder of a real log below CLICKSCALE_DATA; skips the test if it is not there."""
    folder = Path(os.environ.get("CLICKSCALE_DATA", "absent")) / name
    if not folder.is_dir():
        pytest.skip(f"set CLICKSCALE_DATA to a folder that holds {name}")
    return folder
