"""The contract that every model keeps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from clickscale.batch import Batch, CandidateSide, UserSide
from clickscale.errors import ConfigError, InputError
from clickscale.features import Features
from clickscale.state import State, stack

__all__ = ["CTRModel", "FeatureAxis", "State", "stack"]


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


S = TypeVar("S", bound=State)


def require_unpadded(user: UserSide) -> None:
    """Refuse to append rows of which some gain fewer behaviors than others, with an `InputError`."""
    if not bool(user.mask.all()):
        raise InputError("extend_user needs rows that all gain the same number of behaviors.")


class CTRModel(nn.Module, ABC, Generic[S]):
    """A model is two functions: `encode_user` needs no candidate, `score` adds the candidates to its result.

    ``S`` is the class of its states; a model whose states come in several forms names their union.

    Attributes:
        causal: whether a behavior's part of the state depends on earlier behaviors only. Only then can
            candidates that see different parts of one timeline share a state (grouping ``timeline``), and
            only then can behaviors be appended.
        shares: whether `encode_user` does work that is worth sharing among candidates; if not, nothing is
            gained by training on the impressions of one user together.
        adds_products: whether the logit adds products of embedding rows as they are, so that a step of the
            rows moves it by the square of its length.
        adds_hours: whether hour and weekday are added to every token.
    """

    causal: bool = True
    shares: bool = True
    adds_products: bool = False
    adds_hours: bool = False

    @abstractmethod
    def encode_user(self, user: UserSide) -> S:
        """State of each row; nothing here may depend on a candidate."""

    @abstractmethod
    def score(self, state: S, candidates: CandidateSide) -> Tensor:
        """Logits (B, C, T) of every candidate given the state of its row; 0 at padding."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C, T); exactly this composition, never overridden."""
        return self.score(self.encode_user(batch.user), batch.candidates)

    def auxiliary_loss(self, state: S, batch: Batch) -> Tensor | None:
        """Weighted loss () that training adds to the log-loss of the logits; None, as here, adds nothing."""
        return None

    def extend_user(self, state: S, user: UserSide) -> S:
        """State of the longer history, equal to encoding it whole; ``user`` holds only the new behaviors.

        Raises:
            ConfigError: the model is not causal.
            InputError: the rows of ``user`` or the form of the state do not allow it.
        """
        self.require_causal("nothing can be appended to its states; encode the user again")
        raise InputError(f"{type(self).__name__} cannot extend its states; encode the user again.")

    def appendable_state(self, state: S) -> S:
        """The part of a state that `extend_user` and candidates that see all of it need."""
        return state

    def scoring_state(self, state: S) -> S:
        """The part of a state that candidates that see all of it need; nothing can be appended to it."""
        return state

    def feature_axes(self, features: Features) -> Mapping[str, FeatureAxis]:
        """Weights, by name, of which each feature has a part of its own; a warm start copies them by feature.

        A model for which it is empty, as here, starts only from one with the same features. ``features`` are
        those that the model was built from.
        """
        return {}

    def require_causal(self, otherwise: str) -> None:
        """Refuse what only a causal model can do; ``otherwise`` says what fails and the way out.

        Raises:
            ConfigError: the model is not causal.
        """
        if not self.causal:
            raise ConfigError(f"{type(self).__name__} with these options is not causal, so {otherwise}.")
