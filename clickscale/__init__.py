"""clickscale: click-through-rate models that follow scaling laws.

The package is the data flow: raw log -> dataset -> batch -> model -> run -> artifact -> scorer -> server.
"""

import ctypes
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any


def _keep_freed_memory() -> None:
    """Let the C library keep the memory that tensors give back, instead of returning it to the system.

    A batch needs the same large blocks as the one before. Taken anew from the system, every page of them is
    first filled with zeros; scoring SUAN at L = 100 was measured 1.5 times slower that way. Only glibc has
    the setting; what the user chose in the environment wins.
    """
    if os.environ.keys() & {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # names of malloc.h
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 1 << 30)


# OpenMP threads that wait by spinning take the cores from each other: on two busy cores, two spinning threads
# were measured nine times slower than one. The runtime reads this once, when torch is first imported, so it
# has to be set before anything below imports torch; a value set by the user wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_keep_freed_memory()

__version__ = "0.1.0"

__all__ = [
    "CacheConfig",
    "DistillConfig",
    "Scorer",
    "StateCache",
    "TrainConfig",
    "__version__",
    "build_model",
    "distill",
    "evaluate",
    "open_dataset",
    "train",
]

if TYPE_CHECKING:
    from clickscale.data.dataset import open_dataset
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.states.cache import CacheConfig, StateCache
    from clickscale.models import build_model
    from clickscale.training.distill_config import DistillConfig
    from clickscale.training.run.config import TrainConfig
    from clickscale.workflow import distill, evaluate, train

# Imported when first asked for: `import clickscale` alone takes no time, torch takes seconds.
_HOMES = {
    "CacheConfig": "clickscale.inference.states.cache",
    "DistillConfig": "clickscale.training.distill_config",
    "Scorer": "clickscale.inference.scorer",
    "StateCache": "clickscale.inference.states.cache",
    "TrainConfig": "clickscale.training.run.config",
    "build_model": "clickscale.models",
    "distill": "clickscale.workflow",
    "evaluate": "clickscale.workflow",
    "open_dataset": "clickscale.data.dataset",
    "train": "clickscale.workflow",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clickscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
