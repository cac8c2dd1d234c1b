import inspect
import re

import pytest

from clickscale import errors
from clickscale.errors import ClickscaleError, system_error, unknown

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and kind.__module__ == errors.__name__
}


def drawn() -> dict[str, str]:
    """Class -> base as the tree in the module's docstring draws them."""
    base_at: dict[int, str] = {}
    found = {}
    for line in (inspect.getdoc(errors) or "").splitlines():
        match = re.match(r"^(    [ │├└─]*)([A-Z]\w+Error)\b", line)
        if match:
            depth = (len(match[1]) - 4) // 4
            base_at[depth] = match[2]
            found[match[2]] = base_at[depth - 1] if depth else "Exception"
    return found


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    assert drawn() == {name: kind.__base__.__name__ for name, kind in CLASSES.items()}
    assert len(CLASSES) == 10


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_one_class_catches_everything_raised_on_purpose(name: str) -> None:
    assert issubclass(CLASSES[name], ClickscaleError)
    assert CLASSES[name].__doc__


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known_names() -> None:
    assert (
        unknown("model", "dim", ["suan", "din", "mlp"])
        == "Unknown model 'dim'; did you mean 'din'? Known: din, mlp, suan."
    )


def test_a_name_near_to_nothing_gets_no_guess() -> None:
    assert unknown("model", "zzzzzz", {"din"}) == "Unknown model 'zzzzzz'. Known: din."
    assert unknown("label", "click", ()) == "Unknown label 'click'. Known: none."


def test_an_error_of_the_system_is_told_with_its_files_and_without_its_number() -> None:
    assert system_error(PermissionError(13, "Permission denied", "a.csv")) == "a.csv: Permission denied"
    assert system_error(OSError(18, "Cross-device link", "a", None, "b")) == "a to b: Cross-device link"
    assert system_error(OSError(28, "No space left on device")) == "No space left on device"
    assert system_error(OSError("anything")) == system_error(ValueError("anything")) == "anything"
