"""The one cache: arrays that are slow to make and easy to make again, memory-mapped."""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from ..errors import UserError
from ..files import replacing
from .parallel import MAX_PROBLEMS, listed

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

CODE_VERSION = 3  # of all arrays; a change in one builder belongs into that builder's key
MANIFEST_FILE = "manifest.json"


class Writer:
    """Where a builder puts its arrays: ``.npy`` files in ``folder``."""

    def __init__(self, folder: Path):
        self.folder = folder

    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros to fill in place; one of the same name is given up."""
        path = self.folder / f"{name}.npy"
        path.unlink(missing_ok=True)  # the map of one of the same name stays readable
        array = np.lib.format.open_memmap(path, "w+", dtype, shape)
        with open(path, "r+b") as file:  # else writing to a full disk would kill the process
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return array

    def add(self, **arrays: np.ndarray) -> None:
        """Finished arrays, by name."""
        for name, array in arrays.items():
            self.create(name, array.shape, array.dtype)[...] = array


def cached(name: str, key: dict[str, Any], build: Callable[[Writer], None]) -> Arrays:
    """The arrays that ``build`` makes, from the cache where they were made before.

    Stored in ``cache_root()/<name>-<hash of key>/``: one ``.npy`` file per array, read through a
    private memory map (writing to it never reaches the file), and a ``manifest.json`` with the key
    and checksums. One process builds, others wait. The folder appears whole or not at all; what
    killed builds left the next one removes. A damaged folder is made again, with a warning.

    Args:
        name: what the arrays are, such as ``"nmnist-frames"``; part of the folder's name.
        key: everything the arrays depend on, JSON values only, the builder's version included.
        build: puts its arrays, of any dtype but object, into the :class:`Writer` that it is given.

    Raises:
        UserError: the cache cannot be written, or its disk is full; so is an OSError of ``build``,
            whose other exceptions pass.
    """
    folder = cache_folder(name, key)
    try:
        return _read(folder) or _made(folder, key, build)
    except OSError as error:
        raise UserError(
            f"Cannot write the cache in {cache_root()}: {error}. Make room, or set TMKT_CACHE to "
            "another folder."
        ) from error


def _made(folder: Path, key: dict[str, Any], build: Callable[[Writer], None]) -> Arrays:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_one(folder.with_name(f"{folder.name}.lock"), f"makes {folder.name}"):
        if found := _read(folder):  # made by another
            return found
        if folder.is_dir():
            log.warning("Cache folder %s is damaged; it is made again.", folder)
            shutil.rmtree(folder)
        temporary = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed build, as those of other keys
        for left in folder.parent.glob(f"*-{'[0-9a-f]' * 40}.tmp"):
            with suppress(OSError), FileLock(left.with_suffix(".lock"), blocking=False):
                shutil.rmtree(left, ignore_errors=True)
        try:
            temporary.mkdir()
            build(Writer(temporary))
            checksums = {path.stem: _checksum(path) for path in sorted(temporary.glob("*.npy"))}
            manifest = {"code_version": CODE_VERSION, "key": key, "arrays": checksums}
            (temporary / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return _read(folder) or {}


@contextmanager
def only_one(lock_file: Path, work: str) -> Iterator[None]:
    """Hold the lock; where another process has it, say that this ``work`` is waited for."""
    lock = FileLock(lock_file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("Another program %s; waiting for it (%s).", work, lock_file)
        lock.acquire()
    except NotImplementedError as error:  # of filelock 3, where a file system has no locks
        raise OSError(str(error)) from error
    try:
        yield
    finally:
        lock.release()


def cache_root() -> Path:
    """Folder of all that can be made again: ``$TMKT_CACHE`` or ``~/.cache/tmkt_braincog``."""
    return Path(os.environ.get("TMKT_CACHE") or Path.home() / ".cache" / "tmkt_braincog")


def cache_folder(name: str, key: dict[str, Any]) -> Path:
    """Where :func:`cached` keeps the arrays of this name and key."""
    text = json.dumps({"code_version": CODE_VERSION, "key": key}, sort_keys=True)
    return cache_root() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _read(folder: Path) -> Arrays | None:
    """The arrays, or None where there are none, or none that can be used."""
    try:
        checksums = json.loads((folder / MANIFEST_FILE).read_text())["arrays"]
        paths = {name: folder / f"{name}.npy" for name in checksums}
        if checksums != {name: _checksum(path) for name, path in paths.items()}:
            return None
        return {n: np.load(p, "c", allow_pickle=False).view(np.ndarray) for n, p in paths.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]


def files_digest(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over name under ``root`` and content of each file, in order: the frames' key.

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
        if len(known := note.read_text()) == 64:
            return known
    digest, problems = hashlib.sha256(), []
    for path in tqdm(files, desc="read files", delay=1):
        try:
            digest.update(repr(path.relative_to(root).as_posix()).encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            problems.append(f"Cannot read {path}: {error}. Check the folder, or get it again.")
    if problems:
        raise listed(problems[:MAX_PROBLEMS], len(files))
    with suppress(OSError), replacing(note) as temporary:
        temporary.write_text(digest.hexdigest())
    return digest.hexdigest()
