"""Options of the loader beside the grouping: slack, unknown users, the bound of a batch, placeholders."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import Batch, sees_columns
from clickscale.config_text import override
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.features import UNKNOWN
from clickscale.models import build_model
from clickscale.training.objectives import LOSS, ClickLoss
from clickscale.training.optimizers.optim import OptimizerConfig, build_optimizer
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.tensors import equal

GROUPINGS = ("timeline", "request", "impression")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("long")


@pytest.fixture(scope="module")
def log(folder: Path) -> Dataset:
    source = tiny_source(statistics=STATISTICS, users=9, behaviors=160, impressions=130)
    return open_dataset(tiny_dataset(folder / "plain", source))


@pytest.fixture(scope="module")
def late(folder: Path) -> Dataset:
    """Behaviors become known up to a day after they happened."""
    source = tiny_source(statistics=STATISTICS, users=9, behaviors=160, impressions=130, known_at=True)
    return open_dataset(tiny_dataset(folder / "late", source))


def batches(dataset: Dataset, epoch: int = 0, **options: Any) -> list[Batch]:
    config = override(LoaderConfig(**({"batch_size": 20, "prefetch": 0} | options)), [])
    return list(Loader(dataset, "train", config).batches(epoch))


def check_that_the_rest_of_an_epoch_is_the_same(log: Dataset, **drawn: Any) -> None:
    """What an option draws for each window does not depend on where reading begins."""
    options = {"grouping": "timeline", "length": 3, "batch_size": 16, **drawn}
    whole = batches(log, epoch=1, **options)
    rest = list(Loader(log, "train", LoaderConfig(prefetch=2, **options)).batches(1, 2))
    assert all(equal(a, b) for a, b in zip(rest, whole[2:], strict=True))


def rows_of(made: list[Batch]) -> list[int]:
    return [row for batch in made for row in batch.rows[batch.rows >= 0].tolist()]


# --- slack: how far a window looks back is drawn


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("which", ["log", "late"])
def test_slack_draws_how_many_behaviors_a_window_sees(
    grouping: str, which: str, request: pytest.FixtureRequest
) -> None:
    dataset: Dataset = request.getfixturevalue(which)
    known = np.asarray(dataset.impressions["visible"])
    drawn = Counter()
    for epoch in range(3):
        for batch in batches(dataset, epoch=epoch, grouping=grouping, length=3, slack=2, window=4):
            seen = sees_columns(batch.candidates.oldest, batch.candidates.visible, batch.user.mask).sum(
                dim=-1
            )  # (B, C)
            for row, found in zip(batch.rows, seen, strict=True):
                real = row >= 0
                rich = known[row[real].numpy()] >= 5  # less is all there is
                lengths = set(found[real].numpy()[rich].tolist())
                assert len(lengths) <= 1
                assert lengths <= {3, 4, 5}
                drawn.update(lengths)
                poor = known[row[real].numpy()] <= 3
                assert found[real].numpy()[poor].tolist() == known[row[real].numpy()][poor].tolist()
    assert set(drawn) == {3, 4, 5}
    assert min(drawn.values()) > 0.2 * sum(drawn.values())


def test_drawn_lengths_depend_on_seed_and_epoch_alone(log: Dataset) -> None:
    def widths(epoch: int, **options: Any) -> list[tuple[int, ...]]:
        made = batches(log, epoch=epoch, grouping="request", length=2, slack=6, **options)
        rows = [
            (
                batch.rows[:, 0],
                sees_columns(batch.candidates.oldest, batch.candidates.visible, batch.user.mask)[:, 0].sum(
                    -1
                ),
            )
            for batch in made
        ]
        return sorted((int(a), int(b)) for first, seen in rows for a, b in zip(first, seen, strict=True))

    assert widths(0) == widths(0)
    assert widths(0) != widths(1)
    assert widths(0) != widths(0, seed=1)
    check_that_the_rest_of_an_epoch_is_the_same(log, slack=4)


# --- users that are shown as unknown ones


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_some_users_are_hidden_and_nothing_else(log: Dataset, grouping: str) -> None:
    plain = batches(log, grouping=grouping, length=3)
    hiding = batches(log, grouping=grouping, length=3, unknown_users=0.3)
    hidden = torch.cat([batch.user.profile[:, 0] == UNKNOWN for batch in hiding])
    known = torch.cat([batch.user.profile[:, 0] > UNKNOWN for batch in plain])
    assert known.all()
    assert 0.1 < hidden.float().mean() < 0.5
    for one, other in zip(hiding, plain, strict=True):
        one.user.profile[:, 0] = other.user.profile[:, 0]
    assert all(equal(a, b) for a, b in zip(plain, hiding, strict=True))


def test_who_is_hidden_depends_on_seed_and_epoch_alone(log: Dataset) -> None:
    def hidden(epoch: int, **options: Any) -> list[int]:
        made = batches(log, epoch=epoch, grouping="request", length=3, unknown_users=0.4, **options)
        return sorted(
            int(b.rows[i, 0]) for b in made for i in (b.user.profile[:, 0] == UNKNOWN).nonzero()[:, 0]
        )

    assert hidden(0) == hidden(0) == hidden(0, batch_size=7)
    assert hidden(0) != hidden(1)
    assert hidden(0) != hidden(0, seed=1)
    check_that_the_rest_of_an_epoch_is_the_same(log, unknown_users=0.4)


# --- how much a batch may hold


def pairs_of(batch: Batch) -> int:
    rows, columns = batch.user.items.shape
    return rows * columns * (columns + batch.rows.shape[1])


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("pairs", [1, 200, 3000])
def test_batches_stay_below_the_bound_of_pairs(
    log: Dataset, grouping: str, shuffle: bool, pairs: int
) -> None:
    options = {"grouping": grouping, "batch_size": 96, "shuffle": shuffle, "length": 20}
    free = batches(log, **options)
    assert max(map(pairs_of, free)) > 3000
    made = batches(log, pairs=pairs, **options)
    assert all(len(batch.rows) == 1 or pairs_of(batch) <= pairs for batch in made)
    assert sorted(rows_of(made)) == log.part("train").tolist()
    assert len(made) > len(free)
    if not shuffle:
        assert rows_of(made) == rows_of(free)
    if pairs == 1:
        assert all(len(batch.rows) == 1 for batch in made)


def test_a_bound_that_nothing_reaches_changes_nothing(log: Dataset) -> None:
    free, bound = batches(log, batch_size=32), batches(log, batch_size=32, pairs=10**9)
    assert all(equal(a, b) for a, b in zip(free, bound, strict=True))


def test_divided_batches_are_alike_in_size(log: Dataset) -> None:
    made = batches(log, grouping="impression", batch_size=10**6, length=4, pairs=4 * 5 * 30)
    sizes = [len(batch.rows) for batch in made]
    assert max(sizes) <= 30
    assert max(sizes) - min(sizes) < len(sizes)


# --- placeholders


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_placeholders_are_padding_that_every_row_has_in_addition(log: Dataset, grouping: str) -> None:
    plain, more = (batches(log, grouping=grouping, placeholders=number) for number in (0, 3))
    for a, b in zip(plain, more, strict=True):
        count = a.rows.shape[1]
        assert b.rows.shape[1] == count + 3
        assert torch.equal(b.rows[:, :count], a.rows)
        assert (b.rows[:, count:] == -1).all()
        assert not b.candidates.mask[:, count:].any()
        assert not b.label_mask[:, count:].any()
        assert torch.equal(b.candidates.items[:, :count], a.candidates.items)


@pytest.mark.parametrize("name", ["lightsuan", "suan"])
@pytest.mark.parametrize("grouping", ["impression", "timeline"])
def test_training_with_placeholders_is_training_without(log: Dataset, name: str, grouping: str) -> None:
    """Lai et al. 2025, section 3.3: losses, gradients, running statistics and weights of three steps.

    Weights are float64 and the epsilons large: else steps are made of rounding errors of zero gradients.
    """

    def trained(placeholders: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = build_model(name, log.features, log.item_columns(), length=8).double()
        objective = ClickLoss(model, ("click",))
        optimizer = build_optimizer(model, OptimizerConfig(eps=1e-3, table_eps=1e-3), 3)
        found = []
        made = batches(log, grouping=grouping, length=8, batch_size=40, placeholders=placeholders)
        for step, batch in enumerate(made[:3]):
            losses = objective(batch)
            losses[LOSS].backward()
            found += [losses[LOSS].detach()]
            gradients = [x.grad for x in model.parameters() if x.grad is not None]
            found += [x.to_dense().clone() if x.is_sparse else x.clone() for x in gradients]
            optimizer.step(losses[LOSS], step)
        assert len(found) > 10
        return found + [x.clone() for x in model.state_dict().values()]

    for a, b in zip(trained(0), trained(4), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=0, atol=2e-7), (a - b).abs().max()
