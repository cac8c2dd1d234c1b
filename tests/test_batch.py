import pytest
import torch

from clickscale.batch import Batch, sees_columns
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.data.loader import Grouping, Loader, LoaderConfig
from clickscale.models import build_model
from tests.data.tiny import STATISTICS, tiny_dataset, tiny_source
from tests.models.toy import pick_candidates, toy_batch, with_candidates, with_user
from tests.tensors import equal, tensors


def test_masks_are_where_items_are() -> None:
    batch = toy_batch()
    assert batch.user.mask.sum(dim=1).tolist() == [0, 3, 6, 9, 12]
    assert torch.equal(batch.candidates.mask, batch.rows >= 0)


def test_samples_are_the_impressions_that_are_no_padding() -> None:
    batch = toy_batch()
    assert batch.samples == int(batch.candidates.mask.sum()) < 20
    assert pick_candidates(batch, torch.tensor([0])).samples == 5
    assert type(batch.samples) is int


def test_a_candidate_sees_behaviors_from_its_oldest_to_before_its_visible() -> None:
    batch = with_user(toy_batch(rows=2, length=5, candidates=2), items=torch.tensor([[0, 0, 3, 4, 5]] * 2))
    limits = torch.tensor([[0, 3], [1, 5]])
    batch = with_candidates(batch, oldest=limits, visible=torch.tensor([[4, 5], [1, 5]]))
    expected = [[[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]], [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]]
    assert (
        sees_columns(batch.candidates.oldest, batch.candidates.visible, batch.user.mask).int().tolist()
        == expected
    )


def test_moving_a_batch_moves_every_tensor_and_changes_none() -> None:
    batch = toy_batch()
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    before, after = tensors(batch), tensors(moved)
    assert len(before) == 15
    assert before.keys() == after.keys()
    assert all(tensor.is_meta and tensor.shape == before[name].shape for name, tensor in after.items())
    assert equal(batch.to("cpu"), batch)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    source = tiny_source(users=5, behaviors=120, impressions=90, statistics=STATISTICS)
    return open_dataset(tiny_dataset(tmp_path_factory.mktemp("batch"), source))


def loaded(dataset: Dataset, grouping: Grouping, length: int) -> list[Batch]:
    config = LoaderConfig(
        grouping=grouping, length=length, window=6, batch_size=16, shuffle=False, labels=("click", "like")
    )
    return list(Loader(dataset, "train", config).batches())


def without_padding(batch: Batch) -> dict[str, torch.Tensor]:
    """Tensors in which padding, whose values nobody reads, is zero."""
    found, hidden = tensors(batch), ~batch.user.mask
    found["user.times"] = found["user.times"].masked_fill(hidden, 0)
    found["user.action_numbers"] = found["user.action_numbers"].masked_fill(hidden[..., None], 0.0)
    return {name: torch.nan_to_num(tensor, 1e30) for name, tensor in found.items()}


@pytest.mark.parametrize("grouping", ["timeline", "request", "impression"])
@pytest.mark.parametrize("length", [1, 3, 7, 50])
def test_a_shortened_batch_is_the_one_that_a_loader_of_that_length_gathers(
    dataset: Dataset, grouping: Grouping, length: int
) -> None:
    long, short = loaded(dataset, grouping, 20), loaded(dataset, grouping, min(length, 20))
    assert len(long) == len(short) > 1
    shortened = [batch.shortened(length) for batch in long]
    for ours, theirs in zip(shortened, short, strict=True):
        found, expected = without_padding(ours), without_padding(theirs)
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    narrower = [a.user.items.shape[1] > b.user.items.shape[1] for a, b in zip(long, shortened, strict=True)]
    assert any(narrower) == (length < 20)


@pytest.mark.parametrize("grouping", ["timeline", "request", "impression"])
@pytest.mark.parametrize("name", ["suan", "din"])
def test_a_model_scores_a_shortened_batch_as_the_one_of_its_own_loader(
    dataset: Dataset, name: str, grouping: Grouping
) -> None:
    torch.manual_seed(0)
    model = build_model(name, dataset.features, dataset.item_columns(), grade="size-1", length=5).eval()
    batches = zip(loaded(dataset, grouping, 20), loaded(dataset, grouping, 5), strict=True)
    scores = [(model(long), model(long.shortened(5)), model(short)) for long, short in batches]
    assert max((found - expected).abs().max() for _, found, expected in scores) <= 1e-6
    assert max((whole - expected).abs().max() for whole, _, expected in scores) > 1e-5


def test_shortening_twice_is_shortening_to_the_smaller_length(dataset: Dataset) -> None:
    for batch in loaded(dataset, "timeline", 20):
        assert equal(batch.shortened(7).shortened(3), batch.shortened(3))
        assert equal(batch.shortened(3).shortened(7), batch.shortened(3))


def test_a_batch_without_behaviors_keeps_one_column() -> None:
    batch = with_user(toy_batch(rows=2, length=5), items=torch.zeros(2, 5, dtype=torch.int64))
    assert batch.shortened(3).user.items.shape == (2, 1)
