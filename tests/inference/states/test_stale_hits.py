"""A state from the cache is that of the request's own behaviors, whatever was done to the history before."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from clickscale.batch import CandidateSide
from clickscale.inference.states import user_states
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.cache_config import CacheConfig, CacheStats
from clickscale.inference.states.fingerprint import Trail
from clickscale.inference.states.user_states import UserStates, _newest
from clickscale.models import CTRModel, model_names
from tests.everyday import sampled
from tests.inference.remembered import Memory, Remembered, user_side
from tests.models.toy import NOW, VARIANTS, toy_batch, toy_model

LENGTH, SLACK = 6, 3
KINDS = ("appendable", "scoring")
ROWS = 50  # scripts that run side by side, as the requests of one batch
Rows = np.ndarray


@dataclass
class Script:
    """One user's history as it is edited from request to request."""

    chance: np.random.Generator
    user: int = 0
    age: int = 0
    history: Rows = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    before: list[Rows] = field(default_factory=list)

    def behaviors(self, count: int) -> Rows:
        """New behaviors: few values, so that equal ones are frequent; time does not always advance."""
        last = self.history[-1, 3] if len(self.history) else NOW
        steps = self.chance.integers(0, 2, count).cumsum()
        values = self.chance.integers([1, 1, -1], [4, 3, 2], (count, 3))
        return np.column_stack([values, last + steps])

    def edit(self) -> None:
        """Change something, or nothing."""
        self.before.append(self.history)
        self.history = self.history.copy()
        rare = [self.change, self.delete, self.reorder, self.repeat, self.truncate, self.truncate_tail]
        rare += [self.slide, self.revert, self.swap_user, self.change_profile]
        edits: list[Callable[[], None]] = [self.append] * 4 + rare
        edits[self.chance.integers(len(edits))]()

    def append(self) -> None:
        self.history = np.concatenate([self.history, self.behaviors(self.chance.integers(0, 4))])

    def change(self) -> None:
        if len(self.history):
            self.history[self.chance.integers(len(self.history)), self.chance.integers(4)] += 1

    def delete(self) -> None:
        if len(self.history):
            self.history = np.delete(self.history, self.chance.integers(len(self.history)), axis=0)

    def reorder(self) -> None:
        if len(self.history) > 1:
            one, other = self.chance.choice(len(self.history), 2, replace=False)
            self.history[[one, other]] = self.history[[other, one]]

    def repeat(self) -> None:
        self.history = self.history.repeat(self.chance.integers(1, 3, len(self.history)), axis=0)

    def truncate(self) -> None:
        self.history = self.history[self.chance.integers(0, len(self.history) + 1) :]

    def truncate_tail(self) -> None:
        self.history = self.history[: self.chance.integers(0, len(self.history) + 1)]

    def slide(self) -> None:
        count = min(self.chance.integers(1, 3), len(self.history))
        self.history = np.concatenate([self.history[count:], self.behaviors(count)])

    def revert(self) -> None:
        self.history = self.before[self.chance.integers(len(self.before))].copy()

    def swap_user(self) -> None:
        self.user = int(self.chance.integers(ROWS))

    def change_profile(self) -> None:
        self.age = int(self.chance.integers(3))


def is_stale(state: Remembered, true: Remembered, row: int, size: int) -> bool:
    """Whether a state is anything but that of the newest ``size`` behaviors of this user by this model.

    ``true`` is what the model remembers of all behaviors of all rows.
    """
    right = (true.rows[row, true.rows.shape[1] - size :], true.profile[row], true.model[row])
    return not all(torch.equal(held[0], one) for held, one in zip(state.tensors(), right, strict=True))


