"""Rules about the rooms of the package: their order, their size and who may enter, each with a mutant."""

import ast
from collections.abc import Iterable, Mapping
from functools import cache

import pytest

from tests.test_architecture import PACKAGE, imported_modules, module_name, part_of, source_files

MOST_ENTRIES = 16  # of one folder; a reader takes in about as many at a glance

# Folders that may hold more, each with the reason.
LONG_FOLDERS = {
    "clickscale": "its entries are the parts of the data flow, whose order PARTS of test_architecture keeps",
    "clickscale/models": "a model is one file, so the folder is the list of models",
}

# Rooms of data/ in the order of reading: a file or folder imports only rooms above its own.
ROOMS = (
    "source",
    "columns",
    "features",
    "tables",
    "adapters",
    "described",
    "layout",
    "split",
    "portion",
    "dataset",
    "preparation",
    "content",
    "checks",
    "windows",
    "loader",
    "fetch",
)

# Imports (importer, imported) that close a circle and are let through, each with its reason. A pair that is
# needed no longer fails the test, so that this list becomes empty.
CIRCLES_ALLOWED: dict[tuple[str, str], str] = {}

# Parts that may name a single model; everything else asks `clickscale.models` by name.
MODEL_NAMERS = ("models", "analysis")

# Lines that a reader of a model file must load with it, files of layers/kernels left out.
MOST_LINES_TO_READ = {"din": 1_500, "suan": 2_480, "est": 2_500}
LINES_STILL_OVER = {  # measured; a value goes down with each split, and its entry goes when the aim is met
    # EST is two more sequences, a search with four ways to rank, and content attention: about 1,500 lines of
    # its own beside what DIN needs as well. To cut further would take names and reasons out, not ideas.
    "est": 3_020,
    # SUAN trains behaviors and candidates as rows of one sequence, and serves candidates over kept states.
    "suan": 2_610,
}

# Public functions and classes of all modules together. Lower it when names become private; a name that one
# file uses begins with an underscore.
MOST_PUBLIC_NAMES = 1_431


# --- reading the package


@cache
def sources() -> Mapping[str, str]:
    """Source text of every module of the package by its name."""
    return {module_name(path): path.read_text("utf-8") for path in source_files("clickscale")}


def packages() -> frozenset[str]:
    """Names of modules that are folders."""
    return frozenset(module_name(path) for path in source_files("clickscale") if path.name == "__init__.py")


def imports_of(module: str, texts: Mapping[str, str], folders: Iterable[str]) -> set[str]:
    """Modules among ``texts`` that a module imports: at its top, in functions, under TYPE_CHECKING."""
    targets = set()
    for _, name in imported_modules(texts[module], module, module in folders):
        while name and name not in texts:  # ``from a import b`` gives a.b, which may be a name inside a
            name = name.rpartition(".")[0]
        targets.add(name)
    return targets - {"", module}


# --- rules


def crowded_folders(entries: Mapping[str, int]) -> list[str]:
    """Complain about folders with more entries than a reader takes in."""
    return [
        f"{folder} holds {count} entries, more than {MOST_ENTRIES}; move what belongs together into a folder"
        for folder, count in entries.items()
        if count > MOST_ENTRIES and folder not in LONG_FOLDERS
    ]


def doubled_names(modules: Iterable[str]) -> list[str]:
    """Complain about modules of one name in two folders."""
    by_stem: dict[str, list[str]] = {}
    for module in modules:
        by_stem.setdefault(module.rpartition(".")[2], []).append(module)
    return [f"{' and '.join(same)} have one name" for same in by_stem.values() if len(same) > 1]


def imports_of_later_rooms(module: str, imported: Iterable[str], rooms: tuple[str, ...]) -> list[str]:
    """Complain about imports inside data/ that run against the order of its rooms."""
    here = module.split(".")[2]
    if here not in rooms:
        return [f"{module}: room {here!r} is not in ROOMS; give it a place in the order"]
    complaints = []
    for target in imported:
        parts = target.split(".")
        is_room = parts[:2] == ["clickscale", "data"] and len(parts) > 2 and parts[2] in rooms
        if is_room and rooms.index(parts[2]) > rooms.index(here):
            complaints.append(f"{module} imports {target}, which comes after {here}")
    return complaints


