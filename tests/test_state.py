from dataclasses import dataclass

import torch
from torch import Tensor

from clickscale.state import State, stack


@dataclass(frozen=True)
class Kept(State):
    """A mask and numbers that grow with the behaviors, and a sum that does not."""

    GROWS = {"mask": 1, "blocks": 2}

    mask: Tensor
    blocks: tuple[Tensor, ...]
    total: Tensor


def kept(length: int, rows: int = 1) -> Kept:
    mask = torch.ones(rows, length, dtype=torch.bool)
    blocks = tuple(torch.full((rows, 2, length, 3), float(length + place)) for place in range(2))
    return Kept(mask, blocks, torch.full((rows, 4), float(length)))


def test_bytes_count_every_tensor() -> None:
    assert kept(5).nbytes == 5 + 2 * (2 * 5 * 3 * 4) + 4 * 4
    assert kept(5).to(dtype=torch.float16).nbytes == 5 + 2 * (2 * 5 * 3 * 2) + 4 * 2
    assert len(kept(5).tensors()) == 4


def test_a_shorter_state_is_padded_on_the_left() -> None:
    joined = stack([kept(2), kept(4), kept(0)])
    assert joined.mask.tolist() == [[False, False, True, True], [True] * 4, [False] * 4]
    assert joined.blocks[1].shape == (3, 2, 4, 3)
    assert joined.blocks[1][0, 0, :, 0].tolist() == [0, 0, 3, 3]
    assert joined.total[:, 0].tolist() == [2, 4, 0]


def test_equally_long_states_are_joined_as_they_are() -> None:
    joined = stack([kept(3, rows=2), kept(3)])
    assert joined.blocks[0].shape == (3, 2, 3, 3)
    assert joined.mask.all()


def test_the_rows_of_a_split_state_do_not_hold_each_other() -> None:
    whole = kept(3, rows=4)
    for part in whole.split():
        for tensor in part.tensors():
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    one = kept(3)
    assert one.split() == [one]


def test_a_clone_owns_its_memory() -> None:
    whole = kept(4, rows=3)
    copy = whole.to(dtype=torch.float32).clone()
    whole.mask.zero_()
    whole.blocks[0].zero_()
    assert bool(copy.mask.all())
    assert bool((copy.blocks[0] == 4).all())
