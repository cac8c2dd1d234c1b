"""The verbs ``analyze ...``: look into a trained model."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from clickscale.cli.console import Stages, cell, emit, grid, jsonable, say, show
from clickscale.cli.options import AsJson, MaybeData, Overwrite, Seed, check_folder
from clickscale.files import replace_text, replacing

if TYPE_CHECKING:
    from clickscale.analysis.est_blocks import Attention, Effect

JSON, MAPS, MAPS_PLOT, PLOT = "blocks.json", "attention.safetensors", "attention.svg", "blocks.svg"
FILES = (JSON, MAPS, MAPS_PLOT, PLOT)
MEASURES, CHANGE = ("auc", "gauc"), ("change", "low", "high")


def analyze_blocks(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run of est_full.")],
    data: MaybeData = None,
    part: Annotated[Literal["train", "valid", "test"], typer.Option("--part", help="Part to score.")] = (
        "valid"
    ),
    users: Annotated[
        int, typer.Option("--users", min=0, help="Users to score, at random; 0: all of the part.")
    ] = 0,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="Impressions whose attention is looked at, at random.")
    ] = 2000,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=0, help="Resamples of the users for intervals; 0: none.")
    ] = 200,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help=f"Folder to write {', '.join(FILES)} into.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Find blocks of full attention that matter: of tokens (N), recent (B_u) and retrieved (B_c) behaviors.

    Scores the part without each block <query, key> of attention and tests what that changes. Then tells, by
    layer, the effective rank of a block (1 if every query attends to keys of its own, the least if all attend
    alike) and the share of attention that it gets.
    """
    from clickscale.analysis.est_blocks import attention_of, block_effects, full_attention_model
    from clickscale.training.run.folder import load_run

    check_folder(out, FILES, overwrite)
    loaded = load_run(run, data)
    model, length = full_attention_model(loaded.model, str(run)), loaded.config.length
    with Stages() as stages:
        effects = block_effects(
            model,
            loaded.dataset,
            part,
            length=length,
            labels=loaded.labels,
            users=users,
            bootstrap=bootstrap,
            seed=seed,
            progress=stages,
        )
        attention = attention_of(
            model, loaded.dataset, part, length=length, samples=samples, seed=seed, progress=stages
        )
    document = _document(run, part, effects, attention)
    if out is not None:
        _write(out, document, attention)
    if as_json:
        emit(document)
        return
    _show(document)


def _document(run: Path, part: str, effects: "tuple[Effect, ...]", attention: "Attention") -> dict[str, Any]:
    """Everything but the maps."""
    first = effects[0].comparison
    places = attention.places
    return {
        "run": str(run),
        "part": part,
        "grouping": "request",
        "impressions": first.rows,
        "users": first.users,
        "samples": attention.blocks[0].samples,
        "tokens": attention.names,
        "recent": places.recent,
        "kept": places.kept,
        "cuts": [effect.to_dict() for effect in effects],
        "attention": [block.to_dict() for block in attention.blocks],
    }


def _write(out: Path, document: dict[str, Any], attention: "Attention") -> None:
    from safetensors.numpy import save_file

    from clickscale.report.block_plots import attention_maps, blocks
    from clickscale.report.plots import save_svg

    places = attention.places
    seen = f"{document['run']}, part {document['part']}"
    kinds = [("N", places.tokens), ("B_u", places.recent), ("B_c", places.kept)]
    title = f"{seen}: mean attention of {document['samples']:,} impressions"
    maps = attention_maps(title, attention.maps, kinds)
    first = _by_label(document)[document["cuts"][0]["label"]]
    changes = [
        (name.upper(), [(cut["block"], *(cut[name][key] for key in CHANGE)) for cut in first])
        for name in MEASURES
    ]
    ranks = [
        (block, layers[0]["least"], [layer["effective_rank"] for layer in layers])
        for block, layers in _by_block(document).items()
    ]
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / JSON, json.dumps(jsonable(document), indent=2))
    with replacing(out / MAPS) as partial:
        save_file({"maps": attention.maps}, partial)
    save_svg(maps, out / MAPS_PLOT)
    save_svg(blocks(f"{seen}: blocks <query, key>", changes, ranks), out / PLOT)
    say(f"{', '.join(FILES)} in {out}")


def _by_label(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Cuts of each label, in the order of the blocks."""
    return _grouped(document["cuts"], "label")


def _by_block(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Attention of each block, layer by layer."""
    return _grouped(document["attention"], "block")


def _grouped(found: list[dict[str, Any]], by: str) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        groups.setdefault(each[by], []).append(each)
    return groups


def _show(document: dict[str, Any]) -> None:
    """One table per label of what cuts do, then one of attention by layer."""
    for label, cuts in _by_label(document).items():
        whole = ", ".join(f"{name.upper()} {cell(cuts[0][name]['whole'])}" for name in MEASURES)
        title = f"{document['run']}, part {document['part']}, {label}: {whole}; without the block"
        columns = ("block", "AUC", "change of AUC", "p", "change of GAUC", "p")
        rows = [
            (cut["block"], cut["auc"]["cut"], *_tested(cut["auc"]), *_tested(cut["gauc"])) for cut in cuts
        ]
        tests = [(name.upper(), cut[name]["reason"]) for cut in cuts for name in MEASURES]
        untested = dict.fromkeys(f"{name}: {reason}" for name, reason in tests if reason)
        show(grid(title, columns, rows, untested))
    blocks = _by_block(document)
    layers = len(next(iter(blocks.values())))
    headers = ("block", "least rank", *(f"layer {layer + 1}" for layer in range(layers)))
    cells = [(name, found[0]["least"], *map(_attention, found)) for name, found in blocks.items()]
    title = f"Attention of {document['samples']:,} impressions: effective rank / share"
    reasons = {name: found[0]["reason"] for name, found in blocks.items() if found[0]["reason"]}
    show(grid(title, headers, cells, (f"{name}: {reason}" for name, reason in reasons.items())))


def _attention(layer: dict[str, Any]) -> str:
    """``0.1234 / 20.0%``, a dash if no impression has both kinds."""
    return "-" if layer["reason"] else f"{cell(layer['effective_rank'])} / {layer['share']:.1%}"


def _tested(measure: dict[str, Any]) -> tuple[str, str]:
    """A change with its interval, and its p-value."""
    from clickscale.evaluation.significance import PairedTest

    change, low, high = (measure[key] for key in CHANGE)
    test = PairedTest(change, low, high, measure["p_value"], resamples=measure["resamples"])
    return test.delta_text, test.p_text
