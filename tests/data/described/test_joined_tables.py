"""Tables that others name: requests with the user and the time of impressions, sellers of items, cities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.data.tables import chunks
from clickscale.errors import InputError, SchemaError
from tests.data.described.logs import START, Row, clicks, save, shares_missing

LOG = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
JOINED
[impressions]
files = "impressions.csv"
time = "time"
fields = [{ name = "device" }, { name = "depth", kind = "numeric" }]
[behaviors]
where = "clicked == 1"
"""
BY_ID = '[[joined]]\nfiles = "requests.csv"\nkey = ["request"]\n'


def whole(count: int = 200) -> list[Row]:
    """Impressions of requests with three items each, with all columns in one table."""
    rows = []
    for n, row in enumerate(clicks(3 * count)):
        number = n // 3
        asked = {"request": f"q{number:03}", "user_id": f"u{7 * number % 40}", "time": START + 90 * number}
        rows.append(row | asked | {"device": "abc"[number % 3], "depth": number % 11, "place": n % 3})
    return rows


def split_up(
    folder: Path, rows: list[Row], shown: str = "request", of_requests: str = "user_id time device depth"
) -> None:
    """Write the columns of requests into a table of their own, last request first."""
    theirs = of_requests.split()
    impressions = [{k: v for k, v in row.items() if k not in theirs and k != "request"} for row in rows]
    named = [{shown: row["request"]} | kept for row, kept in zip(rows, impressions, strict=True)]
    save(folder, named, "impressions.csv")
    requests = {row["request"]: {name: row[name] for name in ("request", *theirs)} for row in rows}
    save(folder, list(requests.values())[::-1], "requests.csv")


def prepared(
    folder: Path, requests: str = BY_ID, log: str = LOG, out: str = "out", **options: Any
) -> Dataset:
    (folder / "log.toml").write_text(log.replace("JOINED", requests))
    prepare(load_log(folder / "log.toml"), folder / out, overwrite=True, **options)
    return open_dataset(folder / out)


def columns_of(dataset: Dataset) -> dict[str, list[Any]]:
    """All columns that the tables of impressions and of behaviors hold, by their names."""
    names = {"impressions": ["label.click", "field.device", "field.depth"], "behaviors": []}
    found = {}
    for table, own in names.items():
        for name in ("user", "item", "time", *own):
            if name != "user" or table == "impressions":
                found[f"{table}.{name}"] = np.asarray(getattr(dataset, table)[name]).tolist()
    return found


def of_one_table(folder: Path, rows: list[Row]) -> dict[str, list[Any]]:
    """The columns of a data set from one table with everything in it."""
    (folder / "whole").mkdir()
    save(folder / "whole", rows, "impressions.csv")
    return columns_of(prepared(folder / "whole", ""))


@pytest.mark.parametrize("shown", ["request", "served_for"])
def test_impressions_have_the_user_the_time_and_the_context_of_their_request(
    tmp_path: Path, shown: str
) -> None:
    rows = whole()
    split_up(tmp_path, rows, shown)
    requests = BY_ID if shown == "request" else BY_ID + 'shown_key = ["served_for"]\n'
    expected = of_one_table(tmp_path, rows)
    assert columns_of(prepared(tmp_path, requests)) == expected
    assert columns_of(prepared(tmp_path, requests, chunk_rows=7)) == expected
    assert len(set(expected["impressions.user"])) == 40


def test_of_several_rows_of_a_request_the_first_counts_and_a_column_of_impressions_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = whole()
    split_up(tmp_path, rows)
    text = (tmp_path / "requests.csv").read_text()
    again = f"q199,u39,{START + 5},z,99\n,u1,{START},z,99\n"
    (tmp_path / "requests.csv").write_text(text + again)
    expected = of_one_table(tmp_path, rows)
    assert columns_of(prepared(tmp_path)) == expected
    monkeypatch.setattr(chunks, "_BLOCK", 200)  # many pieces
    assert columns_of(prepared(tmp_path)) == expected
    own = [row | {"device": "own"} for row in rows]
    split_up(tmp_path, own, of_requests="user_id time depth")
    requests = (tmp_path / "requests.csv").read_text().splitlines()
    (tmp_path / "requests.csv").write_text(
        "\n".join([requests[0] + ",device", *(f"{r},z" for r in requests[1:])])
    )
    assert len(set(np.asarray(prepared(tmp_path).impressions["field.device"]).tolist())) == 1


