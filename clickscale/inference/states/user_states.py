"""States of the users of a batch of requests: from the cache where it has them, else appended or computed."""

from collections.abc import Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from clickscale.batch import UserSide
from clickscale.inference.states.cache import StateCache
from clickscale.inference.states.claims import Ask, Claim, Owner
from clickscale.inference.states.fingerprint import Trail, behavior_bytes, fingerprint, profile_bytes
from clickscale.models import CTRModel
from clickscale.state import State, stack

_BEHAVIORS = ("items", "actions", "action_numbers", "times")
_LAYOUT = b"user state 1"  # changes when the form of keys, chains or stored states does


class UserStates:
    """Finds or computes states by the window policy.

    A state is computed from the last ``length`` behaviors and grows by appending until it would hold more
    than ``length + slack``; then it is computed anew from the last ``length``. With a slack of 0 it always
    holds exactly the last ``length``, as in evaluation. What it holds is exact either way: its scores are
    those of the model on these behaviors.

    Args:
        digest: stands for everything the model is made of; no two artifacts may share it.
    """

    def __init__(
        self, model: CTRModel[Any], cache: StateCache, digest: str, length: int, slack: int = 0
    ) -> None:
        self.model, self.cache = model, cache
        self.length, self.slack = length, slack
        config = cache.config
        self._form = (_LAYOUT, digest.encode(), config.kind.encode(), config.precision.encode())

    def claims(
        self, user: UserSide, counts: Sequence[int], owners: Sequence[Owner], device: str = "cpu"
    ) -> list[Claim]:
        """A claim with its state for every row.

        Args:
            user: B rows on the CPU, padded on the left; up to ``length + slack`` behaviors each.
            counts: (B,) behaviors of each row.
            owners: (B,) tenant and user of each row.
        """
        asks, claims = self._asks(user, counts, owners), list[Claim]()
        try:
            claims += map(self.cache.claim, asks)
            leading = [(row, claim) for row, claim in enumerate(claims) if claim.leads]
            leading.sort(key=lambda one: _shape(one[1]))
            for _, alike in groupby(leading, key=lambda one: _shape(one[1])):
                self._lead(user, list(alike), device)
        except Exception:  # whatever a state did that was believed, it shall not do it again
            for ask in asks:
                self.cache.discard(ask)
            raise
        finally:  # whoever waits for a state that could not be computed has to compute it
            for claim in claims:
                self.cache.release(claim)
        # Only now: a request that waited before it had led could wait for one that waits for it.
        for row, claim in enumerate(claims):
            if claim.state is None:
                claim.state = self.cache.wait(claim) or self.fresh(user, [row], claim.size, device)
        return claims

    def _asks(self, user: UserSide, counts: Sequence[int], owners: Sequence[Owner]) -> list[Ask]:
        behaviors, profiles = behavior_bytes(user), profile_bytes(user)
        width = behaviors.shape[2]
        grows = self.cache.config.kind == "appendable" and self.model.causal
        asks = []
        for row, (count, (tenant, who)) in enumerate(zip(counts, owners, strict=True)):
            key = fingerprint(*self._form, tenant.encode(), who, profiles[row])
            rows = behaviors[row, behaviors.shape[1] - count :].tobytes()
            least = min(count, self.length)
            trail = Trail(key, rows, width)
            asks.append(Ask((tenant, who), trail, least, self.length + self.slack, grows))
        return asks

    def _lead(self, user: UserSide, alike: list[tuple[int, Claim]], device: str) -> None:
        """Compute what claims of one shape lack, in one go, and publish it."""
        rows, claims = [row for row, _ in alike], [claim for _, claim in alike]
        held = [claim.state for claim in claims if claim.state is not None]
        if held:
            whole = stack(held).to(dtype=torch.float32)  # kept in less, computed with in full
            new = newest(user, rows, claims[0].added, device)
            state = self._kept(self.model.extend_user(whole, new))
        else:
            state = self.fresh(user, rows, claims[0].size, device)
        for claim, part in zip(claims, state.split(), strict=True):
            claim.state = part
            self.cache.publish(claim, part)

    def fresh(self, user: UserSide, rows: Sequence[int], count: int, device: str = "cpu") -> State:
        """State of the newest ``count`` behaviors of some rows, without the cache; in full precision."""
        return self._kept(self.model.encode_user(newest(user, rows, count, device)))

    def _kept(self, state: State) -> State:
        """The part of a state that is worth keeping, so that all states of a batch have the same form."""
        scoring = self.cache.config.kind == "scoring"
        return self.model.scoring_state(state) if scoring else self.model.appendable_state(state)


def newest(user: UserSide, rows: Sequence[int], count: int, device: str = "cpu") -> UserSide:
    """The newest ``count`` behaviors of some rows, on the device of the model."""
    chosen, begin = list(rows), user.items.shape[1] - count

    def cut(name: str) -> Tensor:
        part: Tensor = getattr(user, name)[chosen]
        return (part[:, begin:] if name in _BEHAVIORS else part).to(device)

    return UserSide(**{part.name: cut(part.name) for part in fields(user)})


def _shape(claim: Claim) -> tuple[int, int]:
    """Claims of one shape are computed together: nothing is padded, so a kept state holds no padding."""
    return claim.held, claim.added
