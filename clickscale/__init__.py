"""clickscale: click-through-rate models that follow scaling laws.

The package is the data flow: raw log -> dataset -> batch -> model -> run -> artifact -> scorer -> server.
"""

import os

# OpenMP threads that wait by spinning take the cores from each other: on two busy cores, two spinning threads
# were measured nine times slower than one. The runtime reads this once, when torch is first imported, so it
# has to be set before anything below imports torch; a value set by the user wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = ["__version__"]
