"""What files hold, as one number: the cache's key."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError
from ..files import replacing
from .base import cache_root
from .parallel import BAR_AFTER, MAX_PROBLEMS, listed


def files_digest(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over name under ``root`` and content of each file, in order.

    The contents are read once: the cache remembers the digest by the paths, sizes and times of change.

    Raises:
        UserError: files that are missing or cannot be read.
    """
    names = [path.relative_to(root).as_posix() for path in files]
    note = cache_root() / "digests" / _stamp(files)
    with suppress(OSError, ValueError):
        known = note.read_text()
        if len(known) == hashlib.sha256().digest_size * 2:
            return known
    digest, problems = hashlib.sha256(), []
    for name, path in zip(tqdm(names, desc="read files", delay=BAR_AFTER), files, strict=True):
        try:
            with open(path, "rb") as file:
                digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            problems.append(f"Cannot read {path}: {error}. Check the folder, or download it again.")
            if len(problems) == MAX_PROBLEMS:
                break
    if problems:
        raise UserError(listed(problems, len(files)))
    with suppress(OSError), replacing(note) as temporary:
        temporary.write_text(digest.hexdigest())
    return digest.hexdigest()


def _stamp(files: Sequence[Path]) -> str:
    stamp = hashlib.sha256()
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            raise UserError(
                f"Cannot find {path} ({error}). Check the folder, or download it again."
            ) from None
        text = f"{os.path.abspath(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
        stamp.update(os.fsencode(text))
    return stamp.hexdigest()
