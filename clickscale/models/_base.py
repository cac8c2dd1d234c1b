"""The contract that every model keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.schema import Features
from clickscale.state import State, stack

__all__ = ["CTRModel", "FeatureAxis", "State", "score_in_chunks", "stack"]


@dataclass(frozen=True)
class FeatureAxis:
    """The axis of a weight that is divided evenly among features.

    Attributes:
        names: of the features that the parts of the axis belong to, in order.
        fill: value that the part of a new feature begins with; None leaves its fresh values.
    """

    axis: int
    names: tuple[str, ...]
    fill: float | None = None


class CTRModel(nn.Module):
    """A model is two functions: what can be known of the user alone, and what a candidate adds.

    Attributes:
        causal: whether a behavior's part of the state depends on earlier behaviors only. Only then can
            candidates that see different parts of one timeline share a state (grouping ``timeline``).
    """

    causal: bool = True

    def encode_user(self, user: UserSide) -> State:
        """State of each row; nothing here may depend on a candidate."""
        raise TypeError(f"{type(self).__name__} does not define encode_user")

    def score(self, state: State, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T) of every candidate given the state of its row; 0 at padding."""
        raise TypeError(f"{type(self).__name__} does not define score")

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C, T); exactly this composition, never overridden."""
        return self.score(self.encode_user(batch.user), batch.candidates)

    def appendable_state(self, state: State) -> State:
        """The part of a state that `extend_user` and candidates who see all of it need."""
        return state

    def scoring_state(self, state: State) -> State:
        """The part of a state that candidates who see all of it need; nothing can be appended to it."""
        return state

    def feature_axes(self, features: Features) -> Mapping[str, FeatureAxis]:
        """Weights, by name, of which each feature has a part of its own; a warm start copies them by feature.

        A model for which it is empty, as here, starts only from one with the same features.

        Args:
            features: those that the model was built from.
        """
        return {}


def score_in_chunks(model: CTRModel, state: State, candidates: CandidateSide, size: int) -> Tensor:
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
