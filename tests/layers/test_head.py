import numpy as np
import pytest
import torch
from torch import nn

from clickscale.errors import ConfigError
from clickscale.layers.head import BatchDice, BatchNorm, Dice, Head, HeadConfig
from clickscale.layers.kernels.frozen import freeze
from clickscale.layers.norm import RMSNorm


def test_batch_norm_by_hand() -> None:
    norm = BatchNorm(1, eps=1e-12, momentum=0.25)
    with torch.no_grad():
        norm.weight.fill_(3)
        norm.bias.fill_(1)
    out = norm(torch.tensor([[1.0], [5.0]]))  # mean 3, variance 4
    assert out.flatten().tolist() == pytest.approx([-2, 4])
    assert norm.running_mean.item() == pytest.approx(3)
    assert norm.running_var.item() == pytest.approx(8)  # of the sample
    norm.eval()
    expected = (1 - 3) / np.sqrt(8) * 3 + 1
    assert norm(torch.tensor([[1.0]])).item() == pytest.approx(expected, rel=1e-5)


def test_running_statistics_are_averages_first_and_move_by_the_momentum_then() -> None:
    norm = BatchNorm(1, momentum=0.4)
    for mean in (3.0, 5.0):
        norm(torch.tensor([[mean - 1], [mean + 1]]))
    assert norm.running_mean.item() == pytest.approx(4)
    norm(torch.tensor([[13.0], [15.0]]))  # a third would be less than the momentum
    assert norm.running_mean.item() == pytest.approx(0.6 * 4 + 0.4 * 14)


def test_a_single_row_in_training_uses_and_keeps_the_running_statistics() -> None:
    norm = BatchNorm(2, eps=0.0)
    norm.running_mean.fill_(1)
    norm.running_var.fill_(4)
    norm.train()
    assert norm(torch.tensor([[3.0, 5.0]]))[0].tolist() == [1, 2]
    assert norm.running_mean.tolist() == [1, 1]
    assert BatchDice(2).train()(torch.tensor([[3.0, 5.0]])).isfinite().all()


def test_dice_by_hand() -> None:
    dice = Dice(1)
    with torch.no_grad():
        dice.alpha.fill_(0.2)
    high, low = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))
    expected = [2 * (high + low * 0.2), -2 * (low + high * 0.2)]
    assert dice(torch.tensor([[2.0], [-2.0]])).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_dice_of_batches_by_hand() -> None:
    dice = BatchDice(1)
    with torch.no_grad():
        dice.alpha.fill_(0.2)
    out = dice(torch.tensor([[-1.0], [3.0]]))  # mean 1, variance 4: normalized -1 and 1
    high, low = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))
    assert out[0].item() == pytest.approx(-(low + (1 - low) * 0.2), rel=1e-5)
    assert out[1].item() == pytest.approx(3 * (high + (1 - high) * 0.2), rel=1e-5)


def test_dice_is_relu_like_far_from_its_mean() -> None:
    dice = Dice(1).eval()
    assert dice(torch.tensor([[50.0], [-50.0]])).flatten().tolist() == pytest.approx([50, 0])


def head(labels: int = 2, **options: object) -> Head:
    torch.manual_seed(0)
    return Head(3, labels, HeadConfig(**({"hidden": (5, 4)} | options)))  # type: ignore[arg-type]


MASK = torch.tensor([[True, False, True], [True, True, False]])


def test_padding_has_the_logit_zero_and_real_candidates_have_theirs() -> None:
    tower, x = head().eval(), torch.randn(2, 3, 3)
    logits = tower(x, MASK)
    assert logits.shape == (2, 3, 2)
    assert not logits[~MASK].any()
    alone = tower(x[MASK][:, None], torch.ones(4, 1, dtype=torch.bool))
    torch.testing.assert_close(logits[MASK], alone[:, 0])


@pytest.mark.parametrize("norm", ["batch", "rms", "none"])
@pytest.mark.parametrize("activation", ["dice", "batch_dice", "relu"])
def test_padded_candidates_never_touch_the_batch_statistics(norm: str, activation: str) -> None:
    x = torch.randn(2, 3, 3)
    garbage = torch.where(MASK[..., None], x, 1e6)
    runs = []
    for features in (x, garbage):
        tower = head(norm=norm, activation=activation).train()
        logits = tower(features, MASK)
        logits.sum().backward()
        gradients = [parameter.grad for parameter in tower.parameters()]
        runs.append([logits, *gradients, *(buffer.clone() for buffer in tower.buffers())])
    for plain, padded in zip(*runs, strict=True):
        torch.testing.assert_close(plain, padded, rtol=0, atol=0)


