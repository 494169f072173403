"""The one cache: arrays that are slow to make and easy to make again, memory-mapped, content-addressed."""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .base import cache_root

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

# Raise it when the meaning of cached arrays changes for every user of the cache; a change in one
# builder belongs into that builder's key.
CODE_VERSION = 2

MANIFEST_FILE = "manifest.json"
_STALE_SECONDS = 24 * 3600
_CHUNK = 1 << 24  # bytes checked at a time
_unwritable: set[Path] = set()  # roots already complained about


class Writer:
    """Where a builder puts its arrays: files in ``folder``, or memory where that is None."""

    def __init__(self, folder: Path | None):
        self.folder, self.arrays = folder, {}

    def create(self, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
        """An array of zeros to fill in place; one of the same name is given up.

        Raises:
            OSError: no room on the disk, before anything is written.
        """
        if self.folder is None:
            self.arrays[name] = np.zeros(shape, dtype)
        else:
            path = self.folder / f"{name}.npy"
            path.unlink(missing_ok=True)  # its map stays readable
            self.arrays[name] = np.lib.format.open_memmap(path, "w+", dtype, shape)
            _reserve(path)
        return self.arrays[name]

    def add(self, **arrays: np.ndarray) -> None:
        """Finished arrays, by name."""
        for name, array in arrays.items():
            self.create(name, array.shape, array.dtype)[...] = array


def _reserve(path: Path) -> None:
    """Take the disk space now: writing through a map to a full disk would kill the process."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def cached(name: str, key: dict[str, Any], build: Callable[[Writer], None]) -> Arrays:
    """The arrays that ``build`` makes, from the cache where they were made before.

    Stored in ``cache_root()/<name>-<hash of key>/``: one ``.npy`` file per array, read through a private
    memory map (nothing is loaded before it is used; writing to it never reaches the file), and a
    ``manifest.json`` with the key and a checksum per file. The folder appears whole or not at all, so a
    build that is killed, or two at once, leave nothing half-valid. A damaged folder is rebuilt, and a place
    that cannot be written (full disk, no permission) only costs the caching; both are warned of.

    Args:
        name: what the arrays are, such as ``"nmnist-frames"``; part of the folder's name.
        key: everything the arrays depend on, JSON values only, the builder's version included.
        build: puts its arrays into the :class:`Writer` that it is given; any dtype but object.
    """
    folder = cache_folder(name, key)
    arrays = _read(folder)
    return _make(folder, key, build) if arrays is None else arrays


def cache_folder(name: str, key: dict[str, Any]) -> Path:
    """Where :func:`cached` keeps the arrays of this name and key."""
    text = json.dumps({"code_version": CODE_VERSION, "key": key}, sort_keys=True)
    return cache_root() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _read(folder: Path, warn: bool = True) -> Arrays | None:
    """The arrays, or None where there are none or (with a warning) none that can be used."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        return {
            name: _open(folder / entry["file"], entry) for name, entry in manifest["arrays"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if warn and folder.is_dir():
            log.warning(
                "Cache folder %s is damaged or unreadable (%s); it is made again.", folder, error
            )
        return None


def _open(path: Path, entry: dict[str, Any]) -> np.ndarray:
    if checksum(path) != entry["crc32"]:
        raise ValueError(f"{path.name} has another checksum")
    return np.load(path, mmap_mode="c", allow_pickle=False).view(np.ndarray)


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _make(folder: Path, key: dict[str, Any], build: Callable[[Writer], None]) -> Arrays:
    try:
        with _temporary(folder) as temporary:
            writer = Writer(temporary)
            build(writer)
            _finish(temporary, key, writer)
            _put(temporary, folder)
        arrays = _read(folder)
        if arrays is not None:
            return arrays
    except OSError as error:
        _warn_unwritable(folder.parent, error)
    writer = Writer(None)
    build(writer)
    return writer.arrays


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, gone at the end unless it was moved away."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder.parent)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _finish(folder: Path, key: dict[str, Any], writer: Writer) -> None:
    entries = {}
    for name, array in writer.arrays.items():
        array.flush()
        path = Path(array.filename)
        entries[name] = {
            "file": path.name, "dtype": str(array.dtype), "shape": list(array.shape), "crc32": checksum(path)
        }  # fmt: skip
    manifest = {"code_version": CODE_VERSION, "key": key, "arrays": entries}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, sort_keys=True, indent=1) + "\n")


def _put(temporary: Path, folder: Path) -> None:
    """Move into place. Where another process was faster its folder, which is the same, stays."""
    if folder.exists() and _read(folder, warn=False) is None:
        with _temporary(folder) as aside:
            os.replace(folder, aside)
    try:
        os.rename(temporary, folder)
    except OSError:
        if _read(folder, warn=False) is None:
            raise


def _remove_stale(root: Path) -> None:
    """Delete what killed builds left; younger folders may belong to a build that still runs."""
    for path in root.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _warn_unwritable(root: Path, error: OSError) -> None:
    if root not in _unwritable:
        _unwritable.add(root)
        log.warning(
            "Cannot write the cache in %s (%s); going on without. TMKT_CACHE moves it.", root, error
        )
