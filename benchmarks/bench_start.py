"""CPU seconds from a raw CSV of 200,000 rows to the first training step, imports included.

    python benchmarks/bench_start.py [--rows 200000] [--rounds 3]

Ours: one process that runs ``clickscale prepare schema.toml`` and then takes one step of DIN, as training
does, on what was prepared. Bare: one process with a script written by hand for this one file (pyarrow reads,
NumPy makes indices and padded histories, torch takes the step); no hashes, no checks, nothing on disk. The
CSV is made up in the shape of MovieLens-1M: users of unequal activity, popular items, four profile fields.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import configured  # noqa: F401 - first, for its effect
import numpy as np
import pyarrow as pa
from pyarrow import csv

TOML = """
name = "start"
user = { name = "user", dtype = "int" }
item = { name = "item", dtype = "int" }
labels = [{ name = "like", condition = "rating >= 4" }]

[impressions]
files = "log.csv"

[behaviors]
fields = [{ name = "rating", dtype = "int" }]

[items]
fields = [{ name = "category" }]

[users]
fields = [
  { name = "gender" }, { name = "age", dtype = "int" }, { name = "job", dtype = "int" }, { name = "zip" }
]
"""

OURS = """
import time
import torch
from clickscale.cli import main
code = main(["prepare", "schema.toml", "--out", "prepared", "--overwrite"])
assert code == 0, code
torch.set_num_threads(1)
import clickscale.workflow  # what the verb `train` imports
from clickscale.data.dataset import open_dataset
from clickscale.data.loader import Loader, LoaderConfig
from clickscale.models import build_model
from measure import Training
dataset = open_dataset("prepared")
model = build_model("din", dataset.features, dataset.item_columns(), grade="size-3", length=50)
Training(model, Loader(dataset, "train", LoaderConfig(length=50)))
"""

BARE = """
import numpy as np
import pyarrow.csv
import torch
from torch.nn import functional
from bare_din import BareDIN
torch.set_num_threads(1)
table = pyarrow.csv.read_csv("log.csv")
codes, sizes = {}, {}
for name in ("user", "item", "rating", "category", "gender", "age", "job", "zip"):
    column = table[name].combine_chunks().dictionary_encode()
    codes[name] = column.indices.to_numpy().astype(np.int64) + 2
    sizes[name] = len(column.dictionary) + 2
time, label = table["time"].to_numpy(), (table["rating"].to_numpy() >= 4).astype(np.float32)
order = np.lexsort((time, codes["user"]))
codes = {name: values[order] for name, values in codes.items()}
time, label = time[order], label[order]
user = codes["user"]
start = np.searchsorted(user, user)
place = np.arange(len(user))[:, None] - 50 + np.arange(50)
there = place >= start[:, None]
place = np.where(there, place, 0)
there &= time[place] < time[:, None]  # equal times are not known yet
history = np.stack([np.where(there, codes[n][place], 0) for n in ("item", "category", "rating")], -1)
profile = np.stack([codes[n] for n in ("user", "gender", "age", "job", "zip")], -1)
candidate = np.stack([codes[n] for n in ("item", "category")], -1)
train = time < np.quantile(time, 0.8)
tensors = [torch.from_numpy(x[train]) for x in (profile, candidate, history, label)]
sides = ("user", "gender", "age", "job", "zip"), ("item", "category"), ("rating",)
model = BareDIN(*([sizes[name] for name in side] for side in sides))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
rows = torch.randperm(len(tensors[3]))[:1024]
loss = functional.binary_cross_entropy_with_logits(model(*(x[rows] for x in tensors[:3])), tensors[3][rows])
loss.backward()
optimizer.step()
"""


def write_log(folder: Path, rows: int) -> None:
    """A CSV with one line per rating."""
    random = np.random.default_rng(0)
    users, items = max(rows // 150, 1), 3700
    user = (users * random.random(rows) ** 2).astype(np.int64)
    item = (items * random.random(rows) ** 3).astype(np.int64)
    kinds = np.array([f"category {n}" for n in range(18)])
    age, job, zips = (random.integers(0, top, users) for top in (7, 21, 3000))
    columns = {
        "user": user + 1,
        "item": item + 1,
        "time": np.sort(random.integers(956_700_000, 1_046_400_000, rows)),
        "rating": random.integers(1, 6, rows),
        "category": kinds[item % 18],
        "gender": np.where(user % 3, "M", "F"),
        "age": age[user],
        "job": job[user],
        "zip": np.char.add("z", zips[user].astype(str)),
    }
    csv.write_csv(pa.table(columns), folder / "log.csv")
    (folder / "schema.toml").write_text(TOML, "utf-8")


def cpu_seconds(program: str, folder: Path) -> float:
    """CPU seconds of a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs = {
        "import torch alone": "import torch",
        "bare script": BARE,
        "clickscale": OURS,
    }
    found: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        write_log(Path(folder), options.rows)
        for _ in range(options.rounds):
            for name, program in programs.items():
                found[name].append(cpu_seconds(program, Path(folder)))
    for name, values in found.items():
        ratios = [value / base for value, base in zip(values, found["bare script"], strict=True)]
        print(
            f"{name:20} {statistics.median(values):6.2f} CPU-s ({min(values):.2f}-{max(values):.2f})"
            f"  {statistics.median(ratios):5.2f}x the bare script"
        )


if __name__ == "__main__":
    main()
