"""Files that are pieces of one table, such as one for each day."""

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from clickscale.data.dataset import open_dataset
from clickscale.data.described.drafts.files.file_groups import read_tables
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.errors import InputError
from tests.data.described.drafts.test_guess import START, shop, write_csv
from tests.data.sources import drained

DAY = 86_400


def tables_of(paths: list[Path]) -> list[Path]:
    return [head.path for head in read_tables(paths).heads]


def day_of(number: int, rows: int = 200) -> list[dict[str, Any]]:
    draw = random.Random(number)
    return [
        {
            "show_id": f"s{number}-{row}",
            "user_id": f"u{draw.randrange(40)}",
            "item_id": f"i{draw.randrange(30)}",
        }
        | {"time": START + number * DAY + 60 * row, "slot": row % 3, "clicked": int(draw.random() < 0.3)}
        for row in range(rows)
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["views_2024-01-0{}.csv", 5],
        ["2024-01-0{}/views.csv", 5],
        ["part-0000{}-{}f2c9a1b-7d11-4c1e-9b0a-0f6e5d3c2b1a-c000.csv", 5],
    ],
)
def test_files_of_days_are_one_table(tmp_path: Path, names: list[Any]) -> None:
    pattern, days = names
    paths = [tmp_path / pattern.format(day, day) for day in range(1, days + 1)]
    for day, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        write_csv(path, day_of(day))
    items = write_csv(tmp_path / "items.csv", [{"item_id": f"i{n}", "kind": f"k{n % 4}"} for n in range(30)])
    (tmp_path / "draft.toml").write_text(guess([*paths, items], tmp_path))
    tree = tomllib.loads((tmp_path / "draft.toml").read_text())
    assert "*" in tree["impressions"]["files"]
    assert tree["items"]["files"] == "items.csv"
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    assert open_dataset(tmp_path / "data").manifest.counts["impressions"] == 1_000


def test_months_in_letters_are_pieces(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"2019-{month}.csv", day_of(5)) for month in ("Oct", "Nov")]
    assert tables_of(paths) == [tmp_path / "2019-*.csv"]


def test_a_part_of_the_files_has_a_pattern_for_no_others(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"views_{day:02d}.csv", day_of(day)) for day in range(8, 13)]
    assert tables_of(paths[:2]) == [tmp_path / "views_0*.csv"]
    assert tables_of(paths[1:3]) == [tmp_path / "views_[01][09].csv"]  # * would match views_11.csv, too
    write_csv(tmp_path / "views_19.csv", day_of(19))
    with pytest.raises(
        InputError, match=r"views_10\.csv are pieces of one table, .* matches views_19\.csv, too"
    ):
        tables_of(paths[1:3])


@pytest.mark.parametrize("empty", [1, 3])
def test_a_day_without_rows_is_a_piece_like_the_others(tmp_path: Path, empty: int) -> None:
    paths = [write_csv(tmp_path / f"views_0{day}.csv", day_of(day)) for day in range(1, 6)]
    paths[empty - 1].write_text(paths[0].read_text().splitlines()[0] + "\n")
    (head,) = read_tables(paths).heads
    assert head.path == tmp_path / "views_0*.csv"
    assert (head.rows, head.named) == (800, True)


def test_a_file_of_one_row_is_a_piece_of_a_table_without_names(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"views_{day}.csv", day_of(day), header=False) for day in range(4)]
    write_csv(paths[2], day_of(2, rows=1), header=False)
    (head,) = read_tables(paths).heads
    assert (head.path, head.rows, head.named) == (tmp_path / "views_*.csv", 601, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"separator": ";"}, "laid out in another way: separator ';' after 0 lines, not separator ','"),
        ({"header": False}, "views_04.csv does not begin with the names of its columns, as .*views_01.csv"),
    ],
)
def test_a_piece_in_another_layout_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    paths = [write_csv(tmp_path / f"views_0{day}.csv", day_of(day)) for day in range(1, 6)]
    write_csv(paths[3], day_of(4), **options)
    with pytest.raises(InputError, match=message):
        read_tables(paths)


