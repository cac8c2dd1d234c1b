"""Logs of kinds that users bring, drawn with their true click probabilities; for `strange_logs.py`."""

from collections.abc import Callable

import numpy as np
from drawing import (
    DAY,
    DAYS,
    ROWS,
    START,
    Log,
    Random,
    basic,
    catalog,
    days,
    effects,
    moments,
    names,
    shop,
    sigmoid,
    tail,
)
from drawn_visits import browsing, sequels

# --- the logs


def numbers_of_context(random: Random) -> Log:
    """Thresholds of one number, and a product of two others."""
    user, item, time, kind = shop(random, 3000, 500)
    price, distance, discount = (
        random.lognormal(3, 1, ROWS),
        random.uniform(0, 100, ROWS),
        random.random(ROWS),
    )
    logit = -1 + 1.5 * (price < 8) - (price > 40) + 1.2 * np.sign((distance - 50) * (discount - 0.5))
    logit = logit + effects(random, 500, 0.3)[item]
    columns = {"price": price.round(2), "distance": distance.round(3), "discount": discount.round(3)}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def whole_numbers(random: Random) -> Log:
    """Whole numbers of many values under names that do not tell a quantity."""
    user, item, time, kind = shop(random, 3000, 500)
    balance, altitude = random.lognormal(7, 1.2, ROWS).astype(int), random.integers(0, 3000, ROWS)
    temperature = random.normal(12, 9, ROWS).astype(int)
    logit = (
        -1 + 1.5 * np.tanh(np.log(balance + 1) - 7) + np.sin(altitude / 480) - 0.08 * abs(temperature - 15)
    )
    columns = {"balance": balance, "altitude": altitude, "temperature": temperature}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def hours(random: Random) -> Log:
    """The hour of the day, which only the time tells: one curve for all, and one for each category."""
    user, item, time, kind = shop(random, 1000, 500, kinds=8)
    hour = time % DAY / 3600
    logit = -1 + np.cos(2 * np.pi * hour / 24) + np.cos(2 * np.pi * (hour / 24 - kind[item] / 8))
    logit = logit + effects(random, 500, 0.3)[item]
    return Log(basic(user, item, time), logit, catalog(kind))


def pairs(random: Random) -> Log:
    """Sites and ads with heavy tails and an effect of each pair; hardly a cookie comes back."""
    rows = 2 * ROWS
    site, ad = tail(random, 2000, rows, 1.2), tail(random, 2000, rows, 1.2)
    mine, theirs = random.normal(0, 1, (2000, 6)), random.normal(0, 1, (2000, 6))
    logit = -2 + effects(random, 2000, 0.7)[site] + effects(random, 2000, 0.7)[ad]
    logit = logit + 0.5 * (mine[site] * theirs[ad]).sum(axis=1)
    columns = {
        "cookie": names("k", random.integers(10 * rows, size=rows)),
        "ad_id": names("a", ad),
        "timestamp": moments(random, rows),
        "site": names("s", site),
    }
    return Log(columns, logit)


def new_items(random: Random) -> Log:
    """Items that live two days, so that the test part has only new ones; users like brands."""
    user, time = random.integers(800, size=ROWS), moments(random)
    item = (time - START) // (2 * DAY) * 150 + random.integers(150, size=ROWS)
    brand, price = random.integers(40, size=15 * 150), random.lognormal(3, 0.7, 15 * 150)
    taste = random.normal(0, 1.2, (800, 40))
    logit = -1.5 + taste[user, brand[item]] + 0.8 * (price[item] < 15) + effects(random, 40, 0.6)[brand[item]]
    items = {"item_id": names("i", np.arange(2250)), "brand": names("b", brand), "price": price.round(2)}
    return Log(basic(user, item, time), logit, items)


def drift(random: Random) -> Log:
    """A rate that falls from a half to a tenth within the log."""
    user, item, time, kind = shop(random, 800, 500)
    logit = -2.5 * (time - START) / (DAYS * DAY) + random.normal(0, 0.7, (800, 20))[user, kind[item]]
    return Log(basic(user, item, time), logit + effects(random, 500, 0.7)[item], catalog(kind))


