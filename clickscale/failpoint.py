"""A place where a test may kill the process or fill the disk, to see what is left behind.

The environment variable ``CLICKSCALE_FAILPOINT`` holds ``name:action``; when the code passes the point of
that name, ``kill`` ends the process at once, as SIGKILL does, and ``enospc`` raises what a full disk raises.
"""

import errno
import os

VARIABLE = "CLICKSCALE_FAILPOINT"


def failpoint(name: str) -> None:
    """Do what the environment asks for at this point; nothing if it asks for nothing."""
    wanted = os.environ.get(VARIABLE)
    if not wanted or wanted.partition(":")[0] != name:
        return
    if wanted.endswith(":kill"):
        os._exit(137)
    if wanted.endswith(":enospc"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
