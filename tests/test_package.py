import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import clickscale

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    assert dir(clickscale) == clickscale.__all__
    for name in clickscale.__all__:
        assert getattr(clickscale, name) is not None
    assert clickscale.open_dataset.__module__ == "clickscale.data.dataset"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'clickscale' has no attribute 'Scroer'"):
        _ = clickscale.Scroer


def python(program: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_does_not_import_torch() -> None:
    assert python("import clickscale, sys; print('torch' in sys.modules)") == "False"


IMPORT_EVERYTHING = """
import ctypes, importlib, os, pkgutil

class Watched(ctypes.CDLL):
    asked = []

    def __getattr__(self, name):
        self.asked.append(name)
        return super().__getattr__(name)

ctypes.CDLL = Watched
before = dict(os.environ)
import clickscale
for module in pkgutil.walk_packages(clickscale.__path__, "clickscale."):
    importlib.import_module(module.name)
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
assert "mallopt" not in Watched.asked
"""
CONFIGURE = """
import sys
from clickscale.runtime import configure_process
assert "torch" not in sys.modules
configure_process()
print(os.environ["OMP_WAIT_POLICY"], Watched.asked.count("mallopt"))
"""


@pytest.mark.wide
def test_no_import_changes_the_process() -> None:
    python(IMPORT_EVERYTHING)


def test_the_process_is_configured_unless_the_user_says_otherwise() -> None:
    program = IMPORT_EVERYTHING.partition("before =")[0] + CONFIGURE
    assert python(program) == "PASSIVE 1"
    assert python(program, OMP_WAIT_POLICY="ACTIVE", MALLOC_TRIM_THRESHOLD_="1000") == "ACTIVE 0"


def test_the_command_line_configures_the_process_before_torch_is_there() -> None:
    program = """
import os, sys
import clickscale.cli
print("OMP_WAIT_POLICY" in os.environ, end=" ")
sys.argv = ["clickscale", "--version"]
clickscale.cli.main()
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""
    assert python(program) == f"False {clickscale.__version__}\nPASSIVE False"


def test_every_list_of_public_names_is_the_same() -> None:
    tree = ast.parse(inspect.getsource(clickscale))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        name.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert imported == clickscale._HOMES
    assert sorted(clickscale.__all__) == sorted([*clickscale._HOMES, "__version__"])
