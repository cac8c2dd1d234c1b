"""Drafts are tried on more logs than `make test` has time for: of each file, one test of four is everyday."""

from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
EVERY = 4


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the others ``wide``: a draft takes a fifth of a second, and there are more than a thousand."""
    tests = Counter[Path]()
    for item in items:
        if FOLDER in item.path.parents:
            if tests[item.path] % EVERY:
                item.add_marker(pytest.mark.wide)
            tests[item.path] += 1
