"""The files that a path, a pattern or a folder names."""

import pytest

from clickscale.data.tables.folders import matching_files
from clickscale.errors import InputError


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("other.csv", "clicks: no file matches 'other.csv'"),
        ("x" * 300, "clicks: 'xxx.* cannot be looked up: File name too long"),
        ("**x", "clicks: '\\*\\*x' in .* cannot be looked up: Invalid pattern"),
    ],
)
def test_what_matches_nothing_is_named(tmp_path, pattern, complaint):
    (tmp_path / "clicks.csv").write_text("user\n")
    with pytest.raises(InputError, match=complaint):
        matching_files("clicks", tmp_path, pattern)


def test_brackets_of_a_name_are_not_a_pattern(tmp_path):
    for name in ("clicks[1].csv", "clicks1.csv"):
        (tmp_path / name).write_text("user\n")
    assert [path.name for path in matching_files("clicks", tmp_path, "clicks[1].csv")] == ["clicks[1].csv"]
