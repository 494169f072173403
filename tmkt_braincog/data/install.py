"""From a public archive to the folder that a data set expects."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .download import Archive, fetch
from .unpack import unpack

MAX_BYTES = 40 << 30  # no archive of these data sets unpacks to more


def install(
    archive: Archive,
    target: Path,
    *,
    inner: str | None = None,
    parts: Sequence[str] = (),
    expected: str,
) -> None:
    """Download, check and unpack ``archive`` so that its folder ``target.name`` becomes ``target``.

    Nothing happens where ``target`` is there already. The folder appears whole or not at all, and the
    archive is kept beside it until then, so that an interrupted call goes on where it stopped.

    Args:
        inner: name of an archive inside the archive that holds the folder.
        parts: names of archives inside the archive; each holds a folder of its own name, and together these
            are the contents of ``target``.
        expected: the tree, shown where something fails.

    Raises:
        UserError: no connection, wrong checksum, damaged archive, no such folder in it, full disk.
    """
    if target.is_dir() and any(target.iterdir()):
        return
    try:
        packed = fetch(archive, target.parent)
        unpacked = target.parent / f"{target.name}.unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        try:
            unpack(packed, unpacked, max_bytes=MAX_BYTES)
            if inner is not None:
                _unpack_inner(unpacked, inner, archive)
            found = (
                _joined(unpacked, parts, archive)
                if parts
                else _folder(unpacked, target.name, archive)
            )
            os.replace(found, target)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)
        packed.unlink()
    except UserError as error:
        raise UserError(f"{error}\n{expected}") from error
    except OSError as error:
        raise UserError(
            f"Cannot install {archive.name} in {target.parent}: {error}\n{expected}"
        ) from error


def _joined(folder: Path, parts: Sequence[str], archive: Archive) -> Path:
    """A folder of the folders in the inner archives."""
    joined = folder / "joined"
    joined.mkdir()
    for part in parts:
        _unpack_inner(folder, part, archive)
        inner, stem = folder / "inner", Path(part).stem
        os.replace(_folder(inner, stem, archive), joined / stem)
        shutil.rmtree(inner)
    return joined


def _unpack_inner(folder: Path, inner: str, archive: Archive) -> None:
    found = sorted(folder.rglob(inner))
    if not found:
        raise UserError(
            f"{archive.name} holds no {inner}: the archive has changed since this was written."
        )
    unpack(found[0], folder / "inner", max_bytes=MAX_BYTES)
    found[0].unlink()


def _folder(unpacked: Path, name: str, archive: Archive) -> Path:
    found = sorted((p for p in unpacked.rglob(name) if p.is_dir()), key=lambda p: len(p.parts))
    if not found:
        raise UserError(
            f"{archive.name} holds no folder {name}: the archive has changed since this was written."
        )
    return found[0]