def test_keys_of_several_columns_compare_as_ids_do(tmp_path: Path) -> None:
    rows = [row | {"day": n // 30, "number": n // 3 % 10} for n, row in enumerate(whole())]
    for row in rows:
        row["request"] = f"{row['day']}/{row['number']}"
    expected = of_one_table(tmp_path, rows)
    split_up(tmp_path, rows)
    requests = {row["request"]: row for row in rows}.values()
    theirs = ("user_id", "time", "device", "depth")
    table = [
        {"d": float(r["day"]), "n": float(r["number"])} | {name: r[name] for name in theirs} for r in requests
    ]
    save(tmp_path, table, "requests.parquet")
    key = '[[joined]]\nfiles = "requests.parquet"\nkey = ["d", "n"]\nshown_key = ["day", "number"]\n'
    assert columns_of(prepared(tmp_path, key)) == expected


def test_impressions_without_a_request_go_to_quarantine_and_are_counted(tmp_path: Path) -> None:
    rows = whole()
    split_up(tmp_path, rows)
    lines = (tmp_path / "requests.csv").read_text().splitlines()
    broken = lines[3].split(",", 1)[0] + ",too,many,values,in,it"
    (tmp_path / "requests.csv").write_text("\n".join([lines[0], *lines[2:3], broken, *lines[4:]]) + "\n")
    with (tmp_path / "requests.csv").open("a") as file:
        file.write(f",u1,{START},a,1\n")  # a request without an id
    with (tmp_path / "impressions.csv").open("a") as file:
        file.write(",i1,1,0\n")
    dataset = prepared(tmp_path)
    report = dataset.manifest.report["impressions"]
    assert (report.kept, report.quarantined) == (594, {"null_user": 7})
    notes = "\n".join(dataset.manifest.notes)
    assert "7 of 601 rows of impressions name no row of requests.csv by request." in notes
    assert "2 rows of requests.csv cannot be read or have no request, and do not count." in notes


def test_context_of_a_missing_request_is_missing(tmp_path: Path) -> None:
    rows = whole()
    split_up(tmp_path, rows, of_requests="device depth")
    lines = (tmp_path / "requests.csv").read_text().splitlines()
    (tmp_path / "requests.csv").write_text("\n".join(lines[:-100]) + "\n")
    dataset = prepared(tmp_path)
    assert dataset.manifest.report["impressions"].quarantined == {}
    assert shares_missing(tmp_path, "impressions", "depth") == 0.5
    assert shares_missing(tmp_path, "impressions", "device") == 0.5


def test_a_table_that_another_one_names_gives_what_both_lack(tmp_path: Path) -> None:
    rows = whole()
    split_up(tmp_path, rows)
    lines = [line.split(",") for line in (tmp_path / "requests.csv").read_text().splitlines()[1:]]
    save(tmp_path, [{"request": r, "session": f"v{r}", "time": t} for r, _, t, _, _ in lines], "requests.csv")
    save(
        tmp_path,
        [{"id": f"v{r}", "user_id": u, "device": d, "depth": p} for r, u, _, d, p in lines],
        "visits.csv",
    )
    visits = '[[joined]]\nfiles = "visits.csv"\nkey = ["id"]\nshown_key = ["session"]\n'
    expected = of_one_table(tmp_path, rows)
    assert columns_of(prepared(tmp_path, BY_ID + visits)) == expected
    assert columns_of(prepared(tmp_path, visits + BY_ID)) == expected


def test_all_that_a_description_reads_may_stand_in_requests(tmp_path: Path) -> None:
    rows = whole()
    for n, row in enumerate(rows):
        number = n // 3
        row |= {
            "day": f"2024-01-0{1 + number // 60}",
            "clock": f"{number % 60 // 5:02}:{number % 60:02}",
        }
        row |= {"tenant": "t1", "member": f"m{number % 9}", "kind": "test" if number < 5 else "live"}
        row |= {
            "part": "train" if number < 150 else "test",
            "past": f"i{number % 4} i{number % 5}",
            "clicked": number % 2,
        }
    split_up(tmp_path, rows, of_requests="day clock tenant member kind part past clicked")
    toml = """
name = "x"
user = { name = "user", column = ["tenant", "member"] }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
[[joined]]
files = "requests.csv"
key = ["request"]
[impressions]
files = "impressions.csv"
time = ["day", "clock"]
where = "kind == 'live'"
fields = [{ name = "place" }]
[history]
items = "past"
[split]
kind = "column"
column = "part"
"""
    dataset = prepared(tmp_path, log=toml)
    assert len(dataset.impressions["time"]) == 585
    assert len(set(np.asarray(dataset.impressions["user"]).tolist())) == 9
    assert np.mean(dataset.impressions["label.click"]) == pytest.approx(0.5, abs=0.01)
    last = int(np.asarray(dataset.impressions["time"]).max())
    assert last == START + 3 * 86_400 + 3 * 3600 + 19 * 60  # 2024-01-04 03:19, of request 199
    assert len(dataset.behaviors["item"]) > 585  # lists of the requests beside the impressions


def test_lists_of_candidates_may_stand_beside_the_id_of_a_request(tmp_path: Path) -> None:
    rows = whole()
    expected = of_one_table(tmp_path, rows)
    split_up(tmp_path, rows)
    lists: dict[str, Row] = {}
    for row in rows:
        entry = lists.setdefault(row["request"], {"request": row["request"], "item_id": [], "clicked": []})
        entry["item_id"].append(row["item_id"])
        entry["clicked"].append(row["clicked"])
    save(tmp_path, list(lists.values()), "impressions.jsonl")
    log = LOG.replace(".csv", ".jsonl").replace(
        "[behaviors]", '[impressions.lists]\nparallel = ["clicked"]\n[behaviors]'
    )
    assert columns_of(prepared(tmp_path, log=log)) == expected


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ('[[joined]]\nkey = ["request"]\n', "joined.. needs files"),
        ('[[joined]]\nfiles = "requests.csv"\n', "joined.. needs key"),
        (BY_ID + 'shown_key = ["request", "place"]\n', "1 columns as its key and 2"),
        (
            BY_ID.replace('"request"', '"requst"'),
            "joined .*unknown column 'requst'; did you mean 'request'",
        ),
        (BY_ID + 'shown_key = ["requst"]\n', "impressions: unknown column 'requst'; did you mean 'request'"),
        (BY_ID.replace("requests.csv", "gone.csv"), "joined: no file matches 'gone.csv'"),
        (
            BY_ID + 'shown_key = ["place"]\n',
            "No row of impressions names a row of requests.csv: none of 600 rows has in place",
        ),
        ("", "unknown column 'user_id'"),
    ],
)
def test_requests_that_cannot_be_are_refused(tmp_path: Path, requests: str, message: str) -> None:
    split_up(tmp_path, whole())
    with pytest.raises((SchemaError, InputError), match=f"(?i){message}"):
        prepared(tmp_path, requests)


