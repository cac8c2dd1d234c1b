"""Labels as comparisons."""

import pyarrow as pa
import pytest

from clickscale.data.tables.conditions import Condition, Tally, parse_condition
from clickscale.errors import InputError, SchemaError


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("rating >= 4", Condition("rating", ">=", 4.0)),
        ("action == buy", Condition("action", "==", "buy")),
        ('action=="add to cart"', Condition("action", "==", "add to cart")),
        ("code != '7'", Condition("code", "!=", "7")),
        ("is_click = true", Condition("is_click", "=", 1.0)),
        ("watch time > -1.5", Condition("watch time", ">", -1.5)),
    ],
)
def test_conditions_are_read(text, condition):
    assert parse_condition(text) == condition


@pytest.mark.parametrize(
    "text", ["rating", "rating >=", ">= 4", "action > buy", "rating => 4", "rating === 4", "a <> b", ""]
)
def test_other_forms_are_refused(text):
    with pytest.raises(SchemaError, match=r"condition|Condition"):
        parse_condition(text)


def test_numbers_compare_as_numbers_in_text_too():
    outcome, bad = parse_condition("rating >= 4").evaluate(pa.array(["4", "3.5", None, "10", "good"]))
    assert outcome.to_pylist() == [1, 0, None, 1, None]
    assert bad.tolist() == [False, False, False, False, True]


def test_texts_compare_as_texts():
    assert parse_condition("a == buy").evaluate(pa.array(["buy", "pv", None]))[0].to_pylist() == [1, 0, None]
    assert parse_condition("a != 7").evaluate(pa.array([7, 8, None]))[0].to_pylist() == [0, 1, None]
    assert parse_condition("a != '7'").evaluate(pa.array([7, 8, None]))[0].to_pylist() == [0, 1, None]


@pytest.mark.parametrize("values", [["7", "", None], [7, None, None], [7.5, float("nan"), None]])
def test_the_empty_text_is_every_missing_value(values):
    there, bad = parse_condition("click_time != ''").evaluate(pa.array(values))
    assert (there.to_pylist(), bad.tolist()) == ([1, 0, 0], [False] * 3)
    assert parse_condition('click_time == ""').evaluate(pa.array(values))[0].to_pylist() == [0, 1, 1]


def test_truth_values_compare_with_true_and_one():
    assert parse_condition("a == true").evaluate(pa.array([True, False]))[0].to_pylist() == [1, 0]
    assert parse_condition("a == 1").evaluate(pa.array([True, None]))[0].to_pylist() == [1, None]


def test_a_condition_on_lists_names_the_way_to_take_them_apart():
    values = pa.array([None, ["view", "click"]])
    tally = Tally("[impressions] where", "views", parse_condition("events.type == 'view'"))
    with pytest.raises(InputError, match=r"'events\.type' has no single values.*'view', 'click'.*unnest = "):
        tally.evaluate(values)
    there = Tally("[impressions] where", "views", parse_condition("events.type != ''"))
    assert there.evaluate(values)[0].to_pylist() == [0, 1]
