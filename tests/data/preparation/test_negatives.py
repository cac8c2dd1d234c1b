import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.preparation.negatives import NEVER, NegativeSampler
from clickscale.data.preparation.prepare import prepare
from clickscale.data.source import Sampling
from clickscale.errors import ConfigError, DataError
from tests.data.tiny import START, source_of, tiny_schema, tiny_tables

SEEDS = np.arange(4000, dtype=np.uint64)
ALONE = np.zeros(9, np.int64)  # every item in one group


def draw(sampler: NegativeSampler, item: int, time: int) -> np.ndarray:
    return sampler.draw(
        np.full(4000, item), np.full(4000, time), SEEDS, lambda _, other: np.asarray(other == item)
    )


def test_only_items_that_existed_before_are_drawn_and_never_the_positive() -> None:
    first_seen = np.array([NEVER, NEVER, 10, 20, 20, 30, NEVER])
    items = draw(NegativeSampler.uniform(2, first_seen, ALONE[:7]), 3, 30)
    assert set(items.ravel().tolist()) == {2, 4}  # 5 is first seen at 30, which is not before 30
    assert (items[:, 0] != items[:, 1]).all()


def test_every_item_that_existed_is_equally_likely() -> None:
    sampler = NegativeSampler.uniform(1, np.array([NEVER, NEVER, 1, 2, 3, 4, 5]), ALONE[:7])
    shares = Counter(draw(sampler, 4, 9).ravel().tolist())
    assert set(shares) == {2, 3, 5, 6}
    assert all(abs(count / 4000 - 0.25) < 0.03 for count in shares.values())  # four standard deviations


def test_draws_by_popularity_follow_the_positives_before_each_moment(tmp_path: Path) -> None:
    chunks = [
        (np.array([5, 2, 3, 2, 3]), np.array([50, 1, 4, 2, 5])),
        (np.array([3, 4, 4]), np.array([6, 60, 70])),
    ]
    sampler = NegativeSampler.by_popularity(1, lambda: iter(chunks), ALONE, tmp_path, (2, 1))
    shares = Counter(draw(sampler, 4, 50).ravel().tolist())  # 2 twice and 3 three times before 50
    assert set(shares) == {2, 3}
    assert abs(shares[3] / 4000 - 0.6) < 0.03
    assert set(draw(sampler, 4, 51).ravel().tolist()) == {2, 3, 5}
    assert (draw(sampler, 2, 4) == -1).all()  # only the positive itself was there


def test_draws_within_a_group_stay_there() -> None:
    group = np.array([0, 0, 1, 2, 1, 2, 2])
    first_seen = np.array([NEVER, NEVER, 1, 2, 3, 4, 50])
    one, two = (NegativeSampler.uniform(count, first_seen, group) for count in (1, 2))
    assert set(draw(one, 3, 9).ravel().tolist()) == {5}
    assert set(draw(one, 4, 9).ravel().tolist()) == {2}
    assert (draw(two, 4, 9)[:, 1] == -1).all()


def positives(**options: int) -> dict[Any, Any]:
    """The tiny log, without its labels."""
    tables: dict[Any, Any] = tiny_tables(**options)
    for row in tables["impressions"]:
        del row["label.click"], row["label.like"]
    return tables


def prepared(
    tables: dict[Any, Any], out: Path, negatives: int = 3, sampling: Sampling | None = None
) -> Dataset:
    source = source_of(tiny_schema(), tables, negatives=negatives)
    prepare(dataclasses.replace(source, sampling=sampling or Sampling()), out)
    return open_dataset(out)


def test_every_positive_has_its_negatives_or_is_left_out_and_counted(tmp_path: Path) -> None:
    tables = positives()
    tables["behaviors"] = tables["behaviors"][60:]
    dataset = prepared(tables, tmp_path / "out")
    impressions, report = dataset.impressions, dataset.manifest.report["impressions"]
    click, item, time, user = (impressions[name] for name in ("label.click", "item", "time", "user"))
    assert (impressions["label.like"] == click).all()
    assert report.rows == 120 == report.kept + sum(report.quarantined.values())
    assert set(report.quarantined) == {"first_of_item", "too_few_items"}
    assert (dataset.items["first_seen"][item] < time).all()  # of positives as well: neither tells the label
    starts = np.flatnonzero(np.r_[True, (np.diff(time) != 0) | (np.diff(user) != 0)])
    assert len(starts) == report.kept == int((click == 1).sum())
    for start, end in zip(starts, np.append(starts[1:], len(click)), strict=True):
        group = slice(start, end)
        assert (end - start, click[group].sum(), len(set(item[group].tolist()))) == (4, 1, 4)
        for name in ("visible", "field.position", "field.hour"):
            assert len(set(impressions[name][group].tolist())) == 1, name
    told = {(row["user"], row["item"], row["time"]) for row in tables["impressions"]}
    counted = dataset.counted  # the whole log: also the positives that got no negatives
    users, items = dataset.users["ids"], dataset.items["ids"]
    assert told == set(
        zip(
            users[counted["user"]].tolist(),
            items[counted["item"]].tolist(),
            counted["time"].tolist(),
            strict=True,
        )
    )
    assert len(counted["time"]) == report.rows
    first, second = dataset.manifest.notes
    assert "3 negatives per positive were drawn uniformly" in first
    assert "popularity is part of what is measured" in first
    assert f"{report.quarantined['first_of_item']} positives whose item had no earlier event" in second


