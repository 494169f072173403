"""``python -m tmkt_braincog.data``: see :mod:`~tmkt_braincog.data.commands`."""

import sys

from .commands import main

if __name__ == "__main__":
    sys.exit(main())
