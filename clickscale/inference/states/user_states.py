"""States of the users of a batch of requests: kept ones where they match, else appended to or computed."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch

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
    than ``length + slack``; then it is computed again from the last ``length``. With a slack of 0 it always
    holds exactly the last ``length``, as in evaluation. Scores are exact either way: those of the model on
    the behaviors that the state holds.

    Args:
        digest: hash of everything the model is made of; no two artifacts may share it.
    """

    def __init__(
        self, model: CTRModel[Any], cache: StateCache, digest: str, length: int, slack: int = 0
    ) -> None:
        self.model, self.cache = model, cache
        self.length, self.slack = length, slack
        config = cache.config
        self._form = (_LAYOUT, digest.encode(), config.kind.encode(), config.precision.encode())

    def claims(
        self,
        user: UserSide,
        counts: Sequence[int],
        owners: Sequence[Owner],
        on_device: UserSide | None = None,
    ) -> list[Claim]:
        """A claim with its state for every row.

        Args:
            user: B rows on the CPU, padded on the left; up to ``length + slack`` behaviors each.
            counts: (B,) behaviors of each row.
            owners: (B,) tenant and user of each row.
            on_device: the same rows where the model is; ``user`` itself by default.
        """
        source = user if on_device is None else on_device

        def compute(rows: Sequence[int], claims: Sequence[Claim]) -> list[State]:
            """Encode the behaviors that claims of one shape lack, all rows at once."""
            held = [claim.state for claim in claims if claim.state is not None]
            # Claims of one shape: either all of them hold something or none does.
            if not held:
                return self.fresh(source, rows, claims[0].size).split()
            kept = stack(held).to(dtype=torch.float32)  # may be kept in less; computed with in full
            new = _newest(source, rows, claims[0].added)
            return self._kept(self.model.extend_user(kept, new)).split()

        return self.cache.resolve(self._asks(user, counts, owners), compute)

    def fresh(self, user: UserSide, rows: Sequence[int], count: int) -> State:
        """Encode the newest ``count`` behaviors of some rows, without the cache and in full precision."""
        return self._kept(self.model.encode_user(_newest(user, rows, count)))

    def _kept(self, state: State) -> State:
        """The part of a state that is worth keeping, so that all states of a batch have the same form."""
        scoring = self.cache.config.kind == "scoring"
        return self.model.scoring_state(state) if scoring else self.model.appendable_state(state)

    def _asks(self, user: UserSide, counts: Sequence[int], owners: Sequence[Owner]) -> list[Ask]:
        """Hash what the model would read of every row."""
        behaviors, profiles = behavior_bytes(user), profile_bytes(user)  # (B, L, width), B texts
        columns, width = behaviors.shape[1:]
        grows = self.cache.config.kind == "appendable" and self.model.causal
        asks = []
        for row, (count, (tenant, identity)) in enumerate(zip(counts, owners, strict=True)):
            # The whole of what could change a state, apart from behaviors, is in the key.
            key = fingerprint(*self._form, tenant.encode(), identity, profiles[row])
            trail = Trail(key, behaviors[row, columns - count :].tobytes(), width)
            least, most = min(count, self.length), self.length + self.slack
            asks.append(Ask((tenant, identity), trail, least, most, grows))
        return asks


def _newest(user: UserSide, rows: Sequence[int], count: int) -> UserSide:
    """The newest ``count`` behaviors of some rows."""
    chosen, begin = list(rows), user.items.shape[1] - count
    parts = {}
    for field in fields(user):
        part = getattr(user, field.name)[chosen]
        parts[field.name] = part[:, begin:] if field.name in _BEHAVIORS else part
    return UserSide(**parts)
