"""The small log that the commands and programs in the documents run on.

`write_document_data(folder)` leaves these files, the same bytes every time:

* ``clicks.csv``: 2,400 impressions: user_id, item_id, time (seconds), clicked (0 or 1), device, price;
* ``items.csv``: 80 items: item_id, category, brand;
* ``users.csv``: 60 users: user_id, age, city.

A user prefers two of the eight categories, so a model that reads the history has something to find.
"""

import csv
import random
from pathlib import Path

USERS, ITEMS, IMPRESSIONS, CATEGORIES = 60, 80, 2_400, 8
START = 1_704_067_200  # 2024-01-01 00:00:00 UTC, in seconds
DAYS = 10


def write_document_data(folder: Path) -> None:
    """Write clicks.csv, items.csv and users.csv into ``folder``."""
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
    _write(folder / "clicks.csv", ["user_id", "item_id", "time", "clicked", "device", "price"], clicks)
    _write(folder / "items.csv", ["item_id", "category", "brand"], items)
    _write(folder / "users.csv", ["user_id", "age", "city"], users)


def _write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
