"""Times of rows whose clock is coarser than their order."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class RowOrder:
    """Spreads rows of one user and one moment over seconds, in the order of the file.

    Some logs have a clock that is coarser than their events, but rows in their true order: an earlier row was
    known earlier. Rows of equal user and time must be neighbors. Called chunk after chunk.
    """

    def __init__(self) -> None:
        # user and time of the last row of the chunk before, and its position within its moment
        self._user = pa.array([], pa.string())
        self._time = pa.array([], pa.int64())
        self._position = 0

    def __call__(self, user: pa.Array, time: pa.Array) -> pa.Array:
        """Refined times of the next rows; where the time is null it stays null."""
        users = pa.concat_arrays([self._user, user.cast(pa.string())])
        times = pa.concat_arrays([self._time, time.cast(pa.int64())])
        known = len(self._user)
        fresh = np.ones(len(times), bool)
        moved = pc.or_kleene(pc.not_equal(users[1:], users[:-1]), pc.not_equal(times[1:], times[:-1]))
        fresh[1:] = moved.fill_null(True).to_numpy(zero_copy_only=False)
        row = np.arange(len(times))
        position = row - np.maximum.accumulate(np.where(fresh, row, 0))
        position += np.where(np.cumsum(fresh) == 1, self._position, 0) if known else 0
        if len(times):
            self._user, self._time, self._position = users[-1:], times[-1:], int(position[-1])
        return pc.add(time, pa.array(position[known:]))
