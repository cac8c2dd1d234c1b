"""Values that pass between a request and a state cache; `StateCache.resolve` is the life of a claim.

An `Ask` says which state is wanted. An `Entry` is a state that is kept. A `Claim` is the cache's answer to an
ask: the state itself, or the caller that computes the missing part. A `Flight` is a computation that several
claims share.
"""

import threading
from dataclasses import dataclass, field

from clickscale.inference.states.fingerprint import Trail
from clickscale.inference.states.int8_states import Int8State
from clickscale.state import State

Owner = tuple[str, bytes]  # tenant, and identity of the user in that tenant


@dataclass(frozen=True)
class Ask:
    """A wanted state: of which user, of which behaviors.

    Attributes:
        owner: tenant and user, for quotas and `StateCache.forget`.
        trail: all behaviors that the request brought, oldest first.
        least, most: a state may hold this many of them, the newest always included.
        grows: whether the newest may be appended to what the cache has.
    """

    owner: Owner
    trail: Trail
    least: int
    most: int
    grows: bool = True


@dataclass(frozen=True)
class Entry:
    """A kept state, with the hashes that prove whose it is.

    Attributes:
        count: behaviors that the state holds.
        anchor, chain: hashes of the first of them and of them all (`Trail`).
        born: when the oldest part of the state was computed; appending makes nothing younger.
    """

    owner: Owner
    count: int
    anchor: bytes
    chain: bytes
    state: State | Int8State
    nbytes: int
    born: float


@dataclass
class Flight:
    """A state that one claim computes while others wait for it; it stays None if computing failed."""

    # Set exactly once, after `state`: whoever wakes up reads the final value.
    done: threading.Event = field(default_factory=threading.Event)
    state: State | None = None


@dataclass
class Claim:
    """The cache's answer to an `Ask`: complete, leading (it computes) or following (it waits).

    Attributes:
        start: the state has to hold the behaviors of the trail from here on.
        held: how many of them ``state`` holds, from ``start`` on; 0 without one.
        state: the kept state, later the finished one.
        reused: behaviors that this request did not have to compute.
        audited: the result is to be compared with one that is computed without the cache.
        epoch: number of deletions before the claim; after another one its state is not kept.
        goal: key of the flight: hash of the finished state's behaviors and of the epoch.
        leads: whether this claim computes the missing part for all claims that share its flight.
    """

    ask: Ask
    start: int
    held: int = 0
    state: State | None = None
    reused: int = 0
    audited: bool = False
    born: float = 0.0
    epoch: int = 0
    goal: bytes = b""
    flight: Flight | None = None
    leads: bool = False

    @property
    def size(self) -> int:
        """Behaviors that the finished state holds."""
        return len(self.ask.trail) - self.start

    @property
    def shape(self) -> tuple[int, int]:
        """Kept and missing behaviors. Claims of one shape are computed together without any padding."""
        return self.held, self.added

    @property
    def added(self) -> int:
        """Behaviors that are still to be computed."""
        return self.size - self.held

    @property
    def complete(self) -> bool:
        """True when nothing is left to compute."""
        return self.state is not None and not self.added
