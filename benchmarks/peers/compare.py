"""DIN of torch-rechub and of DeepCTR-Torch beside ours, on the same rows and the same features.

    python benchmarks/peers/compare.py OUT --python PEERS/bin/python [--logs quarter,rare] [--settings 8]

OUT holds the prepared logs of ``benchmarks/logs.py``. Each library is trained with the settings of its own
DIN example, and over a grid of which the validation part chooses the setting and the number of epochs. Ours
is what `TrainConfig` gives when nobody sets anything. What is trained is kept in OUT/peers, so the script
continues where it stopped. ``--settings`` and ``--epochs`` say how far the grid goes; the table goes to
OUT/peers/table.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from export import export

from clickscale import workflow
from clickscale.data.dataset import Dataset, open_dataset
from clickscale.evaluation.evaluate import with_facts
from clickscale.evaluation.label_report import compare_predictions, evaluate_predictions
from clickscale.evaluation.predictions import Predictions
from clickscale.evaluation.significance import PairedTest

HERE = Path(__file__).parent
LOGS = ("slice10k", "musical", "rare", "slice40k", "kuairand", "positives", "quarter")
PEERS = ("deepctr-torch", "torch-rechub")
LENGTH, SEED = 50, 0
MEASURES = ("auc", "gauc", "log_loss", "pcoc")
# (embedding width, batch, learning rate), in the order of training.
GRID = (
    (16, 1024, 3e-3),
    (16, 256, 1e-3),
    (16, 1024, 1e-3),
    (16, 256, 3e-3),
    (8, 256, 1e-3),
    (8, 1024, 3e-3),
    (8, 256, 3e-3),
    (8, 1024, 1e-3),
)
# The libraries' DIN examples; what they leave open is the default of their signatures.
EXAMPLES: dict[str, dict[str, Any]] = {
    "deepctr-torch": {"width": 8, "batch": 256, "rate": 0.01, "epochs": 10, "optimizer": "adagrad"},
    "torch-rechub": {
        "width": 8,
        "batch": 4096,
        "rate": 1e-3,
        "epochs": 2,
        "decay": 1e-3,
        "attention": [256, 128],
    },
}


def grid(count: int, epochs: int) -> list[dict[str, Any]]:
    """The first ``count`` settings of the grid, as ``train.py`` reads them."""
    return [
        {"name": f"w{width}-b{batch}-r{rate:g}", "width": width, "batch": batch, "rate": rate}
        | {"epochs": epochs, "seed": SEED}
        for width, batch, rate in GRID[:count]
    ]


def train_peers(python: str, data: Path, out: Path, wanted: list[dict[str, Any]], examples: bool) -> None:
    """Train both libraries by ``wanted`` settings on one log, one process at a time."""
    rows = out / "rows"
    if not (rows / "columns.json").is_file():
        export(open_dataset(data), rows, LENGTH)
    for peer in PEERS:
        example = [{"name": "example", "seed": SEED, **EXAMPLES[peer]}] if examples else []
        chosen = out / f"{peer}.json"
        chosen.write_text(json.dumps(wanted + example))
        command = [python, str(HERE / "train.py"), peer, str(rows), str(chosen), str(out / peer)]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=one_thread)
        print(done.stdout[-300:] if done.returncode == 0 else done.stderr[-1000:], flush=True)


def train_ours(data: Path, out: Path) -> None:
    """Train our DIN by the benchmark of defaults."""
    if not (out / "cell.json").is_file():
        script = str(HERE.parent / "defaults.py")
        subprocess.run([sys.executable, script, "--cell", str(data), "din", str(SEED), str(out)], check=True)


def predictions_of(dataset: Dataset, part: str, probabilities: np.ndarray[Any, Any]) -> Predictions:
    """Probabilities of one part as our evaluation takes them."""
    chance = np.clip(probabilities, 1e-7, 1 - 1e-7)
    logits = np.log(chance / (1 - chance)).astype(np.float32)[:, None]
    return with_facts(dataset, dataset.part(part), logits, dataset.labels[:1], part, "impression")


def measure(predictions: Predictions) -> dict[str, float]:
    """AUC, GAUC, log-loss and PCOC."""
    label = evaluate_predictions(predictions, bootstrap=0).labels[0]
    return {name: float(label.metrics[name].value) for name in MEASURES}


def rows_of(dataset: Dataset, out: Path, run: Path) -> list[dict[str, Any]]:
    """The rows of one log: each library by its example and at its best, and ours."""
    cell = run / "cell.json"
    ours = workflow.load_predictions(run, "test") if cell.is_file() else None
    rows: list[dict[str, Any]] = []
    for peer in PEERS:
        example = out / peer / f"example-{EXAMPLES[peer]['epochs']}.npz"
        if example.is_file():
            rows.append({"model": f"{peer}, its example"} | _row(dataset, example, ours))
        files = sorted((out / peer).glob("w*.npz"))
        if files:
            valid = [measure(predictions_of(dataset, "valid", np.load(file)["valid"])) for file in files]
            best = files[int(np.argmax([one["auc"] for one in valid]))]
            width, batch, rate, epoch = best.stem.split("-")
            chosen = f"width {width[1:]}, batch {batch[1:]}, rate {rate[1:]}, epoch {epoch}"
            rows.append({"model": f"{peer}, best of {len(files)}: {chosen}"} | _row(dataset, best, ours))
    if cell.is_file():
        rows.append({"model": "clickscale, default"} | json.loads(cell.read_text()))
    return rows


def _row(dataset: Dataset, file: Path, ours: Predictions | None) -> dict[str, Any]:
    """Measures of kept predictions, and by how much ours are above them, with intervals over users."""
    kept = np.load(file)
    theirs = predictions_of(dataset, "test", kept["test"])
    row: dict[str, Any] = {**measure(theirs), "cpu_seconds": float(kept["cpu_seconds"])}
    if ours is not None:
        tests = compare_predictions(ours, theirs).labels[0].bootstrap
        row |= {f"{name}_lead": tests[name] for name in ("auc", "gauc")}
    return row


def _lead(test: PairedTest | None) -> str:
    return test.delta_text if test else ""


def table(log: str, dataset: Dataset, rows: list[dict[str, Any]]) -> list[str]:
    """Markdown of one log."""
    test, label = dataset.part("test"), f"label.{dataset.labels[0]}"
    clicks = int((np.asarray(dataset.impressions[label])[test] == 1).sum())
    sizes = f"{len(dataset.part('train')):,} training rows, {len(test):,} test rows with {clicks:,} positives"
    lines = [
        f"\n{log}: {sizes}\n",
        "| DIN | AUC | GAUC | log-loss | PCOC | CPU-s | AUC, ours minus it | GAUC, ours minus it |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        scores = " | ".join(f"{row[name]:.4f}" for name in ("auc", "gauc", "log_loss"))
        leads = " | ".join(_lead(row.get(f"{name}_lead")) for name in ("auc", "gauc"))
        cost = f"{row['cpu_seconds']:.0f}"
        lines.append(f"| {row['model']} | {scores} | {row['pcoc']:.3f} | {cost} | {leads} |")
    return lines


def main() -> None:
    """Train what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--python", default="", help="of the libraries' environment; empty trains nothing")
    parser.add_argument("--logs", default=",".join(LOGS))
    parser.add_argument("--settings", type=int, default=len(GRID), help="trainings of the grid")
    parser.add_argument("--epochs", type=int, default=3, help="of each training of the grid")
    parser.add_argument("--no-examples", action="store_true", help="leave out the libraries' own settings")
    arguments = parser.parse_args()
    lines = []
    for log in arguments.logs.split(","):
        data, out = arguments.out / log, arguments.out / "peers" / log
        ours = arguments.out / "runs" / log / f"din-{SEED}"
        if arguments.python:
            train_ours(data, ours)
            wanted = grid(arguments.settings, arguments.epochs)
            train_peers(arguments.python, data, out, wanted, not arguments.no_examples)
        dataset = open_dataset(data)
        lines += table(log, dataset, rows_of(dataset, out, ours))
        (arguments.out / "peers").mkdir(exist_ok=True)
        (arguments.out / "peers" / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
