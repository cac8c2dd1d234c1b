"""Parts of URLs, as logs and requests write them."""

import pyarrow as pa
import pytest

from clickscale.data.features.urls import url_parts
from clickscale.data.features.values import read_field
from clickscale.errors import SchemaError
from clickscale.schema import Field, Label, Schema


@pytest.mark.parametrize(
    ("url", "host", "section"),
    [
        ("https://www.Example.com/news/today?id=7", "example.com", "/news"),
        ("http://shop.example.com:8080/", "shop.example.com", None),
        ("https://user@example.com/a#b", "example.com", "/a"),
        ("//cdn.example.com/x/y", "cdn.example.com", "/x"),
        ("example.com/Sport", "example.com", "/Sport"),
        ("example.com?utm=1/2", "example.com", None),
        ("android-app://com.shop/home", "com.shop", "/home"),
        (" https://example.com/a ", "example.com", "/a"),
        ("/relative/path", None, "/relative"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_a_url_has_a_host_and_a_section(url: str | None, host: str | None, section: str | None) -> None:
    texts = pa.array([url], pa.string())
    assert url_parts(texts, "host").to_pylist() == [host]
    assert url_parts(texts, "section").to_pylist() == [section]


def test_a_part_stays_what_it_is() -> None:
    for part in ("host", "section"):
        once = url_parts(pa.array(["https://www.example.com/news/today", "example.com/news"]), part)
        assert url_parts(once, part).to_pylist() == once.to_pylist()


def test_a_field_reads_the_part_and_knows_what_is_missing() -> None:
    values = ["https://a.com/x", "http://www.A.com/y", "/c", "", None, "b.com"]
    raw = read_field(Field(name="host", url="host"), pa.array(values))
    assert raw.data[0] == raw.data[1] != raw.data[5]
    assert len(set(raw.data[2:5].tolist())) == 1
    assert not raw.problems.any()
    assert raw.texts is not None
    assert sorted(raw.texts.to_pylist()) == ["a.com", "b.com"]
    assert read_field(Field(name="host", url="host"), pa.array([["a.com"]])).problems.all()


@pytest.mark.parametrize("options", [{"kind": "numeric"}, {"values": 3}, {"dtype": "int"}])
def test_a_part_of_a_url_is_a_plain_text(options: dict[str, object]) -> None:
    field = Field(name="page", url="host", **options)  # type: ignore[arg-type]
    schema = Schema(
        name="x",
        user=Field(name="user"),
        item=Field(name="item"),
        labels=(Label(name="click"),),
        context=(field,),
    )
    with pytest.raises(SchemaError, match="'page': a part of a URL is a text"):
        schema.validate()
