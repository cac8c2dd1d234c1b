"""The files of deploy/ against the command line, the routes and the options that they name."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet

from clickscale.cli.app import app
from clickscale.config_text import build
from clickscale.errors import ConfigError
from clickscale.serving.replicas import ray_serve
from clickscale.serving.routes.http_app import create_app
from clickscale.serving.service import ServiceConfig

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = (ROOT / "deploy/kubernetes.yaml").read_text("utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text("utf-8")
RAY = (ROOT / "deploy/ray-serve.yaml").read_text("utf-8")


def serve_flags() -> dict[str, bool]:
    """Long flags of ``clickscale serve``, and whether each takes a value."""
    command = typer.main.get_command(app)
    serve = command.commands["serve"]  # type: ignore[attr-defined]
    return {name: not one.is_flag for one in serve.params for name in one.opts if name.startswith("--")}


def wrong_flags(words: list[str]) -> Iterator[str]:
    """Complain about flags of a command line that ``clickscale serve`` does not have."""
    known, words = serve_flags(), [part for word in words for part in word.split("=", 1)]
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--") and word not in known:
            yield f"clickscale serve has no {word}"
        elif word.startswith("--") and known[word] == following.startswith("--"):
            yield f"{word} {'needs a value' if known[word] else 'takes none'}"


def value_of(words: list[str], flag: str) -> str:
    words = [part for word in words for part in word.split("=", 1)]
    return words[words.index(flag) + 1] if flag in words else ""


def paths() -> set[str]:
    service: Any = SimpleNamespace(config=ServiceConfig())
    return {route.path for route in create_app(service).routes}  # type: ignore[attr-defined]


# --- Kubernetes


def kubernetes_complaints(text: str) -> list[str]:
    """What in the manifests does not fit the server, the image, or the other manifests."""
    objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}
    deployment = objects["Deployment", "clickscale"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    found = list(wrong_flags(container["args"]))
    found += _probes(container)
    found += _ports(objects, container)
    found += _volumes(objects, pod, container)
    options = objects["ConfigMap", "clickscale"]["data"]["serve.toml"]
    try:
        config = build(ServiceConfig, _toml(options), "serve.toml")
    except ConfigError as error:
        return [*found, str(error)]
    grace = pod["terminationGracePeriodSeconds"]
    if grace <= config.drain_seconds + config.stop_seconds + 1:
        found.append(f"the pod is killed after {grace} s, before the server has stopped")
    probe = container["readinessProbe"]
    if probe["periodSeconds"] * probe["failureThreshold"] >= config.drain_seconds:
        found.append("requests are sent until after the drain")
    labels = deployment["template"]["metadata"]["labels"].items()
    for (kind, name), one in objects.items():
        selector = one.get("spec", {}).get("selector", one.get("spec", {}).get("podSelector"))
        if selector is not None and not selector.get("matchLabels", selector).items() <= labels:
            found.append(f"{kind} {name} selects other pods")
    user = re.search(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    if user is None or int(user[1]) != pod["securityContext"]["runAsUser"]:
        found.append("the user is not that of the image")
    if (
        not container["securityContext"]["readOnlyRootFilesystem"]
        or not pod["securityContext"]["runAsNonRoot"]
    ):
        found.append("the container may write its image, or run as root")
    return found


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _probes(container: dict[str, Any]) -> Iterator[str]:
    wanted = {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    known = paths()
    for name, path in wanted.items():
        asked = container[name]["httpGet"]
        if asked["path"] != path or path not in known:
            yield f"{name} asks {asked['path']}"
        if asked["port"] != "http":
            yield f"{name} asks another port"


def _ports(objects: dict[tuple[str, str], Any], container: dict[str, Any]) -> Iterator[str]:
    [port] = container["ports"]
    if str(port["containerPort"]) != value_of(container["args"], "--port"):
        yield "the container port is not that of --port"
    annotations = objects["Deployment", "clickscale"]["spec"]["template"]["metadata"]["annotations"]
    if annotations["prometheus.io/port"] != str(port["containerPort"]):
        yield "metrics are read from another port"
    if annotations["prometheus.io/path"] not in paths():
        yield "metrics are read from no route"
    for (kind, name), one in objects.items():
        if kind == "Service" and [row["targetPort"] for row in one["spec"]["ports"]] != [port["name"]]:
            yield f"Service {name} sends to another port"


def _volumes(
    objects: dict[tuple[str, str], Any], pod: dict[str, Any], container: dict[str, Any]
) -> Iterator[str]:
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
    if {one["name"] for one in mounts.values()} != set(volumes):
        yield "volumes and their mounts differ"
    for path in (
        container["args"][0],
        *(value_of(container["args"], f"--{one}") for one in ("tokens", "config")),
    ):
        if not any(path == mount or path.startswith(f"{mount}/") for mount in mounts):
            yield f"{path or 'a path'} is on no volume"
    if "secret" not in volumes["tokens"] or any(kind == "Secret" for kind, _ in objects):
        yield "tokens do not come from a Secret that is made elsewhere"
    for one in volumes.values():
        claim, config = one.get("persistentVolumeClaim"), one.get("configMap")
        if claim and ("PersistentVolumeClaim", claim["claimName"]) not in objects:
            yield f"there is no claim {claim['claimName']}"
        if config and ("ConfigMap", config["name"]) not in objects:
            yield f"there is no ConfigMap {config['name']}"


def test_the_kubernetes_example_fits_the_server() -> None:
    assert kubernetes_complaints(KUBERNETES) == []


@pytest.mark.parametrize(
    ("text", "instead", "complaint"),
    [
        ("--follow\n", "--folow\n", "clickscale serve has no --folow"),
        ("--port=8000", "--port", "--port needs a value"),
        ("--port=8000", "--port=8080", "the container port is not that of --port"),
        ("path: /livez", "path: /healthz", "livenessProbe asks /healthz"),
        ("GracePeriodSeconds: 45", "GracePeriodSeconds: 30", "killed after 30 s"),
        ("drain_seconds = 10", "drain_seconds = 3", "until after the drain"),
        ("drain_seconds = 10", "drain_secs = 10", "drain_secs"),
        ("targetPort: http", "targetPort: 80", "sends to another port"),
        ("runAsUser: 10001", "runAsUser: 1000", "not that of the image"),
        ("- {name: tokens, mountPath", "- {name: config, mountPath", "volumes and their mounts differ"),
        ("secret: {secretName: clickscale-tokens, defaultMode: 0440}", "emptyDir: {}", "come from a Secret"),
        ("matchLabels: {app.kubernetes.io/name: clickscale}", "matchLabels: {app: x}", "selects other pods"),
        ("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write its image"),
    ],
)
def test_a_manifest_that_does_not_fit_is_seen(text: str, instead: str, complaint: str) -> None:
    assert text in KUBERNETES
    assert any(complaint in one for one in kubernetes_complaints(KUBERNETES.replace(text, instead)))


# --- the container file


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a container file, continued lines joined."""
    whole = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in whole.splitlines() if line.strip()]


