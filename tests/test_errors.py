import inspect
import re

import pytest

from clickscale import errors
from clickscale.errors import ClickscaleError, unknown

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
