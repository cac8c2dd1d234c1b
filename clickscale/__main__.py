"""``python -m clickscale``: the command line."""

import sys

from clickscale.cli import main

if __name__ == "__main__":
    sys.exit(main())
