"""Scoring the candidates of a request piece by piece."""

from dataclasses import fields

import torch
from torch import Tensor

from clickscale.batch import CandidateSide
from clickscale.models._base import CTRModel, S


def score_in_chunks(model: CTRModel[S], state: S, candidates: CandidateSide, size: int) -> Tensor:
    """Logits (B, C, T) as of ``model.score``, ``size`` candidates of each row at a time.

    A candidate sees behaviors and itself only, so ceil(C / size) pieces give the scores of one (Lai et al.
    2025, section 3.3: m1 candidates, m2 in parallel), in memory of one piece.
    """
    count = candidates.items.shape[1]
    if count <= size:
        return model.score(state, candidates)
    sides = {field.name: getattr(candidates, field.name).split(size, dim=1) for field in fields(candidates)}
    pieces = [
        CandidateSide(**dict(zip(sides, part, strict=True))) for part in zip(*sides.values(), strict=True)
    ]
    return torch.cat([model.score(state, piece) for piece in pieces], dim=1)