def mostly_positive(random: Random) -> Log:
    """Nine of ten rows are positive."""
    user, item, time, kind = shop(random, 2000, 500)
    logit = 2.8 + effects(random, 2000, 0.7)[user] + effects(random, 500, 0.8)[item]
    return Log(
        basic(user, item, time), logit + random.normal(0, 0.7, (2000, 20))[user, kind[item]], catalog(kind)
    )


def seldom(random: Random) -> Log:
    """One of two hundred rows is positive, for strong reasons."""
    rows = 2 * ROWS
    user, item, time, kind = shop(random, 3000, 500, rows)
    device = random.integers(4, size=rows)
    logit = -7.6 + np.array([0, 1, 2, -1])[device] + effects(random, 500, 0.8)[item]
    logit = logit + random.normal(0, 1.2, (3000, 20))[user, kind[item]] + effects(random, 20, 0.8)[kind[item]]
    columns = {"device": np.array(["phone", "desk", "tv", "watch"])[device]}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def few_users(random: Random) -> Log:
    """Two hundred users with two hundred rows each, who like categories."""
    user, item, time, kind = shop(random, 200, 1000, kinds=40)
    logit = -1 + random.normal(0, 1.2, (200, 40))[user, kind[item]] + effects(random, 1000, 0.5)[item]
    return Log(basic(user, item, time), logit, catalog(kind))


