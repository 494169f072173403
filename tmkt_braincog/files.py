"""Files that appear whole or not at all."""

import glob
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError

PICTURES = (".png", ".pdf", ".svg")


def check_output(path: Path | None, endings: Sequence[str], force: bool) -> None:
    """A UserError for a file of another kind than these, or one that exists without ``force``."""
    if path is None:
        return
    if path.suffix.lower() not in endings or path.is_dir():
        raise UserError(f"Cannot write {str(path)!r}: expected a name in {', '.join(endings)}.")
    if path.exists() and not force:
        raise UserError(f"{path} exists. Give --force to replace it, or another --output.")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place on success and vanishes on failure.

    A reader, or a run that is killed, never sees half a file. Missing folders are made; what killed
    programs of this machine left of the same file goes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{socket.gethostname()}-"
    for left in path.parent.glob(f"{glob.escape(prefix)}*.tmp"):
        number = left.stem.removeprefix(prefix)
        if number.isdigit() and not _is_alive(int(number)):  # else of a host whose name begins so
            left.unlink(missing_ok=True)
    temporary = path.with_name(f"{prefix}{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # no signal: only whether one could be sent
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
