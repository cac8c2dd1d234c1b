import math

import pytest

from clickscale.evaluation.sanity import FEWEST, FEWEST_STEPS, few_warnings, label_warnings, steps_warning
from clickscale.evaluation.significance import Interval, PairedTest


def metrics(pcoc: float = 1.0, **others: float) -> dict[str, Interval]:
    values = {"auc": 0.7, "gauc": 0.6, "log_loss": 0.5, "pcoc": pcoc} | others
    return {name: Interval(math.nan, math.nan, value) for name, value in values.items()}


def test_a_sound_result_says_nothing() -> None:
    assert label_warnings("click", "test", (FEWEST, FEWEST), metrics(), {}, {}) == []
    assert steps_warning(FEWEST_STEPS) == []


@pytest.mark.parametrize(("pcoc", "warned"), [(0.49, True), (0.5, False), (2.0, False), (2.01, True)])
def test_pcoc_is_warned_of_outside_of_its_range(pcoc: float, warned: bool) -> None:
    assert len(label_warnings("click", "test", (50, 50), metrics(pcoc), {}, {})) == warned


def test_a_pcoc_that_is_not_defined_is_no_warning() -> None:
    assert label_warnings("click", "test", (50, 50), metrics(math.nan), {}, {}) == []


def test_few_of_a_class_name_the_way_out_of_the_part() -> None:
    (positives,) = few_warnings("click", "test", (FEWEST - 1, FEWEST))
    assert positives == (
        "click: part test has 19 positives, fewer than 20, so its numbers say little; prepare the log with a"
        " larger share of test (--test)."
    )
    (negatives,) = few_warnings("like", "train", (FEWEST, 0))
    assert negatives.startswith(
        "like: part train has 0 negatives, fewer than 20, so a model can learn nothing"
    )
    assert "--valid and --test" in negatives


def test_few_steps_name_the_way_out() -> None:
    (warning,) = steps_warning(FEWEST_STEPS - 1)
    assert warning.startswith("The model was trained for 99 steps, fewer than 100")
    assert "--epochs" in warning


def test_the_measures_in_which_a_simple_prediction_is_better_are_named_with_their_tests() -> None:
    simple = {"auc": 0.69, "gauc": 0.61, "log_loss": 0.49}
    against = {
        "auc": PairedTest(0.01, 0.0, 0.02, 0.04),
        "gauc": PairedTest(-0.01, -0.03, 0.01, 0.31),
        "log_loss": PairedTest(0.01, math.nan, math.nan, math.nan, "one user"),
    }
    popularity = {"popularity": (simple, against)}
    (warning,) = label_warnings("click", "test", (50, 50), metrics(), popularity, {"gauc": (120, "users")})
    assert warning == (
        "click: the model does not beat item popularity in GAUC (0.6000 against 0.6100 on 120 users, p 0.310)"
        " and log-loss (0.5000 against 0.4900); train it on more impressions or for more steps, or look for"
        " better options with clickscale tune."
    )
    (warning,) = label_warnings("click", "test", (50, 50), metrics(), popularity, {"gauc": (19, "users")})
    assert "GAUC" not in warning  # so few may fall either way
    against["gauc"] = PairedTest(-0.01, -0.02, -0.001, 0.03)
    (again,) = label_warnings("click", "test", (50, 50), metrics(), popularity, {})
    assert again.startswith("click: the model is worse than item popularity in GAUC (0.6000 against 0.61")
    level = dict.fromkeys(against, PairedTest(0.0, 0.0, 0.0, 1.0))
    undefined = dict.fromkeys(against, PairedTest(math.nan, math.nan, math.nan, math.nan, "no positives"))
    for tests in (level, undefined):
        assert label_warnings("click", "test", (50, 50), metrics(), {"constant": (simple, tests)}, {}) == []
