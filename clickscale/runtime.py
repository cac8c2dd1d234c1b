"""How many threads an operation may use: chosen on purpose, and said aloud.

Left alone, torch takes every core of the machine, also those that a container or a scheduler gave to others,
and threads that wait for a core cost far more than they bring. `clickscale.__init__` makes waiting threads
sleep (``OMP_WAIT_POLICY=PASSIVE``); this module chooses how many there are.
"""

import math
import os
from pathlib import Path

import torch

from clickscale.errors import ConfigError

# These models run small operations: beyond this many threads, handing out the work costs more than doing it.
MOST = 8


def set_threads(requested: int) -> str:
    """Set the threads of one operation (0: clickscale chooses) and return a sentence about the choice.

    The order of choice is: ``requested``; the environment variable ``OMP_NUM_THREADS``, which somebody set on
    purpose; the physical cores open to this process, at most `MOST`.

    Raises:
        ConfigError: a negative number.
    """
    if requested < 0:
        raise ConfigError(f"threads is {requested}; give a positive number, or 0 to let clickscale choose.")
    if requested:
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
