"""Batches against plain loops over the columns of the data set."""

from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import Batch, sees_columns
from clickscale.config_text import override
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.data.preparation.prepare import prepare
from clickscale.data.windows import make_windows
from clickscale.errors import ClickscaleError, ConfigError, DataError, SchemaError
from clickscale.models import build_model, model_names
from tests.data.tiny import START, STATISTICS, source_of, tiny_schema, tiny_tables
from tests.everyday import sampled
from tests.models.restated import shake_statistics
from tests.tensors import equal

GROUPINGS = ("timeline", "request", "impression")


def a_log(folder: Path, name: str, **options: Any) -> Dataset:
    """A prepared log in which several impressions share a moment; user 0 has no behaviors."""
    tables = tiny_tables(users=9, behaviors=160, impressions=130, **options)
    shown = tables["impressions"]
    also = [row | {"item": 10 * (place % 11 + 1)} for place, row in enumerate(shown) if place % 3]
    also += [row | {"item": 10 * (place % 7 + 1)} for place, row in enumerate(shown) if not place % 4]
    tables["impressions"] = shown + also
    out = folder / name
    prepare(source_of(tiny_schema(statistics=STATISTICS), tables), out)
    return open_dataset(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loader")


@pytest.fixture(scope="module")
def log(folder: Path) -> Dataset:
    return a_log(folder, "plain")


@pytest.fixture(scope="module")
def late(folder: Path) -> Dataset:
    """Behaviors become known up to a day after they happened."""
    return a_log(folder, "late", known_at=True)


def config(*changes: str, **options: Any) -> LoaderConfig:
    return override(LoaderConfig(**({"batch_size": 20, "prefetch": 0} | options)), changes)


def batches(dataset: Dataset, part: str = "train", epoch: int = 0, **options: Any) -> list[Batch]:
    return list(Loader(dataset, part, config(**options)).batches(epoch))


def rows_of(made: list[Batch]) -> list[int]:
    return [row for batch in made for row in batch.rows[batch.rows >= 0].tolist()]


SETTINGS = [
    {"grouping": grouping, "batch_size": samples, "window": window, "shuffle": shuffle, "length": length}
    for grouping, samples, window, shuffle, length in (
        *product(GROUPINGS, (1, 7, 1000), (0,), (True, False), (5,)),
        *product(("timeline",), (7, 64), (1, 3, 50), (True,), (1, 5, 200)),
    )
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "-".join(map(str, setting.values())))
def test_every_impression_comes_exactly_once(log: Dataset, setting: dict[str, Any]) -> None:
    for part in ("train", "test"):
        assert sorted(rows_of(batches(log, part, **setting))) == log.part(part).tolist()


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("length", [1, 4, 500])
@pytest.mark.parametrize("which", ["log", "late"])
def test_a_candidate_sees_the_last_behaviors_before_it_and_nothing_else(
    grouping: str, length: int, which: str, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(which)
    shown, past = dataset.impressions, dataset.behaviors
    longest = 0
    for batch in batches(dataset, grouping=grouping, length=length):
        visible = sees_columns(batch.candidates.oldest, batch.candidates.visible, batch.user.mask)
        assert batch.user.items.shape[1] >= 1
        assert (batch.user.mask.int().diff(dim=1) >= 0).all()  # padding stands on the left
        for b, c in (batch.rows >= 0).nonzero().tolist():
            row = int(batch.rows[b, c])
            begin = int(dataset.users["offsets"][shown["user"][row]])
            count = int(shown["visible"][row])
            expected = slice(begin + max(count - length, 0), begin + count)
            found = visible[b, c]
            assert batch.user.items[b, found].tolist() == past["item"][expected].tolist()
            assert batch.user.times[b, found].tolist() == past["time"][expected].tolist()
            assert (
                batch.user.actions[b, found, 0] == torch.from_numpy(past["field.action"][expected].copy())
            ).all()
            dwell = torch.from_numpy(past["field.dwell"][expected].copy())
            assert torch.equal(batch.user.action_numbers[b, found, 0], dwell)
            assert (dataset.known_at[expected] < shown["time"][row]).all()
            assert found.sum() == min(count, length)
            longest = max(longest, int(found.sum()))
    assert longest == min(length, int(shown["visible"][dataset.part("train")].max()))


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_candidates_carry_the_values_of_their_impressions(log: Dataset, grouping: str) -> None:
    shown, users = log.impressions, log.users
    for batch in batches(log, grouping=grouping, labels=("like", "click")):
        user, side = batch.user, batch.candidates
        real = batch.rows >= 0
        rows = batch.rows[real].numpy()
        assert torch.equal(side.mask, real)
        assert side.items[real].tolist() == shown["item"][rows].tolist()
        assert side.times[real].tolist() == shown["time"][rows].tolist()
        assert side.context[real][:, 0].tolist() == shown["field.position"][rows].tolist()
        names = ("hour", "item_rate", "item_count", "user_genre_rate")
        numbers = np.stack([shown[f"field.{name}"][rows] for name in names], axis=-1)
        np.testing.assert_array_equal(side.context_numbers[real].numpy(), numbers)
        for place, name in enumerate(("like", "click")):
            raw = shown[f"label.{name}"][rows]
            assert batch.label_mask[real][:, place].tolist() == (raw >= 0).tolist()
            assert batch.labels[real][:, place].tolist() == (raw == 1).tolist()
        assert not batch.label_mask[~real].any()
        owner = shown["user"][batch.rows[:, 0].numpy()]
        assert user.profile[:, 0].tolist() == users["field.user_id"][owner].tolist()
        assert user.profile[:, 1].tolist() == users["field.gender"][owner].tolist()
        np.testing.assert_array_equal(user.profile_numbers[:, 0].numpy(), users["field.age"][owner])
        assert (
            torch.from_numpy(shown["user"][rows]) == torch.from_numpy(owner).repeat_interleave(real.sum(1))
        ).all()


def test_unknown_labels_are_masked(log: Dataset) -> None:
    (batch,) = batches(log, labels=("like",), batch_size=10_000)
    real = batch.rows >= 0
    assert 0 < batch.label_mask.sum() < real.sum()
    assert batch.samples == real.sum() == len(log.part("train"))


def test_rows_are_users_at_a_moment_or_windows_of_them(log: Dataset) -> None:
    shown = log.impressions
    for grouping, window in [("impression", 0), ("request", 0), ("timeline", 6)]:
        largest = 0
        for batch in batches(log, grouping=grouping, window=window, length=9):
            for row in batch.rows:
                held = row[row >= 0].numpy()
                assert len(set(shown["user"][held].tolist())) == 1
                assert (np.diff(shown["time"][held]) >= 0).all()
                if grouping != "timeline":
                    assert len(set(shown["time"][held].tolist())) == 1
                largest = max(largest, len(held))
            if grouping == "timeline":
                assert batch.rows.shape[1] <= 6
                assert batch.user.items.shape[1] <= 9 + 6
            else:
                assert (batch.candidates.visible[batch.rows >= 0] == batch.user.items.shape[1]).all()
        assert {"impression": largest == 1, "request": largest == 3, "timeline": largest == 6}[grouping]


def test_a_request_is_never_cut(log: Dataset) -> None:
    shown = log.impressions
    moments = Counter(
        (int(shown["user"][row]), int(shown["time"][row])) for row in log.part("train").tolist()
    )
    made = batches(log, grouping="request", batch_size=1)
    assert sorted((batch.rows >= 0).sum().item() for batch in made) == sorted(moments.values())


def test_batches_hold_about_the_asked_number_of_samples(log: Dataset) -> None:
    for grouping, most in [("impression", 1), ("request", 3), ("timeline", 8)]:
        made = batches(log, grouping=grouping, batch_size=30, window=8)
        sizes = [batch.samples for batch in made]
        assert max(sizes) < 30 + most
        assert np.mean(sizes[:-1] if len(sizes) > 1 else sizes) > 30 - most - 5


# --- the three groupings give the same logits


@pytest.mark.parametrize(
    ("name", "which"),
    sampled(product(model_names(), ("log", "late"))),
)
def test_all_groupings_give_the_same_logits_while_the_history_fits(
    name: str, which: str, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(which)
    torch.manual_seed(0)
    length = int(np.diff(dataset.users["offsets"]).max())
    model = build_model(
        name, dataset.features, dataset.item_columns(), length=length, labels=("click", "like")
    ).eval()
    shake_statistics(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.inputs.table.weight[0] = 0
    groupings: list[tuple[Grouping, int]] = [("impression", 0), ("request", 0)]
    if model.causal:  # others see all behaviors of a row at once, which differ in a timeline
        groupings += [("timeline", 0), ("timeline", 5)]
    found = {}
    for grouping, window in groupings:
        logits = torch.full((len(dataset.impressions["time"]), 2), float("nan"))
        for batch in batches(
            dataset, grouping=grouping, length=length, window=window, labels=("click", "like")
        ):
            with torch.no_grad():
                logits[batch.rows[batch.rows >= 0]] = model(batch)[batch.rows >= 0]
        found[grouping, window] = logits[dataset.part("train")]
    first = found["impression", 0]
    assert first.isfinite().all()
    assert first.std(dim=0).min() > 0.05
    for logits in found.values():
        most = first.abs().max().clamp(min=1)
        assert (logits - first).abs().max() <= 2e-5 * most  # sums round by their size


# --- order, position, ranks


@pytest.mark.parametrize("pairs", [0, 400])
@pytest.mark.parametrize("grouping", ["impression", "request", "timeline"])
def test_the_steps_of_epochs_are_their_batches_and_none_is_planned_twice(
    log: Dataset, grouping: str, pairs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(log, "train", config(grouping=grouping, batch_size=16, pairs=pairs))
    made = [len(list(loader.batches(epoch))) for epoch in range(3)]
    planned, plan = [], loader._plan
    monkeypatch.setattr(loader, "_plan", lambda *given: planned.append(given[0]) or plan(*given))
    assert [loader.steps(epochs) for epochs in (3, 1, 0, 2)] == [sum(made), made[0], 0, sum(made[:2])]
    assert planned == ([0] if (grouping, pairs) == ("impression", 0) else [0, 1, 2])


def test_the_order_depends_on_seed_and_epoch_alone(log: Dataset) -> None:
    def order(epoch: int, **options: Any) -> list[int]:
        return rows_of(batches(log, epoch=epoch, batch_size=8, **options))

    assert order(0) == order(0)
    assert order(3, seed=5) == order(3, seed=5)
    assert (
        len({tuple(made) for made in (order(0), order(1), order(2), order(0, seed=1), order(1, seed=1))}) == 5
    )
    assert order(0, shuffle=False) == order(4, shuffle=False, seed=9) == log.part("train").tolist()
    loader = Loader(log, "train", config(batch_size=8))
    again = [rows_of(list(loader.batches(epoch))) for epoch in (1, 0, 1)]
    assert again == [order(1), order(0), order(1)]


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_any_position_continues_with_the_same_bytes(log: Dataset, grouping: str) -> None:
    whole = batches(log, epoch=2, grouping=grouping, batch_size=16)
    loader = Loader(log, "train", config(grouping=grouping, batch_size=16, prefetch=2))
    for start in (0, 1, len(whole) // 2, len(whole) - 1, len(whole), len(whole) + 3):
        rest = list(loader.batches(2, start))
        assert len(rest) == len(whole[start:])
        assert all(equal(a, b) for a, b in zip(rest, whole[start:], strict=True))


@pytest.mark.parametrize("prefetch", [1, 3, 100])
def test_building_ahead_changes_nothing(log: Dataset, prefetch: int) -> None:
    plain, ahead = batches(log, batch_size=16), batches(log, batch_size=16, prefetch=prefetch)
    assert len(plain) > 5
    assert all(equal(a, b) for a, b in zip(plain, ahead, strict=True))


def test_a_reader_may_stop_in_the_middle(log: Dataset) -> None:
    iterator = Loader(log, "train", config(batch_size=8, prefetch=2)).batches()
    first = next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert equal(first, batches(log, batch_size=8)[0])


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_an_epoch_without_overlap(log: Dataset, grouping: str, world: int) -> None:
    options = config(grouping=grouping, batch_size=16)
    whole = batches(log, epoch=1, grouping=grouping, batch_size=16)
    loaders = [Loader(log, "train", options, rank, world) for rank in range(world)]
    shares = [list(loader.batches(1)) for loader in loaders]
    assert {len(share) for share in shares} == {len(whole) // world}
    rows = rows_of([batch for share in shares for batch in share])
    assert len(set(rows)) == len(rows)
    left_out = set(log.part("train").tolist()) - set(rows)
    remainder = [set(rows_of([batch])) for batch in whole]
    dropped = [part for part in remainder if part <= left_out]
    assert len(dropped) == len(whole) % world
    assert left_out == set().union(*dropped)
    assert all(loader.samples == len(log.part("train")) for loader in loaders)


def test_ranks_in_order_read_everything(log: Dataset) -> None:
    """Evaluation must not lose a remainder."""
    shares = [
        rows_of(list(Loader(log, "test", config(shuffle=False, batch_size=5), rank, 3).batches()))
        for rank in range(3)
    ]
    assert sorted(row for share in shares for row in share) == log.part("test").tolist()


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("samples", [2, 4, 50])
def test_the_length_is_the_number_of_batches(log: Dataset, grouping: str, samples: int) -> None:
    """Exactly of the first epoch; another order of windows of unequal size may need a few more or less."""
    loader = Loader(log, "train", config(grouping=grouping, batch_size=samples, window=5))
    numbers = [sum(1 for _ in loader.batches(epoch)) for epoch in range(4)]
    assert numbers[0] == len(loader)
    assert all(abs(number - numbers[0]) <= 0.15 * numbers[0] for number in numbers)


# --- unusual logs


def test_a_user_without_behaviors_has_a_row_of_padding(log: Dataset) -> None:
    empty = [b for b in batches(log, grouping="impression", batch_size=1) if not b.user.mask.any()]
    assert empty
    assert all(batch.user.items.shape[1] == 1 for batch in empty)
    assert all(
        not sees_columns(batch.candidates.oldest, batch.candidates.visible, batch.user.mask).any()
        for batch in empty
    )


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_a_log_without_any_behavior_can_be_read(folder: Path, grouping: str) -> None:
    out = folder / f"none-{grouping}"
    tables = tiny_tables(impressions=60)
    del tables["behaviors"]
    prepare(source_of(tiny_schema(), tables), out)
    dataset = open_dataset(out)
    assert len(dataset.behaviors["time"]) == 0
    made = batches(dataset, grouping=grouping)
    assert sorted(rows_of(made)) == dataset.part("train").tolist()
    assert not any(batch.user.mask.any() for batch in made)


def test_a_log_of_ids_alone_can_be_read(folder: Path) -> None:
    schema = override(tiny_schema(), ["profile=[]", "behavior=[]", "items=[]", "context=[]"])
    tables = {
        name: [
            {k: v for k, v in row.items() if k in ("user", "item", "time") or "label" in k} for row in rows
        ]
        for name, rows in tiny_tables().items()
        if name in ("behaviors", "impressions")
    }
    prepare(source_of(schema, tables), folder / "bare")  # type: ignore[arg-type]
    for batch in batches(open_dataset(folder / "bare")):
        assert batch.user.actions.shape[2] == batch.user.action_numbers.shape[2] == 0
        assert batch.candidates.context.shape[2] == batch.candidates.context_numbers.shape[2] == 0
        assert batch.user.profile.shape[1] == 1


def test_types_are_those_of_the_contract(log: Dataset) -> None:
    batch = batches(log)[0]
    user, side = batch.user, batch.candidates
    integers = (
        user.profile,
        user.items,
        user.actions,
        user.times,
        side.items,
        side.context,
        side.times,
        side.oldest,
    )
    assert {x.dtype for x in (*integers, side.visible, batch.rows)} == {torch.int64}
    floats = (user.profile_numbers, user.action_numbers, side.context_numbers, batch.labels)
    assert {x.dtype for x in floats} == {torch.float32}
    assert batch.label_mask.dtype == torch.bool
    assert user.times.min() > START - 1


# --- misuse


@pytest.mark.parametrize(
    "change",
    [
        "length=0",
        "batch_size=0",
        "window=-1",
        "prefetch=-1",
        "length=-5",
        "slack=-1",
        "pairs=-1",
        "placeholders=-2",
        "unknown_users=1.0",
        "unknown_users=-0.1",
    ],
)
def test_numbers_that_make_no_sense_are_refused(log: Dataset, change: str) -> None:
    with pytest.raises(ConfigError, match=change.split("=")[0]):
        Loader(log, "train", config(change))


def test_windows_that_are_cut_draw_no_lengths(log: Dataset) -> None:
    windows = make_windows(log, log.part("train"), "request", 4)
    with pytest.raises(ConfigError, match="leave out slack=3"):
        Loader(log, "train", config(slack=3), windows=windows)


def test_an_unknown_part_or_label_is_named(log: Dataset) -> None:
    with pytest.raises(DataError, match=r"Unknown part 'tests'; did you mean 'test'\?"):
        Loader(log, "tests", config())
    with pytest.raises(SchemaError, match=r"Unknown label 'clik'; did you mean 'click'\?"):
        Loader(log, "train", config(labels=("clik",)))
    with pytest.raises(ConfigError, match="'requests'"):
        config("grouping=requests")


def test_a_part_without_impressions_is_refused(log: Dataset) -> None:
    everything = override(log.manifest.split, ["valid=0.0"])
    with pytest.raises(DataError, match=r"Part 'valid' of .* has no impressions; choose another split"):
        Loader(open_dataset(log.path, everything), "valid", config())


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_while_building_reaches_the_reader(log: Dataset, prefetch: int, tmp_path: Path) -> None:
    loader = Loader(log, "train", config(prefetch=prefetch))
    loader._rows = loader._rows + 10**9  # a row that does not exist
    with pytest.raises((IndexError, ClickscaleError)):
        list(loader.batches())


def test_windows_do_not_overlap_in_what_they_count(log: Dataset) -> None:
    """Neighbors of one user: each window begins after the one before ended."""
    made = batches(log, grouping="timeline", window=4, shuffle=False, batch_size=10_000)
    starts = [row[row >= 0].tolist() for batch in made for row in batch.rows]
    assert all(a[-1] < b[0] for a, b in pairwise(starts))
