import pytest
import torch
from torch import Tensor

from clickscale.layers.bias import TIME_BUCKETS, time_buckets
from clickscale.layers.kernels import residue_classes
from clickscale.layers.kernels.residue_classes import (
    LANES,
    SHUT,
    add_up,
    cuts,
    fold,
    from_classes,
    look_up,
    masking,
    pieces,
    short_times,
    spread,
    to_classes,
    write_buckets,
)

CPU = torch.device("cpu")


def test_times_before_each_other_share_the_bucket_of_their_absolute_difference() -> None:
    found = torch.empty(5, dtype=torch.uint8)
    delta = torch.tensor([-700, -1, 0, 1, 700])
    write_buckets(delta, torch.zeros(5, dtype=torch.int64), "octave", found)
    assert found.tolist() == time_buckets(delta).tolist()
    assert found.tolist() == found.flip(0).tolist()


@pytest.mark.parametrize(("length", "r"), [(0, 2), (1, 3), (6, 2), (7, 3), (2, 5)])
def test_classes_can_be_put_back(length: int, r: int) -> None:
    x = torch.randn(2, 3, length, 4)
    classes, back = to_classes(x, r), torch.empty_like(x)
    assert classes.shape == (2, 3, r, -(-length // r), 4)
    from_classes(classes, back)
    assert torch.equal(x, back)
    for i in range(length):
        assert torch.equal(classes[:, :, i % r, i // r], x[:, :, i])


def test_cuts_and_pieces_cover_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residue_classes, "_PIECE", 10)
    for rows in (0, 1, 63, 64, 100, 333):
        assert [m for first, last in cuts(rows) for m in range(first, last)] == list(range(rows))
    assert max(last - first for first, last in cuts(333)) < 2 * 64
    for numbers in (0, 3, 99):
        assert [b for part in pieces(7, numbers, CPU) for b in range(7)[part]] == list(range(7))
    assert pieces(7, 3, CPU)[0] == slice(0, 3)
    assert pieces(7, 99, CPU)[0] == slice(0, 1)


def test_short_times_keep_differences() -> None:
    early, late = torch.tensor([10**9, 10**9 + 5]), torch.tensor([10**9 + 7])
    shorter = short_times(early, late)
    assert all(x.dtype == torch.int32 for x in shorter)
    assert (shorter[1] - shorter[0]).tolist() == [7, 2]
    wide = short_times(torch.tensor([0, 1 << 31]), late)
    assert all(x.dtype == torch.int64 for x in wide)
    assert short_times(late[:0], late[:0])[0].numel() == 0


def test_tables_are_read_and_added_up_by_index() -> None:
    tables = masking(torch.arange(2.0 * TIME_BUCKETS).view(2, -1), torch.zeros(0))
    index = torch.tensor([[0, SHUT, 3]], dtype=torch.uint8)
    found = look_up(tables, index)
    assert found.shape == (1, 2, 3)
    assert found[0, 1].tolist() == [129, -torch.inf, 132]
    sums = torch.zeros(2, LANES * (SHUT + 1), dtype=torch.float64)
    terms: Tensor = torch.tensor([[[1.0, 2.0, 4.0], [0.5, 0.5, 0.5]]])
    add_up(sums, spread(torch.tensor([[3, 3, 0]], dtype=torch.uint8)), terms)
    assert fold(sums).shape == (2, TIME_BUCKETS)
    assert fold(sums)[0, [0, 3]].tolist() == [4, 3]
    assert fold(sums)[1, [0, 3]].tolist() == [0.5, 1]
    assert masking(None, torch.zeros(0))[0, [0, SHUT]].tolist() == [0, -torch.inf]
