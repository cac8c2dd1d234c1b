"""A cache of user states that cannot answer with the wrong one.

An entry is found by a key and used only if the hash chain of its behaviors is that of the request's own
behaviors (see `fingerprint`). An edited, reordered, shortened or foreign history, another profile, another
artifact: each is a miss by construction, so nothing has to be invalidated.

Memory is bounded by bytes. Users with frequent recent requests are admitted, and SIEVE evicts. A failure
inside the cache costs a recomputation, never a request.

`StateCache.resolve` is the whole way from a request to its states; the other methods are its steps.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch

from clickscale.inference.states.admission import RecentCounts
from clickscale.inference.states.cache_config import CacheConfig, CacheStats
from clickscale.inference.states.claims import Ask, Claim, Entry, Flight, Owner
from clickscale.inference.states.eviction import Sieve
from clickscale.inference.states.int8_states import Int8State, to_int8
from clickscale.state import State

ENTRY_BYTES = 4_096  # Python objects and tensor headers of one entry, beside its tensors
_PATIENCE = 30.0  # seconds to wait for another request that computes the same state, then compute it
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_BOUNDS = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 5e-2, "int8": 1e-1}
_LOG = logging.getLogger("clickscale")

Compute = Callable[[Sequence[int], Sequence[Claim]], Sequence[State]]
"""Computes a state for each of some claims of one shape, given their places among the asks."""


@dataclass
class _Tenant:
    """The entries of one tenant."""

    queue: Sieve = field(default_factory=Sieve)
    bytes: int = 0


class StateCache:
    """States of users by content; safe to use from many threads.

    Args:
        store: holds the entries, a dict by default; exceptions that it raises are counted, not passed on.
        clock: seconds; a test may bring its own.

    Raises:
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        config: CacheConfig | None = None,
        *,
        store: MutableMapping[bytes, Entry] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = config or CacheConfig()
        config.check()
        self.config = config
        self._store: MutableMapping[bytes, Entry] = {} if store is None else store
        self._clock = clock
        self._lock = threading.RLock()
        # Everything below is read and written under `_lock`, and holds whenever the lock is free:
        #
        #   _sizes    key -> owner, bytes    the truth: a key that is not listed here does not exist
        #   _store    key -> entry           has every listed key, unless it lost one; may raise at any time
        #   _keys     owner -> keys          the listed keys by owner; no empty sets
        #   _tenants  tenant -> queue, bytes the listed keys by tenant and their sum; no empty tenants
        #   _bytes    sum over _sizes        <= config.budget at every moment, even under the lock
        #   _flights  goal -> flight         there as long as one claim leads it; its `release` removes it
        #   _epoch    deletions so far       a claim of an earlier epoch is not kept: its user may be gone
        #   _recent   sketch of keys         counts every ask, kept or not
        #   _stats    counters               its bytes and entries are filled in by `stats`
        #   _random   generator              chooses the claims that are audited
        #
        # Slow work holds no lock: hashing (`_compare`), copying (`compact`), waiting, computing.
        self._sizes: dict[bytes, tuple[Owner, int]] = {}
        self._keys: dict[Owner, set[bytes]] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._bytes = 0
        self._flights: dict[bytes, Flight] = {}
        self._epoch = 0
        self._recent = RecentCounts(config.recent)
        self._stats = CacheStats()
        self._random = random.Random(0)

    @property
    def enabled(self) -> bool:
        """False after an audit that failed: the cache must not be asked."""
        return self._stats.enabled

    @property
    def audit_bound(self) -> float:
        """Largest difference of logits that an audit accepts, relative to those beyond 1."""
        return self.config.audit_bound or _BOUNDS[self.config.precision]

    def stats(self) -> CacheStats:
        """Counters so far; a copy."""
        with self._lock:
            return replace(self._stats, bytes=self._bytes, entries=len(self._sizes))

    def holds(self, owner: Owner) -> bool:
        """True if a state of the user is kept, be it of other behaviors or of another model."""
        return owner in self._keys

    # --- the life of a claim: ask, claim, lead | follow, publish, release (see docs/serving-states.md)

    def resolve(self, asks: Sequence[Ask], compute: Compute) -> list[Claim]:
        """Give every ask its state: kept, computed by ``compute``, or computed by a concurrent request.

        Raises:
            Exception: the exception of ``compute``; the states that these asks had found are deleted.
        """
        claims: list[Claim] = []
        try:
            for ask in asks:
                claims.append(self.claim(ask))
            leading = [index for index, claim in enumerate(claims) if claim.leads]
            # One call for claims of one shape: a batch of new users is encoded in one go.
            leading.sort(key=lambda index: claims[index].shape)
            for _, group in groupby(leading, key=lambda index: claims[index].shape):
                indices = list(group)
                states = compute(indices, [claims[index] for index in indices])
                for index, state in zip(indices, states, strict=True):
                    claims[index].state = state
                    self.publish(claims[index], state)
        except Exception:
            for ask in asks:  # a kept state may be the cause; without it the next request succeeds
                self.discard(ask)
            raise
        finally:
            for claim in claims:  # whoever follows a claim that failed stops waiting and computes
                self.release(claim)
        # Wait only after publishing our own states, or two requests could wait for each other forever.
        for index, claim in enumerate(claims):
            if claim.state is None:
                claim.state = self.wait(claim) or compute([index], [claim])[0]
        return claims

    def claim(self, ask: Ask) -> Claim:
        """Look a state up, and decide which caller computes the missing part.

        A claim that leads has to be published or released; one that neither leads nor is complete waits.
        """
        key = ask.trail.key
        with self._lock:
            self._recent.add(key)
        while True:
            with self._lock:
                entry, epoch = self._read(key), self._epoch
                # Compared below by identity: every insertion makes a new tuple.
                listed = self._sizes.get(key)
            claim = self._compare(ask, entry, epoch)  # hashes: too slow to hold the lock
            with self._lock:
                # If somebody stored the state meanwhile, computing it would be for nothing: look again.
                if claim.complete or claim.goal in self._flights or self._sizes.get(key) is listed:
                    self._join_flight(claim)
                    self._count(claim, entry is not None)
                    return claim

    def _compare(self, ask: Ask, entry: Entry | None, epoch: int) -> Claim:
        """Prove which of the wanted behaviors an entry holds, if any."""
        start = None if entry is None else _matching_start(entry, ask)
        if entry is None or start is None:
            claim = Claim(ask, len(ask.trail) - ask.least, epoch=epoch, born=self._clock())
        else:
            held, kept = entry.count, entry.state
            state = kept.restore() if isinstance(kept, Int8State) else kept
            claim = Claim(ask, start, held, state, held, epoch=epoch, born=entry.born)
        if not claim.complete:
            claim.goal = ask.trail.chain(claim.start, len(ask.trail)) + epoch.to_bytes(8, "little")
        return claim

    def _read(self, key: bytes) -> Entry | None:
        """The entry under a key, if there is one that may still be used."""
        with self._lock:
            if key not in self._sizes:
                return None
            try:
                entry = self._store[key]
                if self.config.seconds_to_live and self._clock() - entry.born >= self.config.seconds_to_live:
                    self._drop(key)
                    self._stats.expired += 1
                    return None
                self._tenants[entry.owner[0]].queue.touch(key)
                return entry
            except Exception as error:  # a store may be a file or a server, and raise anything
                if isinstance(error, KeyError):  # the store lost it
                    self._unlist(key)
                self.failed("reading an entry")
                return None

    def _join_flight(self, claim: Claim) -> None:
        """Lead the computation of the missing behaviors, or follow the claim that already leads it."""
        if claim.complete:
            return
        claim.leads = claim.goal not in self._flights
        claim.flight = self._flights.setdefault(claim.goal, Flight())
        # A follower gets the whole state from its leader, so an entry that it found itself is of no use.
        if not claim.leads:
            claim.state, claim.held, claim.reused = None, 0, claim.size

    def _count(self, claim: Claim, known: bool) -> None:
        stats = self._stats
        if claim.complete:
            stats.hits += 1
        elif not claim.leads:
            stats.shared += 1
        elif claim.held:
            stats.appends += 1
        elif known:
            stats.rebuilds += 1
        else:
            stats.misses += 1
        stats.behaviors_reused += claim.reused
        # Only answers that use a kept state can be wrong because of the cache.
        claim.audited = claim.state is not None and self._random.random() < self.config.audit_share

    def wait(self, claim: Claim) -> State | None:
        """Wait for the state that another request computes; None if that fails or takes too long."""
        assert claim.flight is not None, "only a claim that follows another one waits"
        return claim.flight.state if claim.flight.done.wait(_PATIENCE) else None

    def publish(self, claim: Claim, state: State) -> None:
        """Hand a finished state to all callers that wait for it, and store it if it should be kept."""
        if claim.flight is not None:
            claim.flight.state = state
            claim.flight.done.set()
        try:
            self._keep(claim, state)
        except Exception:  # the state is published already; not keeping it costs time only
            self.failed("storing an entry")
        self.release(claim)  # only now: in between, new asks find the flight instead of nothing

    def release(self, claim: Claim) -> None:
        """Release waiting callers; needed when a state could not be computed, harmless afterwards."""
        if claim.leads and claim.flight is not None:
            with self._lock:
                if self._flights.get(claim.goal) is claim.flight:
                    del self._flights[claim.goal]
            claim.flight.done.set()

    # --- keeping

    def _keep(self, claim: Claim, state: State) -> None:
        key, trail = claim.ask.trail.key, claim.ask.trail
        with self._lock:
            welcome = key in self._sizes or self._recent.count(key) >= self.config.admit_after
        kept = self._compacted(state) if welcome and claim.size >= self.config.min_length else None
        nbytes = self.config.budget + 1 if kept is None else kept.nbytes + ENTRY_BYTES
        chain, anchor = trail.chain(claim.start, len(trail)), trail.anchor(claim.start)
        with self._lock:
            if claim.epoch != self._epoch:  # a user was forgotten meanwhile, perhaps this one
                return
            if kept is None or nbytes > self._quota:
                self._stats.refused += 1
                return
            self._insert(key, Entry(claim.ask.owner, claim.size, anchor, chain, kept, nbytes, claim.born))

    def _compacted(self, state: State) -> State | Int8State | None:
        """The form in which a state is kept; None if it does not fit into that form."""
        if self.config.precision == "int8":
            return to_int8(state)
        return compact(state, _DTYPES[self.config.precision])

    @property
    def _quota(self) -> int:
        """Bytes that one tenant may take."""
        return int(self.config.budget * self.config.tenant_share)

    def _insert(self, key: bytes, entry: Entry) -> None:
        """Make room, then add; the bytes held never exceed the budget, not even in between."""
        known = key in self._sizes
        # Out first, so that the old and the new state are never held together.
        if known:
            self._drop(key)
        name = entry.owner[0]
        tenant = self._tenants.setdefault(name, _Tenant())
        # A tenant over its share evicts its own entries, never those of others.
        while tenant.bytes + entry.nbytes > self._quota:
            self._evict(tenant)
        # When the whole cache is full, the tenant with the most bytes gives.
        while self._bytes + entry.nbytes > self.config.budget:
            self._evict(max(self._tenants.values(), key=lambda tenant: tenant.bytes))
        self._store[key] = entry
        self._sizes[key] = entry.owner, entry.nbytes
        self._keys.setdefault(entry.owner, set()).add(key)
        self._tenants[name] = tenant  # it may have been left without entries and dropped
        tenant.queue.insert(key, visited=known)
        tenant.bytes += entry.nbytes
        self._bytes += entry.nbytes
        self._stats.stored += 1

    def _evict(self, tenant: _Tenant) -> None:
        self._drop(tenant.queue.victim())
        self._stats.evictions += 1

    def _drop(self, key: bytes) -> None:
        """Delete an entry. It is not found any more, even if the store fails to delete it."""
        self._unlist(key)
        del self._store[key]

    def _unlist(self, key: bytes) -> None:
        owner, nbytes = self._sizes.pop(key)
        self._keys[owner].discard(key)
        if not self._keys[owner]:
            del self._keys[owner]
        tenant = self._tenants[owner[0]]
        tenant.queue.remove(key)
        tenant.bytes -= nbytes
        self._bytes -= nbytes
        if not tenant.queue:
            del self._tenants[owner[0]]

    # --- letting go

    def discard(self, ask: Ask) -> None:
        """Delete the state that an ask found because using it failed; never raises."""
        with self._lock:
            try:
                if ask.trail.key in self._sizes:
                    self._drop(ask.trail.key)
            except Exception:  # the entry is unlisted already, so nobody finds it again
                self.failed("deleting an entry")

    def forget(self, owner: Owner) -> int:
        """Delete every state of a user, those that are being computed included; the number deleted.

        Raises:
            Exception: the exception of the store, since a failed deletion must not look like a success. No
                request can find the states even then.
        """
        with self._lock:
            # States of this user that are being computed must not be stored afterwards.
            self._epoch += 1
            keys = list(self._keys.get(owner, ()))
            # All unlisted before the first deletion: if the store raises, nothing can be found again.
            for key in keys:
                self._unlist(key)
            for key in keys:
                del self._store[key]
            self._stats.forgotten += len(keys)
            return len(keys)

    def clear(self) -> None:
        """Delete all states, and switch the cache on again if an audit had switched it off."""
        with self._lock:
            self._empty()
            self._stats.enabled = True

    def _empty(self) -> None:
        self._epoch += 1
        self._sizes, self._keys, self._tenants, self._bytes = {}, {}, {}, 0
        self._store.clear()

    def audit(self, difference: float) -> bool:
        """Note what an audit found, the largest difference of logits; False if the cache went off for it."""
        with self._lock:
            self._stats.audits += 1
            sound = difference <= self.audit_bound  # false for NaN
            self._stats.audit_max_abs_diff = max(self._stats.audit_max_abs_diff, difference)
            if not sound:
                self._stats.enabled = False
                self._empty()
        if not sound:
            _LOG.error(
                "The state cache is off: a score from it differed by %.3g, more than %.3g; clear() restarts.",
                difference,
                self.audit_bound,
            )
        return sound

    def failed(self, doing: str) -> None:
        """Count a failure that costs no request; the 1st, 2nd, 4th, 8th ... are logged with their trace."""
        with self._lock:
            self._stats.errors += 1
            count = self._stats.errors
        if not count & (count - 1):
            _LOG.warning(
                "The state cache failed at %s (failure %d); the state is computed.",
                doing,
                count,
                exc_info=True,
            )


