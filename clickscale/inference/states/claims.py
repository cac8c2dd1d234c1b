"""What passes between a request and a state cache: what is wanted, what there is, who computes the rest."""

import threading
from dataclasses import dataclass, field

from clickscale.inference.states.fingerprint import Trail
from clickscale.state import State

Owner = tuple[str, bytes]  # tenant, and who the user is in that tenant


@dataclass(frozen=True)
class Ask:
    """Whose state is wanted, of which behaviors.

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
    """A stored state and what proves whose it is."""

    owner: Owner
    count: int
    anchor: bytes
    chain: bytes
    state: State
    nbytes: int
    born: float


@dataclass
class Flight:
    """A state that is being computed, for all who want it."""

    done: threading.Event = field(default_factory=threading.Event)
    state: State | None = None


@dataclass
class Claim:
    """What the cache answered to an `Ask`.

    Attributes:
        start: the state has to hold the behaviors of the trail from here on.
        held: how many of them ``state`` holds, from ``start`` on; 0 without one.
        state: what the cache has; whoever completes it sets it and calls `StateCache.publish`.
        reused: behaviors that this request did not have to compute.
        audited: the result is to be compared with one that is computed without the cache.
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
    def added(self) -> int:
        """Behaviors that are still to be computed."""
        return self.size - self.held

    @property
    def complete(self) -> bool:
        """Whether there is nothing to compute."""
        return self.state is not None and not self.added


def matching_start(entry: Entry, ask: Ask) -> int | None:
    """Where in the trail the behaviors of an entry begin; None if the entry is of no use to the request.

    The entry must be a run of the trail, to the last bit, such that with the newer behaviors after it the
    state holds ``least`` to ``most`` behaviors. Where states do not grow there must be no newer ones.
    """
    trail, count = ask.trail, entry.count
    first, last = len(trail) - ask.most, len(trail) - max(ask.least, count)
    if not ask.grows:
        first = max(first, len(trail) - count)
    for start in range(last, max(first, 0) - 1, -1):  # the later it begins, the less is left to append
        if trail.anchor(start) == entry.anchor and trail.chain(start, start + count) == entry.chain:
            return start
    return None
