import math

import torch
from torch import Tensor

from clickscale.training.early_stopping import EarlyStopping


def weights(value: float) -> dict[str, Tensor]:
    return {"w": torch.full((2,), value)}


def judged(losses: list[float], patience: int = 2) -> EarlyStopping:
    """After one validation per loss, at steps 10, 20, ...; the weights are the number of the validation."""
    stopping = EarlyStopping(patience)
    for number, loss in enumerate(losses, 1):
        stopping.judge(10 * number, loss, weights(number))
    return stopping


def test_training_is_over_after_as_many_validations_without_a_gain() -> None:
    assert not judged([0.5, 0.4, 0.41]).over()
    assert judged([0.5, 0.4, 0.41, 0.4]).over()  # as low as the best is no gain
    assert not judged([0.5, 0.4, 0.41, 0.39]).over()


def test_without_patience_it_is_never_over() -> None:
    assert not judged([0.5, 0.6, 0.7, 0.8], patience=0).over()


def test_the_best_weights_come_back_whatever_became_of_the_live_ones() -> None:
    live = weights(1)
    stopping = EarlyStopping(1)
    assert stopping.judge(10, 0.5, live)
    live["w"].fill_(2)
    assert stopping.judge(20, 0.4, live)
    live["w"].fill_(3)
    assert not stopping.judge(30, 0.45, live)
    stopping.put_back(live)
    assert live["w"].tolist() == [2, 2]
    assert (stopping.best, stopping.best_step, stopping.judged) == (0.4, 20, 30)


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    stopping = judged([math.nan, math.inf])
    assert stopping.over()
    assert not stopping.weights
    live = weights(7)
    stopping.put_back(live)
    assert live["w"].tolist() == [7, 7]


def test_what_is_restored_goes_on_as_the_original() -> None:
    for losses in ([], [0.5], [0.5, 0.6]):
        one, two = judged(losses), EarlyStopping(2)
        two.restore(one.weights, one.facts())
        for loss, value in ((0.55, 8.0), (0.45, 9.0)):
            assert one.judge(99, loss, weights(value)) == two.judge(99, loss, weights(value))
        assert one.facts() == two.facts()
        assert torch.equal(one.weights["w"], two.weights["w"])
