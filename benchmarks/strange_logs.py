"""What defaults give on logs of kinds that steered no rule, and what could be known of them.

    python benchmarks/strange_logs.py OUT [--logs numbers,pairs] [--models din,suan] [--seeds 2] [--jobs 1]
        [--one-of 4]

Each log of ``drawn_logs.py`` is drawn from a seed, written as CSV to OUT/raw/NAME, and described and prepared
as a user would do it, without a change of the draft. What is measured is kept, so the script continues.
``--one-of 4`` keeps every fourth user, for logs of some 9,000 rows (of `anonymous`, which names none, rows).
``truth`` scores with the true probabilities, ``logistic`` is a logistic regression on the same features
(values one-hot, numbers in bins, strength of its L2 by the validation part), ``trees`` as everywhere.
"""

import argparse
import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from defaults import numbers, run_cell
from drawing import Array, Log, sigmoid
from drawn_logs import LOGS

from clickscale.data.dataset import Dataset, open_dataset
from clickscale.evaluation.evaluate import with_facts
from clickscale.features import Feature, column_of, label_of

REFERENCES = ("constant", "truth", "logistic")
MODELS = ("trees", "mlp", "din", "suan", "est")


def write(path: Path, columns: dict[str, Array]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*(c.tolist() for c in columns.values()), strict=True)])


def one_of(log: Log, users: int) -> Log:
    """Rows of one in so many users, who are the first column."""
    first = next(iter(log.rows.values()))
    kept = np.unique(first, return_inverse=True)[1] % users == 0
    rows = {name: column[kept] for name, column in log.rows.items()}
    return replace(
        log,
        rows=rows,
        logit=log.logit[kept],
        outcome=log.outcome if log.outcome is None else log.outcome[kept],
    )


def prepare(name: str, out: Path, users: int) -> Path:
    """Draw a log and prepare it by the commands of the tutorial, unless it is there; return its folder."""
    raw, data = out / "raw" / name, out / name
    if (data / "manifest.json").is_file():
        return data
    raw.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(list(LOGS).index(name))
    log = one_of(LOGS[name](random), users)
    drawn = (random.random(len(log.logit)) < sigmoid(log.logit)).astype(int)
    np.save(raw / "logit.npy", log.logit)
    write(raw / "clicks.csv", log.rows | {"clicked": drawn if log.outcome is None else log.outcome})
    tables = ["clicks.csv"]
    for table, columns in {"items": log.items, "users": log.users, **log.tables}.items():
        if columns:
            write(raw / f"{table}.csv", columns)
            tables.append(f"{table}.csv")
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
    parser.add_argument("--one-of", type=int, default=1, help="of so many users one is kept")
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, one thread each")
    arguments = parser.parse_args()
    logs, models = arguments.logs.split(","), arguments.models.split(",")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for log in logs:
            data = prepare(log, arguments.out, arguments.one_of)
            for seed in range(arguments.seeds):
                for model in models:
                    cell = arguments.out / "runs" / log / f"{model}-{seed}"
                    pool.submit(run_cell, data, model, seed, cell)
    lines = table(logs, models, arguments.seeds, arguments.out)
    (arguments.out / "strange_logs.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
