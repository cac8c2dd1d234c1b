"""Texts of items from fields and from tables."""

import pytest

from clickscale.data.content.item_texts import TextTable, item_texts
from clickscale.data.dataset import open_dataset
from clickscale.data.tables.delimited import TextFormat
from clickscale.errors import InputError, SchemaError
from tests.data.tiny import tiny_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("log")))


def table(path, text, **options):
    path.write_bytes(text.encode(options.get("encoding", "utf-8")))
    return TextTable(path, "item", TextFormat(**options))


def test_values_of_a_field_stand_between_commas_and_unknown_ones_are_left_out(dataset):
    texts = item_texts(dataset, ["genre"])
    assert texts[:8] == ["", "", "drama", "comedy", "war", "drama, war", "comedy, drama, war", ""]


def test_later_fields_carry_their_names_and_empty_ones_leave_no_trace(dataset, tmp_path):
    titles = table(tmp_path / "t.csv", "item,title,mood\n10,Heat,dark\n20,Up,\n999,Nowhere,x\n70,,calm\n")
    texts = item_texts(dataset, ["title", "genre", "mood"], titles)
    assert texts[2] == "Heat. Genre: drama. Mood: dark"
    assert texts[3] == "Up. Genre: comedy"
    assert texts[4] == "Genre: war"
    assert texts[8] == "Genre: drama. Mood: calm"
    assert len(texts) == dataset.features.items


def test_a_column_goes_before_a_field_of_its_name_and_takes_its_separator(dataset, tmp_path):
    genres = table(tmp_path / "t.csv", "item,genre\n10,noir|crime\n10,again\n")
    assert item_texts(dataset, ["genre"], genres)[2:4] == ["noir, crime", ""]


def test_a_file_without_header_in_another_encoding_is_read(dataset, tmp_path):
    movies = table(
        tmp_path / "movies.item",
        '10::Amélie "x" (2001)::drama\n',
        separator="::",
        names=("item", "title", "genre"),
        quote="",
        encoding="latin-1",
    )
    assert item_texts(dataset, ["title", "genre"], movies)[2] == 'Amélie "x" (2001). Genre: drama'


def test_only_the_first_columns_of_a_file_without_header_need_names(dataset, tmp_path):
    named = {"names": ("item", "title"), "quote": ""}
    piped = table(tmp_path / "u.item", "10|Heat|1995|0|0\n20|Up|2009|1|0\n", separator="|", **named)
    assert item_texts(dataset, ["title"], piped)[2:4] == ["Heat", "Up"]
    tabbed = table(tmp_path / "u.tsv", "10\tHeat\t1995\n20\tUp\t2009\n", **named)
    assert item_texts(dataset, ["title"], tabbed)[2:4] == ["Heat", "Up"]


def test_a_column_of_lists_is_joined(dataset, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"item": 10, "tags": ["a", "b"]}\n{"item": 20, "tags": null}\n')
    assert item_texts(dataset, ["tags"], TextTable(tmp_path / "t.jsonl", "item"))[2:4] == ["a, b", ""]


def test_fields_without_text_and_unknown_fields_are_refused(dataset, tmp_path):
    with pytest.raises(SchemaError, match=r"text of field 'price' \(numeric.*--texts"):
        item_texts(dataset, ["price"])
    with pytest.raises(SchemaError, match="Unknown field 'titel'; did you mean 'title'"):
        item_texts(dataset, ["titel"], table(tmp_path / "t.csv", "item,title\n10,Heat\n"))
    with pytest.raises(InputError, match=r"Unknown column 'item'.*--key"):
        item_texts(dataset, ["title"], table(tmp_path / "t.csv", "id,title\n10,Heat\n"))
    with pytest.raises(InputError, match="read from the column 'item'"):
        item_texts(dataset, ["title"], table(tmp_path / "t.csv", "item,title\n11,Heat\n"))
