import pytest
import torch

from clickscale.features import Feature
from clickscale.layers.embedding import FusedEmbedding, SideEmbedding, distinct

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
