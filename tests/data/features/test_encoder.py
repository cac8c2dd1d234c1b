from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.features.encoder import Encoder, Scale, Vocabulary, transform
from clickscale.data.features.texts import hash_texts, splitmix64
from clickscale.data.preparation.intake import _check_sharing
from clickscale.errors import DamagedError, DataError, SchemaError
from clickscale.schema import Field, Label, Schema
from tests.data.tiny import tiny_schema


def tiny_encoder() -> Encoder:
    words = {"gender": ["f", "m"], "action": ["buy", "view"], "genre": ["drama", "war"]}
    vocabularies = {name: Vocabulary("string", pa.array(values)) for name, values in words.items()}
    vocabularies |= {
        "user_id": Vocabulary("int", pa.array([5, 7])),
        "item_id": Vocabulary("int", pa.array([10])),
    }
    vocabularies["position"] = Vocabulary("int", None, 4)
    scales = {name: Scale(2.0, 0.5) for name in ("age", "dwell", "price", "released")}
    scales["hour"] = Scale(2.0, 0.5, (-1.0, float(np.float32(0.3)), 4.0))
    return Encoder(tiny_schema(), vocabularies, scales, Vocabulary("int", pa.array([10, 20, 30])))


def test_indices_follow_padding_and_unknown_in_the_order_of_the_values() -> None:
    numbers = Vocabulary("int", pa.array([3, 7, 2**62]))
    assert numbers.size == 5
    assert numbers.encode(pa.array([2**62, 3, 7, 8, None])).tolist() == [4, 2, 3, 1, 1]
    texts = Vocabulary("string", pa.array(["", "a", "b"]))
    assert texts.encode(pa.array(["b", "a", "c", None])).tolist() == [4, 3, 1, 1]
    assert texts.encode(pa.array(["b"])).dtype == np.int32


@given(st.sets(st.text(max_size=4), max_size=20), st.lists(st.text(max_size=4), max_size=20))
def test_a_text_vocabulary_is_a_dictionary_of_its_values(known: set[str], asked: list[str]) -> None:
    values = sorted(known - {""}, key=lambda text: text.encode())
    index = {value: place + 2 for place, value in enumerate(values)}
    found = Vocabulary("string", pa.array(values, pa.string())).encode(pa.array(asked, pa.string()))
    assert found.tolist() == [index.get(text, 1) for text in asked]


@given(st.sets(st.integers(0, 30), max_size=20), st.lists(st.integers(-5, 40), max_size=20))
def test_an_integer_vocabulary_is_a_dictionary_of_its_values(known: set[int], asked: list[int]) -> None:
    index = {value: place + 2 for place, value in enumerate(sorted(known))}
    vocabulary = Vocabulary("int", pa.array(sorted(known), pa.int64()))
    assert vocabulary.encode(pa.array(asked, pa.int64())).tolist() == [index.get(value, 1) for value in asked]


def test_a_hashing_vocabulary_needs_no_values_and_spreads_them() -> None:
    vocabulary = Vocabulary("int", None, 8)
    ids = np.arange(1000)
    found = vocabulary.encode(pa.array(ids))
    expected = splitmix64(ids.astype(np.uint64)) % np.uint64(8) + np.uint64(2)
    assert found.tolist() == expected.tolist()
    assert vocabulary.size == 10
    assert set(np.unique(found)) == set(range(2, 10))
    assert vocabulary.encode(pa.array([None, -3, "x"][:1], pa.int64())).tolist() == [1]
    words = Vocabulary("string", None, 8).encode(pa.array(["a", "b", None]))
    key = hash_texts(pa.array(["a"])).astype(np.uint64)
    assert words[0] == int(splitmix64(key)[0] % np.uint64(8)) + 2
    assert words[2] == 1


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["x", "", None]),
        pa.array([3.5, -1.0, None]),
        pa.array([[1], [2], None]),
        pa.array([{"a": 1}, {"a": 2}, None]),
        pa.array([b"\xff", b"", None]),
        pa.array([True, False, None]),
        pa.nulls(3),
    ],
)
@pytest.mark.parametrize(
    "name", ["user_id", "item_id", "gender", "genre", "position", "age", "released", "text"]
)
def test_values_that_cannot_be_read_are_unknown_and_never_an_exception(name: str, values: pa.Array) -> None:
    encoder = tiny_encoder()
    encoded = encoder.encode_field(name, values)
    field = encoder.field(name)
    if field.kind == "categorical":
        assert encoded.dtype == np.int32
        assert (encoded.reshape(3, -1)[:, 0] >= 1).all()
        assert encoded.reshape(3, -1)[2, 0] == 1
    elif field.kind == "content":
        assert encoded.tolist() == [[0.0] * 4] * 3
    else:
        assert encoded.dtype == np.float32
        assert np.isnan(encoded[2])


