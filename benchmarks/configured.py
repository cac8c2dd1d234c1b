"""Import this first in a benchmark: it gives the process the settings of the command line."""

from clickscale.runtime import configure_process

configure_process()
