from collections import Counter
from pathlib import Path

import numpy as np

from clickscale.data.dataset import open_dataset
from clickscale.data.preparation.negatives import NegativeSampler
from clickscale.data.preparation.prepare import prepare
from tests.data.tiny import START, source_of, tiny_schema, tiny_tables

SEEDS = np.arange(4000, dtype=np.uint64)


def test_only_items_that_existed_before_are_drawn_and_never_the_positive() -> None:
    first_seen = np.array([-1, -1, 10, 20, 20, 30, -1])
    sampler = NegativeSampler(first_seen, 2)
    items, real = sampler.draw(np.full(4000, 3), np.full(4000, 30), SEEDS)
    assert real.all()
    assert set(items.ravel().tolist()) == {2, 4}  # 5 is first seen at 30, which is not before 30
    assert (items[:, 0] != items[:, 1]).all()


def test_every_item_that_existed_is_equally_likely() -> None:
    sampler = NegativeSampler(np.array([-1, -1, 1, 2, 3, 4, 5]), 1)
    items, _ = sampler.draw(np.full(4000, 4), np.full(4000, 9), SEEDS)
    shares = Counter(items.ravel().tolist())
    assert set(shares) == {2, 3, 5, 6}
    assert all(abs(count / 4000 - 0.25) < 0.03 for count in shares.values())  # four standard deviations


def test_a_positive_of_the_first_moment_has_no_negatives() -> None:
    sampler = NegativeSampler(np.array([-1, -1, 10, 20]), 2)
    _, real = sampler.draw(np.array([2, 3]), np.array([10, 20]), SEEDS[:2])
    assert real.tolist() == [[False, False], [True, False]]


def test_a_log_of_positives_gets_negatives_behind_each_of_them(tmp_path: Path) -> None:
    tables = tiny_tables()
    for row in tables["impressions"]:
        del row["label.click"], row["label.like"]
    dataset = open_dataset(_prepared(tables, tmp_path / "out"))
    impressions = dataset.impressions
    click, item, time = impressions["label.click"], impressions["item"], impressions["time"]
    positives = np.flatnonzero(click == 1)
    assert len(positives) == 120
    assert (impressions["label.like"] == click).all()
    first_seen = dataset.items["first_seen"]
    assert (first_seen[item[click == 0]] < time[click == 0]).all()
    for start, end in zip(positives, np.append(positives[1:], len(click)), strict=True):
        group = slice(start, end)
        existing = int(((first_seen >= 0) & (first_seen < time[start])).sum())
        others = existing - bool(first_seen[item[start]] < time[start])
        assert end - start == 1 + min(3, others)
        assert len(set(item[group].tolist())) == end - start
        for name in ("user", "time", "visible", "field.position", "field.hour"):
            assert len(set(impressions[name][group].tolist())) == 1, name
    assert dataset.schema.sampled_negatives == 3
    assert dataset.encoder.schema.sampled_negatives == 3
    assert dataset.manifest.report["impressions"].kept == 120
    assert dataset.manifest.counts["impressions"] == len(click)
    assert "3 negatives per positive" in dataset.manifest.notes[0]


def _prepared(tables: dict[str, list[dict[str, object]]], out: Path, chunk_rows: int = 17) -> Path:
    prepare(source_of(tiny_schema(), tables, chunk_rows=chunk_rows, negatives=3), out)  # type: ignore[arg-type]
    return out


def test_draws_do_not_depend_on_other_positives(tmp_path: Path) -> None:
    tables = tiny_tables()
    everything = open_dataset(_prepared(tables, tmp_path / "all")).impressions
    last = max(row["time"] for row in tables["impressions"])
    late = next(row for row in tables["impressions"] if row["time"] == last)
    late["label.click"] = 1
    extra = late | {"time": last + 1, "user": 101}
    tables["impressions"].append(extra)
    more = open_dataset(_prepared(tables, tmp_path / "more")).impressions

    def drawn(columns: object, before: int) -> set[tuple[int, ...]]:
        rows = np.stack([columns[name] for name in ("user", "time", "item", "label.click")], axis=1)  # type: ignore[index]
        return set(map(tuple, rows[rows[:, 1] < before].tolist()))

    assert drawn(everything, last) == drawn(more, last)
    assert last > START
