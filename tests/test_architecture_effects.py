"""Where the package may change the disk or the process, each rule with a mutant that must be caught."""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.test_architecture import last_name, parsed
from tests.test_architecture_spelling import spelled_columns

Rule = Callable[[str, str], list[str]]
ROOT = Path(__file__).resolve().parents[1]
FILES, RUNTIME = "clickscale.files", "clickscale.runtime"

# Keys of cached states are hashes of what a model read, not of a file; they may take BLAKE2b from hashlib.
HASHES_ALLOWED = frozenset({FILES, "clickscale.inference.states.fingerprint"})

RENAMES = frozenset({"os.replace", "os.rename", "os.renames", "shutil.move", "os.fsync", "os.fdatasync"})
# Methods of paths that rename. str.replace takes two arguments, Path.replace one.
RENAMING_METHODS = {"rename": 1, "replace": 1}
ENVIRONMENT = frozenset({"os.environ", "os.putenv", "os.unsetenv", "environ", "os.register_at_fork"})
CHANGES = frozenset({"setdefault", "update", "pop", "clear", "popitem"})


def modules() -> list[tuple[str, str]]:
    """List (name, source) of every module of the package."""
    found = []
    for path in sorted((ROOT / "clickscale").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path.read_text("utf-8")))
    return found


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Map names of a module to the dotted names that they were imported as."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                alias.asname or alias.name.split(".")[0]: alias.name
                if alias.asname
                else alias.name.split(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Spell an expression with the full names of what was imported."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):  # most of them; unparsing every one takes seconds
        return f"{dotted(node.value, names)}.{node.attr}"
    first, _, rest = ast.unparse(node).partition(".")
    return ".".join(filter(None, (names.get(first, first), rest)))


def renames_and_syncs(source: str, module: str) -> list[str]:
    """Complain about moving files and syncing outside files.py."""
    tree = parsed(source)
    names = imported_names(tree)
    found = []
    for node in ast.walk(tree) if module != FILES else ():
        if isinstance(node, ast.Attribute | ast.Name) and dotted(node, names) in RENAMES:
            found.append(f"{module}:{node.lineno} {dotted(node, names)}; write through {FILES}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            count = RENAMING_METHODS.get(node.func.attr)
            if len(node.args) == count and not node.keywords and "." not in dotted(node.func.value, names):
                found.append(f"{module}:{node.lineno} .{node.func.attr}(...); write through {FILES}")
    return found


def hashes(source: str, module: str) -> list[str]:
    """Complain about hashlib outside the modules that may use it."""
    if module in HASHES_ALLOWED:
        return []
    return [
        f"{module}:{node.lineno} imports hashlib; hash through {FILES}"
        for node in ast.walk(parsed(source))
        if (isinstance(node, ast.Import) and any(alias.name == "hashlib" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "hashlib")
    ]


def changes_of_the_process(source: str, module: str) -> list[str]:
    """Complain about ctypes, and about writing into the environment, outside runtime.py."""
    tree = parsed(source)
    names = imported_names(tree)
    found = [] if module == RUNTIME else list(_changes(tree, names))
    return [f"{module}:{line} {what}; it belongs into {RUNTIME}" for line, what in found]


def _changes(tree: ast.Module, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    if any(name.split(".")[0] == "ctypes" for name in names.values()):
        yield 1, "imports ctypes"
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if dotted(node.value, names) in ENVIRONMENT:
                yield node.lineno, "writes into os.environ"
        elif isinstance(node, ast.AugAssign) and dotted(node.target, names) in ENVIRONMENT:
            yield node.lineno, "writes into os.environ"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changes = node.func.attr in CHANGES and dotted(node.func.value, names) in ENVIRONMENT
            if changes or dotted(node.func, names) in ENVIRONMENT:
                yield node.lineno, "changes the environment"


def calls_at_import(source: str, module: str) -> list[str]:
    """Complain about statements that call `configure_process` when the module is imported."""
    found = []
    for statement in parsed(source).body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
        found += [
            f"{module}:{call.lineno} configures the process when it is imported"
            for call in calls
            if last_name(call.func).endswith("configure_process")
        ]
    return found


# --- the package keeps the rules


RULES: tuple[Rule, ...] = (
    renames_and_syncs,
    hashes,
    changes_of_the_process,
    calls_at_import,
    spelled_columns,
)


@cache
def complaints() -> dict[Rule, list[str]]:
    """What each rule finds in the package; file by file, so that each is parsed once."""
    found: dict[Rule, list[str]] = {rule: [] for rule in RULES}
    for name, source in modules():
        for rule in RULES:
            found[rule] += rule(source, name)
    return found


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert not complaints()[rule], "\n".join(complaints()[rule])


# --- mutants: each rule sees what it is there for


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.replace(a, b)",
        "import os\nos.rename(a, b)",
        "from os import fsync\nfsync(handle)",
        "import os as system\nsystem.fsync(handle)",
        "import shutil\nshutil.move(a, b)",
        "partial.replace(out)",
        "partial.rename(out)",
    ],
)
def test_a_rename_or_a_sync_is_seen(source: str) -> None:
    assert len(renames_and_syncs(source, "clickscale.artifact")) == 1
    assert renames_and_syncs(source, FILES) == []


def test_replacing_texts_and_fields_passes() -> None:
    source = "import dataclasses\nname.replace('_', '-')\ndataclasses.replace(batch, user=user)\n"
    assert renames_and_syncs(source + "from dataclasses import replace\nreplace(batch, user=user)", "m") == []


@pytest.mark.parametrize(
    "source", ["import hashlib", "from hashlib import sha256", "def f():\n import hashlib"]
)
def test_a_hash_is_seen(source: str) -> None:
    assert len(hashes(source, "clickscale.artifact")) == 1
    assert hashes(source, "clickscale.inference.states.fingerprint") == []


@pytest.mark.parametrize(
    "source",
    [
        "import ctypes",
        "from ctypes import CDLL",
        "import os\nos.environ['A'] = '1'",
        "import os\ndel os.environ['A']",
        "import os\nos.environ |= {'A': '1'}",
        "from os import environ\nenviron['A'] = '1'",
        "import os\nos.environ.setdefault('A', '1')",
        "import os\ndef f():\n os.environ.update(A='1')",
        "import os\nos.putenv('A', '1')",
        "import os\nos.register_at_fork(after_in_child=f)",
    ],
)
def test_a_change_of_the_process_is_seen(source: str) -> None:
    assert len(changes_of_the_process(source, "clickscale.models.din")) == 1
    assert changes_of_the_process(source, RUNTIME) == []


def test_reading_the_environment_passes() -> None:
    source = "import os\nos.environ.get('A')\nvalue = os.environ['A']\n{}.setdefault('A', 1)"
    assert changes_of_the_process(source, "clickscale.files") == []


def test_configuring_at_import_is_seen() -> None:
    call = "from clickscale import runtime\nruntime.configure_process()"
    assert len(calls_at_import(call, "clickscale.cli")) == 1
    assert calls_at_import("def main():\n    configure_process()", "clickscale.cli") == []
