"""Gain of content in EST, by the way it enters the model: the choices of table 2 of its paper.

    python examples/content_features.py PREPARED OUT TEXT [TEXT...]

PREPARED is a prepared data set without content, OUT a new folder, TEXT the item fields to embed (needs the
extra ``content``) or instead a file of vectors with an id column ``item``, see `clickscale content import`.
"""

import sys
from pathlib import Path

from clickscale import TrainConfig, evaluate, open_dataset, train
from clickscale.data.content.embed import embed_items
from clickscale.data.content.semantic_id import add_semantic_ids
from clickscale.data.content.vector_files import open_vectors
from clickscale.data.content.vectors import import_vectors
from clickscale.evaluation import compare_predictions
from clickscale.workflow import load_predictions

# Name -> with semantic ids?, how vectors enter. Search and content attention use the vectors in all of them.
CHOICES = {
    "none": (False, "none"),
    "side information": (False, "side"),
    "semantic ids": (True, "none"),
    "SimTier": (False, "simtier"),
    "SimTier + side": (False, "both"),
}


def main(prepared: Path, out: Path, texts: list[str]) -> None:
    """Add the content, train every choice once, and test each against none."""
    plain, vectors, ids = open_dataset(prepared), out / "vectors", out / "ids"
    if Path(texts[0]).is_file():
        import_vectors(plain, open_vectors(Path(texts[0]), "item"), "text", vectors)
    else:
        embed_items(plain, texts, "text", vectors)
    made = add_semantic_ids(open_dataset(vectors), "text", ids, levels=2, codes=8)
    for level in made.levels:
        print(f"{level.name}: {level.ids} values leave {level.unexplained:.1%} of the variance")

    for name, (with_ids, content) in CHOICES.items():
        config = TrainConfig(
            model="est",
            data=str(ids if with_ids else vectors),
            grade="size-1",
            length=40,
            model_options=("recent=20", "kept=10", f"content={content}"),
        )
        run = train(config, out / name)
        evaluate(run.folder, part="test")
        base = load_predictions(out / "none", "test")
        found = compare_predictions(load_predictions(run.folder, "test"), base).labels[0]
        change = found.bootstrap["auc"]
        print(f"{name}: AUC {found.a['auc']:.4f}, against none {change.delta_text}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
