"""What files hold, as one number: the cache's key."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from ..errors import UserError
from ..files import replacing
from .base import cache_root
from .parallel import MAX_PROBLEMS, listed


def files_digest(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over name under ``root`` and content of each file, in order.

    The contents are read once: the cache keeps the digest by paths, sizes and times of change.

    Raises:
        UserError: files that are missing or cannot be read.
    """
    stamp = hashlib.sha256(f"{root.absolute()!r}\n".encode())
    for path in files:
        try:
            stat = path.stat()
        except OSError as error:
            raise UserError(f"Cannot find {path} ({error}). Check the folder.") from None
        stamp.update(f"{path.absolute()!r} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    note = cache_root() / "digests" / stamp.hexdigest()
    with suppress(OSError, ValueError):
        if len(known := note.read_text()) == len(stamp.hexdigest()):
            return known
    digest, problems = hashlib.sha256(), []
    for path in tqdm(files, desc="read files", delay=1):
        try:
            with open(path, "rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(repr(path.relative_to(root).as_posix()).encode() + content)
        except OSError as error:
            problems.append(f"Cannot read {path}: {error}. Check the folder, or get it again.")
            if len(problems) == MAX_PROBLEMS:
                break
    if problems:
        raise listed(problems, len(files))
    with suppress(OSError), replacing(note) as temporary:
        temporary.write_text(digest.hexdigest())
    return digest.hexdigest()
