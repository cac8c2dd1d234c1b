import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from clickscale.training.optimizers.table_optimizers import LazyAdam, RowGradient, RowSummer, RowwiseAdagrad


def sparse_gradient(lookups: list[int], values: Tensor, rows: int) -> Tensor:
    """Gradient of a table of ``rows`` whose look-up of ``lookups`` receives the gradient ``values``."""
    weight = torch.zeros(rows, values.shape[1], requires_grad=True)
    functional.embedding(torch.tensor(lookups), weight, padding_idx=0, sparse=True).backward(values)
    assert weight.grad is not None
    return weight.grad


def test_the_gradient_of_a_row_is_the_sum_over_its_lookups() -> None:
    values = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0], [5.0, 5.0]])
    summed = RowSummer(9).sum(sparse_gradient([7, 3, 7, 0], values, 9))
    found = {int(row): value.tolist() for row, value in zip(summed.rows, summed.values, strict=True)}
    assert found == {7: [101.0, 202.0], 3: [10.0, 20.0]}  # row 0 is padding


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.lists(st.integers(0, 30), max_size=9))
def test_distinct_rows_are_those_of_unique_whatever_was_summed_before(
    now: list[int], before: list[int]
) -> None:
    summer = RowSummer(31)
    summer.distinct(torch.tensor(before, dtype=torch.int64))
    lookups = torch.tensor(now)
    rows, places = summer.distinct(lookups)
    assert torch.equal(rows[places], lookups)
    assert torch.equal(rows.sort().values, lookups.unique())


def test_a_batch_of_padding_alone_changes_nothing() -> None:
    weight = torch.ones(4, 2)
    gradient = RowSummer(4).sum(sparse_gradient([0, 0], torch.ones(2, 2), 4))
    for optimizer in (RowwiseAdagrad(weight, 1e-8), LazyAdam(weight, (0.9, 0.999), 1e-8)):
        optimizer.update(weight, gradient, 0.1)
    assert torch.equal(weight, torch.ones(4, 2))


def test_row_wise_adagrad_takes_the_steps_computed_by_hand() -> None:
    weight = torch.zeros(5, 2)
    optimizer = RowwiseAdagrad(weight, eps=0.0)
    optimizer.update(weight, RowGradient(torch.tensor([3]), torch.tensor([[3.0, 4.0]])), lr=0.5)
    # mean of squares (9 + 16) / 2 = 12.5
    assert weight[3].tolist() == pytest.approx([-0.5 * 3 / 12.5**0.5, -0.5 * 4 / 12.5**0.5])
    optimizer.update(weight, RowGradient(torch.tensor([3]), torch.tensor([[1.0, 7.0]])), lr=0.5)
    # 12.5 + (1 + 49) / 2 = 37.5
    expected = [-1.5 / 12.5**0.5 - 0.5 / 37.5**0.5, -2.0 / 12.5**0.5 - 3.5 / 37.5**0.5]
    assert weight[3].tolist() == pytest.approx(expected)
    assert optimizer.sums.tolist() == [0.0, 0.0, 0.0, 37.5, 0.0]


def test_lazy_adam_equals_the_sparse_adam_of_torch() -> None:
    random = np.random.default_rng(0)
    ours = torch.from_numpy(random.normal(size=(20, 3)).astype(np.float32))
    theirs = torch.nn.Parameter(ours.clone())
    optimizer, summer = LazyAdam(ours, (0.9, 0.99), 1e-8), RowSummer(20)
    reference = torch.optim.SparseAdam([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8)
    for _ in range(8):
        lookups = random.integers(1, 20, 12).tolist()
        gradient = sparse_gradient(
            lookups, torch.from_numpy(random.normal(size=(12, 3)).astype(np.float32)), 20
        )
        theirs.grad = gradient
        reference.step()
        optimizer.update(ours, summer.sum(gradient), 0.01)
    assert torch.allclose(ours, theirs, atol=1e-6, rtol=0)


def test_rows_that_were_not_touched_stay_as_they_are_to_the_bit() -> None:
    start = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    for make in (lambda w: RowwiseAdagrad(w, 1e-8), lambda w: LazyAdam(w, (0.9, 0.999), 1e-8)):
        weight = start.clone()
        optimizer, summer = make(weight), RowSummer(50)
        for _ in range(3):
            optimizer.update(weight, summer.sum(sparse_gradient([4, 9, 4], torch.ones(3, 4), 50)), 0.1)
        untouched = [row for row in range(50) if row not in (4, 9)]
        assert torch.equal(weight[untouched], start[untouched])
        assert not torch.equal(weight[4], start[4])
        for state in optimizer.state().values():
            if state.dim():
                assert not state[untouched].any()
                assert state[[4, 9]].all()


def test_the_sum_is_the_same_to_the_bit_with_several_threads() -> None:
    generator = torch.Generator().manual_seed(1)
    lookups = torch.randint(1, 3000, (40_000,), generator=generator)
    values = torch.randn(40_000, 8, generator=generator)
    gradient = sparse_gradient(lookups.tolist(), values, 3000)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        found.append(RowSummer(3000).sum(gradient))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0].rows, other.rows) for other in found[1:])
    assert all(torch.equal(found[0].values, other.values) for other in found[1:])