def test_a_column_that_no_table_has_is_named_with_the_nearest_of_all(tmp_path: Path) -> None:
    split_up(tmp_path, whole())
    with pytest.raises(InputError, match="Unknown column 'devise'; did you mean 'device'"):
        prepared(tmp_path, log=LOG.replace('name = "device"', 'name = "device", column = "devise"'))


def test_a_key_of_lists_is_refused(tmp_path: Path) -> None:
    split_up(tmp_path, whole())
    save(
        tmp_path,
        [{"request": ["q001"], "user_id": "u1", "time": START, "device": "a", "depth": 1}],
        "requests.jsonl",
    )
    with pytest.raises(InputError, match="Joined tables: the key 'request' holds lists"):
        prepared(tmp_path, BY_ID.replace("csv", "jsonl"))


SHOP = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "click", column = "clicked" }]
[[joined]]
files = "sellers.csv"
key = ["id"]
shown_key = ["seller"]
prefix = "seller_"
[[joined]]
files = "cities.csv"
key = ["city"]
shown_key = ["seller_city"]
prefix = "city_"
[impressions]
files = "impressions.csv"
time = "time"
[behaviors]
where = "clicked == 1"
[items]
files = "items.csv"
fields = [
    { name = "seller" },
    { name = "seller_name" },
    { name = "seller_level", kind = "numeric" },
    { name = "city_region" },
]
"""


def shop(folder: Path) -> None:
    """Items, the sellers that they name, one of them in vain, and the cities that sellers name."""
    save(folder, whole(), "impressions.csv")
    items = sorted({row["item_id"] for row in whole()}, key=str)
    save(folder, [{"item_id": item, "seller": f"s{n % 5}"} for n, item in enumerate(items)], "items.csv")
    sellers = [
        {"id": f"s{n}", "name": f"seller {n}", "seller_level": 10 * n, "city": "xy"[n % 2]} for n in range(4)
    ]
    save(folder, [*sellers, sellers[1] | {"seller_level": 99}], "sellers.csv")
    save(folder, [{"city": "x", "region": "north"}, {"city": "y", "region": "south"}], "cities.csv")


def item_table(dataset: Dataset, name: str) -> list[Any]:
    """A field of the items in their order, as it is encoded."""
    return np.nan_to_num(np.asarray(dataset.items[f"field.{name}"]), nan=-99.0).tolist()


def test_items_have_the_columns_of_sellers_and_sellers_those_of_cities(tmp_path: Path) -> None:
    shop(tmp_path)
    dataset = prepared(tmp_path, log=SHOP)
    joined = {name: item_table(dataset, name) for name in ("seller", "seller_name", "city_region")}
    flat_rows = []
    sellers = {f"s{n}": (f"seller {n}", 10 * n, ("north", "south")[n % 2]) for n in range(4)}
    for line in (tmp_path / "items.csv").read_text().splitlines()[1:]:
        item, seller = line.split(",")
        name, level, region = sellers.get(seller, ("", "", ""))
        flat_rows.append(
            {"item_id": item, "seller": seller, "seller_name": name, "seller_level": level}
            | {"city_region": region}
        )
    (tmp_path / "flat").mkdir()
    save(tmp_path / "flat", whole(), "impressions.csv")
    save(tmp_path / "flat", flat_rows, "items.csv")
    flat_log = SHOP[: SHOP.index("[[joined]]")] + SHOP[SHOP.index("[impressions]") :]
    flat = prepared(tmp_path / "flat", log=flat_log)
    for name in ("seller", "seller_name", "seller_level", "city_region"):
        assert item_table(dataset, name) == item_table(flat, name)
    assert len(set(joined["seller_name"])) == 2 + 4  # padding, unknown and four sellers
    items = len(flat_rows)
    lost = sum(row["seller"] == "s4" for row in flat_rows)
    notes = "\n".join(dataset.manifest.notes)
    assert f"{lost} of {items} rows of items name no row of sellers.csv by seller." in notes
    assert f"{lost} of {items} rows of items name no row of cities.csv by seller_city." in notes
    assert "1 rows of sellers.csv have the id of an earlier row, and do not count." in notes


def test_lists_of_a_further_table_hold_what_its_rows_name(tmp_path: Path) -> None:
    shop(tmp_path)
    items = [line.split(",")[0] for line in (tmp_path / "items.csv").read_text().splitlines()[1:]]
    rows = [{"item": item, "kind": kind} for n, item in enumerate(items) for kind in (n % 3, 3 + n % 2)]
    save(tmp_path, rows, "item_kinds.csv")
    save(tmp_path, [{"id": n, "name": name} for n, name in enumerate(["a", "b", "c", "d", "e"])], "kinds.csv")
    more = """
