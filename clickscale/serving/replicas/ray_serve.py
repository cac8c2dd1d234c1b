"""Replicas on Ray Serve: an ingress that looks at the user, and one deployment for each replica.

Ray's own commands deploy it, on the cluster that they are connected to::

    serve run clickscale.serving.replicas.ray_serve:application \\
        models=/srv/models store=redis://redis:6379/0 tokens=/etc/clickscale/tokens replicas=4

Each replica is a deployment of its own with one process, called by its handle. Ray starts that process
again when it dies or says that it is not well; meanwhile the ingress asks another replica. Handles and health
checks are the stable part of Ray Serve. Its own routers by a key are experimental, choose among whatever
processes run, and so move users whenever one of these is started again.

What takes long to import is imported in the processes of the replicas, after they are configured.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from clickscale.config_text import assign, build, parse
from clickscale.errors import ConfigError
from clickscale.runtime import configure_process, set_threads

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from clickscale.serving.replicas.replica_server import Call, ReplicasConfig, Reply

# Requests that wait in a replica or an ingress at once. The engine of a replica refuses much earlier, with
# the reason; Ray would let requests wait without a limit of time.
_ONGOING = 2_000
_HEALTH = 2.0  # seconds between two looks of Ray at a replica; one that is dead or not well is started again


def application(options: dict[str, Any]) -> Any:
    """The application that ``serve run`` and the configuration files of Ray Serve name.

    Args:
        options: keys and values of a `ReplicasConfig`; dotted keys such as ``service.deadline_ms`` for inner
            options, and texts are read as ``clickscale serve --set`` reads them.

    Raises:
        ConfigError: Ray Serve is not installed, or an option is wrong.
    """
    serve = _serve()
    import msgspec

    config = _read(options)
    plain = msgspec.to_builtins(config)
    processors = {"num_cpus": config.service.engine.workers}
    replicas = [
        serve.deployment(_Replica)
        .options(
            name=f"replica-{place}",
            num_replicas=1,
            ray_actor_options=processors,
            max_ongoing_requests=_ONGOING,
            graceful_shutdown_timeout_s=config.service.stop_seconds,
            health_check_period_s=_HEALTH,
            user_config={},  # so that Ray waits for `_Replica.reconfigure`
        )
        .bind(plain)
        for place in range(config.replicas)
    ]
    ingress = serve.deployment(_Ingress).options(
        name="ingress", num_replicas=config.ingresses, max_ongoing_requests=_ONGOING
    )
    return ingress.bind(plain, *replicas)


def _read(options: Mapping[str, Any]) -> "ReplicasConfig":
    from clickscale.serving.replicas.replica_server import ReplicasConfig

    pairs = [(key, parse(value) if isinstance(value, str) else value) for key, value in options.items()]
    models = str(dict(pairs).get("models", ""))
    return assign(ReplicasConfig(models=models), [("the application", pairs)])


def _serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise ConfigError(
            "Replicas need Ray Serve; install it with: pip install 'clickscale[serve,cluster]'"
        ) from error
    return serve


class _Replica:
    """The process of a replica."""

    def __init__(self, options: dict[str, Any]) -> None:
        configure_process()
        from clickscale.serving.replicas.replica_server import ReplicasConfig, ReplicaServer
        from clickscale.serving.telemetry import log_as_json

        log_as_json()
        set_threads(1)  # requests run side by side; threads within one would only wait for each other
        self._server = ReplicaServer(build(ReplicasConfig, options, "the application"), freeze=True)

    async def reconfigure(self, nothing: dict[str, Any]) -> None:
        """Load the model; Ray sends no requests before this returns."""
        await self._server.start()

    async def answer(self, call: "Call") -> "Reply":
        return await self._server.answer(call)

    def check_health(self) -> None:
        if not self._server.is_alive:
            raise RuntimeError("A worker of this replica died or hangs.")


class _Ingress:
    """The process of an ingress."""

    def __init__(self, options: dict[str, Any], *replicas: Any) -> None:
        configure_process()
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import RayServeException

        from clickscale.serving.replicas.replica_server import ReplicasConfig
        from clickscale.serving.replicas.user_routing import UserRouting
        from clickscale.serving.telemetry import log_as_json

        log_as_json()
        config = build(ReplicasConfig, options, "the application")
        self._routing = UserRouting(config, replicas, (RayActorError, RayServeException))

    async def __call__(self, request: "Request") -> "Response":
        return await self._routing.answer(request)
