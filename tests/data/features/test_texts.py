import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickscale.data.features.texts import (
    BRACKETS,
    entries_of,
    hash_texts,
    splitmix64,
    text_buffers,
    texts_of,
)

WORDS = st.lists(st.text(alphabet="abéß界\0", max_size=6), max_size=12)
MASK = 2**64 - 1


def mixed_by_hand(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def hash_by_hand(text: str) -> int:
    data = text.encode()
    total = sum(mixed_by_hand(256 * (place + 1) + byte) for place, byte in enumerate(data))
    return mixed_by_hand((total + len(data)) & MASK) >> 1


def test_splitmix_gives_the_published_sequence() -> None:
    # The generator adds the golden gamma to its state and finalizes that; its first output from 0 is known.
    assert int(splitmix64(np.zeros(1, np.uint64))[0]) == 0xE220A8397B1DCDAF


@given(WORDS)
def test_the_hash_of_a_text_is_the_documented_sum_over_its_bytes(words: list[str]) -> None:
    assert hash_texts(pa.array(words, pa.string())).tolist() == [hash_by_hand(word) for word in words]


def test_the_hash_never_changes_since_artifacts_hold_it() -> None:
    assert hash_texts(pa.array(["", "a", "drama"])).tolist() == [hash_by_hand(w) for w in ("", "a", "drama")]
    assert hash_texts(pa.array(["a"])).tolist() == [1393106808941723926]


def test_texts_with_the_same_letters_in_another_order_have_other_hashes() -> None:
    assert len(set(hash_texts(pa.array(["abc", "acb", "bac", "cab", "ab", "c"])).tolist())) == 6


def test_more_texts_than_one_block_are_hashed_alike() -> None:
    many = [str(number) for number in range(40_000)]
    hashes = hash_texts(pa.array(many))
    assert len(set(hashes.tolist())) == len(many)
    assert hashes[39_999] == hash_by_hand("39999")


@given(WORDS)
def test_texts_can_be_taken_apart_and_put_together(words: list[str]) -> None:
    texts = pa.array(["skipped", *words], pa.large_string()).slice(1)
    assert texts_of(*text_buffers(texts)).to_pylist() == words


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("['Animation', \"Children's\", 'Sci-Fi']", ["Animation", "Children's", "Sci-Fi"]),
        ('["a, b", "c"]', ["a, b", "c"]),
        ("[Action, Children's Films]", ["Action", "Children's Films"]),
        ("['it\\'s']", ["it's"]),
        ('["a{b", "c"]', ["a{b", "c"]),
        ('["Com\\u00e9die", "a\\nb"]', ["Com\u00e9die", "a\nb"]),
        ("[{'id': 16}, {'id': 17}]", ["16", "17"]),
        ("[{'id': 'tt1', 'name': 'Drama', 'of': ['x']}]", ["Drama"]),
        ("[{'a': 'x', 'b': 2}]", ["x", "2"]),
        ("[Drama (TV), Comedy]", ["Drama (TV)", "Comedy"]),
        ("[1 2 3]", ["1", "2", "3"]),
        ("['War' 'Sci-Fi'\n 'Drama']", ["War", "Sci-Fi", "Drama"]),
        ('["\\ud800", " x "]', ["x"]),
        ("[{'name': None, 'id': 4}]", ["4"]),
        ("[" * 5000, ["[" * 4999]),
        ("[1, 2.5,None, 3.0]", ["1", "2.5", "3"]),
        ("[1, nan, None]", ["1"]),
        ("[['Beauty', 'Hair'], ['Skin']]", ["Beauty", "Hair", "Skin"]),
        ("[{'id': 16, 'name': 'Drama'}, {\"id\": 35, \"name\": \"War\"}]", ["Drama", "War"]),
        ("[]", []),
        ("['open", ["open"]),
    ],
)
def test_lists_in_brackets_are_taken_apart(text: str, entries: list[str]) -> None:
    assert entries_of(text, BRACKETS) == entries


def test_other_separators_divide_as_they_stand() -> None:
    assert entries_of("a| b c|", "|") == ["a", "b c", ""]
