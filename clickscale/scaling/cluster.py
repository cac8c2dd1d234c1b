"""Cells of a sweep on a Ray cluster; its machines share the folder of the sweep and the data."""

from collections.abc import Callable, Sequence
from typing import Any

from clickscale.benchmarking.processes import Ended, Job, run_jobs
from clickscale.errors import ConfigError

LOCAL = "local"
_PATIENCE = 60  # seconds that interrupted workers may take for their last checkpoint


def cluster_size(address: str, jobs: int, threads: int) -> int:
    """Cells that run at the same time on a cluster, to which this process is connected from then on.

    Args:
        jobs: workers of a cluster that is started here.
        threads: that a cell computes with.

    Raises:
        ConfigError: Ray is not installed, no cluster answers, or it has too few processors.
    """
    ray = _ray()
    if not ray.is_initialized():
        _connect(ray, address, jobs * max(threads, 1))
    found = int(ray.cluster_resources().get("CPU", 0)) // max(threads, 1)
    if not found:
        raise ConfigError(f"The cluster {address} has no {threads} processors for a cell.")
    return found


def cluster_jobs(
    jobs: Sequence[Job],
    address: str,
    count: int,
    tell: Callable[[Ended], None],
    *,
    threads: int = 1,
    gpu: bool = False,
) -> None:
    """Run jobs on a cluster and tell of each when it is over, as `run_jobs` does on this machine.

    A worker runs the same command in a process of its own. If a machine is lost, Ray runs its cells on
    another one, where they continue from their last checkpoint.

    Args:
        count: jobs at the same time, as `cluster_size` says.
        gpu: give each job a GPU.
    """
    ray = _ray()
    cluster_size(address, count, threads)
    work = ray.remote(num_cpus=max(threads, 1), num_gpus=int(gpu), max_retries=3)(_work)
    running = {work.remote(job, threads): job for job in jobs}
    try:
        while running:
            (over, *_), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(over)
            try:
                ended: Ended = ray.get(over)
            except ray.exceptions.RayError as error:  # a machine that was lost again and again
                lines = str(error).strip().splitlines()
                ended = Ended(job, job.seconds, f"the cluster lost it: {lines[-1] if lines else error!r}")
            tell(Ended(job, ended.seconds, ended.failed))
    except BaseException:
        for reference in running:
            ray.cancel(reference)  # the worker stops its command, which saves a checkpoint
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=_PATIENCE)
        raise


def _work(job: Job, threads: int) -> Ended:
    """Run one job; a worker of the cluster calls this."""
    (ended,) = run_jobs([job], 1, lambda ended: None, threads=threads)
    return ended


def _ray() -> Any:
    """Ray; sweeps use it only here.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "A cluster needs Ray; install it with: pip install 'clickscale[cluster]'"
        ) from error
    return ray


def _connect(ray: Any, address: str, processors: int) -> None:
    """Connect to a cluster, or start one on this machine.

    Raises:
        ConfigError: it refuses the token of this process, or no cluster answers.
    """
    options: dict[str, Any] = {"num_cpus": processors} if address == LOCAL else {"address": address}
    try:
        ray.init(include_dashboard=False if address == LOCAL else None, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if "token" in str(error).lower() or "authenticat" in str(error).lower():
            raise ConfigError(
                f"Ray refuses the token of this process at {address!r} ({error}); set RAY_AUTH_MODE and "
                "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as the cluster has them."
            ) from error
        raise ConfigError(
            f"No Ray cluster answers at {address!r} ({error}); start one with ray start, or give 'local'."
        ) from error
