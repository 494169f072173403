"""What every program of the package does around its work: logging, errors, exit status."""

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .errors import Interrupted, UserError


def launch_words() -> tuple[str, str]:
    """How this training program is started here: by itself, and what ``torchrun`` starts."""
    if Path(sys.argv[0]).name == "main_transfer.py":
        return "python main_transfer.py", "main_transfer.py"
    return "tmkt train", "-m tmkt_braincog train"


def guarded(run: Callable[[], int]) -> int:
    """``run()`` and its exit status; 2 with one message for bad input, 128 + N after signal N."""
    number = int(os.environ.get("RANK") or 0)  # under torchrun every process would say the same
    level = logging.ERROR if number else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    logging.getLogger("tmkt_braincog").setLevel(logging.ERROR if number else logging.INFO)
    try:
        status = run()
        sys.stdout.flush()  # here, where a reader that is gone can be met
        return status
    except BrokenPipeError:  # its reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (UserError, OSError) as error:
        file = "" if isinstance(error, UserError) else "a file could not be read or written: "
        _tell(f"error: {file}{error}", number)
        return 2
    except Interrupted as stop:
        if not number:
            print(f"\n{stop}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        _tell("Interrupted.", number)
        return 130


def _tell(message: str, number: int) -> None:
    """The message of the error in hand; with ``TMKT_DEBUG`` its traceback first."""
    if os.environ.get("TMKT_DEBUG"):
        traceback.print_exc()
    if number:
        # Where process 0 fails for the same reason, it says so, and torchrun ends this one.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(60)
        message = f"process {number}: {message}"
    print(message, file=sys.stderr)
