from pathlib import Path

import numpy as np
import pytest

from clickscale.data.checks.contents import inspect_dataset
from clickscale.data.dataset import PARTS, open_dataset
from clickscale.data.preparation.summary import Summary, read_summary, summarize
from clickscale.data.source import Split
from tests.data.tiny import tiny_dataset, tiny_source


def summary_of(
    user=(0, 0, 1, 1, 2, 0, 3, 0),
    item=(5, 6, 5, 6, 5, 7, 5, 5),
    part=(0, 0, 0, 0, 1, 1, 2, 2),
    click=(1, 0, 0, 0, 1, 0, 1, 1),
    visible=(0, 1, 0, 1, 0, 2, 0, 3),
    split=None,
    **labels,
) -> Summary:
    columns = {"user": np.array(user), "item": np.array(item), "visible": np.array(visible, np.int32)}
    parts = np.array(part, np.uint8)
    outcomes = {"click": np.array(click), **{name: np.array(values) for name, values in labels.items()}}
    return summarize(columns, lambda rows: parts[rows], outcomes, split or Split())


def many(times: int, **columns) -> Summary:
    """The rows of `summary_of`, repeated."""
    usual = {
        "user": (0, 0, 1, 1, 2, 0, 3, 0),
        "item": (5, 6, 5, 6, 5, 7, 5, 5),
        "part": (0, 0, 0, 0, 1, 1, 2, 2),
        "click": (1, 0, 0, 1, 1, 0, 1, 0),
        "visible": (1, 2, 1, 1, 1, 2, 1, 3),
    }
    return summary_of(**{name: np.tile(values, times) for name, values in (usual | columns).items()})


def test_parts_are_measured_against_train():
    parts = summary_of().parts
    assert [parts[name].impressions for name in PARTS] == [4, 2, 2]
    assert [parts[name].users for name in PARTS] == [2, 2, 2]
    assert [parts[name].items for name in PARTS] == [2, 2, 1]
    assert [parts[name].cold_users for name in PARTS] == [0, 0.5, 0.5]  # users 2 and 3
    assert [parts[name].cold_items for name in PARTS] == [0, 0.5, 0]  # item 7
    assert [parts[name].rate for name in PARTS] == [0.25, 0.5, 1.0]
    assert parts["train"].log_loss == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    assert parts["test"].log_loss == pytest.approx(-np.log(0.25))
    assert [parts[name].pcoc for name in PARTS] == [1.0, 0.5, 0.25]


def test_unknown_labels_count_neither_way():
    part = summary_of(click=(1, 0, -1, -1, -1, -1, 1, 0)).parts
    assert (part["train"].positives, part["train"].negatives, part["train"].rate) == (1, 1, 0.5)
    assert (part["valid"].rate, part["valid"].log_loss, part["valid"].pcoc) == (None, None, None)


def test_a_training_part_of_one_class_has_no_constant_to_beat():
    assert summary_of(click=(0, 0, 0, 0, 1, 0, 1, 1)).parts["test"].log_loss is None


def test_a_fair_log_has_no_warning():
    assert many(50).warnings == ()


@pytest.mark.parametrize(
    ("columns", "warning"),
    [
        (
            {"click": (1, 0, 0, 1, 0, 0, 1, 0)},
            "valid has no positives of 'click', so nothing can be measured",
        ),
        ({"part": (0, 0, 0, 0, 0, 0, 2, 2)}, "valid has no impressions; choose larger shares"),
        ({"click": (1, 0, 0, 0, 1, 0, 1, 0)}, "25.00% in train and 50.00% in test, so a model that is right"),
        (
            {"user": (0, 0, 1, 1, 2, 0, 3, 3)},
            "100% of the test impressions are of users that train has not. Visitors and sessions",
        ),
        ({"item": (5, 6, 5, 6, 5, 7, 8, 9)}, "100% of the test impressions are of items that train has not"),
        ({"visible": (0, 0, 0, 0, 0, 1, 1, 1)}, "62% of the impressions see no behavior"),
    ],
)
def test_what_will_go_wrong_is_a_warning(columns, warning):
    assert any(warning in line for line in many(50, **columns).warnings)


def test_few_outcomes_of_any_label_are_a_warning():
    warnings = summary_of(buy=(0,) * 8).warnings
    assert "test has only 2 positives of 'click', so its metrics say little." in warnings
    assert "test has no positives of 'buy', so nothing can be measured there." in warnings


def test_a_split_by_the_time_of_each_user_is_not_proposed_where_it_is_used():
    columns = {"user": (0, 0, 1, 1, 2, 0, 3, 3)}
    assert "--split user_time" in " ".join(many(50, **columns).warnings)
    again = summary_of(**{"user": np.array(columns["user"])}, split=Split(kind="user_time"))
    assert "--split user_time" not in " ".join(again.warnings)


@pytest.mark.parametrize(
    ("visible", "train"),
    [
        ((0,) * 8, "clickscale train mlp --data d --out runs/mlp"),
        ((1, 2, 3, 4, 5, 6, 7, 12), "clickscale train suan --data d --out runs/suan --length 20"),
        ((60,) * 8, "clickscale train suan --data d --out runs/suan"),
        (
            (1, 300, 300, 300, 300, 300, 300, 300),
            "clickscale train suan --data d --out runs/suan  # --length 300 reads 95% of the histories whole",
        ),
    ],
)
def test_the_next_steps_fit_the_histories(visible, train):
    assert many(50, visible=visible).next_steps("d") == ("clickscale leak-check d", train)


def test_several_labels_are_named():
    steps = summary_of(like=(0, 1) * 4, visible=(60,) * 8).next_steps("d")
    assert steps[1].endswith("# --labels click,like trains all labels")


@pytest.mark.parametrize("kind", ["time", "user_time"])
def test_inspect_shows_what_preparation_stored(tmp_path: Path, kind):
    folder = tiny_dataset(tmp_path, tiny_source(split=Split(kind=kind)))
    dataset = open_dataset(folder)
    stored = read_summary(folder)
    assert inspect_dataset(dataset).summary == stored
    assert "summary.json" in dataset.manifest.files
    for name in PARTS:
        assert stored.parts[name].impressions == len(dataset.part(name))
