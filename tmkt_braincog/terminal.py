"""What every command line program of the package does around its work: logging, errors, exit status."""

import logging
import sys
from collections.abc import Callable

from .errors import UserError


def guarded(run: Callable[[], int]) -> int:
    """``run()`` and its exit status; 2 with one message for bad input, 130 after Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("tmkt_braincog").setLevel(logging.INFO)
    try:
        return run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: a file could not be read or written: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