def test_the_place_of_the_positive_does_not_tell_it(tmp_path: Path) -> None:
    dataset = prepared(positives(impressions=2000), tmp_path / "out")
    places = dataset.impressions["label.click"].reshape(-1, 4).argmax(axis=1)
    assert (np.bincount(places, minlength=4) > 0.2 * len(places)).all()


def test_an_item_that_the_user_has_at_the_same_moment_is_not_drawn(tmp_path: Path) -> None:
    tables = positives()
    for row in tables["impressions"]:  # whole days, so that many positives of a user share their moment
        row["time"] -= row["time"] % 864_000
    dataset = prepared(tables, tmp_path / "out", 2)
    rows = np.stack([dataset.impressions[name] for name in ("user", "time", "item")], axis=1)
    click = dataset.impressions["label.click"] == 1
    assert not set(map(tuple, rows[click].tolist())) & set(map(tuple, rows[~click].tolist()))
    assert len(np.unique(rows[click][:, :2], axis=0)) < click.sum()  # the case occurs


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_negatives_within_a_field_have_its_value(tmp_path: Path, by: Any) -> None:
    tables = positives(impressions=400)
    for index, row in enumerate(tables["items"]):
        row["genre"] = ["drama", "war"][index % 2]
    dataset = prepared(tables, tmp_path / "out", 2, Sampling(by=by, within="genre"))
    genre = dataset.items["field.genre"][dataset.impressions["item"], 0].reshape(-1, 3)
    known = genre[genre[:, 0] > 1]
    assert (known == known[:, :1]).all()
    assert len(np.unique(known)) == 2
    assert "with its genre" in dataset.manifest.notes[0]


def test_draws_by_popularity_are_as_popular_as_positives(tmp_path: Path) -> None:
    tables = positives(impressions=4000)
    random = np.random.default_rng(0)
    for row in tables["impressions"]:
        row["item"] = 10 * int(1 + 200 * random.random() ** 2)
    tables["behaviors"] = []

    def advantage(sampling: Sampling, name: str) -> float:
        columns = prepared(tables, tmp_path / name, 1, sampling).impressions
        counts = np.bincount(columns["item"])[columns["item"]]
        click = columns["label.click"] == 1
        return float(counts[click].mean() / counts[~click].mean())

    assert advantage(Sampling(), "uniform") > 1.5
    assert abs(advantage(Sampling(by="popularity"), "popularity") - 1) < 0.1


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(by="popularity"), Sampling(within="genre")])
def test_draws_do_not_depend_on_chunks_or_on_other_positives(tmp_path: Path, sampling: Sampling) -> None:
    tables = positives()

    def drawn(name: str, chunk_rows: int, memory_rows: int) -> list[tuple[int, ...]]:
        source = source_of(tiny_schema(), tables, chunk_rows=chunk_rows, negatives=2)
        prepare(
            dataclasses.replace(source, sampling=sampling),
            tmp_path / name,
            chunk_rows=chunk_rows,
            memory_rows=memory_rows,
        )
        columns = open_dataset(tmp_path / name).impressions
        rows = np.stack([columns[key] for key in ("user", "time", "item", "label.click")], axis=1)
        return list(map(tuple, rows.tolist()))

    whole = drawn("whole", 1000, 1 << 20)
    assert drawn("pieces", 3, 2) == whole
    last = max(row["time"] for row in tables["impressions"])
    tables["impressions"].append(tables["impressions"][-1] | {"time": last + 1, "user": 101})
    assert [row for row in drawn("more", 7, 1 << 20) if row[1] <= last] == whole
    assert last > START


def test_a_log_whose_items_all_come_once_is_refused_with_the_reason(tmp_path: Path) -> None:
    tables = positives()
    for index, row in enumerate(tables["impressions"]):
        row["item"] = 10_000 + index
    with pytest.raises(DataError, match=r"first_of_item 120 .*never be drawn as a negative"):
        prepared(tables, tmp_path / "out")


def test_options_of_sampling_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set negatives = 4"):
        prepared(positives(), tmp_path / "out", 0, Sampling(by="popularity"))
    with pytest.raises(ConfigError, match="did you mean 'genre'"):
        prepared(positives(), tmp_path / "out", 2, Sampling(within="genres"))
    with pytest.raises(ConfigError, match="'price'"):
        prepared(positives(), tmp_path / "out", 2, Sampling(within="price"))


@pytest.mark.parametrize("again", [False, True])
def test_where_nothing_comes_twice_nothing_is_drawn_that_the_user_had(tmp_path: Path, again: bool) -> None:
    """Otherwise an item of the own history would be a sure negative, which says nothing of the world."""
    tables = positives(impressions=1500)
    random = np.random.default_rng(3)
    had: dict[int, list[int]] = {}
    for row in sorted(tables["impressions"], key=lambda row: row["time"]):
        mine = had.setdefault(row["user"], [])
        new = [item for item in range(10, 5000, 10) if again or item not in mine]
        row["item"] = int(random.choice(mine if again and mine and random.random() < 0.3 else new))
        mine.append(row["item"])
    tables["behaviors"] = []
    columns = prepared(tables, tmp_path, 2, Sampling()).impressions
    seen: set[tuple[int, int]] = set()
    drawn_again = 0
    for user, _, item, click in np.stack(
        [columns[key] for key in ("user", "time", "item", "label.click")], axis=1
    )[np.lexsort((-columns["label.click"], columns["time"]))].tolist():
        if click:
            seen.add((user, item))
        else:
            drawn_again += (user, item) in seen
    assert (drawn_again > 0) is again
