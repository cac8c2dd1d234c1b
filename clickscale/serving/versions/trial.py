"""Comparison of two versions while both answer or mirror real requests, and the verdict over the newer one.

A trial runs while a version is a shadow, a canary, or was promoted a short time ago. Each request is answered
by one of the two; while there is room, the other one scores some of them too, off the path of the answer.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from clickscale.config import Config, check_least
from clickscale.errors import ConfigError

_KEPT = 2_000  # seconds of each version that a percentile is taken of
Kind = Literal["shadow", "canary", "promoted"]


class TrialConfig(Config, frozen=True):
    """When a newer version is taken back.

    Attributes:
        seconds: of a trial after a promotion.
        mirror_share: part of the requests that the other version scores too, while nothing waits.
        max_error_share: part of its requests that may fail or get a score that is not finite.
        max_p99_ratio: its 99th percentile of the time that a worker computes for a request, against that of
            the older version for the same requests.
        max_drift: mean probability against that of the older version on the same candidates, either way.
        least: requests before percentiles and means are judged.
    """

    seconds: float = 300.0
    mirror_share: float = 0.1
    max_error_share: float = 0.01
    max_p99_ratio: float = 3.0
    max_drift: float = 1.5
    least: int = 100

    def __post_init__(self) -> None:
        check_least(self, 0, "seconds", "mirror_share", "max_error_share")
        check_least(self, 1, "max_p99_ratio", "max_drift", "least")
        if self.mirror_share > 1:
            raise ConfigError(f"mirror_share is {self.mirror_share}; it is a part of 1.")


@dataclass
class _Side:
    """What is known of one version in a trial."""

    requests: int = 0
    failed: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    @property
    def p99(self) -> float:
        """99th percentile of the latest requests in seconds."""
        return float(np.percentile(self.seconds, 99)) if self.seconds else 0.0


class Trial:
    """Counts of a newer and an older version; written and read on the event loop.

    Attributes:
        share: part of the users whose requests the newer one answers (canary).
    """

    def __init__(
        self, kind: Kind, newer: str, older: str, config: TrialConfig, begun: float, share: float = 0.0
    ) -> None:
        self.kind, self.newer, self.older, self.config = kind, newer, older, config
        self.begun, self.share = begun, share
        self.pairs = self.candidates = 0
        self.largest = 0.0
        self._sides = {newer: _Side(), older: _Side()}
        self._sums = {newer: 0.0, older: 0.0}

    def note(self, version: str, failed: bool) -> None:
        """Count a request that a version answered or mirrored."""
        side = self._sides.get(version)
        if side is not None:
            side.requests += 1
            side.failed += failed

    def time(self, newer: float, older: float) -> None:
        """Note the CPU seconds of both versions for the same request, each scored by itself.

        Latencies would not do: they hold what clients, queues, batches and other programs take, and the two
        versions meet these at different moments.
        """
        self._sides[self.newer].seconds.append(newer)
        self._sides[self.older].seconds.append(older)

    def compare(self, newer: npt.NDArray[np.float64], older: npt.NDArray[np.float64]) -> None:
        """Note the probabilities of both versions for the same candidates."""
        both = np.isfinite(newer) & np.isfinite(older)
        self.pairs += 1
        self.candidates += int(both.sum())
        self._sums[self.newer] += float(newer[both].sum())
        self._sums[self.older] += float(older[both].sum())
        self.largest = max(self.largest, float(np.abs(newer - older)[both].max(initial=0.0)))

    @property
    def drift(self) -> float:
        """Mean probability of the newer version over that of the older; 1 before the first pair."""
        if not self.candidates or not self._sums[self.older]:
            return 1.0
        return self._sums[self.newer] / self._sums[self.older]

    def objection(self) -> str:
        """Why the newer version must be taken back; empty if nothing speaks against it."""
        newer, older, config = self._sides[self.newer], self._sides[self.older], self.config
        if newer.failed >= 3 and newer.failed > config.max_error_share * newer.requests:
            return f"{newer.failed} of its {newer.requests} requests failed or got a score that is not finite"
        if len(newer.seconds) >= config.least:
            bound = config.max_p99_ratio * max(older.p99, 1e-3)
            if newer.p99 > bound:
                return (
                    f"its p99 is {newer.p99 * 1e3:.1f} ms, and that of {self.older} {older.p99 * 1e3:.1f} ms,"
                    " of computing for the same requests"
                )
        if self.pairs >= config.least and not 1 / config.max_drift <= self.drift <= config.max_drift:
            return (
                f"its mean probability is {self.drift:.2f} times that of {self.older} on the same candidates"
            )
        return ""

    def facts(self) -> dict[str, object]:
        """What an administrator is told."""
        newer, older = self._sides[self.newer], self._sides[self.older]
        return {
            "kind": self.kind,
            "newer": self.newer,
            "older": self.older,
            "share": self.share,
            "requests": newer.requests,
            "failed": newer.failed,
            "p99_ms": round(newer.p99 * 1e3, 3),
            "older_p99_ms": round(older.p99 * 1e3, 3),
            "pairs": self.pairs,
            "mean_ratio": round(self.drift, 4),
            "largest_difference": round(self.largest, 6),
        }
