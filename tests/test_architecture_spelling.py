"""Rules about words that must be spelled in one place only, each with a mutant that it must catch.

`tests.test_architecture_effects` walks the package with them.
"""

import ast
import re

import pytest

from tests.test_architecture import parsed

# The one module that spells the names of columns; everything else calls `column_of` and `label_of`.
COLUMN_SPELLER = "clickscale.features"
_COLUMN = re.compile(r"(?:^|/)(?:field|label)\.")


def spelled_columns(source: str, module: str) -> list[str]:
    """Complain about names of columns that are put together by hand; docstrings may show them."""
    if module == COLUMN_SPELLER:
        return []
    tree = parsed(source)
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        f"{module}:{node.lineno} spells {node.value!r}; call column_of or label_of of {COLUMN_SPELLER}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and id(node) not in statements
        and isinstance(node.value, str)
        and _COLUMN.search(node.value)
    ]


@pytest.mark.parametrize(
    "source",
    [
        'columns[f"field.{name}"]',
        'columns["label.click"]',
        'LABEL = "label."',
        'folder / f"items/field.{name}.npy"',
        'names = [name for name in columns if name.startswith("field.")]',
    ],
)
def test_a_name_of_a_column_that_is_spelled_by_hand_is_seen(source: str) -> None:
    assert len(spelled_columns(source, "clickscale.data.loader")) == 1
    assert spelled_columns(source, COLUMN_SPELLER) == []


def test_docstrings_and_other_words_pass() -> None:
    source = '"""Columns ``field.NAME``."""\nraise ValueError(f"Bad field. {name}")\ntable[column_of(name)]'
    assert spelled_columns(source, "clickscale.data.loader") == []
