import json
from typing import Any

import msgspec
import pytest

from clickscale.config_text import load_json, to_json
from clickscale.errors import SchemaError
from clickscale.features import Feature
from clickscale.layers.embedding import FusedEmbedding
from clickscale.schema import Field, Label, Schema, Statistic, select_labels
from tests.data.tiny import STATISTICS, tiny_schema


def schema(**changes: Any) -> Schema:
    """A small valid schema, changed."""
    base = Schema(
        name="log",
        user=Field(name="user_id"),
        item=Field(name="item_id"),
        labels=(Label(name="click"),),
        items=(Field(name="genre"),),
        behavior=(Field(name="action"),),
        context=(Field(name="slot"),),
    )
    return msgspec.structs.replace(base, **changes)


def extra(**field: Any) -> Schema:
    """The small schema with one more profile field."""
    return schema(profile=(Field(**{"name": "x"} | field),))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (extra(name="1st"), "field '1st': name '1st' must be letters, digits and '_'"),
        (extra(name="a.b"), "name 'a.b' must be letters"),
        (extra(name="x\n"), "must be letters"),
        (extra(name=""), "name '' must be letters"),
        (extra(name="_x"), "name '_x' must be letters"),
        (extra(name="価格(円)"), "name '価格(円)' must be letters"),
        (extra(name="cafe\u0301"), "must be letters"),  # a request would write the accented letter as one
        (extra(kind="content"), "field 'x': a content field needs width >= 1"),
        (extra(vocabulary="hash"), "field 'x': vocabulary 'hash' needs buckets >= 1"),
        (extra(values=0), "field 'x': values and min_count must be >= 1"),
        (extra(min_count=0), "field 'x': values and min_count must be >= 1"),
        (extra(kind="numeric", values=2), "field 'x': only categorical fields may hold several values"),
        (extra(name="genre"), "name 'genre' is used twice"),
        (schema(labels=(Label(name="click"), Label(name="click"))), "name 'click' is used twice"),
        (schema(labels=()), "it declares no label"),
        (schema(version=2), "version 2 is not 1, the only one that this release reads"),
        (extra(shares="nobody"), "field 'x' shares 'nobody', which has no vocabulary"),
        (
            schema(profile=(Field(name="age", kind="numeric"), Field(name="x", shares="age"))),
            "field 'x' shares 'age', which has no vocabulary",
        ),
        (
            schema(statistics=(Statistic(name="s", by=("itm",)),)),
            "statistic 's': unknown key 'itm' (known are genre, hour_of_day, item, item_id,",
        ),
        (
            schema(statistics=(Statistic(name="s", by=("action",)),)),  # of a behavior, not of an impression
            "statistic 's': unknown key 'action'",
        ),
        (
            schema(statistics=(Statistic(name="s", by=("item",), label="like"),)),
            "statistic 's': unknown label 'like' (known are click)",
        ),
        (schema(statistics=(Statistic(name="s", by=("item",), of="recency"),)), "needs a window in seconds"),
        (schema(statistics=(Statistic(name="slot", by=("item",)),)), "name 'slot' is used twice"),
        (schema(statistics=(Statistic(name="s s", by=("item",)),)), "name 's s' must be letters"),
    ],
)
def test_each_problem_of_a_schema_is_named(wrong: Schema, complaint: str) -> None:
    with pytest.raises(SchemaError) as caught:
        wrong.validate()
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("Schema 'log': ")


def test_all_problems_come_at_once() -> None:
    with pytest.raises(SchemaError) as caught:
        schema(labels=(), version=3, profile=(Field(name="x", shares="y", values=0),)).validate()
    assert str(caught.value).count(";") == 3


def test_only_numbers_have_a_notation() -> None:
    extra(kind="numeric", notation="1.234,5").validate()
    with pytest.raises(SchemaError, match="only numeric fields have a notation"):
        extra(notation="1.234,5").validate()


@pytest.mark.parametrize(
    "wrong",
    [
        extra(shares="x"),
        schema(profile=(Field(name="x", shares="y"), Field(name="y", shares="genre"))),
    ],
    ids=["itself", "a field that shares"],
)
def test_a_field_shares_only_with_a_field_that_has_rows_of_its_own(wrong: Schema) -> None:
    with pytest.raises(SchemaError, match="field 'x' shares"):
        wrong.validate()


