import pytest

from clickscale.config import Config
from clickscale.models import model_names, presets
from clickscale.training.distill.distill_config import DistillConfig
from clickscale.training.option_list import _meanings_of, _Option, _options_of, distill_options, train_options
from clickscale.training.run.run_config import TrainConfig

MODEL_CONFIGS = {name: type(presets(name)["size-2"]) for name in model_names()}
KINDS = {"train": TrainConfig, "distill": DistillConfig} | MODEL_CONFIGS


class Inner(Config, frozen=True):
    """Options.

    Attributes:
        rate: of learning. steps, warm: numbers of
            steps; ``0`` for none.
    """

    rate: float = 0.5
    steps: int = 0
    warm: int = 3


class Outer(Inner, frozen=True, kw_only=True):
    """More options.

    Attributes:
        names: of things.

    Raises:
        ConfigError: hidden: never.
    """

    data: str
    names: tuple[str, ...] = ("a", "b")
    hidden: bool = False
    inner: Inner = Inner(warm=7)


@pytest.mark.parametrize("name", KINDS)
def test_every_option_has_a_meaning(name: str) -> None:
    assert [option.key for option in _options_of(KINDS[name]) if not option.meaning] == []


@pytest.mark.parametrize("name", KINDS)
def test_every_type_is_told_in_words_that_set_takes(name: str) -> None:
    assert [option.key for option in _options_of(KINDS[name]) if "<" in option.type] == []


def test_meanings_come_from_the_docstrings_and_end_with_their_section() -> None:
    steps = "numbers of steps; `0` for none."
    assert _meanings_of(Inner) == {"rate": "of learning.", "steps": steps, "warm": steps}
    assert _meanings_of(Outer) == _meanings_of(Inner) | {"names": "of things."}


def test_options_have_a_type_and_the_default_of_the_struct_that_holds_them() -> None:
    options = {option.key: option for option in _options_of(Outer)}
    assert options["data"] == _Option("data", "text", "required", "")
    assert options["names"] == _Option("names", "list of text", '["a", "b"]', "of things.")
    assert (options["hidden"].type, options["hidden"].default) == ("true | false", "false")
    assert (options["warm"].default, options["inner.warm"].default) == ("3", "7")


def test_the_options_of_a_model_have_the_defaults_of_its_grade() -> None:
    small, large = (
        {o.key: o.default for o in train_options("suan", grade)} for grade in ("size-1", "size-4")
    )
    assert (small["model.blocks"], large["model.blocks"]) == ("1", "8")
    assert small["optimizer.schedule.warmup"] == "0.05"
    assert not any(key.startswith("model.") for key in (option.key for option in train_options()))


def test_what_only_distill_has_is_listed_apart() -> None:
    keys = [option.key for option in distill_options()]
    assert {"temperature", "student.optimizer.learning_rate", "teacher.length"} <= set(keys)
    assert not set(keys) & {option.key for option in train_options()}
