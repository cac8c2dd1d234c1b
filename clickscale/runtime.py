"""Settings of the process: how memory is kept, how threads wait, and how many an operation may use.

Only this module changes the process, and only when one of its functions is called: no import does. The
command line and the benchmarks call `configure_process` first; a program of its own may do the same.
"""

import ctypes
import logging
import math
import os
import sys
from pathlib import Path

from clickscale.errors import ConfigError

# These models run small operations: beyond this many threads, handing out the work costs more than doing it.
MOST = 8


_forks = {"watched": False, "child": False, "told": True}
_log = logging.getLogger("clickscale")


def survive_forks() -> None:
    """Let processes that are forked from now on compute with one thread, and say so where they do.

    The threads that OpenMP keeps for operations do not exist in a forked child, which would wait for them for
    ever. Everything that computes calls this first; the call costs nothing after the first time.
    """
    if not _forks["watched"]:
        _forks["watched"] = True
        os.register_at_fork(after_in_child=_enter_child)
    if not _forks["told"]:
        _forks["told"] = True
        _log.warning(
            "This process was forked from one that had computed, so it uses 1 thread per operation. For more,"
            " start it before anything is scored or evaluated, or with the start method 'spawn'."
        )


def _enter_child() -> None:
    """Give up the threads of the parent, which are not here; torch is loaded, since the parent computed."""
    import torch

    _forks["child"] = True
    _forks["told"] = torch.get_num_threads() == 1
    torch.set_num_threads(1)


def configure_process() -> None:
    """Keep freed memory, and let waiting threads sleep; what the user chose in the environment wins.

    Call it before torch is imported: OpenMP reads its settings when it is loaded, and never again.
    """
    # Threads that wait by spinning take the cores from each other: on two busy cores, two spinning threads
    # were measured nine times slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let the C library keep the memory that tensors give back, instead of returning it to the system.

    A batch needs the same large blocks as the one before. When they come from the system, every page of them
    is first filled with zeros; scoring SUAN at L = 100 was measured 1.5 times slower that way. Only glibc has
    the setting.
    """
    if os.environ.keys() & {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 30)


def set_threads(requested: int) -> str:
    """Set the threads of one operation (0: clickscale chooses) and return a sentence about the choice.

    Without it torch takes every core of the machine, also those that a container or a scheduler gave to
    others, and threads that wait for a core cost far more than they bring.

    A process that was forked from one that had computed has 1 (see `survive_forks`). Else the order of choice
    is: ``requested``; the environment variable ``OMP_NUM_THREADS``, which somebody set on
    purpose; the physical cores open to this process, at most `MOST`.

    Raises:
        ConfigError: a negative number.
    """
    import torch  # takes seconds, and has to come after `configure_process`

    if requested < 0:
        raise ConfigError(f"threads is {requested}; give a positive number, or 0 to let clickscale choose.")
    if _forks["child"]:
        count, reason = 1, "forked from a process that had computed"
    elif requested:
        count, reason = requested, "as configured"
    elif os.environ.get("OMP_NUM_THREADS", "").isdigit():
        count, reason = max(1, int(os.environ["OMP_NUM_THREADS"])), "from OMP_NUM_THREADS"
    else:
        cores = available_cores()
        count, reason = min(cores, MOST), f"{cores} physical cores are open to this process"
    torch.set_num_threads(count)
    return f"{count} thread{'s' if count > 1 else ''} per operation ({reason})"


def available_cores(system: Path = Path("/sys")) -> int:
    """Physical cores that this process may use, by its CPU affinity and CPU quota."""
    allowed = (
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    siblings = {
        _siblings(system / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", cpu)
        for cpu in allowed
    }
    return max(1, min(len(siblings), _quota(system / "fs/cgroup/cpu.max")))


def _siblings(path: Path, cpu: int) -> str:
    """Text that names the hardware threads of a core; the CPU's own number where the system does not say."""
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return str(cpu)


def _quota(path: Path) -> int:
    """Whole cores of the control group's quota; a very large number without one."""
    try:
        quota, period = path.read_text("ascii").split()
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError):  # no such file, or the word "max"
        return 1 << 30
