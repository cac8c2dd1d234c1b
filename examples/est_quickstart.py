"""EST from raw tables to a scored request: prepare, add content vectors, train, evaluate, score.

    python examples/est_quickstart.py LOG OUT

LOG holds the tables of a log as CSV, and vectors.parquet: an id column ``item``, a list column ``vector``.
OUT is a new folder. A schema.toml in LOG is used; without one, a draft of it is guessed.
"""

import sys
from pathlib import Path

from clickscale import Scorer, TrainConfig, evaluate, open_dataset, train
from clickscale.config_text import load_toml
from clickscale.data.content.vector_files import open_vectors
from clickscale.data.content.vectors import import_vectors
from clickscale.data.described.drafts.guess import guess
from clickscale.data.described.log import LogConfig, log_source
from clickscale.data.preparation.prepare import prepare

REQUEST = {
    "user": "u7",
    "time": 1704900000,
    "behaviors": [{"item": "i12", "time": 1704880000}, {"item": "i3", "time": 1704890000}],
    "candidates": [{"item": "i3"}, {"item": "i40"}, {"item": "an item that nobody has seen"}],
}


def main(log: Path, out: Path) -> None:
    """Run every step; each leaves a folder in ``out``."""
    schema = log / "schema.toml"
    if not schema.is_file():
        schema.write_text(guess(sorted(log.glob("*.csv")), log), "utf-8")
    prepare(log_source(load_toml(schema, LogConfig), log), out / "prepared")
    vectors = open_vectors(log / "vectors.parquet", "item")
    added = import_vectors(open_dataset(out / "prepared"), vectors, "text", out / "with-text")
    print(f"{added.items - added.missing} of {added.items} items have a vector of {added.width} numbers")

    config = TrainConfig(
        model="est",
        data=str(out / "with-text"),
        grade="size-1",
        length=40,  # behaviors that a candidate sees
        model_options=("recent=20", "kept=10"),  # of them the newest, and those most like the candidate
    )
    run = train(config, out / "est")
    label = evaluate(run.folder, part="test").labels[0]
    auc = label.metrics["auc"]
    print(f"{label.label}: AUC {auc.value:.4f} [{auc.low:.4f}, {auc.high:.4f}]")

    response = Scorer(run.folder / "artifact").score(REQUEST)
    for item, probability in zip(response.items, response.probabilities[:, 0], strict=True):
        print(f"{item}: {probability:.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
