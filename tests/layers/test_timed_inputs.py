import pytest
import torch

from clickscale.layers.timed_inputs import TimeOfWeek


@pytest.mark.parametrize(
    ("moment", "day", "hour"),
    [
        (0, 4, 0),  # Thursday 1970-01-01 00:00
        (3 * 86_400 - 1, 6, 23),  # Saturday 23:59:59
        (3 * 86_400, 0, 0),  # Sunday
        (1_600_000_000, 0, 12),  # Sunday 2020-09-13 12:26:40
    ],
)
def test_hour_and_weekday_by_hand(moment: int, day: int, hour: int) -> None:
    torch.manual_seed(0)
    week = TimeOfWeek(3, 6)
    expected = week.project(week.hour[hour] + week.day[day])
    torch.testing.assert_close(week(torch.tensor([[moment]]))[0, 0], expected)
