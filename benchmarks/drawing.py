"""What `drawn_logs.py` draws logs of: users, items, times, and effects on the outcome."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Random = np.random.Generator

START, DAY, DAYS = 1_700_000_000, 86_400, 28
ROWS = 40_000


@dataclass(frozen=True)
class Log:
    """A log: columns of its impressions by name, of its items and users, and the true logit of each row.

    Attributes:
        outcome: drawn labels, where earlier ones decide later ones; drawn from ``logit`` if None.
        tables: columns of further tables by the names of these.
    """

    rows: dict[str, Array]
    logit: Array
    items: dict[str, Array] = field(default_factory=dict)
    users: dict[str, Array] = field(default_factory=dict)
    outcome: Array | None = None
    tables: dict[str, dict[str, Array]] = field(default_factory=dict)


def moments(random: Random, rows: int = ROWS) -> Array:
    """Ascending times within four weeks."""
    return START + np.sort(random.integers(0, DAYS * DAY, rows))


def tail(random: Random, values: int, rows: int, power: float = 1.0) -> Array:
    """Values 0, 1, ..., few of which are frequent."""
    share = (np.arange(values) + 5.0) ** -power
    return random.choice(values, rows, p=share / share.sum())


def names(prefix: str, values: Array) -> Array:
    """Texts such as ``i17``."""
    return np.char.add(prefix, np.asarray(values).astype(str))


def effects(random: Random, values: int, size: float) -> Array:
    """A random number for each value."""
    return random.normal(0, size, values)


def shop(random: Random, users: int, items: int, rows: int = ROWS, kinds: int = 20) -> tuple[Array, ...]:
    """Users, items, times, and the kind of each item."""
    return (
        random.integers(users, size=rows),
        tail(random, items, rows),
        moments(random, rows),
        random.integers(kinds, size=items),
    )


def basic(user: Array, item: Array, time: Array) -> dict[str, Array]:
    """The columns of every log that has users and items."""
    return {"user_id": names("u", user), "item_id": names("i", item), "time": time}


def catalog(kind: Array) -> dict[str, Array]:
    """A table of items with their kind."""
    return {"item_id": names("i", np.arange(len(kind))), "category": names("c", kind)}


def sigmoid(x: Any) -> Any:
    """Probability of a logit."""
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def days(times: Array) -> Array:
    """Days as texts such as ``2023-12-24``."""
    return np.datetime_as_string(np.asarray(times).astype("datetime64[s]"), "D")
