import math

import pytest
import torch
from torch import Tensor, nn

from clickscale.batch import Batch
from clickscale.errors import ConfigError
from clickscale.training.objectives import ClickLoss, label_losses
from tests.training.toys import toy_batch


class Constant(nn.Module):
    """Gives the same logits for every batch."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, batch: Batch) -> Tensor:
        return self.logits


def test_the_loss_is_the_mean_over_known_labels_summed_over_labels() -> None:
    logits = torch.tensor([[[0.0, 2.0], [1.0, -1.0]]])  # (1, 2, 2)
    labels = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    losses = ClickLoss(Constant(logits), ("click", "buy"))(toy_batch(labels=labels, label_mask=mask))
    click = (math.log(2) + math.log(1 + math.e)) / 2
    buy = math.log(1 + math.exp(2))
    assert list(losses) == ["loss", "loss.click", "loss.buy"]
    assert [x.item() for x in losses.values()] == pytest.approx([click + buy, click, buy])


def test_an_unknown_label_pulls_nothing() -> None:
    model = Constant(torch.tensor([[[3.0], [5.0]]]))
    mask = torch.tensor([[[True], [False]]])
    ClickLoss(model, ("click",))(toy_batch(labels=torch.zeros(1, 2, 1), label_mask=mask))["loss"].backward()
    assert model.logits.grad is not None
    assert model.logits.grad[0, 1].item() == 0
    assert model.logits.grad[0, 0].item() == pytest.approx(1 / (1 + math.exp(-3)))


def test_a_label_that_is_nowhere_known_adds_nothing() -> None:
    known = torch.zeros(1, 2, 2, dtype=torch.bool)
    known[..., 0] = True
    found = label_losses(torch.ones(1, 2, 2), torch.ones(1, 2, 2), known)
    assert found.tolist() == pytest.approx([math.log(1 + math.exp(-1)), 0.0])


def test_the_loss_of_half_precision_logits_is_computed_in_single_precision() -> None:
    logits = torch.full((1, 1, 1), 12.0, dtype=torch.bfloat16)
    found = label_losses(logits, torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(math.log1p(math.exp(-12)), rel=1e-5)


def test_an_objective_without_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="labels"):
        ClickLoss(Constant(torch.zeros(1, 1, 1)), ())
