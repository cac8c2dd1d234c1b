"""Drafts are tried on more logs than `make test` has time for: one of four cases of a test is everyday."""

from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
EVERY = 4


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the other cases ``wide``; a draft takes a fifth of a second, and there are a thousand cases."""
    cases = Counter[tuple[Path, str]]()
    for item in items:
        if FOLDER in item.path.parents and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            test = (item.path, item.originalname)
            if cases[test] % EVERY:
                item.add_marker(pytest.mark.wide)
            cases[test] += 1
