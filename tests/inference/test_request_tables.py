import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from clickscale.inference.logged_users import LoggedUsers
from clickscale.inference.replay import requests_from_dataset
from clickscale.inference.request_tables import RequestTable
from tests.data.described.logs import TABLE, save
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


def test_moments_of_a_table_are_read_in_the_zone_of_the_log(tmp_path: Path) -> None:
    rows = [
        {"user_id": "u", "item_id": f"i{n % 3}", "time": f"2024-07-0{n + 1} 08:00", "day": "2024-08-01"}
        | {"clicked": n % 2}
        for n in range(8)
    ]
    save(tmp_path, rows, "log.csv")
    toml = TABLE.replace("FILES", "log.csv") + 'fields = [{ name = "day", kind = "timestamp" }]\n'
    (tmp_path / "schema.toml").write_text('time_zone = "America/New_York"' + toml)
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    found = [request for _, _, request in requests(RequestTable(tmp_path / "log.csv", dataset.encoder))]
    times = dict(zip(dataset.impressions["row"].tolist(), dataset.impressions["time"].tolist(), strict=True))
    assert [request["time"] for request in found] == [times[row] for row in range(8)]
    assert times[0] == 1_719_835_200  # four hours after 08:00 UTC
    day = {request["candidates"][0]["day"] for request in found}
    assert day == {1_722_484_800}
    with pytest.raises(InputError, match=r"row 1: day is 'soon', which is no time"):
        requests(table_of(dataset, tmp_path, "user_id,item_id,time,day\nu,i0,2024-07-01,soon\n"))


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


