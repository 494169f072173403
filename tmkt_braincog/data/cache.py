"""The one cache: arrays that are slow to make and easy to make again, memory-mapped."""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from .base import cache_root

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

# Raise it when the meaning of cached arrays changes for every user of the cache; a change in one
# builder belongs into that builder's key.
CODE_VERSION = 3
MANIFEST_FILE = "manifest.json"


class Writer:
    """Where a builder puts its arrays: files in ``folder``; memory if that is None or full."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.arrays: Arrays = {}

    def create(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of zeros to fill in place; one of the same name is given up."""
        try:
            array = _on_disk(self.folder / f"{name}.npy", shape, dtype) if self.folder else None
        except OSError as error:
            _warn(error)
            self.folder = array = None
        self.arrays[name] = np.zeros(shape, dtype) if array is None else array
        return self.arrays[name]

    def add(self, **arrays: np.ndarray) -> None:
        """Finished arrays, by name."""
        for name, array in arrays.items():
            self.create(name, array.shape, array.dtype)[...] = array


def _on_disk(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    path.unlink(missing_ok=True)  # the map of one of the same name stays readable
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):  # else writing to a full disk would kill the process
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def cached(name: str, key: dict[str, Any], build: Callable[[Writer], None]) -> Arrays:
    """The arrays that ``build`` makes, from the cache where they were made before.

    Stored in ``cache_root()/<name>-<hash of key>/``: one ``.npy`` file per array, read through a
    private memory map (writing to it never reaches the file), and a ``manifest.json`` with the key
    and checksums. One process builds, others wait. The folder appears whole or not at all; what
    killed builds left the next one removes. A damaged folder is made again; a place that cannot be
    written or is full only costs the caching: both with a warning.

    Args:
        name: what the arrays are, such as ``"nmnist-frames"``; part of the folder's name.
        key: everything the arrays depend on, JSON values only, the builder's version included.
        build: puts its arrays into the :class:`Writer` that it is given; any dtype but object.
            Called once at most; what it raises passes.
    """
    folder = cache_folder(name, key)
    lock, temporary = (folder.with_name(f"{folder.name}.{end}") for end in ("lock", "tmp"))
    arrays = _read(folder)
    with ExitStack() as stack:
        writer = Writer(temporary)
        try:
            if arrays is None:
                folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(only_one(lock, f"makes {folder.name}"))
                arrays = _read(folder, warn=False)
            if arrays is not None:
                return arrays
            _remove_leftovers(temporary)
            temporary.mkdir()
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        except OSError as error:
            _warn(error)
            writer.folder = None
        build(writer)
        return _keep(writer, folder, key)


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


def cache_folder(name: str, key: dict[str, Any]) -> Path:
    """Where :func:`cached` keeps the arrays of this name and key."""
    text = json.dumps({"code_version": CODE_VERSION, "key": key}, sort_keys=True)
    return cache_root() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _read(folder: Path, warn: bool = True) -> Arrays | None:
    """The arrays, or None where there are none or (with a warning) none that can be used."""
    try:
        checksums = json.loads((folder / MANIFEST_FILE).read_text())["arrays"]
        paths = {name: folder / f"{name}.npy" for name in checksums}
        if checksums != {name: _checksum(path) for name, path in paths.items()}:
            raise ValueError("another checksum")
        return {n: np.load(p, "c", allow_pickle=False).view(np.ndarray) for n, p in paths.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if warn and folder.is_dir():
            log.warning("Cache folder %s is damaged (%s); it is made again.", folder, error)
        return None


def _checksum(path: Path) -> int:
    return zlib.crc32(np.memmap(path, np.uint8, "r"))  # type: ignore[arg-type]


def _keep(writer: Writer, folder: Path, key: dict[str, Any]) -> Arrays:
    """Move what was built into place, in that of a damaged folder; the arrays."""
    if writer.folder is None:
        return writer.arrays
    try:
        for array in writer.arrays.values():
            array.flush()  # type: ignore[attr-defined]  # a map
        checksums = {name: _checksum(writer.folder / f"{name}.npy") for name in writer.arrays}
        manifest = {"code_version": CODE_VERSION, "key": key, "arrays": checksums}
        (writer.folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(writer.folder, folder)
    except OSError as error:
        _warn(error)
    return _read(folder, warn=False) or writer.arrays


def _remove_leftovers(own: Path) -> None:
    """Delete what killed builds left: of this key, whose lock we hold, and where nobody does."""
    shutil.rmtree(own, ignore_errors=True)
    for temporary in own.parent.glob(f"*-{'[0-9a-f]' * 40}.tmp"):  # no one else's
        with suppress(OSError), FileLock(temporary.with_suffix(".lock"), blocking=False):
            shutil.rmtree(temporary, ignore_errors=True)


def _warn(error: OSError) -> None:
    text = "Cannot write the cache in %s (%s); going on without. TMKT_CACHE moves it."
    log.warning(text, cache_root(), error)
