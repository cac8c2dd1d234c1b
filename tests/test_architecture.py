"""The rules that keep the repository as its documents describe it, each with a mutant that must be caught.

A rule is a function from source text (or from a few paths) to a list of complaints; an empty list is a pass.
"""

import ast
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import clickscale

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clickscale"

# The data flow. A part is a file or a folder directly below clickscale/; it may import only parts above it.
PARTS = (
    "errors",
    "config",
    "config_text",
    "version",
    "arrays",
    "locks",
    "files",
    "sealed",
    "runtime",
    "features",
    "schema",
    "batch",
    "state",
    "data",
    "world",
    "layers",
    "models",
    "training",
    "evaluation",
    "baselines",
    "costs",
    "artifact",
    "inference",
    "report",
    "analysis",
    "workflow",
    "run_page",
    "tuning",
    "benchmarking",
    "scaling",
    "serving",
    "online",
    "demo",
    "cli",
    "__main__",
)

# A model file stands alone: it shares `layers/`, `models/_base.py` and the private rooms of its family, such
# as `_suan`. A pair (importer, imported) is let through only with its reason beside it.
MODEL_IMPORTS_ALLOWED: dict[tuple[str, str], str] = {}

MAX_LINES = 500

# Modules that run code when they load what they saved.
UNPICKLERS = frozenset({"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})

RUNNERS = frozenset({"eval", "exec", "load", "save"})  # last names of the calls that run code

# Written in pieces so that this file does not contain what it forbids.
FORBIDDEN_TEXT = re.compile(
    r"/(?:wo" + r"rk|t" + r"mp|ro" + r"ot|ho" + r"me|Us" + r"ers)/[A-Za-z._]"
    r"|pypi\." + r"org|files\.python" + r"hosted|registry\.npm" + r"js|deb\." + r"debian"
)


# --- reading sources


@lru_cache(maxsize=1)  # the trees of all files would fill the memory
def parsed(source: str) -> ast.Module:
    """Parse a text once for the rules that follow one another; they only read the tree."""
    return ast.parse(source)


def last_name(function: ast.expr) -> str:
    """Name the function of a call, without what stands before it; empty for other expressions."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def is_package_itself(value: ast.expr) -> bool:
    """Whether an expression is the plain name of the package."""
    return isinstance(value, ast.Name) and value.id == "clickscale"


def source_files(*folders: str) -> list[Path]:
    """List the Python files below these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """Turn a path such as clickscale/data/loader.py into clickscale.data.loader."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Name the part a module belongs to; the package itself is the part ''."""
    return (module.split(".") + [""])[1]


@cache
def imported_modules(source: str, module: str, is_package: bool = False) -> list[tuple[int, str]]:
    """List (line, absolute name) of everything imported, wherever in the file the import stands.

    ``from a import b`` yields ``a.b``: b may be a module; if it is not, the longer name has the same part.
    A module name put together at run time cannot be read from the source and is left out. Several rules ask
    for the same files, so the answer is kept.
    """
    return list(_imports(source, module, is_package))


def _imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")
            kept = above[: len(above) - node.level + is_package] if node.level else []
            origin = ".".join([*kept, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and is_package_itself(node.value):
            yield node.lineno, f"clickscale.{node.attr}"  # reached through the package: import clickscale
        elif isinstance(node, ast.Call) and last_name(node.func).endswith("import_module"):
            names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from ((node.lineno, str(name)) for name in names[:1])


# --- rules


def imports_against_the_flow(source: str, module: str, is_package: bool = False) -> list[str]:
    """Complain about imports of parts that come later in the flow, and of parts the list does not know."""
    here = part_of(module)
    if here == "":
        return []
    if here not in PARTS:
        return [f"{module}: part {here!r} is not in PARTS; give it a place in the flow"]
    found = []
    for line, target in imported_modules(source, module, is_package):
        part = part_of(target)
        if target.split(".")[0] != "clickscale" or part in (here, "") or part.startswith("__"):
            continue
        if part not in PARTS:
            found.append(f"{module}:{line} imports {target}; import from the module that defines it")
        elif PARTS.index(part) > PARTS.index(here):
            found.append(f"{module}:{line} imports {target}, which comes after {here} in the flow")
    return found


def imports_between_models(source: str, module: str, known: Iterable[str]) -> list[str]:
    """Complain when the model file ``module`` imports another model file; ``known`` names all model files."""
    name = module.rpartition(".")[2]
    found = []
    for line, target in imported_modules(source, module):
        package, _, other = ".".join(target.split(".")[:3]).rpartition(".")
        is_model = (
            package == "clickscale.models" and other in set(known) - {name} and not other.startswith("_")
        )
        if is_model and (name, other) not in MODEL_IMPORTS_ALLOWED:
            found.append(f"{module}:{line} imports model {other!r}; what two models share belongs in layers/")
    return found


def too_long(source: str, module: str) -> list[str]:
    """Complain about files that nobody reads to the end."""
    lines = source.count("\n")
    return [f"{module}: {lines} lines, more than {MAX_LINES}; split it by idea"] if lines > MAX_LINES else []


def code_that_runs_data(source: str, module: str) -> list[str]:
    """Complain about everything through which a file that we load could run code."""
    found = [
        f"{module}:{line} imports {target}"
        for line, target in imported_modules(source, module)
        if target.split(".")[0] in UNPICKLERS or target in ("torch.load", "torch.save")
    ]
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func) if last_name(node.func) in RUNNERS else ""
            if name in ("eval", "exec", "torch.load", "torch.save"):
                found.append(f"{module}:{node.lineno} calls {name}()")
            found += [
                f"{module}:{node.lineno} {name}(allow_pickle=...)"
                for keyword in node.keywords
                if keyword.arg == "allow_pickle"
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            ]
    return found


def options_passed_through(source: str, module: str) -> list[str]:
    """Complain about functions that hand ``**anything`` on: a misspelled option would be noticed far away."""
    found = []
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg is not None:
            name = node.args.kwarg.arg
            calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
            handed_on = [k for call in calls for k in call.keywords if k.arg is None]
            if any(ast.unparse(keyword.value) == name for keyword in handed_on):
                found.append(f"{module}:{node.lineno} {node.name}(**{name})")
    return found


def vague_names(paths: Iterable[Path]) -> list[str]:
    """Complain about modules whose name says nothing about what is inside."""
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "base"}
    return [f"{path}: name it after what it holds" for path in paths if path.stem in vague]


def forbidden_text(text: str, name: str) -> list[str]:
    """Complain about paths of one machine and host names of package registries."""
    return [
        f"{name}:{number} contains {hit.group()!r}"
        for number, line in enumerate(text.splitlines(), 1)
        if (hit := FORBIDDEN_TEXT.search(line))
    ]


def function_lengths(source: str) -> list[int]:
    """Count the lines of every function, its docstring left out."""
    lengths = []
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            text = node.body[0] if ast.get_docstring(node) is not None else None
            documented = text.end_lineno - text.lineno + 1 if text and text.end_lineno else 0
            lengths.append((node.end_lineno or node.lineno) - node.lineno + 1 - documented)
    return lengths


def functions_too_long(lengths: list[int]) -> list[str]:
    """Complain when half of the functions exceed 10 lines or one in ten exceeds 45."""
    if len(lengths) < 2:
        return []
    median, tenth = statistics.median(lengths), statistics.quantiles(lengths, n=10, method="inclusive")[8]
    found = [f"half of all functions are longer than {median:g} lines; at most 10"] if median > 10 else []
    return found + ([f"one function in ten is longer than {tenth:g} lines; at most 45"] if tenth > 45 else [])


# --- the repository keeps the rules


def test_the_package_flows_down_runs_no_data_hands_no_options_on_and_has_short_functions() -> None:
    """All in one walk: to parse the package takes longer than any of the rules."""
    found, lengths = [], []
    for path in source_files("clickscale"):
        source, module = path.read_text("utf-8"), module_name(path)
        found += imports_against_the_flow(source, module, path.name == "__init__.py")
        found += code_that_runs_data(source, module) + options_passed_through(source, module)
        lengths += function_lengths(source)
    found += functions_too_long(lengths)
    assert not found, "\n".join(found)


def test_no_model_file_imports_another_model_file() -> None:
    files = [path for path in source_files("clickscale/models") if path.name != "__init__.py"]
    known = [path.stem for path in files]
    found = [
        c for path in files for c in imports_between_models(path.read_text("utf-8"), module_name(path), known)
    ]
    assert not found, "\n".join(found)


def test_no_file_is_too_long_to_read() -> None:
    files = source_files("clickscale", "tests", "benchmarks", "examples")
    found = [c for path in files for c in too_long(path.read_text("utf-8"), module_name(path))]
    assert not found, "\n".join(found)


def test_every_module_is_named_after_what_it_holds() -> None:
    assert not vague_names(path.relative_to(ROOT) for path in source_files("clickscale", "tests"))


def test_no_file_names_a_machine_path_or_a_registry_host() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]
    assert PACKAGE / "__init__.py" in paths
    found = []
    for path in paths:
        content = path.read_bytes()
        if b"\0" not in content:  # text only: a figure or an archive may hold any bytes
            found += forbidden_text(content.decode("utf-8", "replace"), str(path.relative_to(ROOT)))
    assert not found, "\n".join(found)


def test_every_exported_name_exists_and_is_listed_once() -> None:
    names = clickscale.__all__
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(clickscale, name)] == []


