"""Logs of visits, in which what was clicked before decides; for `drawn_logs.py`."""

import numpy as np
from drawing import DAY, DAYS, ROWS, START, Array, Log, Random, basic, catalog, effects, names, sigmoid


def _times(random: Random, visits: int, steps: int) -> Array:
    """(visits, steps) moments of the rows of visits, each less than two minutes after the one before."""
    start = START + random.integers(DAYS * DAY, size=(visits, 1))
    return start + np.cumsum(random.integers(20, 90, (visits, steps)), axis=1)


def _in_order(time: Array, *columns: Array) -> list[Array]:
    """Rows of all visits, in the order of time."""
    order = np.argsort(time, axis=None, kind="stable")
    return [np.broadcast_to(each, time.shape).ravel()[order] for each in columns]


def browsing(random: Random) -> Log:
    """Visits of sixteen rows: users like categories and brands, and go on with what they just clicked.

    A click makes the next ones in its category likelier, and some visits have more clicks than others.
    """
    users, items, steps = 1000, 700, 16
    kind, brand = random.integers(12, size=items), random.integers(25, size=items)
    user = random.integers(users, size=(ROWS // steps, 1))
    item = random.integers(items, size=(len(user), steps))
    time = _times(random, len(user), steps)
    logit = -1.5 + effects(random, items, 0.6)[item] + random.normal(0, 0.6, user.shape)
    logit += random.normal(0, 0.6, (users, 12))[user, kind[item]]
    logit += random.normal(0, 0.9, (users, 25))[user, brand[item]]
    outcome, newest = np.zeros(item.shape, int), np.full(len(user), -1)
    for step in range(steps):
        shown = kind[item[:, step]]
        logit[:, step] += 1.2 * (shown == newest)
        outcome[:, step] = random.random(len(user)) < sigmoid(logit[:, step])
        newest = np.where(outcome[:, step], shown, newest)
    visitor, article, moment, chance, clicked = _in_order(time, user, item, time, logit, outcome)
    attributes = catalog(kind) | {"brand": names("b", brand)}
    return Log(basic(visitor, article, moment), chance, attributes, outcome=clicked)


def sequels(random: Random) -> Log:
    """Visits of sixteen rows in a catalog of hidden sets: some of a set go well after another, some do not.

    Half of what is shown after a click is of the set of what was clicked. No column tells the sets.
    """
    users, items, steps, together = 1500, 300, 16, 6
    kind = random.integers(12, size=items)
    user = random.integers(users, size=(ROWS // steps, 1))
    time = _times(random, len(user), steps)
    after = random.normal(0, 1.5, (items, together))
    quality, likes = effects(random, items, 0.5), random.normal(0, 0.5, (users, 12))
    item, logit = np.zeros(time.shape, int), np.zeros(time.shape)
    outcome, newest = np.zeros(time.shape, int), np.full(len(user), -1)
    for step in range(steps):
        other = random.integers(items, size=len(user))
        of_set = newest - newest % together + random.integers(together, size=len(user))
        related = (newest >= 0) & (random.random(len(user)) < 0.5)
        item[:, step] = shown = np.where(related, of_set, other)
        follows = (newest >= 0) & (shown // together == newest // together)
        logit[:, step] = -1 + quality[shown] + likes[user[:, 0], kind[shown]]
        logit[:, step] += follows * after[newest, shown % together]
        outcome[:, step] = random.random(len(user)) < sigmoid(logit[:, step])
        newest = np.where(outcome[:, step], shown, newest)
    visitor, article, moment, chance, clicked = _in_order(time, user, item, time, logit, outcome)
    # Ids in an order that says nothing of the sets.
    name = random.permutation(items)
    attributes = {"item_id": names("i", name), "category": names("c", kind)}
    return Log(basic(visitor, name[article], moment), chance, attributes, outcome=clicked)
