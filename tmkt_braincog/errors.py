"""The exceptions that mean "the input is at fault, not the program" and "stopped, as was asked"."""

import difflib
from collections.abc import Iterable


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
