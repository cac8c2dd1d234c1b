"""Every verb and where it lives; verbs import what they need when they run, so that help is instant."""

from typing import Annotated

import typer

from clickscale.cli import analyze, bench, content, data, demo, distill, models, outputs, runs
from clickscale.cli.lab import ablations, benchmarks, plans, sweeps, tune, worlds
from clickscale.cli.server import bench_serve, replay_verbs, score, serve, store_verbs
from clickscale.version import __version__

EXIT_CODES = """\b
Exit codes: 0 done; 1 a check found something; 2 wrong usage or input;
3 a defect of clickscale; 130 and 143 interrupted."""


def _app(text: str, epilog: str = "") -> typer.Typer:
    return typer.Typer(
        help=text,
        epilog=epilog,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = _app(
    "Click-through-rate models that follow scaling laws: from a raw log to a measured model.", EXIT_CODES
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; goes anywhere.")
    ] = False,
) -> None:
    """Options before the verb; ``--debug`` is taken out of the command line before it gets here."""


def _example(*lines: str) -> str:
    return "\b\n" + "\n".join(["Example:", *(f"  {line}" for line in lines)])


_data = _app("Public logs and simulated worlds: what there is and how to get it.")
_data.command("list", epilog=_example("clickscale data list"))(data.list_logs)
_data.command("get", epilog=_example("clickscale data get movielens-100k --out ml-100k"))(data.get_log)
_data.command(
    "world",
    epilog=_example(
        "clickscale data world --impressions 1e6 --preset market --out world",
        "clickscale data world --impressions 1e5 --preset easy --out easy --set strengths.need=0",
    ),
)(worlds.make_world)
_data.command("truth", epilog=_example("clickscale data truth world --lengths 10,50,100,200,500"))(
    worlds.show_truth
)
app.add_typer(_data, name="data")
_schema = _app("Describe a log of your own.")
_schema.command("guess", epilog=_example("clickscale schema guess clicks.csv items.csv --out schema.toml"))(
    data.guess_schema
)
app.add_typer(_schema, name="schema")
app.command(
    "prepare",
    epilog=_example(
        "clickscale prepare schema.toml --out prepared",
        "clickscale prepare movielens-1m:ml-1m --out prepared --set ordered=true",
    ),
)(data.prepare_log)
app.command("inspect", epilog=_example("clickscale inspect prepared --plot prepared.png"))(data.inspect_data)
app.command("leak-check", epilog=_example("clickscale leak-check prepared"))(data.check_leaks)
_content = _app("Frozen vectors of items: what an item's text or picture says.")
_content.command(
    "import",
    epilog=_example(
        "clickscale content import prepared vectors.parquet --key item --name text",
        "clickscale content import prepared vectors.npy --ids ids.npy --out prepared-text",
    ),
)(content.import_content)
_content.command(
    "embed",
    epilog=_example(
        "clickscale content embed prepared --text title,genres --name text",
        "clickscale content embed prepared --text title --texts titles.csv --out prepared-text",
    ),
)(content.embed_content)
_content.command("ids", epilog=_example("clickscale content ids prepared --name text --levels 3 --codes 64"))(
    content.make_ids
)
app.add_typer(_content, name="content")
app.command("models", epilog=_example("clickscale models"))(models.list_models)
app.command("options", epilog=_example("clickscale options", "clickscale options suan --grade size-4"))(
    models.list_options
)
app.command("cost", epilog=_example("clickscale cost suan --grade size-4 --length 200 --candidates 60"))(
    models.show_cost
)
app.command(
    "train",
    epilog=_example(
        "clickscale train suan --data prepared --out runs/suan",
        "clickscale train din --data prepared --out runs/din --epochs 2 --set model.d=16",
        "clickscale train suan --data prepared --out runs/suan --resume",
    ),
)(runs.train_model)
app.command(
    "distill",
    epilog=_example(
        "clickscale distill --teacher suan:size-4:200 --student suan:size-2:100 --data prepared --out runs/a",
        "clickscale distill --teacher-run runs/suan --student din:size-1:50 --data prepared --out runs/b",
    ),
)(distill.distill_models)
app.command(
    "tune",
    epilog=_example(
        "clickscale tune --data prepared --model suan --out tuned --budget 10m",
        "clickscale train suan --data prepared --out runs/tuned --config tuned/tuned.toml",
    ),
)(tune.tune_model)
app.command(
    "benchmark",
    epilog=_example(
        "clickscale benchmark --data prepared --models suan,hstu,trees --out bench --dry-run",
        "clickscale benchmark --data prepared --models suan,hstu,trees --out bench --jobs 2",
    ),
)(benchmarks.benchmark_models)
app.command(
    "ablate",
    epilog=_example(
        "clickscale ablate suan --data prepared --out ablation --dry-run",
        "clickscale ablate est --data prepared --out ablation --tables 1,4 --jobs 2",
    ),
)(ablations.ablate_models)
app.command(
    "sweep",
    epilog=_example(
        "clickscale sweep --data prepared --models suan,est --fractions 1/16..1 --out sweep --dry-run",
        "clickscale sweep --data prepared --models suan --sizes size-1..size-4 --out sweep --jobs 2",
    ),
)(sweeps.sweep_grid)
app.command("laws", epilog=_example("clickscale laws --sweep sweep"))(plans.fit_laws)
app.command(
    "plan",
    epilog=_example("clickscale plan --sweep sweep --latency 10ms --candidates 500 --train-hours 8"),
)(plans.plan_models)
app.command("trees", epilog=_example("clickscale trees --data prepared --out runs/trees"))(runs.train_trees)
app.command("evaluate", epilog=_example("clickscale evaluate runs/suan --part test"))(runs.evaluate_run)
app.command("compare", epilog=_example("clickscale compare runs/din runs/suan runs/trees"))(runs.compare_runs)
app.command(
    "report",
    epilog=_example(
        "clickscale report runs/din runs/suan runs/trees --out report",
        "clickscale report runs/suan --out suan.html --candidates 0",
    ),
)(outputs.report_runs)
app.command(
    "predict",
    epilog=_example(
        "clickscale predict runs/suan --out predictions.parquet",
        "clickscale predict runs/suan/artifact --data prepared --part valid --out predictions.csv",
    ),
)(outputs.predict_part)
app.command(
    "score",
    epilog=_example(
        "clickscale score runs/suan/artifact requests.jsonl --out scores.jsonl",
        "clickscale score runs/suan/artifact candidates.csv --data prepared --counters counters.parquet",
    ),
)(score.score_requests)
app.command(
    "publish",
    epilog=_example(
        "clickscale publish runs/suan/artifact --to models",
        "clickscale publish runs/suan/artifact --to models --calibrate runs/suan --keep-rate 0.1",
    ),
)(serve.publish_model)
app.command(
    "serve",
    epilog=_example(
        "clickscale serve runs/suan/artifact --port 8000",
        "clickscale serve models --store lmdb:///var/lib/clickscale --tokens tokens.txt --follow",
    ),
)(serve.serve_model)
_statistics = _app("Point-in-time statistics at serving.")
_statistics.command(
    "export",
    epilog=_example(
        "clickscale statistics export prepared --out counters.parquet",
        "clickscale statistics export prepared --before test --out counters.parquet",
    ),
)(outputs.export_statistics)
app.add_typer(_statistics, name="statistics")
_store = _app("The online feature store of a server.")
_store.command(
    "load",
    epilog=_example(
        "clickscale store load prepared --store lmdb:///var/lib/clickscale/store",
        "clickscale store load prepared --store redis://localhost:6379/0 --before test",
    ),
)(store_verbs.load_store)
_store.command(
    "inspect", epilog=_example("clickscale store inspect runs/suan/artifact --store lmdb:///PATH")
)(store_verbs.inspect_store)
app.add_typer(_store, name="store")
app.command(
    "replay-check",
    epilog=_example(
        "clickscale replay-check runs/suan",
        "clickscale replay-check runs/suan/artifact --data prepared --url http://localhost:8000",
    ),
)(replay_verbs.replay_part)
_bench = _app("Measure how fast a model scores.")
_bench.command(
    "scoring",
    epilog=_example(
        "clickscale bench scoring runs/suan/artifact --out bench",
        "clickscale bench scoring runs/suan/artifact --candidates 500 --lengths 100,1000",
    ),
)(bench.bench_scoring)
_bench.command(
    "serve",
    epilog=_example(
        "clickscale bench serve runs/suan/artifact",
        "clickscale bench serve runs/suan/artifact --rate 200 --seconds 30 --candidates 100",
        "clickscale bench serve runs/suan/artifact --url http://127.0.0.1:8000 --rate 200",
    ),
)(bench_serve.bench_serve)
app.add_typer(_bench, name="bench")
_analyze = _app("Look into a trained model.")
_analyze.command("blocks", epilog=_example("clickscale analyze blocks runs/est-full --out analysis"))(
    analyze.analyze_blocks
)
app.add_typer(_analyze, name="analyze")
app.command(
    "demo",
    epilog=_example("clickscale demo", "clickscale demo --source ml-100k", "clickscale demo --files ."),
)(demo.run_demo)
