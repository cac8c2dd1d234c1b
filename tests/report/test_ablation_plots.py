import math

from clickscale.report.ablation_plots import differences


def test_every_variant_with_a_difference_is_named_once_below_the_title_of_its_table() -> None:
    first = [("A", -0.001, -0.002, 0.0), ("B", math.nan, math.nan, math.nan)]
    picture = differences(
        "an ablation", [("Table 3", first), ("Table 5", [("F", 0.001, math.nan, math.nan)])]
    )
    assert [picture.count(f">{name}<") for name in ("an ablation", "Table 3", "Table 5")] == [1, 1, 1]
    assert [picture.count(f">{name}<") for name in "ABF"] == [1, 0, 1]
    assert "nan" not in picture


def test_the_intervals_and_the_points_are_drawn() -> None:
    both = [("A", -0.001, -0.002, 0.0), ("B", 0.001, 0.0005, 0.002)]
    bare = [(name, value, math.nan, math.nan) for name, value, *_ in both]
    lines = [differences("x", [("t", points)]).count("<path") for points in (both, bare)]
    assert lines[0] > lines[1]
