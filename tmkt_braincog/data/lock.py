"""One process at a time, on one machine or on several that share the folder."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)


@contextmanager
def only_one(path: Path, work: str) -> Iterator[None]:
    """Hold the lock file ``path``; where another process has it, say so and wait.

    Args:
        path: kept, empty; a process that ends in whatever way lets go of it.
        work: what is done meanwhile, such as "unpacks a.zip".

    Raises:
        OSError: the folder is missing or cannot be written.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("Another program %s; waiting for it (%s).", work, path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
