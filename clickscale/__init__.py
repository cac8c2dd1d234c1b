"""clickscale: click-through-rate models that follow scaling laws.

The package is the data flow: raw log -> dataset -> batch -> model -> run -> artifact -> scorer -> server.

Importing it changes nothing in the process. A program of its own gets the settings of the command line, which
make scoring faster, from `clickscale.runtime.configure_process`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from clickscale.version import __version__

__all__ = [
    "AblationConfig",
    "BenchmarkConfig",
    "CacheConfig",
    "DistillConfig",
    "Scorer",
    "StateCache",
    "StatisticCounters",
    "SweepConfig",
    "TrainConfig",
    "__version__",
    "ablate",
    "benchmark",
    "build_model",
    "distill",
    "evaluate",
    "open_dataset",
    "sweep",
    "train",
    "tune",
]

if TYPE_CHECKING:
    from clickscale.benchmarking.ablation import ablate
    from clickscale.benchmarking.ablation_config import AblationConfig
    from clickscale.benchmarking.benchmark import benchmark
    from clickscale.benchmarking.benchmark_config import BenchmarkConfig
    from clickscale.data.dataset import open_dataset
    from clickscale.inference.scorer import Scorer
    from clickscale.inference.states.cache import StateCache
    from clickscale.inference.states.cache_config import CacheConfig
    from clickscale.inference.statistic_counters import StatisticCounters
    from clickscale.models import build_model
    from clickscale.scaling.sweeps.sweep import sweep
    from clickscale.scaling.sweeps.sweep_config import SweepConfig
    from clickscale.training.distill.distill_config import DistillConfig
    from clickscale.training.run.run_config import TrainConfig
    from clickscale.tuning.search import tune
    from clickscale.workflow import distill, evaluate, train

# Imported when first asked for: `import clickscale` takes no time, torch takes seconds.
_HOMES = {
    "AblationConfig": "clickscale.benchmarking.ablation_config",
    "BenchmarkConfig": "clickscale.benchmarking.benchmark_config",
    "CacheConfig": "clickscale.inference.states.cache_config",
    "DistillConfig": "clickscale.training.distill.distill_config",
    "Scorer": "clickscale.inference.scorer",
    "StateCache": "clickscale.inference.states.cache",
    "StatisticCounters": "clickscale.inference.statistic_counters",
    "SweepConfig": "clickscale.scaling.sweeps.sweep_config",
    "TrainConfig": "clickscale.training.run.run_config",
    "ablate": "clickscale.benchmarking.ablation",
    "benchmark": "clickscale.benchmarking.benchmark",
    "build_model": "clickscale.models",
    "distill": "clickscale.workflow",
    "evaluate": "clickscale.workflow",
    "open_dataset": "clickscale.data.dataset",
    "sweep": "clickscale.scaling.sweeps.sweep",
    "train": "clickscale.workflow",
    "tune": "clickscale.tuning.search",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'clickscale' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
