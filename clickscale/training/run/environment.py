"""Record of the versions and the machine that a run was trained with."""

import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from clickscale.files import replace_text
from clickscale.sealed import indented
from clickscale.version import __version__

ENVIRONMENT = "environment.json"


def write_environment(folder: Path, threads: str, device: torch.device) -> None:
    """Record the versions and the machine of a run."""
    facts = {
        "clickscale": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": str(device),
        "threads": threads,
        "revision": _revision(),
    }
    replace_text(folder / ENVIRONMENT, indented(facts))


def _revision() -> str | None:
    """Commit of the source tree that clickscale runs from, if it runs from one."""
    source = Path(__file__).parents[3]
    if not (source / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
