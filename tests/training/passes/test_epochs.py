import pytest

from clickscale.errors import ConfigError
from clickscale.training.passes.epochs import Epochs, Position


def test_a_new_run_begins_every_epoch_at_its_first_batch() -> None:
    assert list(Epochs(count=2).remaining(Position())) == [Position(0, 0), Position(1, 0)]


def test_a_continued_run_takes_up_its_epoch_where_it_stood() -> None:
    assert list(Epochs(count=3).remaining(Position(1, 7))) == [Position(1, 7), Position(2, 0)]


def test_a_finished_run_has_nothing_left() -> None:
    assert list(Epochs(count=1).remaining(Position(1, 0))) == []


def test_fewer_epochs_than_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Epochs(count=-1)


def test_a_snapshot_without_a_reset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"epochs\.reset=snapshot"):
        Epochs(count=2, snapshot="runs/a")


def test_a_bound_of_steps_is_at_most_what_the_passes_have() -> None:
    assert [Epochs(steps=steps).bounded(40) for steps in (0, 7, 100)] == [40, 7, 40]
    with pytest.raises(ConfigError, match=r"epochs\.steps is -1"):
        Epochs(steps=-1)
