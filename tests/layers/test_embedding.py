import pytest
import torch
from torch.nn import functional

from clickscale.features import Feature
from clickscale.layers.embedding import FusedEmbedding, Numbers, SideEmbedding
from clickscale.layers.kernels.distinct_values import distinct
from clickscale.layers.kernels.frozen import freeze

USER = Feature(name="user", kind="categorical", size=5)
TAGS = Feature(name="tags", kind="categorical", size=4, values=3)
FRIEND = Feature(name="friend", kind="categorical", size=5, shares="user")
AGE = Feature(name="age", kind="numeric", width=1)
TEXT = Feature(name="text", kind="content", width=7)


def test_features_stand_in_one_table_without_gaps() -> None:
    table = FusedEmbedding((FRIEND, USER, AGE, TAGS, TEXT), 2)
    assert table.offsets == {"user": 0, "tags": 4, "friend": 0}
    assert table.weight.shape == (1 + 4 + 3, 2)  # one padding row, then each feature without its own


def test_padding_is_one_row_of_zeros_without_gradient() -> None:
    table = FusedEmbedding((USER, TAGS), 3)
    assert not table.weight[0].any()
    assert table.weight.abs().sum(dim=1)[[2, 3, 4, 6, 7]].all()
    table(torch.tensor([[0, 2], [0, 7]])).sum().backward()
    gradient = table.weight.grad
    assert gradient.is_sparse
    assert gradient.to_dense().sum(dim=1).tolist() == [0, 0, 3, 0, 0, 0, 0, 3]


def test_indices_become_rows_of_the_feature_and_padding_stays_padding() -> None:
    table = FusedEmbedding((USER, TAGS, FRIEND), 2)
    side = SideEmbedding((FRIEND, TAGS), table, 2)
    indices = torch.tensor([[0, 0, 0, 0], [4, 1, 3, 0]])
    assert side.rows(indices).tolist() == [[0, 0, 0, 0], [4, 5, 7, 0]]


def test_several_values_are_averaged_without_padding() -> None:
    table = FusedEmbedding((USER, TAGS), 2)
    side = SideEmbedding((USER, TAGS), table, 2)
    assert side.tokens == 2
    with torch.no_grad():
        table.weight.copy_(torch.arange(16.0).view(8, 2))
        table.weight[0] = 0
    indices = torch.tensor([[1, 1, 3, 0], [2, 2, 0, 0], [0, 0, 0, 0], [3, 1, 2, 3]])
    found = side(table, indices, torch.zeros(4, 0))
    tags = [[(10 + 14) / 2, (11 + 15) / 2], [12, 13], [0, 0], [(10 + 12 + 14) / 3, (11 + 13 + 15) / 3]]
    torch.testing.assert_close(found[:, 1], torch.tensor(tags))
    assert found[:, 0].tolist() == [[2, 3], [4, 5], [0, 0], [6, 7]]


def test_a_number_scales_its_own_vector_and_a_missing_one_has_another() -> None:
    table = FusedEmbedding((USER,), 2)
    side = SideEmbedding((AGE, USER, Feature(name="dwell", kind="numeric", width=1)), table, 2)
    with torch.no_grad():
        side.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        side.bias.copy_(torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
        side.missing.copy_(torch.tensor([[7.0, 7.0], [8.0, 9.0]]))
    found = side(table, torch.tensor([[2]]), torch.tensor([[3.0, float("nan")]]))
    assert found.shape == (1, 3, 2)
    assert torch.equal(found[0, 0], table.weight[2])
    assert found[0, 1:].tolist() == [[3.5, 6.5], [8.0, 9.0]]
    found.sum().backward()
    assert side.weight.grad.tolist() == [[3, 3], [0, 0]]
    assert side.bias.grad.tolist() == [[1, 1], [0, 0]]
    assert side.missing.grad.tolist() == [[0, 0], [1, 1]]


CUT = Feature(name="cut", kind="numeric", width=1, edges=(-1.0, 0.0, 2.0))
FLAT = Feature(name="flat", kind="numeric", width=1, edges=(0.5,))  # one value in training
NEVER = Feature(name="never", kind="numeric", width=1)  # no value in training


def test_a_piecewise_number_sums_the_shares_of_the_bins_below_it() -> None:
    side = SideEmbedding((CUT,), FusedEmbedding((USER,), 2), 2, "piecewise")
    with torch.no_grad():
        side.weight[0, :2] = torch.tensor([[1.0, 10.0], [4.0, -2.0]])
        side.weight[0, 2:] = 1e9  # there are no such bins
        side.bias.copy_(torch.tensor([[0.5, 0.0]]))
        side.missing.copy_(torch.tensor([[7.0, 9.0]]))
    numbers = torch.tensor([[-1.0], [-0.75], [0.0], [0.5], [2.0], [-50.0], [50.0], [float("nan")]])
    found = side.embed_rows(FusedEmbedding((USER,), 2), torch.zeros(8, 0, dtype=torch.int64), numbers)
    expected = [
        [0.5, 0],  # the lowest edge: no bin
        [0.75, 2.5],  # a quarter of the first
        [1.5, 10],
        [1.5 + 1, 10 - 0.5],  # the first and a quarter of the second
        [1.5 + 4, 10 - 2],
        [0.5, 0],  # beyond the edges as at the edges
        [5.5, 8],
        [7, 9],
    ]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected))


