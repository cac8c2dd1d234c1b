"""Statistics beyond the usual ones: drafted where a sample calls for them, and nowhere else."""

import csv
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from clickscale.data.described.drafts.computed.statistic_lines import Sample, Sampled, _told_together
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import load_log
from clickscale.data.preparation.prepare import prepare
from clickscale.schema import usual_statistics

ROWS, START = 6_000, 1_700_000_000
Columns = dict[str, npt.NDArray[Any]]
Random = np.random.Generator


def write(path: Path, columns: Columns) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*(c.tolist() for c in columns.values()), strict=True)])


def names(prefix: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.char.add(prefix, np.asarray(values).astype(str))


def log(random: Random, users: int = 300, items: int = 50) -> Columns:
    """Users, items and times in any order."""
    return {
        "user_id": random.integers(users, size=ROWS),
        "item_id": random.integers(items, size=ROWS),
        "time": START + np.sort(random.integers(0, 28 * 86_400, ROWS)),
    }


def with_outcome(random: Random, columns: Columns, logit: npt.NDArray[Any]) -> Columns:
    clicked = (random.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(int)
    named = {"user_id": names("u", columns["user_id"]), "item_id": names("i", columns["item_id"])}
    return columns | named | {"clicked": clicked}


def many_values(random: Random) -> dict[str, Columns]:
    rows = log(random) | {"placement": random.integers(1_500, size=ROWS)}
    logit = random.normal(-1, 1.5, 1_500)[rows["placement"]]
    named = rows | {"placement": names("p", rows["placement"])}
    return {"log.csv": with_outcome(random, named, logit)}


def too_many_values(random: Random) -> dict[str, Columns]:
    rows = log(random) | {"request": names("r", random.integers(40_000, size=ROWS))}
    return {"log.csv": with_outcome(random, rows, np.full(ROWS, -1.0))}


def pairs(random: Random) -> dict[str, Columns]:
    rows, group, kind = log(random), random.integers(8, size=300), random.integers(6, size=50)
    logit = random.normal(-0.5, 1.5, (8, 6))[group[rows["user_id"]], kind[rows["item_id"]]]
    users = {"user_id": names("u", np.arange(300)), "group": names("g", group)}
    items = {"item_id": names("i", np.arange(50)), "category": names("c", kind)}
    return {"log.csv": with_outcome(random, rows, logit), "users.csv": users, "items.csv": items}


def sums(random: Random) -> dict[str, Columns]:
    """Group and category each tell something, and nothing more together."""
    rows, group, kind = log(random), random.integers(8, size=300), random.integers(6, size=50)
    logit = random.normal(-0.5, 1, 8)[group[rows["user_id"]]] + random.normal(0, 1, 6)[kind[rows["item_id"]]]
    users = {"user_id": names("u", np.arange(300)), "group": names("g", group)}
    items = {"item_id": names("i", np.arange(50)), "category": names("c", kind)}
    return {"log.csv": with_outcome(random, rows, logit), "users.csv": users, "items.csv": items}


def situations(random: Random) -> dict[str, Columns]:
    """Two fields of the context decide together, and neither does alone."""
    rows = log(random)
    system, slot = random.integers(8, size=(2, ROWS))
    logit = np.where(system % 2 == slot % 2, 1.0, -1.0)
    named = rows | {"system": names("s", system), "slot": names("p", slot)}
    return {"log.csv": with_outcome(random, named, logit)}


def strong_situations(random: Random) -> dict[str, Columns]:
    """Two fields of the context have strong effects, whose logits add up."""
    rows = log(random)
    system, slot = random.integers(8, size=(2, ROWS))
    logit = random.normal(-1, 1.5, 8)[system] + random.normal(0, 1.5, 8)[slot]
    named = rows | {"system": names("s", system), "slot": names("p", slot)}
    return {"log.csv": with_outcome(random, named, logit)}


def fatigue(random: Random) -> dict[str, Columns]:
    rows = log(random, users=100, items=12)
    seen: dict[tuple[int, int], int] = {}
    earlier = np.zeros(ROWS)
    for row, pair in enumerate(zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True)):
        earlier[row] = seen[pair] = seen.get(pair, -1) + 1
    return {"log.csv": with_outcome(random, rows, 2 - earlier)}


def visits(random: Random) -> dict[str, Columns]:
    rows, place = log(random), np.arange(ROWS) % 5
    start = np.repeat(np.sort(random.integers(0, 28 * 86_400, ROWS // 5)), 5)
    rows |= {
        "user_id": np.repeat(random.integers(300, size=ROWS // 5), 5),
        "time": START + start + 40 * place,
    }
    return {"log.csv": with_outcome(random, rows, 2.0 - place)}


def hours(random: Random) -> dict[str, Columns]:
    """Each category has hours of its own."""
    rows, kind = log(random), random.integers(6, size=50)
    away = np.abs(rows["time"] // 3600 % 24 - 4 * kind[rows["item_id"]])
    items = {"item_id": names("i", np.arange(50)), "category": names("c", kind)}
    return {"log.csv": with_outcome(random, rows, 1.5 - np.minimum(away, 24 - away) / 3), "items.csv": items}


def hours_of_few(random: Random) -> dict[str, Columns]:
    """Users like categories, and each comes in an hour of his own: the hour says who is there."""
    rows, kind = log(random, users=12), random.integers(6, size=50)
    rows["time"] -= rows["time"] % 86_400 - 7_200 * rows["user_id"] - random.integers(3_600, size=ROWS)
    logit = random.choice([-2.0, 2.0], (12, 6))[rows["user_id"], kind[rows["item_id"]]]
    items = {"item_id": names("i", np.arange(50)), "category": names("c", kind)}
    return {"log.csv": with_outcome(random, rows, logit), "items.csv": items}


def named_hours(random: Random) -> dict[str, Columns]:
    """The same, with a number that is called as the key of hours is."""
    tables = hours(random)
    tables["log.csv"] |= {"hour_of_day": random.normal(size=ROWS).round(3)}
    return tables


def series(random: Random, decide: bool = True) -> dict[str, Columns]:
    """Users like some series of 50 items in 10, whatever their category is."""
    rows, item = log(random), np.arange(50)
    likes = random.choice([-2.0, 2.0], (300, 10)) * decide
    items = {
        "item_id": names("i", item),
        "category": names("c", item % 12),
        "series": names("s", item // 5),
    }
    logit = likes[rows["user_id"], item[rows["item_id"]] // 5]
    return {"log.csv": with_outcome(random, rows, logit), "items.csv": items}


def series_of_no_one(random: Random) -> dict[str, Columns]:
    return series(random, decide=False)


def brands(random: Random, decide: bool = True) -> dict[str, Columns]:
    """Users like categories, and brands as well; each brand has items of one category."""
    rows, brand = log(random, users=100), np.arange(50) // 5
    likes, kinds = random.choice([-1.5, 1.5], (100, 10)) * decide, random.choice([-1.5, 1.5], (100, 5))
    user, own = rows["user_id"], brand[rows["item_id"]]
    items = {
        "item_id": names("i", np.arange(50)),
        "category": names("c", brand % 5),
        "brand": names("b", brand),
    }
    return {
        "log.csv": with_outcome(random, rows, likes[user, own] + kinds[user, own % 5]),
        "items.csv": items,
    }


def brands_of_liked_kinds(random: Random) -> dict[str, Columns]:
    return brands(random, decide=False)


def moods(random: Random) -> dict[str, Columns]:
    """Who has clicked within the hour clicks on."""
    rows = log(random)
    visit = rows["time"] // 86_400 + 1_000_000 * rows["user_id"]
    rows["time"] -= rows["time"] % 86_400 - random.integers(3_600, size=ROWS)
    mood = random.choice([-1.5, 1.5], 1 + len(visit))[np.unique(visit, return_inverse=True)[1]]
    return {"log.csv": with_outcome(random, rows, mood)}


def episodes(random: Random, kinds: int = 25) -> dict[str, Columns]:
    """Who clicked an item, clicks the one after it; or of its kind, one of the kind after it."""
    rows, newest = log(random), np.full(300, -9)
    kind = np.arange(50) % kinds
    clicked = np.zeros(ROWS, int)
    for row, (user, item) in enumerate(zip(rows["user_id"], rows["item_id"], strict=True)):
        follows = kind[item] == (newest[user] + 1) % kinds
        clicked[row] = random.random() < (0.95 if follows else 0.1)
        newest[user] = kind[item] if clicked[row] else newest[user]
    category = kind if kinds == 5 else random.integers(5, size=50)
    items = {"item_id": names("i", np.arange(50)), "category": names("c", category)}
    return {
        "log.csv": with_outcome(random, rows, np.zeros(ROWS)) | {"clicked": clicked},
        "items.csv": items,
    }


def aisles(random: Random) -> dict[str, Columns]:
    return episodes(random, kinds=5)


def orders(random: Random) -> dict[str, Columns]:
    """Positives only: the order that a row belongs to is known of behaviors."""
    rows = log(random)
    named = {"customer_id": rows["user_id"], "product_id": rows["item_id"], "order_date": rows["time"]}
    products = {"product_id": np.arange(50), "price": np.arange(50) + 0.5}
    return {"lines.csv": {"order_id": 5_000 + np.arange(ROWS) // 3, **named}, "products.csv": products}


PLACEMENT = ["placement_rate", "placement_count"]
SEEN = ["user_item_rate", "user_item_count"]
SERIES = ["user_series_rate", "user_series_count"]
VISIT = ["user_count_10m", "user_count_1h"]


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (many_values, PLACEMENT),
        (too_many_values, []),
        (pairs, ["group_category_rate"]),
        (sums, []),
        (situations, ["system_slot_rate"]),
        (strong_situations, []),
        (hours, ["hour_of_day_category_rate"]),
        (hours_of_few, []),
        (named_hours, []),
        (fatigue, SEEN),
        (series, SERIES),
        (series_of_no_one, []),
        (brands, ["user_brand_rate", "user_brand_count"]),
        (brands_of_liked_kinds, []),
        (visits, VISIT),
        (moods, ["user_recency"]),
        (episodes, ["after_item_lift"]),
        (aisles, ["after_item_lift", "after_category_lift"]),
        (orders, []),
    ],
)
def test_a_draft_counts_what_its_sample_calls_for(
    tmp_path: Path, make: Callable[[Random], dict[str, Columns]], more: list[str]
) -> None:
    for file, columns in make(np.random.default_rng(5)).items():
        write(tmp_path / file, columns)
    text = guess(sorted(tmp_path.iterdir()), tmp_path)
    found = [each["name"] for each in tomllib.loads(text)["statistics"]]
    usual = {"item_rate", "item_count", "user_rate", "user_count", "user_lift", "user_lift_7d"}
    usual |= {each.name for each in usual_statistics(drawn=True)}
    assert [name for name in found if name not in usual and not name.startswith("user_category")] == more
    (tmp_path / "schema.toml").write_text(text, "utf-8")
    prepare(load_log(tmp_path / "schema.toml"), tmp_path / "prepared")


@pytest.mark.parametrize("returning", [True, False])
def test_a_recency_is_declared_where_users_come_back(tmp_path: Path, returning: bool) -> None:
    random = np.random.default_rng(3)
    rows = log(random)
    if not returning:  # a sitting of an hour for each user
        rows["time"] = START + 86_400 * rows["user_id"] + random.integers(3_600, size=ROWS)
    write(tmp_path / "log.csv", with_outcome(random, rows, np.full(ROWS, -1.0)))
    kinds = names("c", random.integers(6, size=50))
    write(tmp_path / "items.csv", {"item_id": names("i", np.arange(50)), "category": kinds})
    text = guess([tmp_path / "log.csv", tmp_path / "items.csv"], tmp_path)
    declared = {each["name"]: each for each in tomllib.loads(text)["statistics"]}
    assert "user_category_rate_7d" in declared
    assert ("user_category_recency" in declared) == returning
    if returning:
        told = "seconds since the newest positive label of the same user and category, 30 days back"
        assert told in text
        assert declared["user_category_recency"]["window"] == 30 * 86_400


@pytest.mark.parametrize("lately", [True, False])
def test_a_recency_is_declared_where_clicks_of_the_last_hour_tell(tmp_path: Path, lately: bool) -> None:
    random = np.random.default_rng(4)
    rows, kind = log(random, users=200), random.integers(6, size=50)
    user, shown = rows["user_id"], kind[rows["item_id"]]
    # Each user comes on one day, and on it at several hours.
    rows["time"] = (
        START + 86_400 * user + 14_400 * random.integers(5, size=ROWS) + random.integers(3_600, size=ROWS)
    )
    order = np.argsort(rows["time"], kind="stable")
    rows, user, shown = {name: column[order] for name, column in rows.items()}, user[order], shown[order]
    clicked, newest = np.zeros(ROWS, int), np.full(300, -1)
    for row, (who, what) in enumerate(zip(user, shown, strict=True)):
        clicked[row] = random.random() < (0.9 if lately and newest[who] == what else 0.2)
        newest[who] = what if clicked[row] else newest[who]
    write(tmp_path / "log.csv", with_outcome(random, rows, np.zeros(ROWS)) | {"clicked": clicked})
    write(tmp_path / "items.csv", {"item_id": names("i", np.arange(50)), "category": names("c", kind)})
    text = guess([tmp_path / "log.csv", tmp_path / "items.csv"], tmp_path)
    found = [each["name"] for each in tomllib.loads(text)["statistics"]]
    assert ("user_category_recency" in found) == lately


def test_rows_without_a_time_do_not_make_users_come_back() -> None:
    user = pa.array([1, 1, 1, 2, 2, 2])
    seconds = [START, START + 60, None, START, START + 60, None]
    assert not Sample([], user, None, pa.array(seconds, pa.int64()), None).is_of_returning_users
    days = [START, START + 86_400, None, START, START + 86_400, None]
    assert Sample([], user, None, pa.array(days, pa.int64()), None).is_of_returning_users


def test_a_sample_without_known_outcomes_calls_for_no_recency() -> None:
    user, kind = pa.array([1, 1, 2]), Sampled("kind", "item", pa.array(["a", "b", "a"]))
    seconds = pa.array([START, START + 60, START], pa.int64())
    assert not Sample([kind], user, None, seconds, np.full(3, np.nan)).calls_for_recency("kind")
    assert not Sample([kind], user, None, seconds, None).calls_for_recency("kind")


def test_pairs_that_tell_nothing_agree_by_chance_only() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(1, 20, (2, 400, 2_000))
    label = random.integers(2, size=2_000).astype(float)
    found = [_told_together(a, b, label) for a, b in zip(one, other, strict=True)]
    assert -1 < np.mean(found) < 0.3
    assert 0.7 < np.std(found) < 1.5
    assert max(found) < 5


def test_pairs_without_a_known_outcome_tell_nothing() -> None:
    codes = np.array([1, 2, 0])
    assert _told_together(codes, codes, np.full(3, np.nan)) == 0
    assert _told_together(np.zeros(3, int), codes, np.ones(3)) == 0


def test_numbers_are_no_kind_of_an_item_beside_words(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = with_outcome(random, log(random), np.full(ROWS, -1.0))
    items = {"item_id": names("i", np.arange(50)), "shelf": random.integers(20, 45, 50)}
    for columns, kind in ((items, "shelf"), (items | {"serial": names("s", np.arange(50) // 2)}, "serial")):
        write(tmp_path / "log.csv", rows)
        write(tmp_path / "items.csv", columns)
        tree = tomllib.loads(guess([tmp_path / "log.csv", tmp_path / "items.csv"], tmp_path))
        assert f"user_{kind}_rate" in [statistic["name"] for statistic in tree["statistics"]]


@pytest.mark.parametrize(("strength", "kind"), [(2.0, "mood"), (0.0, "maker")])
def test_where_no_name_tells_the_kind_of_an_item_is_what_users_differ_in(
    tmp_path: Path, strength: float, kind: str
) -> None:
    random = np.random.default_rng(21)
    rows = log(random, users=60)
    mood = np.arange(50) % 6
    logit = -1 + strength * random.normal(0, 1, (60, 6))[rows["user_id"], mood[rows["item_id"]]]
    write(tmp_path / "log.csv", with_outcome(random, rows, logit))
    described = {"item_id": names("i", np.arange(50)), "mood": names("m", mood)}
    write(tmp_path / "items.csv", described | {"maker": names("f", np.arange(50) * 7 % 25)})
    text = guess([tmp_path / "log.csv", tmp_path / "items.csv"], tmp_path)
    assert f"# {kind} stands for the kind of an item" in text


@pytest.mark.parametrize("several", [False, True])
def test_of_several_kinds_by_name_the_one_in_which_users_differ_most_counts(
    tmp_path: Path, several: bool
) -> None:
    random = np.random.default_rng(21)
    rows = log(random, users=60)
    kind = np.arange(50) % 6
    logit = -1 + 2 * random.normal(0, 1, (60, 6))[rows["user_id"], kind[rows["item_id"]]]
    write(tmp_path / "log.csv", with_outcome(random, rows, logit))
    tags = names("m", kind)
    tags = np.char.add(tags, "|all") if several else tags
    described = {"item_id": names("i", np.arange(50)), "tags": tags}
    write(tmp_path / "items.csv", described | {"category": names("f", np.arange(50) * 7 % 25)})
    text = guess([tmp_path / "log.csv", tmp_path / "items.csv"], tmp_path)
    assert "# tags stands for the kind of an item: outcomes depend on it" in text
