"""Cells of a sweep on a Ray cluster; its machines share the folder of the sweep and the data."""

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clickscale.benchmarking.processes import Ended, Job, run_jobs
from clickscale.data.layout import MANIFEST
from clickscale.errors import ConfigError
from clickscale.files import checksum, replace_text
from clickscale.version import __version__

LOCAL = "local"
_PATIENCE = 60  # seconds that interrupted workers may take for their last checkpoint
_DIAL = 10.0  # seconds after which nothing listens at an address
_LOOK = 300.0  # seconds that a machine may take to start a worker, which loads torch, and to look
_LATE = 10.0  # seconds after which a network file system shows what another machine wrote
_SIGN = "cluster.txt"


def cluster_size(address: str, jobs: int, threads: int, *, gpu: bool = False) -> int:
    """Cells that run at the same time on a cluster, to which this process is connected from then on.

    Args:
        jobs: workers of a cluster that is started here.
        threads: that a cell computes with.
        gpu: whether each cell needs a GPU.

    Raises:
        ConfigError: Ray is not installed, no cluster answers, or it has too few processors or no GPU.
    """
    ray = _ray()
    if not ray.is_initialized():
        _connect(ray, address, jobs * max(threads, 1))
    resources = ray.cluster_resources()
    found = int(resources.get("CPU", 0)) // max(threads, 1)
    if not found:
        raise ConfigError(f"The cluster {address} has no {threads} processors for a cell.")
    if not gpu:
        return found
    # Ray would wait for a GPU for ever: one may still join.
    if not (gpus := int(resources.get("GPU", 0))):
        raise ConfigError(f"The cluster {address} has no GPU; add one, or leave out --set device=cuda.")
    return min(found, gpus)


@dataclass(frozen=True)
class Shared:
    """What a machine of a cluster has to see, under the same paths as this one.

    Attributes:
        out: folder of the sweep.
        data: folder of the data set. manifest: hash of its manifest.
        token: text of a file in ``out``, another one at every call: a copy of the folder does not have it.
        version: that of clickscale.
    """

    out: Path
    data: Path
    manifest: str
    token: str
    version: str = __version__

    def problem(self, patience: float = _LATE) -> str:
        """Say why this machine cannot run a cell; empty if it can.

        Args:
            patience: seconds to wait for the file of the token.
        """
        if self.version != __version__:
            return f"clickscale {__version__}"
        if not self.out.is_dir():
            return f"no folder {self.out}"
        if not self._is_signed(patience):
            return f"another folder at {self.out}, perhaps a copy"
        if not os.access(self.out, os.W_OK | os.X_OK):
            return f"no permission to write in {self.out}"
        if not (self.data / MANIFEST).is_file():
            return f"no data set at {self.data}"
        return "" if checksum(self.data / MANIFEST) == self.manifest else f"another data set at {self.data}"

    def _is_signed(self, patience: float) -> bool:
        end = time.monotonic() + patience
        while True:
            with contextlib.suppress(OSError):
                if (self.out / _SIGN).read_text("utf-8") == self.token:
                    return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.5)


@contextlib.contextmanager
def shared_by_all(address: str, threads: int, out: Path, data: Path, manifest: str) -> Iterator[Shared]:
    """Make sure that all machines of a cluster see a sweep and its data, before the first of them works.

    What a machine trains in a folder of its own is lost.

    Raises:
        ConfigError: a machine does not see them, or has no clickscale or another version of it.
    """
    # A worker begins in another folder.
    shared = Shared(out.absolute(), data.absolute(), manifest, secrets.token_hex())
    replace_text(shared.out / _SIGN, shared.token)
    try:
        if problems := _problems(shared, threads):
            raise ConfigError(
                f"The cluster {address} cannot run this sweep. {'; '.join(problems)}. Every machine needs"
                f" clickscale {__version__} and has to see {shared.out} and {shared.data} under these paths,"
                " as on a network file system. Nothing was trained."
            )
        yield shared
    finally:
        (shared.out / _SIGN).unlink(missing_ok=True)