def test_files_with_other_columns_are_tables_of_their_own(tmp_path: Path) -> None:
    one = write_csv(tmp_path / "table1.csv", day_of(1))
    two = write_csv(tmp_path / "table2.csv", [{"item_id": f"i{n}", "kind": f"k{n % 4}"} for n in range(30)])
    assert tables_of([one, two]) == [one, two]


def test_a_folder_of_days_with_two_tables_each_holds_two_tables(tmp_path: Path) -> None:
    for day in range(4):
        folder = tmp_path / "export" / f"2024-01-0{day + 1}"
        folder.mkdir(parents=True)
        rows = day_of(day)
        shown = [{name: row[name] for name in row if name != "clicked"} for row in rows]
        write_csv(folder / "sends.csv", shown)
        clicks = [{"show_id": row["show_id"], "at": row["time"] + 30} for row in rows if row["clicked"]]
        write_csv(folder / "clicks.csv", clicks)
    tree = tomllib.loads(guess([tmp_path / "export"], tmp_path))
    assert tree["impressions"]["files"] == "export/2024-01-0*/sends.csv"
    (outcome,) = tree["outcomes"]
    assert outcome["files"] == "export/2024-01-0*/clicks.csv"
    assert outcome["key"] == ["show_id"]


def test_a_folder_with_pieces_of_one_table_stays_one(tmp_path: Path) -> None:
    folder = tmp_path / "views"
    folder.mkdir()
    for name in ("berlin", "paris", "rome"):
        for day in range(2):
            write_csv(folder / f"{name}_{day}.csv", day_of(day))
    assert tables_of([folder]) == [folder]


def test_pieces_of_json_lines_may_lack_a_key(tmp_path: Path) -> None:
    paths = [tmp_path / f"events_{hour}.jsonl" for hour in range(2)]
    for hour, path in enumerate(paths):
        rows = [row | ({"campaign": "c1"} if hour else {}) for row in day_of(hour)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tables_of(paths) == [tmp_path / "events_*.jsonl"]


def test_many_small_files_are_sampled_until_there_are_enough_rows(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"views_{hour:03d}.csv", day_of(hour, rows=20)) for hour in range(40)]
    assert read_tables(paths).heads[0].rows == 800


def test_names_in_a_file_of_their_own_are_those_of_a_table_without_a_header(tmp_path: Path) -> None:
    log = write_csv(tmp_path / "01-hits_20240501.tsv", day_of(1), "\t", header=False)
    names = write_csv(tmp_path / "column_headers.tsv", [dict.fromkeys(day_of(1)[0], "")], "\t")
    names.write_text(names.read_text().splitlines()[0] + "\n")
    tree = tomllib.loads(guess([log, names], tmp_path))
    assert tree["impressions"]["names"] == list(day_of(1)[0])
    assert (tree["user"]["column"], tree["item"]["column"]) == ("user_id", "item_id")
    assert tree["labels"][0]["column"] == "clicked"


def test_a_file_that_is_no_table_is_named_and_left_out(tmp_path: Path) -> None:
    log = write_csv(tmp_path / "log.csv", day_of(1))
    manifest = tmp_path / "log_manifest"
    manifest.write_text(
        json.dumps({"entries": [{"url": "s3://bucket/log.csv"}], "meta": {"rows": 200}}, indent=1)
    )
    empty = tmp_path / "orders.csv"
    empty.write_text("order_id,user_id,amount\n")
    text = guess([manifest, log, empty], tmp_path)
    assert tomllib.loads(text)["impressions"]["files"] == "log.csv"
    assert "# Not used: log_manifest (no table). It is one object." in text
    assert "# Not used: orders.csv (no table). It has no rows." in text


def test_a_file_without_rows_alone_is_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "orders.csv"
    empty.write_text("order_id,user_id,amount\n")
    with pytest.raises(InputError, match="no rows"):
        guess([empty], tmp_path)