def test_several_values_are_padded_behind_and_unknown_where_there_is_none() -> None:
    found = tiny_encoder().encode_field("genre", pa.array(["war|drama", "war|new", "", None, "new"]))
    assert found.tolist() == [[3, 2, 0], [3, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_numbers_are_transformed_then_scaled_and_missing_ones_stay_missing() -> None:
    encoder = tiny_encoder()
    assert encoder.encode_field("age", pa.array([3.0, None]))[0] == pytest.approx((3.0 - 2.0) / 0.5)
    assert np.isnan(encoder.encode_field("age", pa.array([3.0, None]))[1])
    price = encoder.encode_field("price", pa.array([np.e - 1, -(np.e - 1)]))
    assert price.tolist() == pytest.approx([(1.0 - 2.0) / 0.5, (-1.0 - 2.0) / 0.5])
    assert encoder.encode_field("released", pa.array([86_400 * 3])).tolist() == pytest.approx([2.0])
    assert np.isfinite(encoder.encode_field("age", pa.array([3e38, -3e38]))).all()


def test_the_transform_is_the_documented_one() -> None:
    assert transform(Field(name="n", kind="numeric"), np.array([5.0])).tolist() == [5.0]
    assert transform(Field(name="t", kind="timestamp"), np.array([43_200.0])).tolist() == [0.5]


def test_items_are_rows_of_the_item_table() -> None:
    assert tiny_encoder().encode_items(pa.array(["20", "10", "99", None])).tolist() == [3, 2, 1, 1]
    assert tiny_encoder().encode_items(pa.array([30.0, 30.5])).tolist() == [4, 1]


def test_features_tell_models_what_there_is() -> None:
    features = tiny_encoder().features()
    assert [feature.name for feature in features.profile] == ["user_id", "gender", "age"]
    assert [feature.name for feature in features.item] == ["item_id", "genre", "price", "released", "text"]
    assert [feature.size for feature in features.profile] == [4, 4, 0]
    assert features.item[1].values == 3
    assert features.item[4].width == 4
    assert [feature.kind for feature in features.item[2:4]] == ["numeric", "numeric"]
    assert features.items == 5
    assert [feature.edges for feature in features.context[1:]] == [(-1.0, float(np.float32(0.3)), 4.0)]
    assert features.labels == ("click", "like")


def test_an_encoder_read_back_is_the_same(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    encoder.save(tmp_path / "one")
    again = Encoder.load(tmp_path / "one")
    again.save(tmp_path / "two")
    for name in ("encoder.json", "encoder.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert again.features() == encoder.features()
    values: dict[str, Any] = {
        "gender": ["m", "x"],
        "user_id": [7, 8],
        "position": [1, 2],
        "genre": ["war|drama", ""],
    }
    for name, raw in values.items():
        np.testing.assert_array_equal(
            again.encode_field(name, pa.array(raw)), encoder.encode_field(name, pa.array(raw))
        )
    assert again.encode_items(pa.array([30])).tolist() == [4]


def test_damaged_or_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"encoder\.json"):
        Encoder.load(tmp_path)
    tiny_encoder().save(tmp_path)
    data = (tmp_path / "encoder.safetensors").read_bytes()
    (tmp_path / "encoder.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedError, match=r"encoder\.safetensors"):
        Encoder.load(tmp_path)


def sharing_schema(**other: Any) -> Schema:
    return Schema(
        name="shop",
        user=Field(name="user_id", dtype="int"),
        item=Field(name="item_id", dtype="int"),
        labels=(Label(name="click"),),
        items=(Field(name="category"),),
        context=(Field(name="wanted", shares="category", **other),),
    )


def test_a_field_that_shares_uses_the_other_fields_vocabulary() -> None:
    vocabularies = {"category": Vocabulary("string", pa.array(["a", "b"]))}
    vocabularies |= {name: Vocabulary("int", pa.array([1])) for name in ("user_id", "item_id")}
    encoder = Encoder(sharing_schema(), vocabularies, {}, Vocabulary("int", pa.array([1])))
    assert encoder.vocabulary("wanted") is encoder.vocabulary("category")
    assert encoder.encode_field("wanted", pa.array(["b"])).tolist() == [3]
    assert encoder.features().context[0].shares == "category"
    assert encoder.features().context[0].size == 4


def test_fields_that_read_values_differently_cannot_share() -> None:
    with pytest.raises(SchemaError, match="'wanted' has dtype int and shares the vocabulary of 'category'"):
        _check_sharing(sharing_schema(dtype="int"))


def test_sharing_in_a_circle_is_refused() -> None:
    schema = sharing_schema()
    circle = msgspec.structs.replace(schema, items=(Field(name="category", shares="wanted"),))
    with pytest.raises(SchemaError, match="circle"):
        _check_sharing(circle)


def test_an_unknown_field_is_named_with_the_nearest_one() -> None:
    with pytest.raises(SchemaError, match="did you mean 'gender'"):
        tiny_encoder().encode_field("gendr", pa.array(["f"]))
