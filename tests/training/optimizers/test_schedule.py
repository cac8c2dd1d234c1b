import pytest

from clickscale.errors import ConfigError
from clickscale.training.optimizers.schedule import Schedule


def test_the_rate_rises_in_a_line_during_warm_up() -> None:
    schedule = Schedule(warmup=0.1, decay="cosine")
    assert [schedule.factor(step, 40) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("decay", "halfway", "end"), [("constant", 1.0, 1.0), ("cosine", 0.55, 0.1), ("linear", 0.55, 0.1)]
)
def test_the_decay_passes_its_middle_and_ends_at_the_floor(decay: str, halfway: float, end: float) -> None:
    schedule = Schedule(warmup=0.2, decay=decay, floor=0.1)  # type: ignore[arg-type]
    assert schedule.factor(20, 100) == pytest.approx(1.0)
    assert schedule.factor(60, 100) == pytest.approx(halfway)
    assert schedule.factor(100, 100) == pytest.approx(end)


def test_a_quarter_of_the_cosine_is_computed_by_hand() -> None:
    assert Schedule(decay="cosine").factor(25, 100) == pytest.approx((1 + 0.5**0.5) / 2)


def test_the_last_step_of_a_run_still_moves() -> None:
    assert Schedule(warmup=0.05, decay="cosine").factor(99, 100) > 0


def test_steps_beyond_the_planned_ones_keep_the_last_rate() -> None:
    assert Schedule(decay="linear", floor=0.2).factor(150, 100) == pytest.approx(0.2)


@pytest.mark.parametrize("wrong", [{"warmup": -0.1}, {"warmup": 1.5}, {"floor": 2.0}])
def test_shares_outside_zero_and_one_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Schedule(**wrong)
