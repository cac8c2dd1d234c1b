"""A file that is dropped among the models is a model: the suite covers it, and the command line lists it."""

import importlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clickscale import models
from clickscale.cli import DONE, main
from tests.models import test_contract
from tests.test_documents import ROOT, blocks

NAME = "product"
FILE = ("file", f"models/{NAME}.py")  # the model of CONTRIBUTING.md, complete
Drop = Callable[[str], None]


def text_of_document() -> str:
    """Source of the model that CONTRIBUTING.md shows."""
    shown = blocks((ROOT / "CONTRIBUTING.md").read_text("utf-8"), "CONTRIBUTING.md")
    (text,) = [block.text for block in shown if block.remark == FILE]
    return text


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drop]:
    """Put a file beside those of the package, for one test."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])

    def write(text: str) -> None:
        (tmp_path / f"{NAME}.py").write_text(text)
        importlib.invalidate_caches()

    yield write
    sys.modules.pop(f"clickscale.models.{NAME}", None)
    vars(models).pop(NAME, None)


def suite() -> Iterator[Callable[[], None]]:
    """Every test of the contract that takes the name of a model, for this one."""
    for name, test in vars(test_contract).items():
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        if name.startswith("test_") and any(mark.args[0] == "name" for mark in marks):
            others = [mark.args for mark in marks if mark.args[0] != "name"]
            for values in itertools.product(*(choices for _, choices in others)):
                arguments: dict[str, Any] = {"name": NAME}
                for (names, _), value in zip(others, values, strict=True):
                    arguments |= (
                        {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True))
                    )
                yield lambda test=test, arguments=arguments: test(**arguments)  # type: ignore[misc]


def test_a_dropped_model_keeps_the_whole_contract(drop: Drop) -> None:
    drop(text_of_document())
    assert NAME in models.model_names()
    tests = list(suite())
    assert len(tests) > 20
    for test in tests:
        test()


def test_a_dropped_model_that_breaks_the_contract_is_seen(drop: Drop) -> None:
    sound = "read = torch.cat([mean * items, items], dim=-1)"
    broken = sound.replace("mean * items", "mean * items.mean(dim=1, keepdim=True)")
    text = text_of_document()
    assert sound in text
    drop(text.replace(sound, broken))
    with pytest.raises(AssertionError):
        test_contract.test_a_score_does_not_depend_on_the_other_candidates(NAME)


def test_the_command_line_lists_a_dropped_model_and_its_options(
    drop: Drop, capsys: pytest.CaptureFixture[str]
) -> None:
    drop(text_of_document())
    assert main(["models", "--json"]) == DONE
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert listed[NAME]["about"].startswith("Product: the mean of the visible behaviors")
    assert "debug" in listed[NAME]["grades"]
    assert main(["options", NAME, "--json"]) == DONE
    options = {option["key"]: option for option in json.loads(capsys.readouterr().out)}
    assert options["model.d"]["meaning"] == "width of one feature's embedding."
    assert main(["cost", NAME, "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["dense"] > 1000
