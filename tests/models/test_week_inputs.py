import dataclasses

import torch

from clickscale.models._week_inputs import WeekInputs
from tests.models.toy import features, item_columns, toy_batch

D = 4


def test_hour_and_weekday_stand_behind_the_context() -> None:
    torch.manual_seed(0)
    made, candidates = WeekInputs(features(), item_columns(), D, "linear", True), toy_batch().candidates
    assert made.context_tokens == 3
    assert made.week is not None
    sunday = dataclasses.replace(candidates, times=torch.full_like(candidates.times, 1_600_000_000))
    found = made.context(sunday)
    assert found.shape == (5, 4, 3 * D)
    expected = made.week.project(made.week.hour[12] + made.week.day[0])  # Sunday 2020-09-13 12:26:40
    torch.testing.assert_close(found[..., 2 * D :], expected.expand(5, 4, D))


def test_without_them_nothing_is_added() -> None:
    made, candidates = WeekInputs(features(), item_columns(), D, "linear", False), toy_batch().candidates
    assert made.context_tokens == 2
    assert made.context(candidates).shape == (5, 4, 2 * D)
