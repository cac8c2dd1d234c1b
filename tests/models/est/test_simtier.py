import math

import torch

from clickscale.layers.retrieval import GRID, similarity_tiers


def test_tiers_count_cosines_in_equal_parts() -> None:
    cosines = torch.tensor([[-1.0, -0.51, -0.5, 0.0, 0.49, 0.5, 1.0, 1.0003]])
    counts = similarity_tiers(cosines * GRID**2, torch.ones(1, 8, dtype=torch.bool), 4)
    assert torch.allclose(counts.expm1(), torch.tensor([[2.0, 1.0, 2.0, 3.0]]))


def test_what_is_not_counted_leaves_no_trace() -> None:
    dots = torch.zeros(2, 1, 3)  # the cosine of padding
    counted = torch.tensor([[[True, False, False]], [[False, False, False]]])
    counts = similarity_tiers(dots, counted, 20)
    assert counts[0, 0, 10].item() == torch.tensor(math.log(2)).item()
    assert counts[0].count_nonzero() == 1
    assert not counts[1].any()
    assert similarity_tiers(torch.zeros(1, 1, 0), torch.zeros(1, 1, 0, dtype=torch.bool), 5).tolist() == [
        [[0] * 5]
    ]