def container_complaints(text: str, ignored: str) -> list[str]:
    """What in the container file does not fit the repository and the server."""
    found: list[str] = []
    kept = [line[1:] for line in ignored.splitlines() if line.startswith("!")]
    if "*" not in ignored.splitlines():
        found.append("the builder gets everything that .dockerignore does not name")
    last: dict[str, str] = {}
    for name, rest in instructions(text):
        last[name] = rest
        if name == "COPY" and "--from" not in rest:
            found += [f"{one} is not sent to the builder" for one in rest.split()[:-1] if one not in kept]
            found += [f"there is no {one}" for one in rest.split()[:-1] if not (ROOT / one).exists()]
        if name == "RUN" and "pip install" in rest and "-c constraints.txt" not in rest:
            found.append("a package is not pinned")
        if name == "FROM" and not SpecifierSet(">=3.11").contains(rest.split(":")[1].split("-")[0]):
            found.append(f"{rest} is too old")
        if name in ("ENV", "ARG") and re.search(r"token|password|secret", rest, re.IGNORECASE):
            found.append("a secret would be part of the image")
    if last.get("USER", "root") in ("root", "0"):
        found.append("the container runs as root")
    words = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
    if words[:2] != ["clickscale", "serve"]:
        found.append("it does not serve")
    found += wrong_flags(words[2:])
    port = value_of(words, "--port")
    asked = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", last["HEALTHCHECK"])
    if last["EXPOSE"] != port or asked is None or asked[1] != port or asked[2] not in paths():
        found.append("ports or the path of the health check differ")
    return found


def test_the_container_file_fits_the_server() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8")
    assert container_complaints(DOCKERFILE, ignored) == []
    assert shlex.split("docker build -f deploy/Dockerfile .")[3] in DOCKERFILE  # the command of its head


@pytest.mark.parametrize(
    ("text", "instead", "complaint"),
    [
        ("USER 10001", "USER root", "runs as root"),
        ("-c constraints.txt '.[serve]'", "'.[serve]'", "not pinned"),
        ("COPY pyproject.toml", "COPY tests pyproject.toml", "tests is not sent"),
        ("LICENSE ./", "LICENCE ./", "there is no LICENCE"),
        ('"--follow"', '"--folow"', "no --folow"),
        ("EXPOSE 8000", "EXPOSE 80", "differ"),
        ("8000/livez", "8000/health", "differ"),
        ('ARG TORCH_INDEX=""', 'ARG TOKEN=""', "a secret"),
    ],
)
def test_a_container_file_that_does_not_fit_is_seen(text: str, instead: str, complaint: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8")
    assert text in DOCKERFILE
    found = container_complaints(DOCKERFILE.replace(text, instead), ignored)
    assert any(complaint in one for one in found)


# --- Ray


def test_the_ray_example_names_the_application_and_its_options() -> None:
    [described] = yaml.safe_load(RAY)["applications"]
    module, name = described["import_path"].split(":")
    assert (module, name) == (ray_serve.__name__, ray_serve.application.__name__)
    config = ray_serve._read(described["args"])
    assert (config.replicas, config.ingresses, config.service.engine.workers) == (4, 2, 2)
    assert config.cache.budget == 1_000_000_000
    with pytest.raises(ConfigError, match=r"service\.engine\.threads"):
        ray_serve._read({**described["args"], "service.engine.threads": 2})