def test_a_piecewise_number_begins_as_a_line_between_its_edges() -> None:
    torch.manual_seed(0)
    side = SideEmbedding((CUT,), FusedEmbedding((USER,), 3), 3, "piecewise")
    numbers = torch.tensor([[-1.0], [-0.3], [0.0], [1.7], [2.0]])
    found = side.embed_rows(FusedEmbedding((USER,), 3), torch.zeros(5, 0, dtype=torch.int64), numbers)
    line = side.weight[0, 0] / 1.0  # the first bin is 1 wide, so this is the slope
    torch.testing.assert_close(found[:, 0], numbers * line)


def test_a_bucket_has_a_vector_of_its_own() -> None:
    side = SideEmbedding((CUT,), FusedEmbedding((USER,), 1), 1, "buckets")
    with torch.no_grad():
        side.weight[0, :3, 0] = torch.tensor([1.0, 2.0, 3.0])
    numbers = torch.tensor([[-9.0], [-1.0], [-0.01], [0.0], [1.9], [2.0], [9.0]])
    found = side.embed_rows(FusedEmbedding((USER,), 1), torch.zeros(7, 0, dtype=torch.int64), numbers)
    assert found[:, 0, 0].tolist() == [1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("how", ["linear", "piecewise", "buckets"])
def test_a_number_without_two_quantiles_is_finite_and_every_number_has_its_own_weights(how: Numbers) -> None:
    side = SideEmbedding((FLAT, CUT, NEVER), FusedEmbedding((USER,), 2), 2, how)
    numbers = torch.tensor([[0.5, 1.0, 3.0], [-1e2, 1.0, float("nan")]])
    found = side.embed_rows(FusedEmbedding((USER,), 2), torch.zeros(2, 0, dtype=torch.int64), numbers)
    assert found.isfinite().all()
    found[:, 1].sum().backward()
    assert not side.weight.grad[[0, 2]].any()
    assert side.weight.grad[1].any()


def test_a_side_without_fields_has_no_tokens() -> None:
    table = FusedEmbedding((USER,), 2)
    side = SideEmbedding((), table, 2)
    found = side(table, torch.zeros(3, 4, 0, dtype=torch.int64), torch.zeros(3, 4, 0))
    assert found.shape == (3, 4, 0, 2)
    assert side.tokens == 0
    assert not list(side.parameters())


def test_numbers_alone_need_no_indices() -> None:
    table = FusedEmbedding((USER,), 2)
    side = SideEmbedding((AGE,), table, 2)
    assert side(table, torch.zeros(3, 0, dtype=torch.int64), torch.ones(3, 1)).shape == (3, 1, 2)


@pytest.mark.parametrize("size", [40, 100_000], ids=["flags", "sorting"])
@pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 0), (2, 3, 4)])
def test_distinct_items_are_those_of_unique(size: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    items = torch.randint(0, 40, shape)
    values, inverse = torch.unique(items, return_inverse=True)
    found, places = distinct(items, size)
    assert torch.equal(found, values)
    assert torch.equal(places, inverse)
    assert torch.equal(found[places], items)


def test_dropout_is_for_training_alone_and_keeps_the_mean() -> None:
    table = FusedEmbedding((USER,), 1000)
    with torch.no_grad():
        table.weight[2] = 1
    table.dropout = 0.2
    rows = torch.tensor([2])
    found = table.train()(rows)
    assert set(found.unique().tolist()) == {0.0, 1.25}
    assert found.mean().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(table.eval()(rows), table.weight[rows])


def test_lines_of_frozen_numbers_give_what_all_bins_give() -> None:
    torch.manual_seed(0)
    many = tuple(torch.linspace(-4, 4, 33).tolist())  # as many bins as there are at most
    fields = tuple(
        Feature(name=f"f{n}", kind="numeric", width=1, edges=edges)
        for n, edges in enumerate([many, (-1.0, 0.5, 0.5001), (2.0,), ()])
    )
    table = FusedEmbedding(fields, 3)
    side = SideEmbedding(fields, table, 3, "piecewise")
    with torch.no_grad():
        for parameter in side.parameters():
            parameter.normal_()
        inf, nan = float("inf"), float("nan")
        points = torch.tensor([*many, 0.5, 0.5001, 2, 9, -9, 1e30, -1e30, inf, -inf, nan, *torch.randn(99)])
        numbers = points[:, None].expand(-1, len(fields))  # (N, F)
        none = torch.zeros(len(points), 0, dtype=torch.int64)
        expected = side(table, none, numbers)
        freeze(side)
        torch.testing.assert_close(side(table, none, numbers), expected, rtol=1e-5, atol=1e-5)
    assert expected[-100].equal(side.missing)


def test_the_sum_of_several_look_ups_has_the_gradient_of_torch_and_none_for_padding() -> None:
    table = FusedEmbedding((USER, TAGS), 3)
    dense = table.weight.detach().clone().requires_grad_()
    places = [torch.tensor([[1, 0], [4, 1]]), torch.tensor([0, 2]), torch.tensor([5])]
    for look_up in (table, lambda rows: functional.embedding(rows, dense, padding_idx=0)):
        sum((look_up(rows) * (rows[..., None] + 2.0)).sum() for rows in places).backward()
    assert table.weight.grad is not None
    assert dense.grad is not None
    torch.testing.assert_close(table.weight.grad.to_dense(), dense.grad)
    assert not dense.grad[0].any()