def one_row_users(random: Random) -> Log:
    """Every user has one row; the profile decides."""
    user, (_, item, time, kind) = np.arange(ROWS), shop(random, 2, 800)
    age, city = random.integers(16, 80, ROWS), tail(random, 200, ROWS)
    price = random.lognormal(3, 0.7, 800)
    logit = -1.5 + effects(random, 200, 0.5)[city] + effects(random, 800, 0.5)[item]
    logit = (
        logit
        + random.normal(0, 1, (4, 20))[age // 20, kind[item]]
        + 0.04 * (age - 45) * np.tanh(np.log(price[item] / 20))
    )
    users = {"user_id": names("u", user), "age": age, "city": names("t", city)}
    return Log(basic(user, item, time), logit, catalog(kind) | {"price": price.round(2)}, users)


def repeats(random: Random) -> Log:
    """Songs that users hear again: liked ones more often, until they have heard them too often."""
    rows, users, songs = ROWS, 400, 2000
    user, time = random.integers(users, size=rows), moments(random)
    artist = random.integers(200, size=songs)
    taste, known = random.normal(-0.6, 1.5, (users, songs)), [dict[int, int]() for _ in range(users)]
    item, logit, outcome = np.zeros(rows, int), np.zeros(rows), np.zeros(rows, int)
    for row, one in enumerate(user):
        heard = list(known[one])
        again = heard and random.random() < 0.7
        item[row] = heard[random.integers(len(heard))] if again else random.integers(songs)
        times = known[one].get(item[row], 0)
        logit[row] = taste[one, item[row]] - 0.15 * max(times - 5, 0) ** 2
        outcome[row] = random.random() < sigmoid(logit[row])
        known[one][item[row]] = times + outcome[row]
    columns = {"user_id": names("u", user), "track_id": names("i", item), "time": time}
    items = {"track_id": names("i", np.arange(songs)), "artist": names("a", artist)}
    return Log(columns, logit, items, outcome=outcome)


def recency(random: Random) -> Log:
    """A click on the category within the last hour, and nothing else, makes a click likely."""
    users, kinds, items = 800, 30, 600
    kind = random.integers(kinds, size=items)
    sessions = np.sort(random.integers(0, DAYS * DAY, ROWS // 8))
    owner, seen = random.integers(users, size=len(sessions)), np.full((users, kinds), -DAY)
    rows = []
    for start, user in zip(sessions, owner, strict=True):
        few = random.choice(kinds, 3, replace=False)
        for step in range(8):
            item = int(random.choice(np.flatnonzero(np.isin(kind, few))))
            now = int(start) + 300 * step
            logit = 0.8 if now - seen[user, kind[item]] < 3600 else -2.0
            clicked = random.random() < sigmoid(logit)
            seen[user, kind[item]] = now if clicked else seen[user, kind[item]]
            rows.append((now, user, item, logit, clicked))
    time, user, item, logit, clicked = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return Log(basic(user, item, time + START), logit, catalog(kind), outcome=clicked.astype(int))


def needs(random: Random) -> Log:
    """A category is needed again once a week after its last purchase, or once in three weeks."""
    users, kinds, items = 400, 10, 300
    kind, time, user = random.integers(kinds, size=items), moments(random), random.integers(users, size=ROWS)
    item, period = random.integers(items, size=ROWS), np.where(np.arange(kinds) % 2, 3.0, 9.0)
    last = START - random.integers(0, 12 * DAY, (users, kinds))
    logit, outcome = np.zeros(ROWS), np.zeros(ROWS, int)
    for row, (now, one, what) in enumerate(zip(time, user, kind[item], strict=True)):
        since = (now - last[one, what]) / DAY
        logit[row] = -4 + 5 * sigmoid(3 * (since - period[what]) / period[what])
        outcome[row] = random.random() < sigmoid(logit[row])
        last[one, what] = now if outcome[row] else last[one, what]
    return Log(basic(user, item, time), logit, catalog(kind), outcome=outcome)


def missing(random: Random) -> Log:
    """Values that are missing for a reason."""
    user, item, time, kind = shop(random, 2000, 500)
    income, segment = random.lognormal(10, 0.6, ROWS), random.integers(6, size=ROWS)
    hidden, unsure = random.random(ROWS) < 0.3, random.random(ROWS) < 0.2
    logit = (
        -1.5
        + 1.5 * hidden
        - 1.2 * unsure
        + 0.5 * (np.log(income) - 10) * ~hidden
        + effects(random, 500, 0.5)[item]
    )
    columns = {
        "income": np.where(hidden, "", income.round(1).astype(str)),
        "segment": np.where(unsure, "", names("g", segment)),
    }
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def noise(random: Random) -> Log:
    """A hundred columns that tell nothing beside two that do."""
    user, item, time, kind = shop(random, 1500, 500)
    price, tier = random.lognormal(3, 1, ROWS), random.integers(8, size=ROWS)
    logit = -1 + 1.2 * (price < 15) + effects(random, 8, 0.8)[tier] + effects(random, 500, 0.4)[item]
    columns = {"price": price.round(2), "tier": names("t", tier)}
    columns |= {f"x{i}": random.normal(0, 1, ROWS).round(4) for i in range(60)}
    columns |= {f"z{i}": names("z", tail(random, 2 + 10 * i, ROWS)) for i in range(40)}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def tags(random: Random) -> Log:
    """Users like some of the tags of an item."""
    user, item, time, _ = shop(random, 800, 1500)
    has = random.random((1500, 60)) < 0.05
    has[np.arange(1500), random.integers(60, size=1500)] = True
    logit = -1.2 + (random.normal(0, 1.5, (800, 60))[user] * has[item]).sum(axis=1) / np.sqrt(
        has[item].sum(axis=1)
    )
    text = ["|".join(f"t{tag}" for tag in np.flatnonzero(row)) for row in has]
    return Log(
        basic(user, item, time), logit, {"item_id": names("i", np.arange(1500)), "tags": np.array(text)}
    )


def bare(random: Random) -> Log:
    """User, item, time and outcome only; tastes of six dimensions."""
    user, item, time, _ = shop(random, 1000, 600)
    taste, nature = random.normal(0, 1, (1000, 6)), random.normal(0, 1, (600, 6))
    return Log(
        basic(user, item, time),
        -1 + effects(random, 600, 0.7)[item] + 0.6 * (taste[user] * nature[item]).sum(axis=1),
    )


def dates(random: Random) -> Log:
    """Times are dates, so twenty rows of a user share a moment."""
    user, item, time, kind = shop(random, 200, 600)
    time = (time // DAY * DAY).astype("datetime64[s]").astype("datetime64[D]").astype(str)
    logit = -1 + random.normal(0, 1.2, (200, 20))[user, kind[item]] + effects(random, 600, 0.5)[item]
    columns = {"user_id": names("u", user), "item_id": names("i", item), "date": time}
    return Log(columns, logit, catalog(kind))


def anonymous(random: Random) -> Log:
    """Neither user nor item nor time: counts with long tails and hashed values, as in Criteo's logs."""
    counts = random.lognormal(1.5, 1.3, (8, ROWS)).astype(int)
    values = [tail(random, size, ROWS) for size in (5, 30, 30, 200, 1000, 3000)]
    logit = -1.5 + 0.8 * (counts[0] > 5) - 0.7 * (counts[1] == 0) + 0.3 * np.log1p(counts[2])
    logit = logit + sum(effects(random, 3000, 0.5)[value] for value in values)
    logit = logit + random.normal(0, 0.8, (30, 30))[values[1], values[2]]
    columns = {f"n{i}": count for i, count in enumerate(counts)}
    return Log(columns | {f"v{i}": names(f"{i}f", value) for i, value in enumerate(values)}, logit)


def match(random: Random) -> Log:
    """The language of the user is that of the item, or is not."""
    user, item, time, kind = shop(random, 2000, 400)
    spoken, written = random.integers(30, size=2000), random.integers(30, size=400)
    own = [np.flatnonzero(written == language) for language in range(30)]
    for row in np.flatnonzero(random.random(ROWS) < 0.3):  # else hardly any would match
        item[row] = random.choice(own[spoken[user[row]]]) if len(own[spoken[user[row]]]) else item[row]
    users = {"user_id": names("u", np.arange(2000)), "language": names("l", spoken)}
    logit = -2 + 3 * (spoken[user] == written[item])
    return Log(basic(user, item, time), logit, catalog(kind) | {"language": names("l", written)}, users)


def both(random: Random) -> Log:
    """Two fields of eight values decide together, and neither does alone."""
    user, item, time, kind = shop(random, 2000, 400)
    system, slot = random.integers(8, size=(2, ROWS))
    logit = -1 + 1.3 * np.where(system % 2 == slot % 2, 1, -1) + effects(random, 400, 0.3)[item]
    columns = {"system": names("s", system), "slot": names("p", slot)}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def word(random: Random) -> Log:
    """Four words among three hundred decide, in lists of two to eight."""
    user, item, time, kind = shop(random, 2000, 400)
    lists = [tail(random, 300, length) for length in random.integers(2, 9, ROWS)]
    worth = np.zeros(300)
    worth[random.permutation(60)[:4] + 5] = (3, 2.5, -2, 3)
    logit = np.array([-1.5 + worth[np.unique(values)].sum() for values in lists])
    text = np.array([" ".join(f"w{value}" for value in values) for values in lists])
    return Log(basic(user, item, time) | {"keywords": text}, logit, catalog(kind))


def turn(random: Random) -> Log:
    """Other effects after 60% of the log."""
    user, item, time, kind = shop(random, 2000, 400, kinds=15)
    slot, late = random.integers(8, size=ROWS), np.arange(ROWS) > 0.6 * ROWS
    (early_kind, late_kind), (early_slot, late_slot) = (
        random.normal(0, size, (2, values)) for values, size in ((15, 1.2), (8, 1.0))
    )
    logit = -1 + np.where(late, late_kind[kind[item]], early_kind[kind[item]])
    logit = logit + np.where(late, late_slot[slot], early_slot[slot])
    return Log(basic(user, item, time) | {"slot": names("p", slot)}, logit, catalog(kind))


def difference(random: Random) -> Log:
    """Two numbers that are nearly equal; their difference decides."""
    user, item, time, kind = shop(random, 2000, 400)
    forecast = random.normal(50, 15, ROWS)
    apart = random.normal(0, 1.5, ROWS)
    logit = -1 + 1.3 * apart + effects(random, 400, 0.3)[item]
    columns = {"forecast": forecast.round(3), "temperature": (forecast + apart).round(3)}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def rare_negatives(random: Random) -> Log:
    """95% of positives."""
    user, item, time, kind = shop(random, 2000, 400)
    slots, risk = random.integers(1, 9, ROWS), random.normal(0, 1, ROWS)
    logit = 4.6 + effects(random, 20, 0.8)[kind[item]] - 1.5 * (risk > 1) - 0.2 * slots
    columns = {"slots": slots, "risk_score": risk.round(4)}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def placements(random: Random) -> Log:
    """A field of ten thousand values, each in four rows, decides."""
    user, item, time, kind = shop(random, 2000, 400)
    place = random.integers(10_000, size=ROWS)
    logit = -1 + effects(random, 10_000, 1.8)[place] + effects(random, 400, 0.3)[item]
    return Log(basic(user, item, time) | {"placement": names("p", place)}, logit, catalog(kind))


def sittings(random: Random) -> Log:
    """Users come for some rows in a sitting, and lose interest."""
    rows: list[tuple[int, int, int]] = []
    while len(rows) < ROWS:
        user, start = int(random.integers(2000)), START + int(random.integers(DAYS * DAY))
        steps = np.cumsum(random.integers(5, 90, random.geometric(0.25)))
        rows += [(start + int(step), user, place) for place, step in enumerate(steps)]
    time, visitor, place = np.array(sorted(rows)[:ROWS]).T
    kind, item = random.integers(15, size=400), random.integers(400, size=ROWS)
    logit = 0.8 - 0.6 * np.minimum(place, 6) + effects(random, 15, 0.5)[kind[item]]
    return Log(basic(visitor, item, time), logit, catalog(kind))


def segments(random: Random) -> Log:
    """Pairs of the user's group (40) and the item's category (15) decide."""
    user, item, time, kind = shop(random, 2000, 400, kinds=15)
    group = random.integers(40, size=2000)
    logit = -0.5 + random.normal(0, 0.9, (40, 15))[group[user], kind[item]]
    users = {"user_id": names("u", np.arange(2000)), "group": names("g", group)}
    return Log(basic(user, item, time), logit, catalog(kind), users)


def ages(random: Random) -> Log:
    """How long ago a user signed up and an item came decides."""
    user, item, time, kind = shop(random, 2000, 400)
    joined = START - random.integers(-10 * DAY, 60 * DAY, 2000)
    published = START - random.integers(-20 * DAY, 20 * DAY, 400)
    logit = (
        -1
        + np.cos((time - joined[user]) / (8 * DAY))
        + 1.5 * np.exp(-np.abs(time - published[item]) / (3 * DAY))
    )
    users = {"user_id": names("u", np.arange(2000)), "signed_up": joined}
    return Log(basic(user, item, time), logit, catalog(kind) | {"published": published}, users)


def interests(random: Random) -> Log:
    """Whether the category of the item is among those that the user named decides."""
    user, item, time, kind = shop(random, 2000, 400, kinds=15)
    lists = [random.choice(15, random.integers(1, 5), replace=False) for _ in range(2000)]
    named = np.zeros((2000, 15), bool)
    for number, kinds in enumerate(lists):
        named[number, kinds] = True
    text = np.array(["|".join(f"c{value}" for value in values) for values in lists])
    users = {"user_id": names("u", np.arange(2000)), "interests": text}
    return Log(basic(user, item, time), -1.7 + 2.4 * named[user, kind[item]], catalog(kind), users)


def ways(random: Random) -> Log:
    """How far it is from where the user is to the shop decides."""
    user, item, time, kind = shop(random, 2000, 400)
    north, east = random.uniform(47, 54, ROWS).round(5), random.uniform(6, 14, ROWS).round(5)
    shop_north, shop_east = random.uniform(47, 54, 400).round(5), random.uniform(6, 14, 400).round(5)
    away = np.hypot(north - shop_north[item], (east - shop_east[item]) * np.cos(np.radians(50)))
    columns = basic(user, item, time) | {"lat": north, "lon": east}
    return Log(columns, 1.5 - 1.2 * away, catalog(kind) | {"shop_lat": shop_north, "shop_lon": shop_east})


def clocks(random: Random) -> Log:
    """The hour on the clock of the user decides, in zones around the world."""
    user, item, time, kind = shop(random, 2000, 400)
    zones = {
        "America/Los_Angeles": -7,
        "America/New_York": -4,
        "Europe/Berlin": 2,
        "Asia/Kolkata": 5.5,
        "Asia/Tokyo": 9,
        "Australia/Sydney": 10,
    }
    home = random.integers(len(zones), size=2000)
    hour = (time / 3600 + np.array(list(zones.values()))[home[user]]) % 24
    logit = -1 + 1.6 * np.cos(2 * np.pi * (hour - 20) / 24) + effects(random, 400, 0.3)[item]
    users = {"user_id": names("u", np.arange(2000)), "time_zone": np.array(list(zones))[home]}
    return Log(basic(user, item, time), logit, catalog(kind), users)


def trips(random: Random) -> Log:
    """How many days lie between a search and the departure decides, and how many nights are asked for."""
    user, item, time, kind = shop(random, 2000, 400)
    ahead, nights = random.exponential(30, ROWS).astype(int) + 1, random.integers(1, 15, ROWS)
    departure = (time // DAY + ahead) * DAY
    logit = -1.5 + 2 * np.exp(-ahead / 10) + 1.2 * (nights < 4) + effects(random, 400, 0.3)[item]
    columns = {"departure_date": days(departure), "return_date": days(departure + nights * DAY)}
    return Log(basic(user, item, time) | columns, logit, catalog(kind))


def units(random: Random) -> Log:
    """The size of a file and how long it plays decide, written with units of several sizes."""
    user, item, time, kind = shop(random, 2000, 2000)
    size, minutes = random.lognormal(7, 1.5, 2000), random.lognormal(3.5, 1, 2000).astype(int) + 1
    megabytes = size / 1000
    texts = np.where(
        megabytes < 1,
        np.char.add(names("", size.round().astype(int)), " KB"),
        np.char.add(names("", megabytes.round(1)), " MB"),
    )
    hours, rest = np.char.add(names("", minutes // 60), " h "), np.char.add(names("", minutes % 60), " min")
    plays = np.where(minutes < 60, rest, np.char.add(hours, rest))
    logit = -0.5 - 1.2 * np.tanh(np.log(megabytes)) + 1.5 * ((minutes > 20) & (minutes < 60))
    items = catalog(kind) | {"download_size": texts, "duration": plays}
    return Log(basic(user, item, time), logit[item], items)


def sellers(random: Random) -> Log:
    """The seller of an item decides by level and delay, which stand in a table that items name."""
    user, item, time, kind = shop(random, 2000, 4000)
    seller = random.integers(800, size=4000)
    level, delay = random.integers(4, size=800), random.lognormal(1, 0.8, 800).round(1)
    logit = -0.5 + np.array([-1.2, -0.4, 0.4, 1.2])[level] - np.tanh(np.log(delay))
    items = catalog(kind) | {"seller_id": names("s", seller)}
    table = {
        "id": names("s", np.arange(800)),
        "level": np.array(["new", "bronze", "silver", "gold"])[level],
        "delivery_days": delay,
    }
    return Log(basic(user, item, time), logit[seller[item]], items, tables={"sellers": table})


LOGS: dict[str, Callable[[Random], Log]] = {
    "numbers": numbers_of_context,
    "whole-numbers": whole_numbers,
    "hours": hours,
    "pairs": pairs,
    "new-items": new_items,
    "drift": drift,
    "mostly-positive": mostly_positive,
    "seldom": seldom,
    "few-users": few_users,
    "one-row-users": one_row_users,
    "repeats": repeats,
    "recency": recency,
    "needs": needs,
    "missing": missing,
    "noise": noise,
    "tags": tags,
    "bare": bare,
    "dates": dates,
    "anonymous": anonymous,
    "match": match,
    "both": both,
    "word": word,
    "turn": turn,
    "difference": difference,
    "rare-negatives": rare_negatives,
    "placements": placements,
    "sittings": sittings,
    "segments": segments,
    "ages": ages,
    "interests": interests,
    "ways": ways,
    "clocks": clocks,
    "trips": trips,
    "units": units,
    "sellers": sellers,
    "browsing": browsing,
    "sequels": sequels,
}
