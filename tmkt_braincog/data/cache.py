"""A content-addressed cache for arrays that are slow to make and easy to make again."""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .base import cache_root

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]

# Raise it when the meaning of cached arrays changes for every user of the cache; a change in one
# builder belongs into that builder's key.
CODE_VERSION = 1

ARRAYS_FILE = "arrays.npz"
MANIFEST_FILE = "manifest.json"
_STALE_SECONDS = 24 * 3600
_DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
_unwritable: set[Path] = set()  # roots already complained about


def cached(name: str, key: dict[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """The arrays that ``build()`` returns, from the cache where they were made before.

    Stored in ``cache_root()/<name>-<hash of key>/``: the arrays as one uncompressed ``.npz`` and, for
    people, a ``manifest.json`` with the key. The file appears whole or not at all, so a build that is
    killed, or two at once, leave nothing half-valid. A damaged file is rebuilt, and a folder that
    cannot be written (full disk, no permission) only costs the caching; both are warned of once.

    Args:
        name: what the arrays are, such as ``"nmnist-frames"``; part of the folder's name.
        key: everything the arrays depend on, JSON values only, the builder's version included.
        build: makes the arrays; any dtype but object.
    """
    folder = cache_folder(name, key)
    arrays = _read(folder / ARRAYS_FILE)
    if arrays is None:
        arrays = build()
        _store(folder, key, arrays)
    return arrays


def cache_folder(name: str, key: dict[str, Any]) -> Path:
    """Where :func:`cached` keeps the arrays of this name and key."""
    text = json.dumps({"code_version": CODE_VERSION, "key": key}, sort_keys=True)
    return cache_root() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()}"


def _read(path: Path) -> Arrays | None:
    """The arrays, or None where there are none or (with a warning) none that can be used."""
    try:
        # A zip file carries checksums: a flipped byte raises here just as a missing end does.
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _DAMAGE as error:
        log.warning("Cache file %s is damaged or unreadable (%s); it is made again.", path, error)
        return None


def _store(folder: Path, key: dict[str, Any], arrays: Arrays) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        with _replacing(folder / MANIFEST_FILE) as file:
            file.write(_manifest(key, arrays).encode())
        with _replacing(folder / ARRAYS_FILE) as file:
            np.savez(file, **arrays)
    except OSError as error:
        _warn_unwritable(folder.parent, error)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of ``path`` at the end, and vanishes on any error."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _manifest(key: dict[str, Any], arrays: Arrays) -> str:
    shapes = {name: f"{a.dtype} {list(a.shape)}" for name, a in arrays.items()}
    return json.dumps({"code_version": CODE_VERSION, "key": key, "arrays": shapes}, sort_keys=True, indent=1)


def _remove_stale(folder: Path) -> None:
    """Delete what killed builds left here; younger files may belong to a build that still runs."""
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _warn_unwritable(root: Path, error: OSError) -> None:
    if root not in _unwritable:
        _unwritable.add(root)
        log.warning("Cannot write the cache in %s (%s); going on without. TMKT_CACHE moves it.", root, error)