def test_a_batch_without_padding_equals_the_masked_path() -> None:
    x = torch.randn(2, 3, 3)
    wide = torch.cat([x, torch.randn(2, 1, 3)], dim=1)
    mask = torch.tensor([[True, True, True, False]] * 2)
    whole, masked = head().train(), head().train()
    torch.testing.assert_close(whole(x, mask[:, :3]), masked(wide, mask)[:, :3])
    for mine, other in zip(whole.buffers(), masked.buffers(), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_batch_of_padding_alone_scores_zero() -> None:
    logits = head().train()(torch.randn(2, 3, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert logits.shape == (2, 3, 2)
    assert not logits.any()


def test_options_choose_the_layers() -> None:
    def kinds(**options: object) -> list[str]:
        return [
            type(m).__name__
            for m in head(**options).modules()
            if isinstance(m, (nn.Linear, RMSNorm, BatchNorm, Dice, nn.ReLU, nn.Dropout))
        ]

    assert kinds(hidden=(5,)) == ["Linear", "RMSNorm", "Dice", "Linear"]
    assert kinds(hidden=(5,), norm="batch", activation="batch_dice")[1:3] == ["BatchNorm", "BatchNorm"]
    assert kinds(hidden=(5,), activation="relu", dropout=0.1)[2:4] == ["ReLU", "Dropout"]
    assert kinds(norm="none", activation="relu") == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(norm="none", activation="relu", logit_norm=True)[-1] == "BatchNorm"
    assert kinds(hidden=(), norm="none") == ["Linear"]


def test_the_tower_has_the_parameters_of_its_formula() -> None:
    """Three layers with biases, and one for the normalization and one for Dice at every hidden unit."""
    tower = Head(40, 1, HeadConfig(hidden=(1024, 512, 256)))
    layers = 40 * 1024 + 1024 * 512 + 512 * 256 + 256 + (1024 + 512 + 256 + 1)
    assert sum(p.numel() for p in tower.parameters()) == layers + 1792 + 1792


@pytest.mark.parametrize("norm", ["rms", "none"])
def test_training_and_evaluation_score_alike_without_statistics(norm: str) -> None:
    tower, x = head(norm=norm), torch.randn(2, 3, 3)
    torch.testing.assert_close(tower.train()(x, MASK), tower.eval()(x, MASK))


@pytest.mark.parametrize("options", [{}, {"logit_norm": True}, {"hidden": ()}], ids=["", "normed", "flat"])
def test_a_head_starts_at_the_rates_of_its_labels(options: dict[str, object]) -> None:
    tower = head(**options)
    tower.start_at([0.01, 0.5])
    assert tower.tower[-1].bias.tolist() == pytest.approx([np.log(0.01 / 0.99), 0], abs=1e-6)


def test_dropout_is_for_training_alone() -> None:
    tower, x = head(dropout=0.5), torch.randn(2, 3, 3)
    assert torch.equal(tower.eval()(x, MASK), tower.eval()(x, MASK))
    assert not torch.equal(tower.train()(x, MASK), tower.train()(x, MASK))
    with pytest.raises(ConfigError, match=r"head\.dropout is 1"):
        HeadConfig(dropout=1.0)


@pytest.mark.parametrize("hidden", [(8, 4), ()])
@pytest.mark.parametrize("rows", [1, 2])
def test_candidates_of_a_frozen_head_share_the_product_of_their_profile(
    rows: int, hidden: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    head = Head(3 + 2 * 4 + 5, 2, HeadConfig(hidden=hidden), slice(3, 3 + 2 * 4)).eval()
    read, profile, context = torch.randn(rows, 6, 3), torch.randn(rows, 2, 4), torch.randn(rows, 6, 5)
    every, padded = torch.ones(rows, 6, dtype=torch.bool), torch.ones(rows, 6, dtype=torch.bool)
    padded[-1, -1] = False
    with torch.no_grad():
        expected = [head.over(read, profile, context, mask) for mask in (every, padded)]
        freeze(head)
        found = [head.over(read, profile, context, mask) for mask in (every, padded)]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not found[1][-1, -1].any()
