import pytest
import torch
from torch import nn

from clickscale.training.optimizers.dense import DenseAdam


@pytest.mark.parametrize("decoupled", [True, False])
def test_steps_are_those_of_torch_bit_for_bit(decoupled: bool):
    torch.manual_seed(0)
    start, gradients = torch.randn(7, 3), torch.randn(4, 7, 3)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    yardstick = kind([theirs], lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3, fused=True)
    optimizer = DenseAdam([([ours], 0.3)], (0.8, 0.9), 1e-6, decoupled)
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step((0.1,))
        yardstick.step()
    assert torch.equal(ours, theirs)
    assert {name: value.tolist() for name, value in optimizer.state[ours].items()} == {
        name: value.tolist() for name, value in yardstick.state[theirs].items()
    }


def test_a_parameter_without_gradient_stays_and_has_no_state():
    moved, still = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    moved.grad = torch.ones(2)
    optimizer = DenseAdam([([moved, still], 0.5), ([], 0.0)], (0.9, 0.999), 1e-8, decoupled=True)
    optimizer.step((0.1, 0.2))
    assert still.tolist() == [1, 1]
    assert list(optimizer.state) == [moved]
    assert moved.tolist() == pytest.approx([0.85, 0.85])  # 1 - 0.1 * 0.5 for decay, 0.1 for the first step


def test_every_group_has_its_own_learning_rate():
    slow, fast = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    slow.grad, fast.grad = torch.ones(2), torch.ones(2)
    groups = [([slow], 0.0), ([fast], 0.0)]
    DenseAdam(groups, (0.9, 0.999), 1e-8, decoupled=True).step((0.1, 0.3))
    assert slow.tolist() == pytest.approx([0.9, 0.9])  # Adam's first step is the learning rate
    assert fast.tolist() == pytest.approx([0.7, 0.7])


def test_every_parameter_counts_its_own_steps_as_torch_does():
    torch.manual_seed(0)
    starts, gradients = torch.randn(2, 3), torch.randn(4, 2, 3)
    ours, theirs = ([nn.Parameter(x.clone()) for x in starts] for _ in range(2))
    yardstick = torch.optim.AdamW(theirs, lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3, fused=True)
    optimizer = DenseAdam([(ours, 0.3)], (0.8, 0.9), 1e-6, decoupled=True)
    for step, pair in enumerate(gradients):
        for parameters in (ours, theirs):
            for place, (parameter, gradient) in enumerate(zip(parameters, pair, strict=True)):
                parameter.grad = gradient.clone() if place == 0 or step % 2 else None
        optimizer.step((0.1,))
        yardstick.step()
    assert [float(optimizer.state[x]["step"]) for x in ours] == [4, 2]
    assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def test_a_divisor_divides_every_gradient():
    pair = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    for parameter, gradient in zip(pair, (torch.tensor([4.0, 8.0]), torch.tensor([1.0, 2.0])), strict=True):
        parameter.grad = gradient
        divisor = 4.0 if parameter is pair[0] else 1.0
        DenseAdam([([parameter], 0.0)], (0.9, 0.999), 0.5, decoupled=True).step((0.1,), divisor)
    assert torch.equal(*pair)


def test_a_loaded_state_goes_on_as_the_saved_one():
    def moved(optimizer: DenseAdam, parameter: nn.Parameter) -> list[float]:
        parameter.grad = torch.tensor([1.0, -3.0])
        optimizer.step((0.1,))
        return parameter.tolist()

    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    one, other = (DenseAdam([([x], 0.1)], (0.9, 0.999), 1e-8, decoupled=True) for x in (first, second))
    moved(one, first)
    with torch.no_grad():
        second.copy_(first)
    other.load(second, {key: value.clone() for key, value in one.state[first].items()})
    assert moved(one, first) == moved(other, second)
    other.load(second, {})
    assert second not in other.state
