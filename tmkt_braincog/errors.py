"""What ends the program though it is not at fault, bad input or a signal, and how it says so."""

import difflib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable


class UserError(ValueError):
    """Bad input: the message says what was seen, what was expected and what to do next.

    The command line prints the message alone, without a traceback, and exits with status 2.
    """


class Interrupted(Exception):
    """Work that stopped on a signal after saving; the message says how to go on."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.exit_code = 128 + signum


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """A :class:`UserError` for a name that is not registered, with the near misses first."""
    known = sorted(known)
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(by_lower[c]) for c in close)}?" if close else ""
    return UserError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


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
