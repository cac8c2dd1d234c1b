import torch

from clickscale.batch import Batch, sees
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
    assert sees(batch.user, batch.candidates).int().tolist() == expected


def test_moving_a_batch_moves_every_tensor_and_changes_none() -> None:
    batch = toy_batch()
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    before, after = tensors(batch), tensors(moved)
    assert len(before) == 15
    assert before.keys() == after.keys()
    assert all(tensor.is_meta and tensor.shape == before[name].shape for name, tensor in after.items())
    assert equal(batch.to("cpu"), batch)
