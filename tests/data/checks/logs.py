"""Synthetic logs for the leak check: requests of several candidates, and what may be planted into them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from clickscale.data.source import Sampling, Source, Split
from clickscale.schema import Field, Label, Schema, usual_statistics
from tests.data.tiny import DAY, START, source_of

USERS, ITEMS, REQUESTS, SHOWN = 250, 150, 2200, 4


@dataclasses.dataclass
class Log:
    """Columns of a log before it is prepared; a plant changes them.

    Attributes:
        shown, past: columns of the impressions and of the behaviors.
        fields: additional fields of a side.
    """

    random: np.random.Generator
    users: dict[str, Any]
    items: dict[str, Any]
    shown: dict[str, Any]
    past: dict[str, Any]
    fields: dict[str, list[Field]]
    labels: tuple[Label, ...] = (Label(name="click"),)
    negatives: int = 0
    sampling: Sampling = Sampling()
    split: Split = Split()

    @property
    def click(self) -> np.ndarray:
        return self.shown["label.click"]

    def add(self, side: str, name: str, column: Any, **options: Any) -> None:
        """Add a column and its field to a side."""
        table = {"context": self.shown, "items": self.items, "profile": self.users, "behavior": self.past}
        table[side][name] = column
        self.fields[side].append(Field(name=name, **options))

    def running(self, key: np.ndarray, *, own: bool) -> tuple[np.ndarray, np.ndarray]:
        """Count the rows and the clicks of each key in the order of time, with or without the own row."""
        rows, clicks = np.zeros(len(key)), np.zeros(len(key))
        seen: dict[int, list[int]] = {}
        for row in np.argsort(self.shown["time"], kind="stable"):
            counts = seen.setdefault(int(key[row]), [0, 0])
            after = [counts[0] + 1, counts[1] + int(self.click[row])]
            rows[row], clicks[row] = after if own else counts
            seen[int(key[row])] = after
        return rows, clicks

    def source(self) -> Source:
        """Source of the log; a column of labels is left out if negatives are sampled."""
        schema = Schema(
            name="planted",
            user=Field(name="user_id", column="user", dtype="int"),
            item=Field(name="item_id", column="item", dtype="int"),
            labels=self.labels,
            profile=(Field(name="city"), Field(name="age", kind="numeric"), *self.fields["profile"]),
            behavior=(Field(name="action"), *self.fields["behavior"]),
            items=(
                Field(name="category"),
                Field(name="price", kind="numeric", transform="log1p"),
                Field(name="quality", kind="numeric"),
                *self.fields["items"],
            ),
            context=(Field(name="position", dtype="int"), *self.fields["context"]),
            statistics=usual_statistics("category", drawn=self.negatives > 0),
        ).validate()
        shown = dict(self.shown)
        if self.negatives:
            clicked = shown.pop("label.click") == 1
            shown = {name: np.asarray(values)[clicked] for name, values in shown.items()}
        tables = {
            "users": self.users,
            "items": self.items,
            "behaviors": self.past,
            "impressions": shown,
        }
        source = source_of(
            schema,
            {name: pa.table(columns) for name, columns in tables.items()},  # type: ignore[misc]
            chunk_rows=4000,
            split=self.split,
            negatives=self.negatives,
        )
        return dataclasses.replace(source, sampling=self.sampling)


def honest_log(seed: int = 0, bias: float = -1.2) -> Log:
    """Requests of four candidates by position; clicks lean on the quality and the category of the item.

    Behaviors are the clicks, known two seconds later, and views of other items.
    """
    random = np.random.default_rng(seed)
    quality, category = random.normal(size=ITEMS), random.integers(0, 8, ITEMS)
    taste, leaning = random.integers(0, 8, USERS), random.normal(size=USERS) * 0.5
    user = np.repeat(random.integers(0, USERS, REQUESTS), SHOWN)
    time = START + np.repeat(np.sort(random.choice(30 * DAY, REQUESTS, replace=False)), SHOWN)
    item = np.concatenate([random.choice(ITEMS, SHOWN, replace=False) for _ in range(REQUESTS)])
    position = np.tile(np.arange(SHOWN), REQUESTS)
    logit = bias + quality[item] + 1.5 * (category[item] == taste[user]) + leaning[user] - 0.5 * position
    click = (random.random(len(user)) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    views = 4000
    past = {
        "user": np.concatenate([user[click == 1], random.integers(0, USERS, views)]),
        "item": np.concatenate([item[click == 1], random.integers(0, ITEMS, views)]),
        "time": np.concatenate([time[click == 1], START + random.integers(0, 30 * DAY, views)]),
        "action": np.repeat(["click", "view"], [click.sum(), views]),
    }
    past["known_at"] = past["time"] + 2
    return Log(
        random=random,
        users={
            "user": np.arange(USERS),
            "city": random.choice(["a", "b", "c"], USERS),
            "age": random.normal(40, 9, USERS),
        },
        items={
            "item": np.arange(ITEMS),
            "category": category.astype(str),
            "price": random.gamma(2, 10, ITEMS),
            "quality": quality + random.normal(size=ITEMS) * 0.5,  # as others measured it
        },
        shown={"user": user, "item": item, "time": time, "label.click": click, "position": position},
        past=past,
        fields={"context": [], "items": [], "profile": [], "behavior": []},
    )


Plant = Callable[[Log], None]