def circles(graph: Mapping[str, set[str]]) -> list[frozenset[str]]:
    """Groups of modules that reach each other."""
    reached = {module: _reached(module, graph) for module in graph}
    groups = {
        frozenset(other for other in reached[module] if module in reached.get(other, ()))
        for module in graph
        if module in reached[module]
    }
    return sorted(groups, key=sorted)


def without(graph: Mapping[str, set[str]], pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Leave some imports out of a graph."""
    left_out = set(pairs)
    return {
        module: {target for target in targets if (module, target) not in left_out}
        for module, targets in graph.items()
    }


def _reached(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    """Modules that can be reached from one in a step or more."""
    reached: set[str] = set()
    open_modules = [start]
    while open_modules:
        for target in graph.get(open_modules.pop(), set()) - reached:
            reached.add(target)
            open_modules.append(target)
    return reached


def models_named(module: str, imported: Iterable[str], known: Iterable[str]) -> list[str]:
    """Complain about modules outside of `MODEL_NAMERS` that import the file of one model."""
    if part_of(module) in MODEL_NAMERS:
        return []
    files = {f"clickscale.models.{name}" for name in known}
    return [
        f"{module} imports {target}; go through clickscale.models by name"
        for target in imported
        if target in files
    ]


def matplotlib_outside_of_report(source: str, module: str) -> list[str]:
    """Complain about plotting in modules that are not of ``report/``."""
    if module.split(".")[:2] == ["clickscale", "report"]:
        return []
    return [
        f"{module}:{line} imports {name}; plots belong to clickscale.report"
        for line, name in imported_modules(source, module)
        if name.split(".")[0] == "matplotlib"
    ]


def lines_to_read(module: str, graph: Mapping[str, set[str]], texts: Mapping[str, str]) -> int:
    """Lines of a module and of all that it imports, fast forms in layers/kernels left out."""
    readable = {
        name: {target for target in targets if not target.startswith("clickscale.layers.kernels")}
        for name, targets in graph.items()
    }
    return sum(texts[name].count("\n") for name in {module} | _reached(module, readable))


def public_names(source: str) -> list[str]:
    """Functions and classes that a module defines at its top and that do not begin with an underscore."""
    return [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    ]


# --- the package keeps the rules


@cache
def package_graph() -> dict[str, set[str]]:
    """Modules that every module of the package imports."""
    texts, folders = sources(), packages()
    return {module: imports_of(module, texts, folders) for module in texts}


def model_files() -> list[str]:
    """Names of all models."""
    return [path.stem for path in (PACKAGE / "models").glob("*.py") if not path.stem.startswith("_")]


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in source_files("clickscale")}
    entries = {
        str(folder.relative_to(PACKAGE.parent)): sum(
            (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()
            for path in folder.iterdir()
        )
        for folder in folders
    }
    assert crowded_folders(entries) == []


def test_no_two_modules_have_one_name() -> None:
    assert doubled_names(sorted(set(sources()) - packages())) == []


def test_the_rooms_of_data_keep_their_order() -> None:
    modules = [module for module in sources() if module.startswith("clickscale.data.")]
    complaints = [
        complaint
        for module in modules
        for complaint in imports_of_later_rooms(module, package_graph()[module], ROOMS)
    ]
    assert not complaints, "\n".join(complaints)


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles(without(package_graph(), CIRCLES_ALLOWED)) == []


def test_every_circle_that_is_let_through_is_still_there() -> None:
    for pair in CIRCLES_ALLOWED:
        others = set(CIRCLES_ALLOWED) - {pair}
        assert circles(without(package_graph(), others)), f"{pair} closes no circle; remove it from the list"


def test_models_are_reached_by_name() -> None:
    known = model_files()
    complaints = [c for module in sources() for c in models_named(module, package_graph()[module], known)]
    assert not complaints, "\n".join(complaints)


def test_plots_are_drawn_in_report() -> None:
    complaints = [c for module, text in sources().items() for c in matplotlib_outside_of_report(text, module)]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("name", MOST_LINES_TO_READ)
def test_a_model_file_is_read_with_few_others(name: str) -> None:
    lines, aim = (
        lines_to_read(f"clickscale.models.{name}", package_graph(), sources()),
        MOST_LINES_TO_READ[name],
    )
    assert lines <= LINES_STILL_OVER.get(name, aim)
    assert name not in LINES_STILL_OVER or lines > aim, "the aim is met; remove the exception"


def test_public_names_do_not_grow() -> None:
    count = sum(len(public_names(text)) for text in sources().values())
    assert count <= MOST_PUBLIC_NAMES


# --- mutants: each rule sees what it is there for


def test_a_crowded_folder_is_seen() -> None:
    assert len(crowded_folders({"clickscale/data": 17, "clickscale/cli": 16, "clickscale/models": 40})) == 1


def test_two_modules_of_one_name_are_seen() -> None:
    modules = ["clickscale.data.tables", "clickscale.training.tables", "clickscale.data.loader"]
    assert doubled_names(modules) == ["clickscale.data.tables and clickscale.training.tables have one name"]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("clickscale.data.columns", "clickscale.data.loader"),
        ("clickscale.data.tables.casts", "clickscale.data.adapters.mind"),
        ("clickscale.data.features.values", "clickscale.data.tables"),
        ("clickscale.data.helpers", "json"),
    ],
)
def test_an_import_against_the_order_of_rooms_is_seen(module: str, imported: str) -> None:
    assert len(imports_of_later_rooms(module, [imported], ROOMS)) == 1


def test_imports_along_the_order_and_inside_a_room_pass() -> None:
    imported = ["clickscale.data.columns", "clickscale.data.checks.leaks", "clickscale.schema", "numpy"]
    assert imports_of_later_rooms("clickscale.data.checks.contents", imported, ROOMS) == []


def test_a_circle_is_seen_wherever_its_imports_stand() -> None:
    texts = {
        "p.a": "from p import b",
        "p.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.c import C",
        "p.c": "def f():\n    from .a import g",
        "p.d": "import p.a",
    }
    graph = {module: imports_of(module, texts, ["p"]) for module in texts}
    assert circles(graph) == [frozenset({"p.a", "p.b", "p.c"})]
    assert circles(without(graph, [("p.b", "p.c")])) == []


def test_naming_a_model_is_seen() -> None:
    imported = ["clickscale.models.din", "clickscale.models", "clickscale.models._base"]
    assert len(models_named("clickscale.training.loop", imported, ["din", "suan"])) == 1
    assert models_named("clickscale.analysis.est_blocks", imported, ["din", "suan"]) == []


def test_a_plot_outside_of_report_is_seen() -> None:
    source = "def plot():\n    from matplotlib.figure import Figure"
    assert len(matplotlib_outside_of_report(source, "clickscale.data.checks.contents")) == 1
    assert matplotlib_outside_of_report(source, "clickscale.report.plots") == []


def test_lines_to_read_follow_imports_but_not_into_kernels() -> None:
    texts = {"m": "1\n" * 3, "n": "1\n" * 5, "clickscale.layers.kernels.k": "1\n" * 7, "o": "1\n" * 11}
    graph = {
        "m": {"n", "clickscale.layers.kernels.k"},
        "n": {"m"},
        "clickscale.layers.kernels.k": {"o"},
        "o": set(),
    }
    assert lines_to_read("m", graph, texts) == 8


def test_public_names_are_functions_and_classes_at_the_top() -> None:
    source = "def f(): pass\ndef _g(): pass\nclass C:\n    def m(self): pass\nLIMIT = 3\nfrom a import b"
    assert public_names(source) == ["f", "C"]
