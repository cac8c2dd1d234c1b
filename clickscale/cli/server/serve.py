"""The verbs ``serve`` and ``publish``: answer requests over HTTP, and give a server versions of a model."""

import ipaddress
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from clickscale.cli.console import emit, say
from clickscale.cli.options import AsJson, Sets
from clickscale.cli.server.score import size_in_bytes
from clickscale.config_text import assign, build, read_assignments, split_assignments
from clickscale.errors import ConfigError, InputError
from clickscale.files import replace_bytes

if TYPE_CHECKING:
    from clickscale.inference.states.cache import StateCache
    from clickscale.serving.access import Access
    from clickscale.serving.service import ServiceConfig
    from clickscale.serving.versions.score_correction import Calibrator


def serve_model(
    artifact: Annotated[
        Path, typer.Argument(help="Folder of an artifact, or of the versions that clickscale publish made.")
    ],
    store: Annotated[
        str | None,
        typer.Option(
            "--store", metavar="URL", help="memory://, lmdb:///PATH, redis://HOST:PORT/N or unix:///PATH."
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="0 takes a free one.")] = 8000,
    address_file: Annotated[
        Path | None,
        typer.Option("--address-file", metavar="FILE", help="Write the URL here as soon as it listens."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Threads that score; 0 for one per core.")
    ] = 0,
    cache: Annotated[
        str, typer.Option("--cache", metavar="SIZE", help="Memory for states of users; 0 keeps none.")
    ] = "256MB",
    precision: Annotated[
        str, typer.Option("--precision", help="Of kept states: fp32, fp16, bf16, int8.")
    ] = "fp32",
    tokens: Annotated[
        Path | None,
        typer.Option("--tokens", metavar="FILE", help="One token a line: NAME SCOPE,SCOPE TOKEN."),
    ] = None,
    anyone: Annotated[
        bool, typer.Option("--anyone", help="Listen to other machines without tokens.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Serve each version as soon as it is published.")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Options as TOML.")] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Answer requests over HTTP until SIGTERM, which loses none.

    POST /v1/rank scores candidates, POST /v1/events takes what users did, /docs shows all routes with
    examples. Scores are those of clickscale score. Tokens come from --tokens or the environment variable
    CLICKSCALE_TOKENS; without any, only this machine may rank and send events, and nobody may administer.
    """
    need_serving()
    from clickscale.runtime import available_cores, set_threads
    from clickscale.serving.access import load_access
    from clickscale.serving.run_server import listen_on, serve
    from clickscale.serving.service import Service
    from clickscale.serving.store.opening import StoreAt
    from clickscale.serving.telemetry import log_as_json
    from clickscale.serving.versions.model_versions import Source

    options = _options(config, sets or [], workers or available_cores(), follow)
    access = load_access(tokens)
    _check_host(host, access, anyone)
    source = Source.of(artifact)
    if options.follow and source.root is None:
        raise ConfigError(
            f"--follow needs a folder of published versions, and {artifact} is none;"
            " make one: clickscale publish ARTIFACT --to DIR"
        )
    kept = _cache(cache, precision)
    log_as_json()
    set_threads(1)  # requests run side by side; threads within one would only wait for each other
    service = Service(source, options, access, kept, None if store is None else StoreAt(store), freeze=True)
    listening = listen_on(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    if address_file is not None:
        _write_address(address_file, url)
    if as_json:
        emit({"url": url, "pid": os.getpid(), "workers": options.engine.workers})
    else:
        say(url)
    serve(service, listening)


def _write_address(file: Path, url: str) -> None:
    try:
        replace_bytes(file, f"{url}\n".encode())
    except OSError as error:
        raise ConfigError(f"Cannot write the address to {file}: {error.strerror}.") from error


def need_serving() -> None:
    """Refuse in one sentence where the packages of the server are missing."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"Serving needs {error.name}: pip install 'clickscale[serve]'") from error


def _options(config: Path | None, sets: list[str], workers: int, follow: bool) -> "ServiceConfig":
    from clickscale.serving.service import ServiceConfig

    layers: list[tuple[str, list[tuple[str, Any]]]] = [("--workers", [("engine.workers", workers)])]
    if follow:
        layers.append(("--follow", [("follow", True)]))
    if config is not None:
        layers.append((str(config), read_assignments(config)))
    layers.append(("--set", split_assignments(sets)))
    return assign(ServiceConfig(), layers)


def _check_host(host: str, access: "Access", anyone: bool) -> None:
    try:
        near = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(f"{host!r} is no address; give one such as 127.0.0.1 or 0.0.0.0.") from error
    if access.is_open and not near and not anyone:
        raise ConfigError(
            f"Other machines reach {host}, and there are no tokens; give --tokens, or --anyone to let"
            " everybody rank and send events."
        )


def _cache(size: str, precision: str) -> "StateCache | None":
    from clickscale.inference.states.cache import StateCache
    from clickscale.inference.states.cache_config import CacheConfig

    if not (budget := size_in_bytes(size)):
        return None
    return StateCache(build(CacheConfig, {"budget": budget, "precision": precision}, "--precision"))


def publish_model(
    artifact: Annotated[Path, typer.Argument(help="Folder of an artifact, such as runs/suan/artifact.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of published versions.")],
    version: Annotated[str, typer.Option("--version", help="Name; without one the next of v1, v2, ...")] = "",
    requests: Annotated[
        Path | None,
        typer.Option("--requests", metavar="FILE", help="Requests to check on loading, one JSON a line."),
    ] = None,
    keep_rate: Annotated[
        float, typer.Option("--keep-rate", min=0, max=1, help="Share of the negatives that training saw.")
    ] = 1.0,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="RUN", help="Fit a calibrator on the valid part of this run."),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Let servers begin with it, and follow.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Publish an artifact as a version that servers load.

    The version holds requests with their scores, which a server must reproduce before it serves the version,
    and corrections of scores, which a server applies once. It appears whole or not at all.
    """
    from clickscale.serving.versions.publishing import publish
    from clickscale.serving.versions.score_correction import Correction

    given = [] if requests is None else _read_requests(requests)
    calibrators = {} if calibrate is None else _calibrators(calibrate, keep_rate)
    correction = Correction(keep_rate=keep_rate, calibrators=calibrators)
    folder = publish(artifact, to, version, requests=given, correction=correction, promote=promote)
    if as_json:
        told = msgspec.to_builtins(correction)
        emit({"folder": str(folder), "version": folder.name, "promoted": promote, "correction": told})
    else:
        say(f"{folder} is published" + (" and promoted" if promote else ""))


def _read_requests(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read the requests of {path}: {error}") from error


def _calibrators(run: Path, keep_rate: float) -> "dict[str, Calibrator]":
    from clickscale.serving.versions.score_correction import fit_calibrator
    from clickscale.workflow import load_predictions

    predictions = load_predictions(run, "valid")
    found = {}
    for place, label in enumerate(predictions.label_names):
        rows = predictions.label_mask[:, place]
        logits, outcomes = predictions.logits[rows, place], predictions.labels[rows, place]
        found[label] = fit_calibrator(logits, outcomes, keep_rate)
    return found