def test_the_folder_of_a_log_holds_its_tables(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_csv(folder / "clicks.csv", day_of(1))
    write_csv(folder / "items.csv", [{"item_id": f"i{n}", "kind": f"k{n % 4}"} for n in range(30)])
    (folder / "README.md").write_text("# Our log\n\nOf a shop.\n")
    tree = tomllib.loads(guess([folder], tmp_path))
    assert (tree["impressions"]["files"], tree["items"]["files"]) == ("log/clicks.csv", "log/items.csv")


def test_an_encoding_that_only_a_later_file_shows_is_that_of_all(tmp_path: Path) -> None:
    paths = [tmp_path / f"views_{day}.csv" for day in range(3)]
    for day, path in enumerate(paths):
        rows = [row | {"city": "Łódź" if day == 2 else "Berlin"} for row in day_of(day)]
        write_csv(path, rows)
        path.write_bytes(path.read_text().encode("cp1250"))
    (head,) = read_tables(paths).heads
    assert head.text.encoding == "cp1250"
    assert head.rows == 600
    assert "Łódź" in head.columns["city"].values.to_pylist()


def test_of_very_many_files_some_tell_the_columns_of_all(tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / f"views_{hour:03d}.csv", day_of(hour, rows=5)) for hour in range(250)]
    assert tables_of(paths) == [tmp_path / "views_*.csv"]


def test_a_column_that_some_files_lack_is_left_out(tmp_path: Path) -> None:
    paths = [tmp_path / f"views_{day}.csv" for day in range(4)]
    for day, path in enumerate(paths):
        write_csv(path, [row | ({"app": f"v{row['slot']}"} if day > 1 else {}) for row in day_of(day)])
    text = guess(paths, tmp_path)
    (tmp_path / "draft.toml").write_text(text)
    assert tomllib.loads(text)["impressions"]["files"] == "views_*.csv"
    assert "# left out: app (some files lack it)" in text
    prepare(load_log(tmp_path / "draft.toml"), tmp_path / "data")
    assert open_dataset(tmp_path / "data").manifest.counts["impressions"] == 800


def test_tables_without_names_are_pieces_only_if_as_wide(tmp_path: Path) -> None:
    wide = [write_csv(tmp_path / f"views_{day}.csv", day_of(day), header=False) for day in range(2)]
    rows = [list(row.values())[:5] for row in day_of(3)]
    narrow = tmp_path / "views_2.csv"
    narrow.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    assert tables_of([*wide, narrow]) == [tmp_path / "views_[01].csv", narrow]


def test_words_that_begin_as_months_do_are_no_dates(tmp_path: Path) -> None:
    decisions = write_csv(tmp_path / "decisions.csv", day_of(1))
    novels = write_csv(
        tmp_path / "novels.csv", [{"item_id": f"i{n}", "author": f"a{n % 7}"} for n in range(30)]
    )
    assert tables_of([tmp_path]) == [decisions, novels]
    (tmp_path / "months").mkdir()
    for month in ("jan", "february", "sept"):
        write_csv(tmp_path / "months" / f"{month}.csv", day_of(2))
    assert tables_of(sorted((tmp_path / "months").iterdir())) == [tmp_path / "months" / "*.csv"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.txt", "This log holds views.\nIt was made for a test.\nSee items, too.\n"),
        ("empty.csv", ""),
    ],
)
def test_a_file_in_a_folder_that_is_no_table_is_named_and_not_read(
    tmp_path: Path, name: str, text: str
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    write_csv(folder / "views.csv", day_of(1))
    (folder / name).write_text(text)
    drafted = guess([folder], tmp_path)
    assert tomllib.loads(drafted)["impressions"]["files"] == "log/views.csv"
    assert f"# Not used: {name} (no table). It is empty, or has no columns." in drafted


def test_an_empty_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match=r"empty\.csv is empty"):
        guess([write_csv(tmp_path / "views.csv", day_of(1)), tmp_path / "empty.csv"], tmp_path)


def test_a_draft_beside_the_only_table_of_a_folder_is_no_part_of_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "views.csv", shop())
    for name in ("draft.toml", "load.sql"):
        (tmp_path / name).write_text(guess([tmp_path], tmp_path))
    assert len(drained(load_log(tmp_path / "draft.toml"))["impressions"]) == 300
