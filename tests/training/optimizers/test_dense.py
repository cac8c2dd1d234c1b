import sys
from pathlib import Path
from subprocess import run

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


def test_a_step_does_not_import_the_compiler():
    program = """
import sys, torch
from clickscale.training.optimizers.dense import DenseAdam
weight = torch.nn.Parameter(torch.ones(2))
weight.grad = torch.ones(2)
DenseAdam([([weight], 0.0)], (0.9, 0.999), 1e-8, True).step((0.1,))
assert "torch._dynamo" not in sys.modules
"""
    run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
