"""The benchmark of defaults: what every model gives on every log when nobody sets anything.

    python benchmarks/defaults.py SOURCE OUT [--logs quarter,rare] [--models din,suan] [--seeds 2] [--jobs 2]

SOURCE and the logs are those of ``logs.py``. Models are trained by `TrainConfig` with a model, a log, a seed
and a length. A cell that is measured is kept, so the script continues where it stopped. The table goes to
OUT/defaults.md and OUT/defaults.json. The test part is measured as served and steers nothing.

With ``--alike`` the logs count as a sample of one kind, such as the slices of ``logs.py``: one more table has
the means over the logs, and intervals of the differences from log to log. One small log tells little, since
few users decide its test part.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from logs import CHECKING, STEERING, prepare
from scipy.special import stdtrit

from clickscale import workflow
from clickscale.baselines.simple import NAMES, simple_predictions
from clickscale.data.dataset import open_dataset
from clickscale.evaluation.label_report import compare_predictions, evaluate_predictions
from clickscale.evaluation.predictions import Predictions, common_rows
from clickscale.training.run.folder import TrainConfig

MODELS = ("mlp", "din", "suan", "lightsuan", "est")
LENGTH = 50
MEASURES = ("auc", "gauc", "request_auc", "log_loss", "pcoc")
RANKINGS = MEASURES[:3]


def numbers(predictions: Predictions) -> dict[str, float]:
    """AUC, GAUC, request AUC, log-loss and PCOC of the first label."""
    label = evaluate_predictions(predictions, bootstrap=0).labels[0]
    return {name: float(label.metrics[name].value) for name in MEASURES}


def cell(data: Path, model: str, seed: int, out: Path) -> None:
    """Train and measure one model in this process; writes ``cell.json``, last."""
    begun = time.process_time()
    if model == "trees":
        workflow.train_trees(data, out, seed=seed, threads=1)
        facts: dict[str, Any] = {}
    else:
        config = TrainConfig(model=model, data=str(data), length=LENGTH, seed=seed, threads=1)
        result = workflow.train(config, out, resume=True, progress=False)
        if not result.finished:
            raise SystemExit(result.exit_code)
        facts = {"steps": result.step, "impressions": result.samples}
        workflow.evaluate(out, bootstrap=0)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    facts |= numbers(workflow.load_predictions(out, "test"))
    facts |= {"cpu_seconds": time.process_time() - begun, "memory_mb": used}
    (out / "cell.json").write_text(json.dumps(facts, indent=1))


def run_cell(data: Path, model: str, seed: int, out: Path) -> None:
    """Run `cell` in a process of its own, unless it is done."""
    if (out / "cell.json").is_file():
        return
    command = [sys.executable, __file__, "--cell", str(data), model, str(seed), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    print(out.name, data.name, "done" if done.returncode == 0 else done.stderr[-400:], flush=True)


def beyond_trees(runs: Path, model: str, seeds: int) -> str:
    """AUC, GAUC, request AUC minus those of the trees, with 95% intervals: means over the seeds of both."""
    pairs = [(runs / f"{model}-{seed}", runs / f"trees-{seed}") for seed in range(seeds)]
    pairs = [pair for pair in pairs if all((run / "cell.json").is_file() for run in pair)]
    if model == "trees" or not pairs:
        return ""
    found = []
    for pair in pairs:
        ours, theirs = common_rows(*(workflow.load_predictions(one, "test") for one in pair))
        tests = compare_predictions(ours, theirs).labels[0].bootstrap
        found.append([(tests[name].delta, tests[name].low, tests[name].high) for name in RANKINGS])
    return ", ".join(
        "-" if np.isnan(delta) else f"{delta:+.4f} [{low:+.4f}, {high:+.4f}]"
        for delta, low, high in np.mean(found, axis=0)
    )


def rows_of(data: Path, runs: Path, models: list[str], seeds: int) -> list[dict[str, Any]]:
    """Means over seeds of each model, and the two predictions that cost nothing."""
    dataset = open_dataset(data)
    simple = simple_predictions(dataset, "test")
    rows: list[dict[str, Any]] = [{"model": name, **numbers(simple[name]), "seeds": 1} for name in NAMES]
    for model in models:
        cells = [runs / f"{model}-{seed}" / "cell.json" for seed in range(seeds)]
        found = [json.loads(path.read_text()) for path in cells if path.is_file()]
        if found:
            if len(found) < seeds:
                print(f"{model} on {runs.name} has {len(found)} of {seeds} seeds; its means are of these")
            means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
            spread = float(np.ptp([one["auc"] for one in found]))
            beyond = beyond_trees(runs, model, seeds)
            rows.append({"model": model, **means, "spread": spread, "seeds": len(found), "beyond": beyond})
    return rows


def table(log: str, data: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Markdown of one log."""
    dataset = open_dataset(data)
    label = f"label.{dataset.labels[0]}"
    clicks = int((np.asarray(dataset.impressions[label])[dataset.part("test")] == 1).sum())
    kind = "steering" if log in STEERING else "checking"
    lines = [
        f"\n{log} ({kind}): {len(dataset.part('train')):,} training impressions, test part"
        f" {len(dataset.part('test')):,} with {clicks:,} positives\n",
        "| model | AUC | GAUC | request AUC | log-loss | PCOC | CPU-s | spread of AUC"
        " | AUC, GAUC, request AUC beyond the trees |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        cpu = f"{row['cpu_seconds']:.0f}" if "cpu_seconds" in row else ""
        spread = f"{row['spread']:.4f}" if row["seeds"] > 1 else ""
        scores = " | ".join("-" if np.isnan(row[name]) else f"{row[name]:.4f}" for name in MEASURES[:4])
        lines.append(
            f"| {row['model']} | {scores} | {row['pcoc']:.3f} | {cpu} | {spread} | {row.get('beyond', '')} |"
        )
    return lines


def over_logs(document: dict[str, list[dict[str, Any]]], yardsticks: tuple[str, ...]) -> list[str]:
    """Markdown of means over logs, with differences from the yardsticks and 95% intervals over the logs."""
    measures = MEASURES[:4]
    logs = [{row["model"]: [row[name] for name in measures] for row in rows} for rows in document.values()]
    models = [model for model in logs[0] if all(model in log for log in logs)]
    beyond = [name for name in yardsticks if name in models]
    lines = [
        f"\nmeans over {len(logs)} logs: AUC, GAUC, request AUC, log-loss\n",
        f"| model | mean | {' | '.join(f'less {name}' for name in beyond)} |",
        "|---|---|" + "---|" * len(beyond),
    ]
    for model in models:
        own = np.array([log[model] for log in logs])  # (logs, measures)
        cells = [", ".join(f"{mean:.4f}" for mean in own.mean(axis=0))]
        for name in beyond:
            apart = own - np.array([log[name] for log in logs])
            half = stdtrit(len(logs) - 1, 0.975) * apart.std(axis=0, ddof=1) / len(logs) ** 0.5
            each = zip(apart.mean(axis=0), half, strict=True)
            cells.append("" if name == model else ", ".join(f"{d:+.4f} ± {h:.4f}" for d, h in each))
        lines.append(f"| {model} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run the grid and write the table."""
    if sys.argv[1:2] == ["--cell"]:
        _, _, data, model, seed, out = sys.argv
        cell(Path(data), model, int(seed), Path(out))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--logs", default=",".join(STEERING + CHECKING))
    parser.add_argument("--models", default=",".join((*MODELS, "trees")))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1, help="cells at once, one thread each")
    parser.add_argument("--only-table", action="store_true", help="train nothing, show what is there")
    parser.add_argument("--alike", action="store_true", help="add means and intervals over the logs")
    arguments = parser.parse_args()
    models, logs = arguments.models.split(","), arguments.logs.split(",")
    if arguments.alike and len(logs) < 2:
        parser.error("--alike needs at least two logs in --logs: one has no interval from log to log")
    everything = {log: prepare(log, arguments.source, arguments.out) for log in logs}
    if not arguments.only_table:
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for seed in range(arguments.seeds):
                for log, data in everything.items():
                    for model in models:
                        out = arguments.out / "runs" / log / f"{model}-{seed}"
                        pool.submit(run_cell, data, model, seed, out)
    lines, document = [], {}
    for log, data in everything.items():
        document[log] = rows_of(data, arguments.out / "runs" / log, models, arguments.seeds)
        lines += table(log, data, document[log])
    if arguments.alike:
        lines += over_logs(document, ("trees", "din"))
    (arguments.out / "defaults.json").write_text(json.dumps(document, indent=1))
    (arguments.out / "defaults.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
