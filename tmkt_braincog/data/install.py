"""From a public archive to the folder that a data set expects: downloaded once, checked, unpacked."""

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import UserError
from ..version import VERSION
from .lock import only_one

log = logging.getLogger(__name__)

RETRIES = 4
TIMEOUT_SECONDS = 30.0  # a server silent for that long counts as a broken connection
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Archive:
    """A file to fetch.

    Attributes:
        name: the name it is kept under; its end says how it is packed.
        urls: where it is, tried in order.
        md5: its checksum in hex.
    """

    name: str
    urls: tuple[str, ...]
    md5: str


def install(
    archive: Archive,
    target: Path,
    *,
    inner: str | None = None,
    parts: Sequence[str] = (),
    expected: str,
) -> None:
    """Download, check and unpack ``archive`` so that its folder ``target.name`` becomes ``target``.

    Nothing happens where ``target`` holds more than hidden files. It appears whole or not at all; a
    second program waits for the first. The archive stays where tonic and torchvision look for it,
    and one that is there is taken: beside ``target``, or in it where that is made of ``parts``.

    Args:
        inner: name of an archive inside the archive that holds the folder.
        parts: names of archives inside the archive; each holds a folder of its own name, and
            together these are the contents of ``target``.
        expected: the tree, shown where something fails.

    Raises:
        UserError: no connection, wrong checksum, damaged archive, no such folder in it, full disk.
    """
    try:
        if not _is_there(target, archive):
            target.parent.mkdir(parents=True, exist_ok=True)
            with only_one(target.parent / f".{archive.name}.lock", f"installs {archive.name}"):
                if not _is_there(target, archive):
                    _install(archive, target, inner, parts)
    except UserError as error:
        raise UserError(f"{error}\n{expected}") from error
    except OSError as error:
        raise UserError(
            f"Cannot install {archive.name} as {target}: {error}. Check that there is room and that "
            f"the folder can be written, then run again.\n{expected}"
        ) from error


def _is_there(target: Path, archive: Archive) -> bool:
    return target.is_dir() and any(
        not p.name.startswith(".") and p.name != archive.name for p in target.iterdir()
    )


def _install(archive: Archive, target: Path, inner: str | None, parts: Sequence[str]) -> None:
    homes = (target, target.parent) if parts else (target.parent, target)
    packed = fetch(archive, next((h for h in homes if (h / archive.name).is_file()), homes[0]))
    real = target.resolve()  # beside the folder, not beside a link to it
    real.parent.mkdir(parents=True, exist_ok=True)
    unpacked = real.with_name(f".{real.name}.tmp")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a program that was killed
    try:
        log.info("Unpacking %s into %s", packed, real)
        _unpack(packed, unpacked)
        if inner is not None:
            _unpack_inner(unpacked, inner, archive)
        found = _joined(unpacked, parts, archive) if parts else _folder(unpacked, target.name, archive)
        if real.exists():
            for kept in real.iterdir():
                kept.rename(found / kept.name)
            real.rmdir()
        found.rename(real)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unpack(packed: Path, folder: Path) -> None:
    options: dict[str, Any] = {} if packed.suffix == ".zip" else {"filter": "data"}
    try:
        shutil.unpack_archive(packed, folder, **options)
    except Exception as error:  # of zipfile, tarfile and zlib, which fail in many ways
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(
            f"{packed} is damaged: {error}. Remove it, then run again to download it."
        ) from error


def _unpack_inner(folder: Path, inner: str, archive: Archive) -> None:
    found = sorted(folder.rglob(inner))
    if not found:
        raise _changed(archive, inner)
    _unpack(found[0], folder / "inner")
    found[0].unlink()


def _joined(folder: Path, parts: Sequence[str], archive: Archive) -> Path:
    """A folder of the folders in the inner archives."""
    joined = folder / "joined"
    joined.mkdir()
    for part in parts:
        _unpack_inner(folder, part, archive)
        _folder(folder / "inner", Path(part).stem, archive).rename(joined / Path(part).stem)
        shutil.rmtree(folder / "inner")
    return joined


def _folder(unpacked: Path, name: str, archive: Archive) -> Path:
    found = sorted((p for p in unpacked.rglob(name) if p.is_dir()), key=lambda p: len(p.parts))
    if not found:
        raise _changed(archive, f"folder {name}")
    return found[0]


def _changed(archive: Archive, missing: str) -> UserError:
    return UserError(
        f"{archive.name} holds no {missing}: the archive has changed since this was written."
    )


def fetch(archive: Archive, folder: Path) -> Path:
    """Download a file, unless it is there already, and return its path ``folder/name``.

    A download that broke off or was killed goes on from there.

    Raises:
        UserError: no url gives the file, or one that is there (and is kept) has another checksum.
        OSError: full or unwritable disk.
    """
    import pooch
    import requests

    path = folder / archive.name
    if path.exists():
        _check(path, archive)
        return path
    store = folder / f".{archive.name}.part"
    for url in archive.urls:
        registry = {archive.name: f"md5:{archive.md5}"}
        source = pooch.create(
            store, "", registry=registry, urls={archive.name: url}, retry_if_failed=RETRIES
        )
        try:
            os.replace(source.fetch(archive.name, downloader=_download), path)
            shutil.rmtree(store, ignore_errors=True)
            return path
        except (requests.RequestException, ValueError) as error:
            log.warning("No %s from %s: %s", archive.name, url, error)
            last = error
    raise UserError(
        f"Cannot download {archive.name}. Tried {', '.join(archive.urls)}; the last error: {last}. "
        f"Run again to go on, or get the file by other means and put it at {path}."
    )


def _check(path: Path, archive: Archive) -> None:
    with open(path, "rb") as file:
        seen = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if seen != archive.md5.lower():
        raise UserError(
            f"{path} is there already, but its MD5 is {seen}; expected {archive.md5.lower()}. It was "
            "not overwritten. Remove it, then run again to download it."
        )


def _download(url: str, output: str, _: Any) -> None:
    """What pooch calls to get a file; whether bytes from two calls fit together its checksum tells."""
    import requests

    part = Path(output).with_name("part")
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"tmkt-braincog/{VERSION}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
        if answer.status_code != requests.codes.requested_range_not_satisfiable:  # else it is whole
            answer.raise_for_status()
            done = done if answer.status_code == requests.codes.partial_content else 0
            total = done + int(answer.headers.get("Content-Length", 0))
            with (
                open(part, "ab" if done else "wb") as file,
                tqdm(desc=url, initial=done, total=total or None, unit="B", unit_scale=True) as bar,
            ):
                for block in answer.iter_content(BLOCK_BYTES):
                    bar.update(file.write(block))
    os.replace(part, output)
