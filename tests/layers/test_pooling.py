import torch

from clickscale.layers.pooling import running_sum, sum_between


def test_running_sums_by_hand() -> None:
    x = torch.tensor([[[1.0], [2.0], [4.0]]])
    assert running_sum(x).flatten().tolist() == [0, 1, 3, 7]
    assert running_sum(x, torch.tensor([[[10.0]]])).flatten().tolist() == [10, 11, 13, 17]
    assert running_sum(x[:, :0]).flatten().tolist() == [0]
    assert running_sum(x[:, :0], torch.tensor([[[10.0]]])).flatten().tolist() == [10]


def test_sums_between_columns_by_hand() -> None:
    running = running_sum(torch.tensor([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]]))
    oldest, visible = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[3, 2, 2, 3]])
    expected = [[7.0, 70.0], [2.0, 20.0], [0.0, 0.0], [0.0, 0.0]]
    assert sum_between(running, oldest, visible)[0].tolist() == expected


def test_sums_between_columns_are_plain_sums() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 4, dtype=torch.float64)
    oldest = torch.randint(0, 8, (3, 5))
    visible = (oldest + torch.randint(0, 8, (3, 5))).clamp(max=7)
    found = sum_between(running_sum(x), oldest, visible)
    for row in range(3):
        for place in range(5):
            plain = x[row, oldest[row, place] : visible[row, place]].sum(dim=0)
            torch.testing.assert_close(found[row, place], plain, rtol=0, atol=1e-14)
