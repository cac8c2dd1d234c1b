"""Options and counters of a state cache."""

from dataclasses import dataclass
from typing import Literal

from clickscale.config import Config
from clickscale.errors import ConfigError


class CacheConfig(Config, frozen=True):
    """Options.

    Attributes:
        budget: bytes that all entries together never exceed.
        kind: ``appendable`` states grow with the user; ``scoring`` states keep only what candidates read, are
            smaller for sparse models, and are computed again whenever the history changes.
        precision: of the stored floats. Less is smaller, and moves logits.
        admit_after: requests of a user within ``recent`` requests until a state is kept; 1 keeps all.
        min_length: behaviors that a state worth keeping has at least.
        seconds_to_live: age after which a state is computed again; 0 for no limit.
        tenant_share: part of the budget that one tenant may take.
        audit_share: part of the hits that are computed again and compared.
        audit_bound: largest difference of logits that an audit accepts, relative to those beyond 1; 0 takes
            that of the precision. Beyond it the cache empties itself and stays off until `StateCache.clear`.
    """

    budget: int = 256_000_000
    kind: Literal["appendable", "scoring"] = "appendable"
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32"
    admit_after: int = 2
    recent: int = 65_536
    min_length: int = 1
    seconds_to_live: float = 3_600.0
    tenant_share: float = 1.0
    audit_share: float = 0.01
    audit_bound: float = 0.0

    def check(self) -> None:
        """Raise `ConfigError` if an option is out of range."""
        least = {"budget": 0, "admit_after": 1, "recent": 1, "min_length": 1, "seconds_to_live": 0}
        wrong = [f"{name} must be >= {low}" for name, low in least.items() if not getattr(self, name) >= low]
        wrong += ["tenant_share must be in (0, 1]"] if not 0 < self.tenant_share <= 1 else []
        wrong += ["audit_share must be in [0, 1]"] if not 0 <= self.audit_share <= 1 else []
        wrong += ["audit_bound must be >= 0"] if not self.audit_bound >= 0 else []
        if wrong:
            raise ConfigError("State cache: " + "; ".join(wrong) + ".")


@dataclass
class CacheStats:
    """Counters of the cache. Every ask counts as one of the first five.

    Attributes:
        hits: exactly the wanted state was kept.
        appends: the state of the older behaviors was kept; the newer ones were appended.
        shared: another request was computing the same state.
        misses: nothing was kept under the key.
        rebuilds: the kept state was of other behaviors: an edited history, or a window that slid.
        stored, refused: states that were kept, and that were not (user too rare, too short, too large).
        evictions, expired, forgotten: states deleted for room, for age, on request.
        errors: failures inside the cache that cost no request.
        audits: hits that were computed again; ``audit_max_abs_diff`` is the largest difference of logits.
        behaviors_reused: behaviors that did not have to be computed again.
        bytes, entries: held now.
        enabled: off after an audit that failed.
    """

    hits: int = 0
    appends: int = 0
    shared: int = 0
    misses: int = 0
    rebuilds: int = 0
    stored: int = 0
    refused: int = 0
    evictions: int = 0
    expired: int = 0
    forgotten: int = 0
    errors: int = 0
    audits: int = 0
    audit_max_abs_diff: float = 0.0
    behaviors_reused: int = 0
    bytes: int = 0
    entries: int = 0
    enabled: bool = True

    @property
    def hit_rate(self) -> float:
        """Share of the requests that found something to reuse; 0 before the first request."""
        useful = self.hits + self.appends + self.shared
        return useful / max(useful + self.misses + self.rebuilds, 1)
