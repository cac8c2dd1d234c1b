"""EST on one prepared data set with content vectors: what its parts are worth, and how content should enter.

    python benchmarks/est_table.py prepared-text/ --ids prepared-text-ids/ --share 0.3
    python benchmarks/est_table.py prepared-text/ --share 0.3 --variants request,paper,full

Variants are lines of `VARIANTS`; each is trained for a share of an epoch (its learning rate runs through the
whole schedule) with the same seeds, and tested against the first one over seeds. ``--ids`` names the data set
with semantic ids as item features. Done measurements are kept in ``--out`` and not made again.
"""

import argparse
import json
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import torch
from paired_seeds import measure

from clickscale.data.dataset import open_dataset
from clickscale.evaluation.significance import seeds_t_test

MEASURES = ("auc", "gauc", "log_loss")
VARIANTS = {
    "est": "",
    "no-csa": "csa=none",
    "request": "grouping=request batch_size=256",
    "paper": "csa=paper grouping=request batch_size=256",
    "full": "grouping=request batch_size=256",
    "no-content": "content=none csa=none search=field",
    "side": "content=side",
    "both": "content=both",
    "ids": "content=none",  # on the data set with semantic ids
    "no-retrieval": "kept=0",
}
FULL = "est_full"  # the model of the variant ``full``
TOLD = {
    "est": "EST (SimTier)",
    "no-csa": "without CSA",
    "request": "EST, trained by requests",
    "paper": "CSA over the whole sequence, trained by requests",
    "full": "full attention, trained by requests",
    "no-content": "no content at all",
    "side": "side information for SimTier",
    "both": "SimTier and side information",
    "ids": "semantic ids for SimTier",
    "no-retrieval": "without B_c",
}


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """One variant for one seed, from the file if it is there."""
    path = arguments.out / f"{name}-share{arguments.share:g}-L{arguments.length}-seed{seed}.json"
    if path.is_file():
        found: dict[str, float] = json.loads(path.read_text("utf-8"))
        return found
    data = arguments.ids if name == "ids" else arguments.data
    options = [*arguments.set, *VARIANTS[name].split()]
    model = FULL if name == "full" else arguments.model
    found = measure(
        open_dataset(data), options, seed, argparse.Namespace(**{**vars(arguments), "model": model})
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found), "utf-8")
    print(f"{name}, seed {seed}: {json.dumps(found)}", flush=True)
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--ids", type=Path, help="the data set with semantic ids")
    parser.add_argument("--out", type=Path, default=Path("runs/est"))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="options of all models")
    parser.add_argument("--model", default="est")
    parser.add_argument("--grade", default="size-2")
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the epoch to train")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--part", default="test", choices=("valid", "test"))
    parser.add_argument("--measure", default="request", choices=("timeline", "request"), help="grouping")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in arguments.variants.split(",") if name != "ids" or arguments.ids]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(arguments.seeds):
        for name in names:
            results[name].append(measured(name, seed, arguments))
    print("\n| variant | AUC | GAUC | log-loss | AUC against the first | GAUC | samples/CPU-s |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in names:
        print(f"| {TOLD[name]} | {' | '.join(cells(results[name], results[names[0]]))} |")


def cells(mine: list[dict[str, float]], base: list[dict[str, float]]) -> list[str]:
    """Means over seeds, and the differences from the base with the paired test over seeds."""
    means = [sum(run[name] for run in mine) / len(mine) for name in (*MEASURES, "samples_per_cpu_second")]
    shown = [f"{mean:.4f}" for mean in means[:3]]
    for name in ("auc", "gauc"):
        if mine is base or len(mine) < 2:
            shown.append("")
            continue
        test = seeds_t_test([run[name] for run in mine], [run[name] for run in base])
        shown.append(f"{test.delta:+.4f} (p {test.p_text})")
    return [*shown, f"{means[3]:,.0f}"]


if __name__ == "__main__":
    main()