@pytest.mark.parametrize("name", ["", "a/b", "../up", "a b", "1"])
def test_a_label_has_a_name_that_can_name_a_file(name: str) -> None:
    with pytest.raises(SchemaError, match="label"):
        schema(labels=(Label(name=name),)).validate()


@pytest.mark.parametrize("delay", [-1, 10**12 + 1])
def test_a_delay_that_no_moment_can_be_moved_by_is_refused(delay: int) -> None:
    with pytest.raises(
        SchemaError, match=rf"label 'click': .* delay \(now {delay}\) must be >= 0 and at most"
    ):
        schema(labels=(Label(name="click", delay=delay),)).validate()


@pytest.mark.parametrize(
    "wrong",
    [
        Statistic(name="s", by=()),
        Statistic(name="s", by=("item",), window=-1),
        Statistic(name="s", by=("item",), window=10**12 + 1),
        Statistic(name="s", by=("item",), prior=-1.0),
        Statistic(name="s", by=("item",), prior=float("inf")),
        Statistic(name="s", by=("item",), prior=float("nan")),
    ],
    ids=["no key", "window", "long window", "prior", "infinite prior", "no number"],
)
def test_a_statistic_needs_a_key_and_numbers_within_bounds(wrong: Statistic) -> None:
    with pytest.raises(SchemaError, match="statistic 's'"):
        schema(statistics=(wrong,)).validate()


@pytest.mark.parametrize("of", ["rate", "lift"])
def test_where_negatives_are_drawn_a_rate_is_refused_with_what_to_declare(of: Any) -> None:
    declared = Statistic(name="s", by=("item",), of=of)
    schema(statistics=(declared,)).validate()
    with pytest.raises(SchemaError, match=f"statistic 's'.* a {of} of these .*of = 'share' or 'count'"):
        schema(statistics=(declared,), sampled_negatives=4).validate()


def test_a_good_schema_is_returned_as_it_is() -> None:
    good = schema(profile=(Field(name="x", shares="genre"),), statistics=STATISTICS[:1])
    assert good.validate() is good


def test_fields_are_listed_by_name_and_statistics_come_last_in_the_context() -> None:
    tiny = tiny_schema(statistics=STATISTICS)
    assert [field.name for field in tiny.context_fields()] == [
        "position",
        "hour",
        "item_rate",
        "item_count",
        "user_genre_rate",
    ]
    assert list(tiny.fields())[:3] == ["user_id", "item_id", "gender"]
    assert len(tiny.fields()) == 2 + 2 + 2 + 4 + 5
    assert [tiny.fields()[name].transform for name in ("item_rate", "item_count")] == ["none", "log1p"]
    assert all(tiny.fields()[statistic.name].kind == "numeric" for statistic in STATISTICS)


def test_the_raw_column_is_the_name_unless_it_is_given() -> None:
    assert Field(name="a").source == "a"
    assert Field(name="a", column="b").source == "b"


def test_json_brings_the_schema_back_and_is_checked() -> None:
    tiny = tiny_schema(statistics=STATISTICS)
    assert load_json(to_json(tiny), Schema, "the schema").validate() == tiny
    tree = json.loads(to_json(tiny))
    tree["labels"] = []
    with pytest.raises(SchemaError, match="no label"):
        load_json(json.dumps(tree), Schema, "the schema").validate()


def test_labels_are_chosen_by_name_and_the_first_one_otherwise() -> None:
    assert select_labels(("click", "like", "buy"), ()) == (0,)
    assert select_labels(("click", "like", "buy"), ("buy", "click")) == (2, 0)
    with pytest.raises(SchemaError, match=r"Unknown label 'clik'; did you mean 'click'\?"):
        select_labels(("click", "like"), ("clik",))


def test_a_valid_schema_can_always_be_embedded() -> None:
    shared = (Feature(name="b", kind="categorical", size=4, shares="a"),)
    table = FusedEmbedding((*shared, Feature(name="a", kind="categorical", size=4)), 2)
    assert table.offsets == {"a": 0, "b": 0}


@pytest.mark.parametrize("name", ["商品类目", "тип", "한국어", "उपयोगकर्ता", "نوع", "é1"])
def test_names_may_be_of_any_script(name: str) -> None:
    extra(name=name).validate()
