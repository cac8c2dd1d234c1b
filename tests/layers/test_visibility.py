import torch

from clickscale.layers.visibility import Visibility, first_column, take_columns
from tests.models.toy import NOW, keep_behaviors, toy_batch, with_candidates


def test_candidates_of_one_moment_share_their_sight() -> None:
    batch = toy_batch()  # some candidates are padding
    visibility = Visibility.of(batch.candidates, batch.user.items, batch.user.times)
    assert visibility.seen.shape == (5, 1, 12)
    assert torch.equal(visibility.seen[:, 0], batch.user.mask)
    apart = with_candidates(batch, visible=torch.tensor([[12, 12, 9, 12]] * 5))
    assert Visibility.of(apart.candidates, batch.user.items, batch.user.times).seen.shape == (5, 4, 12)


def test_a_candidate_sees_from_the_oldest_up_to_its_moment() -> None:
    batch = toy_batch(rows=1, candidates=2, full=True)
    parts = with_candidates(batch, oldest=torch.tensor([[2, 0]]), visible=torch.tensor([[5, 12]]))
    visibility = Visibility.of(parts.candidates, batch.user.items, batch.user.times)
    assert visibility.seen[0].sum(dim=1).tolist() == [3, 12]
    assert visibility.newest(2)[0, 0].nonzero().flatten().tolist() == [3, 4]
    assert visibility.newest(4)[0, 0].nonzero().flatten().tolist() == [2, 3, 4]
    window = visibility.window(4)
    assert window.columns.tolist() == [[[1, 2, 3, 4], [8, 9, 10, 11]]]
    assert window.row_mask.tolist() == [[False, True, True, True], [True] * 4]
    assert window.distance.tolist() == [[4, 3, 2, 1]] * 2
    assert torch.equal(window.seconds[1], NOW - batch.user.times[0, 8:])


def test_selected_columns_hold_items_only_where_the_mask_is_true() -> None:
    batch = toy_batch(rows=2, candidates=1, full=True)
    visibility = Visibility.of(batch.candidates, batch.user.items, batch.user.times)
    mask = torch.tensor([[[True, False]], [[True, True]]])
    selected = visibility.select(torch.tensor([[[3, 0]], [[4, 11]]]), mask)
    assert selected.items.tolist() == [[batch.user.items[0, 3], 0], batch.user.items[1, [4, 11]].tolist()]


def test_columns_are_taken_for_each_candidate() -> None:
    x = torch.arange(24.0).view(2, 4, 3)
    columns = torch.tensor([[[0, 3], [1, 1]], [[2, 0], [3, 3]]])
    taken = take_columns(x, columns)
    assert taken.shape == (4, 2, 3)
    assert torch.equal(taken[2, 0], x[1, 2])
    assert torch.equal(taken[1, 1], x[0, 1])
    assert torch.equal(take_columns(x[..., 0], columns), taken[..., 0])
    assert take_columns(x[:, :0], columns[..., :0]).shape == (4, 0, 3)


def test_the_first_column_that_anybody_sees() -> None:
    seen = torch.tensor([[[False, False, True]], [[False, True, False]]])
    assert first_column(seen) == 1
    assert first_column(seen & False) == 3


def test_a_row_without_columns_has_an_empty_sight() -> None:
    batch = toy_batch(rows=2, candidates=1, full=True)
    user = keep_behaviors(batch.user, slice(0, 0))
    none = torch.zeros(2, 1, dtype=torch.int64)
    side = with_candidates(batch, oldest=none, visible=none).candidates
    visibility = Visibility.of(side, user.items, user.times)
    assert visibility.newest(3).shape == (2, 1, 0)
    assert visibility.window(3).items.shape == (2, 0)