def _matching_start(entry: Entry, ask: Ask) -> int | None:
    """Index in the trail at which the behaviors of an entry begin; None if the request cannot use the entry.

    The entry must be a run of the trail, to the last bit, such that with the newer behaviors after it the
    state holds ``least`` to ``most`` behaviors. Where states do not grow there must be no newer ones.
    """
    trail, count = ask.trail, entry.count
    first, last = len(trail) - ask.most, len(trail) - max(ask.least, count)
    if not ask.grows:
        first = max(first, len(trail) - count)
    # Chains cost a hash of the whole run, so anchors rule out most starts first.
    for start in range(last, max(first, 0) - 1, -1):  # the later it begins, the less is left to append
        if trail.anchor(start) == entry.anchor and trail.chain(start, start + count) == entry.chain:
            return start
    return None


def compact(state: State, dtype: torch.dtype) -> State | None:
    """Copy exactly the state's bytes, floats as ``dtype``; None if some are too large for that type."""
    copy = state.to(dtype=dtype).clone()
    pairs = zip(copy.tensors(), state.tensors(), strict=True)
    # A value over the range of half precision becomes infinite, and would poison every score.
    halved = [(after, before) for after, before in pairs if after.dtype != before.dtype]
    if any(bool((after.isfinite() != before.isfinite()).any()) for after, before in halved):
        return None
    return copy