def test_every_dependency_is_explained_and_pinned_to_a_version_we_accept() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    needed = [
        Requirement(line) for line in [*project["dependencies"], *(one for extra in extras for one in extra)]
    ]
    explained = re.findall(
        r"^\| ([a-z][\w-]*) \|", (ROOT / "docs/dependencies.md").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(set(explained) - {"package"}) == sorted({one.name for one in needed})
    pins = dict(re.findall(r"^([\w.-]+)==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    pins = {name.lower(): version for name, version in pins.items()}
    assert [str(one) for one in needed if not one.specifier.contains(pins.get(one.name, "0"))] == []


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert clickscale.__version__ == project["version"]


# --- mutants: each rule sees what it is there for


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("clickscale.data.loader", "from clickscale.models import din"),
        ("clickscale.data.loader", "import clickscale.cli"),
        ("clickscale.data.loader", "def load():\n    from ..serving import app"),
        ("clickscale.data.adapters.mind", "from ...layers.norm import RMSNorm"),
        ("clickscale.errors", "from importlib import import_module\nimport_module('clickscale.schema')"),
        ("clickscale.schema", "from clickscale import batch"),
        ("clickscale.artifact", "from clickscale import Scorer"),
        ("clickscale.artifact", "import clickscale\nclickscale.Scorer()"),
        ("clickscale.helpers", "import json"),
    ],
)
def test_an_import_against_the_flow_is_seen(module: str, source: str) -> None:
    assert len(imports_against_the_flow(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("clickscale.models.din", "from clickscale.layers.norm import RMSNorm\nimport torch"),
        ("clickscale.data.loader", "from .dataset import Dataset\nfrom clickscale import __version__"),
        ("clickscale.evaluation.evaluate", "from clickscale.training.loop import train"),
        ("clickscale.training.run.folder", "import clickscale\nclickscale.__version__"),
        ("clickscale", "from clickscale.cli import main"),
    ],
)
def test_an_import_along_the_flow_passes(module: str, source: str) -> None:
    assert imports_against_the_flow(source, module) == []


def test_relative_imports_of_a_package_file_start_at_the_package() -> None:
    found = list(imported_modules("from . import loader\nfrom ..batch import Batch", "clickscale.data", True))
    assert found == [(1, "clickscale.data.loader"), (2, "clickscale.batch.Batch")]


def test_a_model_that_imports_a_model_is_seen() -> None:
    source = (
        "from clickscale.models.suan import Block\n"
        "from clickscale.models._base import CTRModel\n"
        "from . import din\n"
    )
    found = imports_between_models(
        source, "clickscale.models.lightsuan", ["suan", "lightsuan", "din", "_base"]
    )
    assert [complaint.split()[0] for complaint in found] == [
        "clickscale.models.lightsuan:1",
        "clickscale.models.lightsuan:3",
    ]


def test_a_long_file_is_seen() -> None:
    assert too_long("x = 1\n" * 501, "clickscale.data.loader")
    assert not too_long("x = 1\n" * 500, "clickscale.data.loader")


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "import torch\ntorch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "eval('1')",
        "exec(text)",
    ],
)
def test_code_that_runs_data_is_seen(source: str) -> None:
    assert len(code_that_runs_data(source, "clickscale.artifact")) == 1


