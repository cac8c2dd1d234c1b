"""Every form of attention gives the same numbers and gradients, inside the models that use it."""

import pytest
import torch
from torch import Tensor

from clickscale.models._suan import who_sees_whom
from tests.models.toy import toy_batch, toy_model, with_candidates


def learned(options: tuple[str, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits of candidates all over a timeline, and the gradients of all weights."""
    model = toy_model("lightsuan", "candidates_read=pattern", *options).double()
    model.train()
    batch = with_candidates(
        toy_batch(full=True),
        visible=torch.tensor([[12, 7, 1, 12], [0, 3, 12, 9], [5, 5, 6, 7], [11, 12, 12, 12], [2, 8, 8, 4]]),
        oldest=torch.tensor([[3, 0, 0, 3], [0, 0, 3, 0], [5, 0, 0, 1], [2, 2, 3, 3], [2, 0, 0, 0]]),
    )
    logits = model(batch)
    logits.square().sum().backward()
    return logits.detach(), {name: p.grad.to_dense() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("k=3", "r=4", "phase=paper"),
        ("k=1", "r=3", "bias=blocks", "phase=block_head"),
        ("k=3", "r=4", "bias=heads", "phase=block_head"),
        ("bias=none", "r=2"),
        ("r=1",),
        ("r=3", "heads=4", "phase=head", "candidates_read=all"),
    ],
)
def test_sparse_forms_learn_what_dense_ones_learn(
    options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(who_sees_whom, "choose", lambda *shape: "dense")
    logits, gradients = learned(options)
    monkeypatch.setattr(who_sees_whom, "choose", lambda *shape: "classes")
    sparse_logits, sparse_gradients = learned(options)
    torch.testing.assert_close(sparse_logits, logits, rtol=0, atol=1e-5)  # the head's are 32-bit
    for name, gradient in gradients.items():
        torch.testing.assert_close(sparse_gradients[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_the_form_follows_the_shape() -> None:
    chosen = {length: who_sees_whom.choose(1, length, 2, 4) for length in (50, 2000)}
    assert chosen == {50: "dense", 2000: "classes"}
