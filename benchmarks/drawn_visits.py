"""A log of visits, in which several things decide together; for `drawn_logs.py`."""

import numpy as np
from drawing import DAY, DAYS, ROWS, START, Log, Random, basic, catalog, effects, names, sigmoid


def browsing(random: Random) -> Log:
    """Visits of sixteen rows: users like categories and brands, and go on with what they just clicked.

    A click makes the next ones in its category likelier, and some visits have more clicks than others.
    """
    users, items, steps = 1000, 700, 16
    kind, brand = random.integers(12, size=items), random.integers(25, size=items)
    user = random.integers(users, size=(ROWS // steps, 1))
    item = random.integers(items, size=(len(user), steps))
    time = (
        START
        + random.integers(DAYS * DAY, size=user.shape)
        + np.cumsum(random.integers(20, 90, item.shape), axis=1)
    )
    logit = -1.5 + effects(random, items, 0.6)[item] + random.normal(0, 0.6, user.shape)
    logit += random.normal(0, 0.6, (users, 12))[user, kind[item]]
    logit += random.normal(0, 0.9, (users, 25))[user, brand[item]]
    outcome, newest = np.zeros(item.shape, int), np.full(len(user), -1)
    for step in range(steps):
        shown = kind[item[:, step]]
        logit[:, step] += 1.2 * (shown == newest)
        outcome[:, step] = random.random(len(user)) < sigmoid(logit[:, step])
        newest = np.where(outcome[:, step], shown, newest)
    order = np.argsort(time, axis=None, kind="stable")
    columns = [
        np.broadcast_to(each, item.shape).ravel()[order] for each in (user, item, time, logit, outcome)
    ]
    visitor, article, moment, chance, clicked = columns
    attributes = catalog(kind) | {"brand": names("b", brand)}
    return Log(basic(visitor, article, moment), chance, attributes, outcome=clicked)