def test_evaluation_mode_and_safe_loads_pass() -> None:
    source = "model.eval()\nnp.load(path)\nnp.load(path, allow_pickle=False)\njson.load(file)"
    assert code_that_runs_data(source, "clickscale.artifact") == []


def test_a_function_that_hands_any_option_on_is_seen() -> None:
    assert options_passed_through("def f(name, **o): return g(name, **o)", "m") == ["m:1 f(**o)"]
    assert options_passed_through("def f(**arrays): return {k: len(v) for k, v in arrays.items()}", "m") == []


def test_a_vague_module_name_is_seen() -> None:
    assert len(vague_names([Path("clickscale/data/utils.py"), Path("clickscale/models/_base.py")])) == 1


@pytest.mark.parametrize(
    "text", ["see /ho" + "me/me/data", "pip -i https://pypi." + "org/simple", "'/t" + "mp/x'"]
)
def test_a_machine_path_or_a_registry_host_is_seen(text: str) -> None:
    assert len(forbidden_text(f"fine\n{text}\n", "f")) == 1


def test_function_lengths_leave_the_docstring_out() -> None:
    assert function_lengths('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n') == [2]


def test_long_functions_are_seen() -> None:
    assert functions_too_long([11] * 10) == ["half of all functions are longer than 11 lines; at most 10"]
    assert functions_too_long([5] * 8 + [60] * 4) == [
        "one function in ten is longer than 60 lines; at most 45"
    ]
    assert functions_too_long([5] * 95 + [200] * 5) == []