def test_a_table_with_a_part_of_the_profile_gets_the_rest_from_the_data_set(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    text = "user,item,time,gender\n102,10,1600000000,m\n102,10,1600000001,\n"
    (tmp_path / "candidates.csv").write_text(text, "utf-8")
    found = requests(RequestTable(tmp_path / "candidates.csv", dataset.encoder, dataset, 5))
    profiles: list[Any] = [request["profile"] for _, _, request in found]
    assert profiles[0] == {"age": pytest.approx(26.0), "gender": "m"}
    assert profiles[1] == {"age": pytest.approx(26.0)}  # an empty cell says that the value is missing


def test_a_row_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    dataset = tiny_prepared(tmp_path)
    with pytest.raises(InputError, match=r"row 2: time is 'soon', which is no time"):
        requests(table_of(dataset, tmp_path, "user,item,time\n1,10,1600000000\n1,10,soon\n"))
    with pytest.raises(InputError, match="row 2: bad_row"):
        requests(table_of(dataset, tmp_path, "user,item,time\n1,10,1600000000\n1,10,1600000000,4\n"))
    with pytest.raises(InputError, match=r"no item column \(item or item_id\); it has user, thing, time"):
        table_of(dataset, tmp_path, "user,thing,time\n1,10,1600000000\n")


def composite_users(folder: Path) -> Dataset:
    """A data set whose users are known by two columns."""
    rows = [f"{n % 3},x{n % 2},i{n % 5},{1_600_000_000 + n},{n % 2}" for n in range(60)]
    (folder / "log.csv").write_text("\n".join(["a,b,item,time,clicked", *rows]) + "\n")
    (folder / "log.toml").write_text(
        'name = "x"\nlabels = [{ name = "click", column = "clicked" }]\n'
        'user = { name = "user", column = ["a", "b"] }\nitem = { name = "item" }\n'
        '[impressions]\nfiles = "log.csv"\n'
    )
    prepare(load_log(folder / "log.toml"), folder / "prepared")
    return open_dataset(folder / "prepared")


def test_an_id_of_several_columns_stands_in_them_or_in_one(tmp_path: Path) -> None:
    dataset = composite_users(tmp_path)
    options: dict[str, Any] = {"dataset": dataset, "length": 3}
    row = {"item": "i1", "time": 1_600_000_059}
    found = []
    for ids in ({"b": "x0", "a": 2}, {"user": "2|x0"}, {"user": ["2", "x0"]}):
        pq.write_table(pa.Table.from_pylist([ids | row]), tmp_path / "table.parquet")
        found.append(requests(RequestTable(tmp_path / "table.parquet", dataset.encoder, **options)))
    ((_, _, request),) = found[0]
    assert request["user"] == "2|x0"
    assert len(request["behaviors"]) == 3
    assert found == [found[0]] * 3
    rows = [{"user": ["2", "x0"], **row}, {"user": ["2"], "item": "i1", "time": 1_600_000_060}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    with pytest.raises(InputError, match=r"parquet row 2: user is \['2'\]; send 2 values: a, b"):
        requests(RequestTable(tmp_path / "table.parquet", dataset.encoder, **options))
    with pytest.raises(InputError, match=r"no user column \(user or a \+ b\); it has a, item, time"):
        table_of(dataset, tmp_path, "a,item,time\n2,i1,1600000059\n")


def test_rows_of_a_log_without_users_and_items_are_requests_of_their_own(tmp_path: Path) -> None:
    composite_users(tmp_path)
    (tmp_path / "log.toml").write_text(
        'name = "x"\nlabels = [{ name = "click", column = "clicked" }]\n'
        '[impressions]\nfiles = "log.csv"\nfields = [{ name = "a" }]\n'
    )
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "nobody")
    dataset = open_dataset(tmp_path / "nobody")
    text = "user,item,a,time,behaviors\n7,i1,2,1600000059,\n7,i1,0,1600000059,[]\n"
    (tmp_path / "rows.csv").write_text(text)
    table = RequestTable(tmp_path / "rows.csv", dataset.encoder, dataset, 3)
    assert requests(table) == [
        (1, None, {"time": 1_600_000_059, "candidates": [{"a": "2"}]}),
        (2, None, {"time": 1_600_000_059, "candidates": [{"a": "0"}]}),
    ]
    assert table.ignored == ["user", "item", "behaviors"]
    named = table_of(dataset, tmp_path, "request,a,time\nx,2,1600000059\nx,0,1600000059\n")
    ((_, name, request),) = requests(named)
    assert (name, len(request["candidates"])) == ("x", 2)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_columns_inside_of_objects_stand_in_a_table_as_in_the_log(ending: str, tmp_path: Path) -> None:
    rows = [
        {
            "time": 1_600_000_000 + n,
            "user": {"id": f"u{n % 5}", "plan": f"p{n % 5 % 2}"},
            "app": {"id": f"a{n % 7}"},
            "context": {"tab": f"t{n % 3}"},
            "clicked": n % 2,
        }
        for n in range(60)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "log.toml").write_text(
        'name = "x"\nuser = { name = "user", column = "user.id" }\n'
        'item = { name = "item", column = "app.id" }\n'
        'labels = [{ name = "click", column = "clicked" }]\n'
        '[impressions]\nfiles = "log.jsonl"\n'
        'fields = [{ name = "tab", column = "context.tab" }]\n'
        '[users]\nfields = [{ name = "plan", column = "user.plan" }]\n'
    )
    prepare(load_log(tmp_path / "log.toml"), tmp_path / "out")
    path = tmp_path / f"candidates.{ending}"
    if ending == "csv":
        cells = [[json.dumps(value).replace('"', '""') for value in row.values()] for row in rows[:2]]
        lines = [",".join(rows[0]), *(",".join(f'"{cell}"' for cell in row) for row in cells)]
        path.write_text("\n".join(lines) + "\n")
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    else:
        pq.write_table(pa.Table.from_pylist(rows[:2]), path)
    table = RequestTable(path, open_dataset(tmp_path / "out").encoder)
    assert table.ignored == ["clicked"]
    assert [request for _, _, request in requests(table)] == [
        {
            "user": f"u{n}",
            "time": 1_600_000_000 + n,
            "candidates": [{"item": f"a{n}", "tab": f"t{n}"}],
            "profile": {"plan": f"p{n}"},
        }
        for n in range(2)
    ]