[[items.more]]
files = "item_kinds.csv"
key = "item"
fields = [{ name = "kinds", column = "kind_name", values = 2 }]
[[joined]]
files = "kinds.csv"
key = ["id"]
shown_key = ["kind"]
prefix = "kind_"
"""
    dataset = prepared(tmp_path, log=SHOP + more)
    save(tmp_path, [row | {"kind": "abcde"[row["kind"]]} for row in rows], "item_kinds.csv")
    plain = more[: more.index("[[joined]]")].replace("kind_name", "kind")
    assert item_table(dataset, "kinds") == item_table(prepared(tmp_path, log=SHOP + plain), "kinds")
    assert len(set(map(tuple, item_table(dataset, "kinds")))) == 2 + 6  # padding, unknown and all pairs


def test_outcomes_get_the_user_and_the_moment_of_their_order(tmp_path: Path) -> None:
    rows = whole()
    bought = [row for n, row in enumerate(rows) if n % 5 == 0]
    orders = [{"order": n, "user_id": r["user_id"], "ordered": r["time"] + 60} for n, r in enumerate(bought)]
    save(tmp_path, rows, "impressions.csv")
    save(tmp_path, orders, "orders.csv")
    save(tmp_path, [{"order": n, "item_id": r["item_id"]} for n, r in enumerate(bought)], "lines.csv")
    log = """
name = "x"
user = { name = "user", column = "user_id" }
item = { name = "item", column = "item_id" }
labels = [{ name = "buy", column = "buy" }]
[[outcomes]]
name = "buy"
files = "lines.csv"
key = ["user_id", "item_id"]
within = 60
time = "ordered"
[[joined]]
files = "orders.csv"
key = ["order"]
[impressions]
files = "impressions.csv"
time = "time"
"""
    dataset = prepared(tmp_path, log=log)
    order = np.argsort(dataset.impressions["row"])
    labels = np.asarray(dataset.impressions["label.buy"])[order]
    expected = [n % 5 == 0 for n in range(len(rows))]
    assert (labels[expected] == 1).all()
    assert labels.sum() >= len(bought)


def test_a_joined_table_that_nothing_reads_is_named_and_one_that_nothing_can_find_is_refused(
    tmp_path: Path,
) -> None:
    shop(tmp_path)
    unused = '[[joined]]\nfiles = "cities.csv"\nkey = ["city"]\nshown_key = ["seller"]\nprefix = "c_"\n'
    notes = "\n".join(prepared(tmp_path, log=SHOP + unused).manifest.notes)
    assert "Nothing reads a column of cities.csv, so it is not joined." in notes
    wrong = unused.replace("seller", "sellr")
    with pytest.raises(InputError, match=r"cities.csv: no table has .*column 'sellr'; did you mean 'seller'"):
        prepared(tmp_path, log=SHOP + wrong)
