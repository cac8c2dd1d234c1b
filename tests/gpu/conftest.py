"""Tests that compare a GPU with the CPU; without a GPU they are skipped. ``scripts/check_gpu`` runs them."""

import pytest
import torch


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, and torch finds none")
    return torch.device("cuda")
