"""Ratings as people write them: what was given."""

import pyarrow as pa
import pytest

from clickscale.data.features.ratings import plain_ratings


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("8.7/10", "8.7"),
        ("4 / 5", "4.0"),
        ("4 of 5", "4.0"),
        ("4,5 von 5", "4.5"),
        ("4.5 out of 5 stars", "4.5"),
        ("3 stars", "3.0"),
        ("4,5 Sterne", "4.5"),
        ("5★", "5.0"),
        ("★★★★☆", "4"),
        ("★★★½", "3.5"),
        ("⭐️⭐️", "2"),
        ("☆☆☆☆☆", "0"),
        ("4", "4"),
        ("4,5", "4,5"),
        ("good", "good"),
        ("", ""),
        ("12/05/2024", "12/05/2024"),
        (None, None),
    ],
)
def test_ratings_are_written_as_numbers_and_other_texts_stay(text: str | None, given: str | None) -> None:
    assert plain_ratings(pa.array([text, "x"])).to_pylist() == [given, "x"]
