import logging
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clickscale.errors import ConfigError
from clickscale.inference.states.cache import ENTRY_BYTES, StateCache
from clickscale.inference.states.cache_config import CacheConfig, CacheStats
from clickscale.inference.states.claims import Ask, Claim, Entry
from clickscale.inference.states.eviction import Sieve
from clickscale.inference.states.fingerprint import Trail, fingerprint
from clickscale.state import State

ALL = CacheConfig(admit_after=1, audit_share=0.0)


@dataclass(frozen=True)
class Blob(State):
    """A state of any size."""

    data: Tensor


def ask(user: str, rows: bytes = b"abc", tenant: str = "", least: int = 100) -> Ask:
    trail = Trail(fingerprint(tenant.encode(), user.encode()), rows, 1)
    return Ask((tenant, user.encode()), trail, min(least, len(rows)), 100)


def serve(cache: StateCache, one: Ask, nbytes: int = 1_000) -> Claim:
    """Ask, and bring a state of so many bytes if there is none."""
    claim = cache.claim(one)
    if claim.leads:
        cache.publish(claim, Blob(torch.zeros(1, nbytes // 4)))
    return claim


def keep(cache: StateCache, *users: str, nbytes: int = 1_000, tenant: str = "") -> None:
    for user in users:
        serve(cache, ask(user, tenant=tenant), nbytes)


def held(cache: StateCache, user: str, tenant: str = "") -> bool:
    """Whether a user's state is there; nothing is stored by asking."""
    claim = cache.claim(ask(user, tenant=tenant))
    cache.release(claim)
    return claim.complete


def counts(stats: CacheStats) -> tuple[int, ...]:
    return stats.hits, stats.appends, stats.shared, stats.misses, stats.rebuilds


def test_a_state_is_kept_from_the_second_request_on() -> None:
    cache = StateCache(CacheConfig(audit_share=0.0))
    outcomes = [serve(cache, ask("u")).complete for _ in range(3)]
    assert outcomes == [False, False, True]
    stats = cache.stats()
    assert counts(stats) == (1, 0, 0, 2, 0)
    assert (stats.stored, stats.refused, stats.entries, stats.bytes) == (1, 1, 1, 1_000 + ENTRY_BYTES)
    assert stats.behaviors_reused == 3
    assert stats.hit_rate == pytest.approx(1 / 3)


def test_newer_behaviors_are_appended_and_anything_else_is_computed_anew() -> None:
    cache = StateCache(ALL)
    serve(cache, ask("u", b"abc", least=3))
    claim = serve(cache, ask("u", b"abcde", least=3))
    assert (claim.start, claim.held, claim.added, claim.reused) == (0, 3, 2, 3)
    claim = serve(cache, ask("u", b"Xbcdef", least=3))  # all that was held, but for its first behavior
    assert (claim.start, claim.held, claim.added) == (3, 0, 3)
    claim = serve(cache, ask("u", b"Xbcdefg", least=4))
    assert (claim.start, claim.held, claim.added) == (3, 3, 1)
    claim = serve(cache, ask("u", b"Xbcdef", least=4))  # shorter than what is held
    assert (claim.start, claim.held, claim.added) == (2, 0, 4)
    assert counts(cache.stats()) == (0, 2, 0, 1, 2)


def test_a_state_grows_up_to_what_was_allowed_and_then_starts_from_the_least() -> None:
    cache, rows, sizes = StateCache(ALL), b"abcdefghijkl", []
    for count in range(4, 13):
        trail = Trail(fingerprint(b"u"), rows[:count], 1)
        sizes.append(serve(cache, Ask(("", b"u"), trail, 4, 6)).size)
    assert sizes == [4, 5, 6, 4, 5, 6, 4, 5, 6]


def test_short_histories_are_not_worth_keeping() -> None:
    cache = StateCache(CacheConfig(admit_after=1, min_length=4))
    assert not serve(cache, ask("u", b"abc")).complete
    assert cache.stats().refused == 1
    serve(cache, ask("u", b"abcd"))
    assert cache.claim(ask("u", b"abcd")).complete


def test_the_budget_is_never_exceeded_whatever_comes() -> None:
    chance = random.Random(0)
    store: dict[bytes, Entry] = {}
    cache = StateCache(CacheConfig(budget=60_000, admit_after=1, audit_share=0.0), store=store)
    for _ in range(2_000):
        user = f"u{chance.randrange(40)}"
        rows = bytes(chance.choices(b"ab", k=chance.randrange(1, 4)))
        serve(cache, ask(user, rows, tenant=chance.choice("xy")), chance.choice([400, 5_000, 30_000, 80_000]))
        taken = sum(t.untyped_storage().nbytes() for e in store.values() for t in e.state.tensors())
        stats = cache.stats()
        assert taken + ENTRY_BYTES * len(store) == stats.bytes <= 60_000
        assert stats.entries == len(store)
    assert min(stats.evictions, stats.refused) > 100
    assert stats.rebuilds > 10


def test_a_kept_state_does_not_keep_the_batch_it_was_part_of() -> None:
    store: dict[bytes, Entry] = {}
    cache = StateCache(ALL, store=store)
    cache.publish(cache.claim(ask("u")), Blob(torch.zeros(100, 250)[3:4]))
    (entry,) = store.values()
    assert entry.state.tensors()[0].untyped_storage().nbytes() == 1_000


def hot_hit_rate(cache: StateCache, scan: bool) -> float:
    """Hit rate of users drawn by Zipf's law, with or without two one-time users after each of them."""
    chance, hits = random.Random(0), 0
    weights = [1 / rank for rank in range(1, 101)]
    drawn = [f"hot{n}" for n in chance.choices(range(100), weights, k=1_500)]
    for number, user in enumerate(drawn):
        hits += serve(cache, ask(user), 16).complete and number >= 500
        for once in range(2 * scan):
            serve(cache, ask(f"once{number}.{once}"), 16)
    return hits / 1_000


@pytest.mark.parametrize("admit_after", [1, 2])
def test_a_scan_of_users_who_come_once_does_not_flush_the_others(admit_after: int) -> None:
    config = CacheConfig(budget=50 * (16 + ENTRY_BYTES), admit_after=admit_after, audit_share=0.0)
    alone, scanned = hot_hit_rate(StateCache(config), False), hot_hit_rate(StateCache(config), True)
    assert alone > 0.7
    assert scanned > alone - (0.1 if admit_after == 2 else 0.2)


def test_first_in_first_out_would_be_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sieve, "touch", lambda self, key: None)
    config = CacheConfig(budget=50 * (16 + ENTRY_BYTES), admit_after=1, audit_share=0.0)
    assert hot_hit_rate(StateCache(config), True) < hot_hit_rate(StateCache(config), False) - 0.2


def test_a_state_that_is_too_old_is_computed_anew_even_if_it_grew_since() -> None:
    now = [0.0]
    cache = StateCache(CacheConfig(admit_after=1, seconds_to_live=60), clock=lambda: now[0])
    serve(cache, ask("u", b"abc"))
    now[0] = 50.0
    assert serve(cache, ask("u", b"abcd")).held == 3
    now[0] = 59.9
    assert cache.claim(ask("u", b"abcd")).complete
    now[0] = 60.0
    assert serve(cache, ask("u", b"abcd")).held == 0
    assert cache.stats().expired == 1
    now[0] = 100.0
    assert cache.claim(ask("u", b"abcd")).complete
    forever = StateCache(CacheConfig(admit_after=1, seconds_to_live=0), clock=lambda: now[0])
    keep(forever, "u")
    now[0] = 1e9
    assert held(forever, "u")


def test_a_tenant_takes_its_share_and_pays_for_it_alone() -> None:
    config = CacheConfig(budget=10 * (1_000 + ENTRY_BYTES), tenant_share=0.4, admit_after=1)
    cache = StateCache(config)
    keep(cache, "a", "b", tenant="small")
    keep(cache, *(f"u{n}" for n in range(50)), tenant="large")
    assert cache.stats().entries == 2 + 4
    assert held(cache, "a", "small")
    assert held(cache, "b", "small")


def test_when_the_budget_is_short_the_largest_tenant_gives() -> None:
    cache = StateCache(CacheConfig(budget=10 * (1_000 + ENTRY_BYTES), admit_after=1))
    keep(cache, *(f"u{n}" for n in range(10)), tenant="large")
    keep(cache, "a", "b", tenant="small")
    assert cache.stats().entries == 10
    assert held(cache, "a", "small")
    assert held(cache, "b", "small")


def test_tenants_share_no_state() -> None:
    cache = StateCache(ALL)
    keep(cache, "u", tenant="one")
    assert held(cache, "u", "one")
    assert not held(cache, "u", "two")
    assert not held(cache, "eu", "on")  # the same letters, divided elsewhere


def test_a_forgotten_user_is_gone_at_once_and_nobody_else() -> None:
    cache = StateCache(ALL)
    keep(cache, "u", "v")
    keep(cache, "u", tenant="other")
    assert cache.forget(("", b"u")) == 1
    assert [held(cache, "u"), held(cache, "v"), held(cache, "u", "other")] == [False, True, True]
    assert cache.forget(("", b"u")) == 0
    assert cache.stats().forgotten == 1


def test_a_state_that_was_being_computed_when_its_user_was_forgotten_is_not_kept() -> None:
    cache = StateCache(ALL)
    before = cache.claim(ask("u"))
    cache.forget(("", b"u"))
    after = cache.claim(ask("u"))
    assert after.leads, "a request after the deletion does not wait for one before it"
    cache.publish(before, Blob(torch.zeros(1, 10)))
    assert cache.stats().entries == 0
    cache.publish(after, Blob(torch.zeros(1, 10)))
    assert cache.stats().entries == 1


def test_one_request_computes_and_the_others_wait() -> None:
    cache = StateCache(ALL)
    claims = [cache.claim(ask("u")) for _ in range(5)]
    assert [claim.leads for claim in claims] == [True] + [False] * 4
    assert cache.claim(ask("u", b"abcd")).leads, "another history is another computation"
    found: list[State | None] = []
    waiting = [threading.Thread(target=lambda c=c: found.append(cache.wait(c))) for c in claims[1:]]
    for thread in waiting:
        thread.start()
    state = Blob(torch.zeros(1, 10))
    cache.publish(claims[0], state)
    for thread in waiting:
        thread.join()
    assert [one is state for one in found] == [True] * 4
    assert counts(cache.stats()) == (0, 0, 4, 2, 0)


def test_a_state_that_is_stored_while_somebody_asks_for_it_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, compare, late = StateCache(ALL), StateCache._compare, list[Claim]()
    first = cache.claim(ask("u"))

    def meanwhile(self: StateCache, one: Ask, entry: Entry | None, epoch: int) -> Claim:
        claim = compare(self, one, entry, epoch)
        if not late:  # between looking for an entry and joining those who compute it
            late.append(claim)
            cache.publish(first, Blob(torch.zeros(1, 10)))
        return claim

    monkeypatch.setattr(StateCache, "_compare", meanwhile)
    assert cache.claim(ask("u")).complete
    assert not late[0].complete
    assert counts(cache.stats()) == (1, 0, 0, 1, 0)


def test_who_waits_for_a_computation_that_failed_is_told_so() -> None:
    cache = StateCache(ALL)
    leader, follower = cache.claim(ask("u")), cache.claim(ask("u"))
    cache.release(leader)
    assert cache.wait(follower) is None
    assert cache.claim(ask("u")).leads


class BrokenStore(dict[bytes, Entry]):
    """A store of which one operation fails."""

    broken = ""

    def _fail(self, name: str) -> None:
        if self.broken == name:
            raise OSError(f"the store cannot {name}")

    def __getitem__(self, key: bytes) -> Entry:
        self._fail("get")
        return super().__getitem__(key)

    def __setitem__(self, key: bytes, entry: Entry) -> None:
        self._fail("set")
        super().__setitem__(key, entry)

    def __delitem__(self, key: bytes) -> None:
        self._fail("delete")
        super().__delitem__(key)

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("nobody has to look through the whole store")


@pytest.mark.parametrize("broken", ["get", "set", "delete"])
def test_a_store_that_fails_costs_no_request(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    store = BrokenStore()
    cache = StateCache(CacheConfig(budget=3 * (1_000 + ENTRY_BYTES), admit_after=1), store=store)
    keep(cache, "a", "b", "c")
    store.broken = broken
    with caplog.at_level(logging.WARNING):
        keep(cache, "a", "b", "c", "d", "e")
        serve(cache, ask("a", b"abcd"))
    assert cache.stats().errors > 0
    assert f"the store cannot {broken}" in caplog.text
    store.broken = ""
    keep(cache, "f")
    assert held(cache, "f")
    assert cache.stats().bytes <= cache.config.budget


def test_an_entry_that_the_store_lost_is_a_miss() -> None:
    store: dict[bytes, Entry] = {}
    cache = StateCache(ALL, store=store)
    keep(cache, "u")
    store.clear()
    assert not held(cache, "u")
    assert (cache.stats().errors, cache.stats().bytes) == (1, 0)


def test_a_deletion_that_failed_says_so_and_nothing_is_found_all_the_same() -> None:
    store = BrokenStore()
    cache = StateCache(ALL, store=store)
    keep(cache, "u")
    store.broken = "delete"
    with pytest.raises(OSError, match="cannot delete"):
        cache.forget(("", b"u"))
    assert not held(cache, "u")


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
def test_floats_are_kept_in_the_precision_that_was_asked_for(precision: str, size: int) -> None:
    cache = StateCache(CacheConfig(admit_after=1, precision=precision))  # type: ignore[arg-type]
    serve(cache, ask("u"), 4_000)
    assert cache.stats().bytes == 1_000 * size + ENTRY_BYTES


def test_numbers_too_large_for_half_precision_are_not_kept() -> None:
    cache = StateCache(CacheConfig(admit_after=1, precision="fp16"))
    cache.publish(cache.claim(ask("u")), Blob(torch.tensor([[1.0, 70_000.0]])))
    assert (cache.stats().refused, cache.stats().entries) == (1, 0)
    cache.publish(cache.claim(ask("u")), Blob(torch.tensor([[1.0, 60_000.0]])))
    assert cache.stats().entries == 1


@pytest.mark.parametrize("difference", [2e-4, float("nan")])
def test_an_audit_that_fails_empties_the_cache_and_switches_it_off(difference: float) -> None:
    cache = StateCache(ALL)
    keep(cache, "u")
    assert cache.audit(1e-6)
    assert cache.enabled
    late = cache.claim(ask("v"))
    assert not cache.audit(difference)
    cache.publish(late, Blob(torch.zeros(1, 10)))
    stats = cache.stats()
    assert (stats.enabled, stats.entries, stats.bytes, stats.audits) == (False, 0, 0, 2)
    cache.clear()
    assert cache.enabled
    keep(cache, "u")
    assert held(cache, "u")


def test_the_asked_share_of_hits_is_audited() -> None:
    cache = StateCache(CacheConfig(admit_after=1, audit_share=0.25))
    audited = [serve(cache, ask("u")).audited for _ in range(1_001)]
    assert not audited[0], "what was just computed needs no audit"
    assert 200 < sum(audited) < 300


def test_options_that_cannot_be_are_refused() -> None:
    wrong = CacheConfig(budget=-1, admit_after=0, tenant_share=0.0, audit_share=1.5, audit_bound=-1.0)
    with pytest.raises(
        ConfigError, match=r"budget must be >= 0; admit_after must be >= 1; tenant_share .* audit_"
    ):
        StateCache(wrong)
    with pytest.raises(ConfigError, match="seconds_to_live"):
        StateCache(CacheConfig(seconds_to_live=float("nan")))


def test_with_no_budget_nothing_is_kept() -> None:
    cache = StateCache(CacheConfig(budget=0, admit_after=1))
    keep(cache, "u", "u")
    assert counts(cache.stats()) == (0, 0, 0, 2, 0)


# --- the life of a claim


def test_asks_of_one_shape_are_computed_together_and_all_get_a_state() -> None:
    cache, calls = StateCache(ALL), list[list[int]]()

    def compute(indices: Sequence[int], claims: Sequence[Claim]) -> list[State]:
        calls.append(list(indices))
        assert len({claim.shape for claim in claims}) == 1
        return [Blob(torch.full((1, 10), float(claim.size))) for claim in claims]

    keep(cache, "known")
    asks = [ask("a"), ask("known"), ask("b", b"abcd"), ask("c"), ask("a")]
    claims = cache.resolve(asks, compute)
    assert calls == [[0, 3], [2]], "the known state is kept, and the second ask of a follows the first"
    sizes = [float(claim.state.data[0, 0]) for claim in claims if isinstance(claim.state, Blob)]
    assert sizes == [3, 0, 4, 3, 3]
    assert counts(cache.stats()) == (1, 0, 1, 4, 0)


def test_when_computing_fails_followers_compute_for_themselves_and_nothing_is_kept() -> None:
    cache = StateCache(ALL)
    keep(cache, "known")
    started, follow = threading.Event(), threading.Event()

    def fail(indices: Sequence[int], claims: Sequence[Claim]) -> list[State]:
        started.set()
        assert follow.wait(10)
        raise ValueError("no memory")

    def lead() -> None:
        with pytest.raises(ValueError, match="no memory"):
            cache.resolve([ask("known"), ask("u")], fail)

    leader = threading.Thread(target=lead)
    leader.start()
    assert started.wait(10)
    follower = cache.claim(ask("u"))
    assert not follower.leads
    follow.set()
    assert cache.wait(follower) is None
    leader.join()
    assert cache.stats().entries == 0, "the state that the failed request had found is gone too"
    (claim,) = cache.resolve([ask("u")], lambda _, claims: [Blob(torch.zeros(1, 10))])
    assert claim.leads
    assert claim.state is not None
