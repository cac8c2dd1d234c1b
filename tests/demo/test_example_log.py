import hashlib
from pathlib import Path

import pytest

from clickscale.demo.example_log import write_example_log
from clickscale.errors import InputError

# The outputs that the documents show were made from these bytes.
SHA256 = {
    "clicks.csv": "0ad2da08118cf0e48e921a8cdfbb696ebc971fbe1a2700e361f70c3e8a7dbe36",
    "items.csv": "e02cab7e7d1459eaa036d3bce125dab1cf4a4bf1bcdef65acfbd2ce010b5bc8a",
    "users.csv": "ad97c9e5202337f9dd4d8718fcc3bccd66f9c79d98a41ea6108f5240ef03f9d9",
}


def test_the_example_log_is_the_same_every_time(tmp_path: Path) -> None:
    written = write_example_log(tmp_path / "new" / "folder")
    assert write_example_log(tmp_path / "new" / "folder") == written
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written} == SHA256


def test_a_table_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id\nmine\n")
    with pytest.raises(InputError, match=r"items\.csv exists and is not the example table"):
        write_example_log(tmp_path)
    assert (tmp_path / "items.csv").read_text() == "item_id\nmine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["items.csv"]
