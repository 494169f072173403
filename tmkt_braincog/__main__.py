"""``python -m tmkt_braincog`` is the program ``tmkt``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
