"""What defaults give on logs of kinds that steered no rule, and what could be known of them.

    python benchmarks/strange_logs.py OUT [--logs numbers,pairs] [--models din,suan] [--seeds 2] [--jobs 1]

Each log is drawn from a seed, written as CSV to OUT/raw/NAME, and described and prepared as a user would do
it, without a change of the draft. A cell that is measured is kept, so the script continues where it stopped.
``truth`` scores with the true probabilities, ``logistic`` is a logistic regression on the same features
(values one-hot, numbers in bins, strength of its L2 by the validation part), ``trees`` as everywhere.
"""

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from defaults import numbers, run_cell

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.evaluation.evaluate import with_facts
from clickscale.features import Feature, column_of, label_of

Array = npt.NDArray[Any]
Random = np.random.Generator

START, DAY, DAYS = 1_700_000_000, 86_400, 28
ROWS = 40_000
REFERENCES = ("constant", "truth", "logistic")
MODELS = ("trees", "mlp", "din", "suan", "est")


@dataclass(frozen=True)
class Log:
    """A log: columns of its impressions by name, of its items and users, and the true logit of each row.

    Attributes:
        outcome: drawn labels, where earlier ones decide later ones; drawn from ``logit`` if None.
    """

    rows: dict[str, Array]
    logit: Array
    items: dict[str, Array] = field(default_factory=dict)
    users: dict[str, Array] = field(default_factory=dict)
    outcome: Array | None = None


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
}


# --- from a log to a table


def write(path: Path, columns: dict[str, Array]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*(c.tolist() for c in columns.values()), strict=True)])


def prepare(name: str, out: Path) -> Path:
    """Draw a log and prepare it by the commands of the tutorial, unless it is there; return its folder."""
    raw, data = out / "raw" / name, out / name
    if (data / "manifest.json").is_file():
        return data
    raw.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(LOGS).index(name))
    log = LOGS[name](random)
    drawn = (random.random(len(log.logit)) < sigmoid(log.logit)).astype(int)
    np.save(raw / "logit.npy", log.logit)
    write(raw / "clicks.csv", log.rows | {"clicked": drawn if log.outcome is None else log.outcome})
    tables = ["clicks.csv"]
    for table, columns in (("items.csv", log.items), ("users.csv", log.users)):
        if columns:
            write(raw / table, columns)
            tables.append(table)
    command = [sys.executable, "-m", "clickscale"]
    subprocess.run([*command, "schema", "guess", *tables, "--out", "schema.toml"], cwd=raw, check=True)
    subprocess.run([*command, "prepare", "schema.toml", "--out", str(data.resolve())], cwd=raw, check=True)
    return data


def one_hot(dataset: Dataset) -> Any:
    """Sparse features of all impressions: a column for each value, one for each bin of a number."""
    from scipy.sparse import csr_array, hstack

    users, items = (np.asarray(dataset.impressions[name]) for name in ("user", "item"))
    shown = np.arange(len(users))
    sides = (
        (dataset.features.profile, dataset.users, users),
        (dataset.features.item, dataset.items, items),
        (dataset.features.context, dataset.impressions, shown),
    )
    blocks = []
    for features, columns, rows in sides:
        for feature in features:
            if feature.kind == "content":
                continue
            values = indices(feature, np.asarray(columns[column_of(feature.name)])[rows])
            there = values > 0
            share = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
            row = np.repeat(shown, values.shape[1])[there.ravel()]
            shape = (len(shown), int(values.max()) + 1)
            blocks.append(csr_array((share[there], (row, values[there])), shape=shape))
    return hstack(blocks).tocsr()


def indices(feature: Feature, column: Array) -> Array:
    """Positive numbers of the values of a column (rows, values), 1 for what is missing, 0 for no value."""
    if feature.kind == "categorical":
        return column.reshape(len(column), -1)
    bins = np.searchsorted(np.asarray(feature.edges), column, side="right") + 2
    return np.where(np.isnan(column), 1, bins)[:, None]


def logistic(dataset: Dataset) -> Array:
    """Logits (n,) of the test part by a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    values, label = one_hot(dataset), np.asarray(dataset.impressions[label_of(dataset.labels[0])])
    train, valid, test = (dataset.part(name) for name in ("train", "valid", "test"))
    found = []
    for strength in (0.01, 0.03, 0.1, 0.3, 1.0):
        model = LogisticRegression(C=strength, max_iter=500).fit(values[train], label[train])
        chance = np.clip(model.predict_proba(values[valid])[:, 1], 1e-6, 1 - 1e-6)
        loss = -np.log(np.where(label[valid] == 1, chance, 1 - chance)).mean()
        found.append((loss, strength, model.decision_function(values[test])))
    return min(found, key=lambda each: each[:2])[2]


def references(name: str, out: Path) -> dict[str, dict[str, float]]:
    """Measures of the constant training rate, the truth and a logistic regression; made once."""
    path = out / "runs" / name / "references.json"
    if path.is_file():
        return json.loads(path.read_text())
    dataset = open_dataset(out / name)
    label, test = np.asarray(dataset.impressions[label_of(dataset.labels[0])]), dataset.part("test")
    rate = label[dataset.part("train")].mean()
    truth = np.load(out / "raw" / name / "logit.npy")[np.asarray(dataset.impressions["row"])[test]]
    found = {}
    constant = np.full(len(test), np.log(rate / (1 - rate)))
    for kind, logits in zip(REFERENCES, (constant, truth, logistic(dataset)), strict=True):
        scores = logits.astype(np.float32)[:, None]
        told_by = with_facts(dataset, test, scores, dataset.labels[:1], "test", "impression")
        found[kind] = numbers(told_by)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    return found


def table(logs: list[str], models: list[str], seeds: int, out: Path) -> list[str]:
    """Markdown: a row for each log; AUC, log-loss and PCOC of each predictor, means over seeds."""
    columns = [*REFERENCES, *models]
    lines = [f"| log | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for log in logs:
        cells = {name: [measures] for name, measures in references(log, out).items()}
        for model in models:
            paths = [out / "runs" / log / f"{model}-{seed}" / "cell.json" for seed in range(seeds)]
            cells[model] = [json.loads(path.read_text()) for path in paths if path.is_file()]
        lines.append(f"| {log} | {' | '.join(told(cells[name]) for name in columns)} |")
    return lines


def told(cells: list[dict[str, float]]) -> str:
    """AUC, log-loss and PCOC as text; nothing if there is no cell."""
    if not cells:
        return ""
    auc, loss, pcoc = (float(np.mean([cell[name] for cell in cells])) for name in ("auc", "log_loss", "pcoc"))
    return f"{auc:.4f}, {loss:.4f}, {pcoc:.2f}"


def main() -> None:
    """Run the grid and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, one thread each")
    arguments = parser.parse_args()
    logs, models = arguments.logs.split(","), arguments.models.split(",")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for log in logs:
            data = prepare(log, arguments.out)
            for seed in range(arguments.seeds):
                for model in models:
                    cell = arguments.out / "runs" / log / f"{model}-{seed}"
                    pool.submit(run_cell, data, model, seed, cell)
    lines = table(logs, models, arguments.seeds, arguments.out)
    (arguments.out / "strange_logs.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