def _problems(shared: Shared, threads: int) -> list[str]:
    """Machines with processors for a cell that cannot run one, and why."""
    ray, looks = _ray(), {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= max(threads, 1):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            # It asks for no processor, so that a machine that is busy answers as well.
            look = ray.remote(num_cpus=0, scheduling_strategy=there, max_retries=0)(_look)
            looks[look.remote(shared)] = name
    end, problems = time.monotonic() + _LOOK, []
    for reference, name in looks.items():
        try:
            why = ray.get(reference, timeout=max(end - time.monotonic(), 1.0))
        except ray.exceptions.GetTimeoutError:
            why = f"no answer in {_LOOK:.0f} s"
        except ray.exceptions.RayError as error:
            why = _last_line(error)
        problems += [f"{name}: {why}"] if why else []
    return problems


def _look(shared: Shared) -> str:
    """Say why this machine cannot run a cell; a worker of the cluster calls this."""
    return shared.problem()


def cluster_jobs(
    jobs: Sequence[Job],
    shared: Shared,
    tell: Callable[[Ended], None],
    *,
    threads: int = 1,
    gpu: bool = False,
) -> None:
    """Run jobs on the cluster of `cluster_size` and tell of each when it is over, as `run_jobs` does here.

    A worker runs the same command in a process of its own. If a machine is lost, Ray runs its cells on
    another one, where they continue from their last checkpoint.

    Args:
        shared: of `shared_by_all`; a machine that joined later and does not see it runs no job.
        gpu: give each job a GPU.
    """
    ray = _ray()
    work = ray.remote(num_cpus=max(threads, 1), num_gpus=int(gpu), max_retries=3)(_work)
    running = {work.remote(job, shared, threads): job for job in jobs}
    try:
        while running:
            (over, *_), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(over)
            try:
                ended: Ended = ray.get(over)
            except ray.exceptions.RayError as error:  # a machine that was lost again and again
                ended = Ended(job, job.seconds, f"the cluster lost it: {_last_line(error)}")
            tell(Ended(job, ended.seconds, ended.failed))
    except BaseException:
        for reference in running:
            ray.cancel(reference)  # the worker stops its command, which saves a checkpoint
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=_PATIENCE)
        raise


def _work(job: Job, shared: Shared, threads: int) -> Ended:
    """Run one job; a worker of the cluster calls this."""
    if why := shared.problem():
        return Ended(job, 0.0, f"{socket.gethostname()}: {why}")
    (ended,) = run_jobs([job], 1, lambda ended: None, threads=threads)
    return ended


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)


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
        ConfigError: no cluster answers, or it refuses this process.
    """
    if address != LOCAL:
        _dial(address)
    options: dict[str, Any] = {"num_cpus": processors} if address == LOCAL else {"address": address}
    try:
        ray.init(include_dashboard=False if address == LOCAL else None, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if address == LOCAL:
            raise ConfigError(f"Ray cannot start a cluster on this machine: {error}") from error
        # Ray logs a refused token and raises a lost connection.
        raise ConfigError(
            f"The Ray cluster at {address!r} refuses this process ({error}). If it asks for a token, as a"
            " cluster of ray start does, set RAY_AUTH_MODE=token and either RAY_AUTH_TOKEN or"
            " RAY_AUTH_TOKEN_PATH as the cluster has them; its version of Ray has to be the one here,"
            f" {ray.__version__}."
        ) from error


def _dial(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for many minutes.

    Raises:
        ConfigError: the address has a port and nothing listens there.
    """
    if not (found := re.fullmatch(r"(?:ray://)?(?P<host>[^/]+):(?P<port>\d{1,5})", address)):
        return  # Ray knows more forms, such as auto
    try:
        socket.create_connection((found["host"], int(found["port"])), _DIAL).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"No Ray cluster answers at {address!r} ({error}); start one with: ray start --head --port"
            f" {found['port']}. Or let --cluster local start one on this machine."
        ) from error
