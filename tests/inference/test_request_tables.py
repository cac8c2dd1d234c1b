import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.dataset import Dataset
from clickscale.errors import InputError
from clickscale.inference.logged_users import LoggedUsers
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.request_tables import RequestTable
from tests.trained import tiny_prepared


def table_of(dataset: Dataset, folder: Path, text: str, **options: Any) -> RequestTable:
    path = folder / "candidates.csv"
    path.write_text(text, "utf-8")
    return RequestTable(path, dataset.encoder, **options)


def requests(table: RequestTable) -> list[tuple[int, Any, dict[str, Any]]]:
    return [(one.row, one.name, one.request) for one in table.requests()]


def test_neighbors_of_one_user_and_time_are_one_request(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    text = "user,item,time,position,gender,clicked\n1,10,1600000000,2,f,1\n1,20,1600000000,,f,0\n"
    table = table_of(dataset, tmp_path, text + "1,10,1600000001,3,,1\n2,10,1600000001,3,m,1\n")
    (first, second, third) = requests(table)
    assert first == (
        1,
        None,
        {
            "user": "1",
            "time": 1600000000,
            "candidates": [{"item": "10", "position": "2"}, {"item": "20"}],
            "profile": {"gender": "f"},
        },
    )
    assert [(row, request["user"], request["profile"]) for row, _, request in (second, third)] == [
        (3, "1", {}),
        (4, "2", {"gender": "m"}),
    ]
    assert table.ignored == ["clicked"]


def test_a_column_tells_requests_apart_and_times_may_be_moments(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    text = "request,user_id,item_id,time\na,1,10,2020-09-13T12:26:40Z\nb,1,20,2020-09-13T12:26:40Z\n"
    found = requests(table_of(dataset, tmp_path, text))
    assert [(row, name, request["time"]) for row, name, request in found] == [
        (1, "a", 1600000000),
        (2, "b", 1600000000),
    ]
    with pytest.raises(InputError, match=r"row 2: request 'a' has two users or times"):
        requests(table_of(dataset, tmp_path, "request,user,item,time\na,1,10,160\na,2,20,160\n"))


def test_behaviors_are_lists_of_objects_or_json_text(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    past = [{"item": 10, "time": 1599999000, "action": "buy"}, {"item": 20, "time": 1599999100}]
    rows = [{"user": 1, "item": 10, "time": 1600000000, "behaviors": past}]
    rows.append({"user": 2, "item": 10, "time": 1600000000, "behaviors": None})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    found = requests(RequestTable(tmp_path / "table.parquet", dataset.encoder))
    assert [request["behaviors"] for *_, request in found] == [past, []]
    quoted = json.dumps(past).replace('"', '""')
    text = f'user,item,time,behaviors\n1,10,1600000000,"{quoted}"\n2,10,1600000000,\n'
    found = requests(table_of(dataset, tmp_path, text))
    assert [request["behaviors"] for *_, request in found] == [past, []]
    with pytest.raises(InputError, match=r"row 1: behaviors is 'i1 i2', which is not JSON"):
        requests(table_of(dataset, tmp_path, "user,item,time,behaviors\n1,10,1600000000,i1 i2\n"))


@pytest.mark.parametrize("string_ids", [False, True])
def test_users_are_looked_up_as_their_requests_would_send_them(string_ids: bool, tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path, known_at=True, string_ids=string_ids)
    users = LoggedUsers(dataset, 5)
    longest = 0
    for request in requests_from_dataset(dataset, np.arange(len(dataset.impressions["time"]))):
        user = users.at(request["user"], request["time"])
        assert user.profile == request["profile"]
        assert user.behaviors == request["behaviors"][-5:]
        longest = max(longest, len(request["behaviors"]))
    assert longest > 5
    for stranger in ("u", "u9", 7, 1 << 62, None, ["u100"]):
        assert users.at(stranger, 1_600_000_000).behaviors == []


def test_a_row_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    with pytest.raises(InputError, match=r"row 2: time is 'soon', which is no time"):
        requests(table_of(dataset, tmp_path, "user,item,time\n1,10,1600000000\n1,10,soon\n"))
    with pytest.raises(InputError, match="row 2: bad_row"):
        requests(table_of(dataset, tmp_path, "user,item,time\n1,10,1600000000\n1,10,1600000000,4\n"))
    with pytest.raises(InputError, match=r"no item column \(item or item_id\); it has user, thing, time"):
        table_of(dataset, tmp_path, "user,thing,time\n1,10,1600000000\n")
