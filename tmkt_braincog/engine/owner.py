"""One program at a time in an output folder."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UserError

# Not a part of a run: what is left of them, after a crash, does not make a folder a used one.
LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold ``folder``, which is made, against other programs; a crash lets go of it.

    Raises:
        UserError: another program holds it, named by host and process; or the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"Another program is writing to the output folder {folder} ({_owner(folder)}): wait for it, stop it, or choose "
            "another --output."
        ) from error
    except OSError as error:
        raise UserError(f"Cannot write to the output folder {folder}: {error}") from error
    try:
        with suppress(OSError):  # only for the message above
            (folder / OWNER).write_text(
                json.dumps({"host": socket.gethostname(), "process": os.getpid()})
            )
        yield
    finally:
        for name in (OWNER, LOCK):  # while it is held: afterwards the file may be another program's
            with suppress(OSError):
                (folder / name).unlink()
        lock.release()


def _owner(folder: Path) -> str:
    try:
        seen = json.loads((folder / OWNER).read_text())
        return f"process {seen['process']} on {seen['host']}"
    except (OSError, ValueError, KeyError):
        return "it has not said which"
