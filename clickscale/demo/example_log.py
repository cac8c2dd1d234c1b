"""A small made-up log to try the commands on.

`write_example_log(folder)` writes the same bytes every time:

* ``clicks.csv``: 2,400 impressions: user_id, item_id, time (seconds), clicked (0 or 1), device, price;
* ``items.csv``: 80 items: item_id, category, brand;
* ``users.csv``: 60 users: user_id, age, city.

Each user prefers two of the eight categories, so a model that reads the history has something to learn.
"""

import csv
import io
import random
from collections.abc import Sequence
from pathlib import Path

from clickscale.errors import InputError

USERS, ITEMS, IMPRESSIONS, CATEGORIES = 60, 80, 2_400, 8
START = 1_704_067_200  # 2024-01-01 00:00:00 UTC, in seconds
DAYS = 10


def write_example_log(folder: Path) -> tuple[Path, ...]:
    """Write clicks.csv, items.csv and users.csv into ``folder``, which is made if it is missing.

    Returns:
        The paths of the three tables.

    Raises:
        InputError: one of the files exists with other content; nothing is written then.
    """
    tables = {folder / f"{name}.csv": content for name, content in _tables().items()}
    for path, content in tables.items():
        if path.exists() and (not path.is_file() or path.read_bytes() != content):
            raise InputError(f"{path} exists and is not the example table; choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in tables.items():
        path.write_bytes(content)
    return tuple(tables)


def _tables() -> dict[str, bytes]:
    """Content of each table by name."""
    chance = random.Random(0)
    category = [chance.randrange(CATEGORIES) for _ in range(ITEMS)]
    liked = [set(chance.sample(range(CATEGORIES), 2)) for _ in range(USERS)]
    items = [[f"i{i}", f"category-{category[i]}", f"brand-{chance.randrange(12)}"] for i in range(ITEMS)]
    users = [
        [f"u{u}", 18 + chance.randrange(50), chance.choice(["Oslo", "Lima", "Pune"])] for u in range(USERS)
    ]
    times = sorted(START + chance.randrange(DAYS * 86_400) for _ in range(IMPRESSIONS))
    clicks = []
    for time in times:
        user, item = chance.randrange(USERS), chance.randrange(ITEMS)
        clicked = int(chance.random() < (0.6 if category[item] in liked[user] else 0.15))
        device = chance.choice(["phone", "desktop"])
        clicks.append([f"u{user}", f"i{item}", time, clicked, device, f"{chance.uniform(1, 50):.2f}"])
    return {
        "clicks": _csv(["user_id", "item_id", "time", "clicked", "device", "price"], clicks),
        "items": _csv(["item_id", "category", "brand"], items),
        "users": _csv(["user_id", "age", "city"], users),
    }


def _csv(header: list[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode("utf-8")
