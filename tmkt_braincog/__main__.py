"""``python -m tmkt_braincog`` is the same program as ``main_transfer.py``."""

import sys

from .cli import main

sys.exit(main())
