"""Keys and hashes of cached states, made of exactly what the model reads, never of a name from a client.

A key stands for tenant, user, artifact, form of the stored state and profile.
A chain stands for the behaviors that a state holds, in order, as the bytes that the model reads. Both are
BLAKE2b hashes: two histories that differ in one bit of one field, in their order or in their length have
different chains.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickscale.arrays import Bytes
from clickscale.batch import UserSide


def fingerprint(*parts: bytes) -> bytes:
    """Hash a list of parts to 32 bytes; each part follows its length, so no boundary can move."""
    whole = hashlib.blake2b(digest_size=32)
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.digest()


@dataclass(frozen=True)
class Trail:
    """The behaviors of one request, oldest first, as bytes.

    Attributes:
        key: 32 bytes, see `fingerprint`; chains of different keys are unrelated.
        rows: the behaviors one after the other, ``width`` bytes each.
    """

    key: bytes
    rows: bytes
    width: int

    def __len__(self) -> int:
        return len(self.rows) // self.width

    def chain(self, start: int, stop: int) -> bytes:
        """Hash the behaviors ``start <= i < stop`` in their order, to 32 bytes."""
        # A view, since a long history is hashed at several starts and should not be copied for each.
        rows = memoryview(self.rows)[start * self.width : stop * self.width]
        return hashlib.blake2b(rows, digest_size=32, key=self.key, person=b"behaviors").digest()

    def anchor(self, index: int) -> bytes:
        """Hash one behavior to 16 bytes: a cheap test of where a run may begin, before hashing all of it."""
        row = memoryview(self.rows)[index * self.width : (index + 1) * self.width]
        return hashlib.blake2b(row, digest_size=16, key=self.key, person=b"anchor").digest()


def profile_bytes(user: UserSide) -> list[bytes]:
    """The profile of every row as bytes."""
    joined = _side_by_side(user.profile.numpy(), _plain_nan(user.profile_numbers.numpy()))
    return [row.tobytes() for row in joined]


def behavior_bytes(user: UserSide) -> Bytes:
    """(B, L, width): every behavior as the bytes that a model reads of it: item, event attributes, time."""
    return _side_by_side(
        user.items.numpy()[..., None],
        user.actions.numpy(),
        _plain_nan(user.action_numbers.numpy()),
        user.times.numpy()[..., None],
    )


def _side_by_side(*columns: npt.NDArray[np.generic]) -> Bytes:
    """(..., n) arrays of any types -> (..., bytes of them all)."""
    return np.concatenate([np.ascontiguousarray(column).view(np.uint8) for column in columns], axis=-1)


def _plain_nan(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same numbers with one form of NaN only, or equal behaviors could have different bytes."""
    return np.where(np.isnan(numbers), np.float32(np.nan), numbers)
