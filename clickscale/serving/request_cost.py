"""Cost of a request in seconds of one worker, guessed before it is scored and corrected by what it took."""

from dataclasses import dataclass

_FOLLOW = 0.02  # weight of one measurement in the running correction


@dataclass(frozen=True)
class Shape:
    """What the cost of a request depends on.

    Attributes:
        behaviors: to encode; 0 if the state of the user is kept.
    """

    candidates: int
    behaviors: int


class CostModel:
    """Seconds as ``base + per_candidate * candidates + per_behavior * behaviors``, times a correction.

    The three are measured when a model is loaded (`fit`). The correction follows what batches really take, so
    a machine that becomes busy is noticed within a hundred requests. One thread writes, any may read.
    """

    def __init__(self, base: float = 1e-3, per_candidate: float = 1e-5, per_behavior: float = 1e-5) -> None:
        self.base, self.per_candidate, self.per_behavior = base, per_candidate, per_behavior
        self.correction = 1.0

    @classmethod
    def fit(cls, small: float, candidates: tuple[int, float], behaviors: tuple[int, float]) -> "CostModel":
        """Make a model from the seconds of three requests.

        Args:
            small: of one candidate and no behavior.
            candidates, behaviors: a number of them, and the seconds of a request with so many.
        """
        per_candidate = max(candidates[1] - small, 0.0) / max(candidates[0], 1)
        per_behavior = max(behaviors[1] - small, 0.0) / max(behaviors[0], 1)
        return cls(small, per_candidate, per_behavior)

    def seconds(self, shape: Shape) -> float:
        """Expected seconds of one request on its own."""
        work = self.per_candidate * shape.candidates + self.per_behavior * shape.behaviors
        return (self.base + work) * self.correction

    def learn(self, expected: float, took: float) -> None:
        """Correct by a batch that was expected to take ``expected`` seconds."""
        ratio = min(max(took / max(expected, 1e-6), 0.1), 10.0)
        self.correction = min(max(self.correction * (1 + _FOLLOW * (ratio - 1)), 0.05), 50.0)