def run_scripts(scripts: int, config: CacheConfig, requests: int = 4) -> tuple[int, CacheStats]:
    """Stale states among all requests of so many scripts, and what the cache did.

    All share one cache too small for them, two models and as many users as run at a time, some of whom
    several scripts edit at once.
    """
    chance, stale = np.random.default_rng(0), 0
    cache = StateCache(config)
    models = [Memory(1), Memory(2)]
    states = [UserStates(model, cache, f"digest {model.number}", LENGTH, SLACK) for model in models]
    for _ in range(scripts // ROWS):
        running = [Script(chance, user) for user in range(ROWS)]
        for request in range(requests):
            for script in running:
                script.edit() if request else script.append()
            which = int(chance.random() < 0.2)
            held = [script.history[-(LENGTH + SLACK) :] for script in running]
            profiles = np.array([[script.user + 2, script.age] for script in running])
            user = user_side(profiles, held, LENGTH + SLACK)
            owners = [("", str(script.user).encode()) for script in running]
            claims = states[which].claims(user, [len(history) for history in held], owners)
            true = Memory(which + 1).encode_user(user)
            for row, claim in enumerate(claims):
                least = min(len(held[row]), LENGTH)
                assert isinstance(claim.state, Remembered)
                assert least <= claim.size <= len(held[row])
                assert claim.state.rows.shape[1] == claim.size
                stale += is_stale(claim.state, true, row, claim.size)
    return stale, cache.stats()


@pytest.mark.parametrize(
    ("scripts", "least"), [(1_500, 100), pytest.param(10_000, 1_000, marks=pytest.mark.wide)]
)
def test_no_state_is_stale_in_random_edit_scripts(scripts: int, least: int) -> None:
    stale, stats = run_scripts(scripts, CacheConfig(budget=400_000, recent=2_000), requests=3)
    assert stale == 0
    assert min(stats.hits, stats.appends, stats.rebuilds, stats.misses, stats.evictions) > least
    assert stats.errors == 0


def test_states_for_scoring_alone_are_not_stale_either() -> None:
    stale, stats = run_scripts(500, CacheConfig(kind="scoring", admit_after=1))
    assert stale == 0
    assert stats.appends == 0
    assert stats.hits > 50


# --- mutants: what the chain or the key leaves out is seen


def chain_of_length(self: Trail, start: int, stop: int) -> bytes:
    return (stop - start).to_bytes(32, "little")


def chain_without_order(self: Trail, start: int, stop: int) -> bytes:
    rows = sorted(self.rows[i * self.width : (i + 1) * self.width] for i in range(start, stop))
    return hashlib.sha256(b"".join(rows) + self.key).digest()


def chain_without_time(self: Trail, start: int, stop: int) -> bytes:
    rows = [self.rows[i * self.width : (i + 1) * self.width - 8] for i in range(start, stop)]
    return hashlib.sha256(b"".join(rows) + self.key).digest()


def chain_of_ends(self: Trail, start: int, stop: int) -> bytes:
    rows = self.rows[start * self.width : stop * self.width]
    return hashlib.sha256(
        rows[: self.width] + rows[-self.width :] + self.key + bytes([stop - start])
    ).digest()


@pytest.mark.parametrize("chain", [chain_of_length, chain_without_order, chain_without_time, chain_of_ends])
def test_a_chain_that_leaves_something_out_is_caught(
    chain: Callable[[Trail, int, int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trail, "chain", chain)
    stale, _ = run_scripts(200, CacheConfig(admit_after=1))
    assert stale > 0


@pytest.mark.parametrize("part", [1, 5, 6], ids=["artifact", "user", "profile"])
def test_a_key_that_leaves_something_out_is_caught(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = user_states.fingerprint
    monkeypatch.setattr(
        user_states, "fingerprint", lambda *parts: whole(*(p for i, p in enumerate(parts) if i != part))
    )
    if part == 5:  # a profile that says who the user is protects too, so it has to go as well
        monkeypatch.setattr(user_states, "profile_bytes", lambda user: [b""] * len(user.items))
    stale, _ = run_scripts(200, CacheConfig(admit_after=1))
    assert stale > 0


# --- the same with models


def seen(candidates: CandidateSide, behaviors: int, rows: list[int]) -> CandidateSide:
    """The candidates of some rows over states of so many behaviors."""
    parts = {part.name: getattr(candidates, part.name)[rows] for part in fields(candidates)}
    return replace(CandidateSide(**parts), visible=torch.full_like(parts["visible"], behaviors))


def gap(model: CTRModel[Any], states: UserStates, scripts: list[Script], seed: int) -> float:
    """Largest difference of logits between states from the cache and the model on the same behaviors."""
    held = [script.history[-(LENGTH + SLACK) :] for script in scripts]
    profiles = np.array([[script.user + 2, script.age] for script in scripts])
    user = user_side(profiles, held, LENGTH + SLACK)
    owners = [("", str(script.user).encode()) for script in scripts]
    candidates = toy_batch(rows=len(scripts), candidates=3, seed=seed).candidates
    furthest = 0.0
    with torch.inference_mode():
        claims = states.claims(user, [len(history) for history in held], owners)
        for size in {claim.size for claim in claims}:
            rows = [row for row, claim in enumerate(claims) if claim.size == size]
            direct = model.score(model.encode_user(_newest(user, rows, size)), seen(candidates, size, rows))
            for row, right in zip(rows, direct, strict=True):
                state = claims[row].state
                assert state is not None
                found = model.score(state, seen(candidates, size, [row]))
                furthest = max(furthest, float((found - right).abs().max()))
    return furthest


def compare(name: str, kind: str, users: int, rounds: int, least: int) -> None:
    """Edit the histories of some users from request to request, and compare every score."""
    chance, model = np.random.default_rng(1), toy_model(name, grade="size-2")
    cache = StateCache(CacheConfig(admit_after=1, kind=kind))  # type: ignore[arg-type]
    states = UserStates(model, cache, name, LENGTH, SLACK)
    for scripts in range(rounds):
        running = [Script(chance, user) for user in range(users)]
        for request in range(4):
            for script in running:
                script.edit() if request else script.append()
            assert gap(model, states, running, scripts) <= 1e-5
    stats = cache.stats()
    assert stats.hits > least
    assert stats.appends > least or kind == "scoring" or not model.causal


@pytest.mark.parametrize(("name", "kind"), sampled(product([*model_names(), *VARIANTS], KINDS)))
def test_scores_over_kept_states_are_the_scores_of_the_model(name: str, kind: str) -> None:
    compare(name, kind, users=12, rounds=1, least=2)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [*product([*model_names(), *VARIANTS], KINDS)])
def test_scores_stay_those_of_the_model_over_many_requests(name: str, kind: str) -> None:
    compare(name, kind, users=20, rounds=3, least=10)
