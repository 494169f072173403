"""From a public archive to the folder that a data set expects: downloaded once and checked."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..errors import UserError
from ..version import VERSION
from .cache import only_one

log = logging.getLogger(__name__)

RETRIES = 4  # in a row that bring less than 1 MiB
PASSING = {408, 425, 429, *range(500, 600)}  # answers of a server that may be another soon
TIMEOUT_SECONDS = 30.0  # a server silent for that long counts as a broken connection
BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Archive:
    """A file to fetch: its name, which says how it is packed, urls to try in order, MD5 in hex."""

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
        parts: names of archives inside the archive, each with a folder of its name for ``target``.
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
    except (UserError, OSError) as error:
        what = f"Cannot install {archive.name} as {target}: " if isinstance(error, OSError) else ""
        raise UserError(f"{what}{error}\n{expected}") from error


def _is_there(target: Path, archive: Archive) -> bool:
    names = os.listdir(target) if target.is_dir() else []
    return any(not name.startswith(".") and name != archive.name for name in names)


def _install(archive: Archive, target: Path, inner: str | None, parts: Sequence[str]) -> None:
    real = target.resolve()  # beside the folder, not beside a link to it
    unpacked, old = (real.with_name(f".{real.name}.{end}") for end in ("tmp", "old"))
    if old.exists() and not real.exists():
        old.rename(real)  # a program was killed between the steps of _replace
    (real if parts else real.parent).mkdir(parents=True, exist_ok=True)
    homes = (target, target.parent) if parts else (target.parent, target)
    packed = fetch(archive, next((h for h in homes if (h / archive.name).is_file()), homes[0]))
    shutil.rmtree(unpacked, ignore_errors=True)  # of a program that was killed
    try:
        log.info("Unpacking %s into %s", packed, real)
        _unpack(packed, unpacked)
        if inner is not None:
            _unpack_inner(unpacked, inner, archive)
        found = unpacked / "joined" if parts else _find(unpacked, target.name, archive)
        for part in parts:  # a folder of the folders in the inner archives
            _unpack_inner(unpacked, part, archive)
            found.mkdir(exist_ok=True)
            stem = Path(part).stem
            _find(unpacked / "inner", stem, archive).rename(found / stem)
            shutil.rmtree(unpacked / "inner")
        _replace(real, found, old)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _replace(real: Path, found: Path, old: Path) -> None:
    """Put ``found`` in the place of ``real``; its hidden files, and the archive, come along."""
    if not real.exists():
        found.rename(real)
        return
    real.rename(old)
    try:
        found.rename(real)
    except OSError:
        old.rename(real)
        raise
    for kept in old.iterdir():
        kept.rename(real / kept.name)
    old.rmdir()


def _unpack(packed: Path, folder: Path) -> None:
    options: dict[str, Any] = {} if packed.suffix == ".zip" else {"filter": "data"}
    try:
        shutil.unpack_archive(packed, folder, **options)
    except Exception as error:  # of zipfile, tarfile and zlib, which fail in many ways
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(f"{packed} is damaged: {error}. Remove it, then run again.") from error


def _unpack_inner(folder: Path, inner: str, archive: Archive) -> None:
    found = _find(folder, inner, archive, Path.is_file)
    _unpack(found, folder / "inner")
    found.unlink()


def _find(
    folder: Path, name: str, archive: Archive, kind: Callable[[Path], bool] = Path.is_dir
) -> Path:
    """The outermost of this name and kind."""
    known = filter(kind, folder.rglob(name))
    found = min(known, key=lambda path: len(path.parts), default=None)
    if found is None:
        raise UserError(f"{archive.name} holds no {name}: the archive is another one by now.")
    return found


def fetch(archive: Archive, folder: Path) -> Path:
    """Download a file, unless it is there already, and return its path ``folder/name``.

    A download that broke off or was killed goes on from there.

    Raises:
        UserError: no url gives the file, or one that is there (and is kept) has another checksum.
        OSError: full or unwritable disk.
    """
    import pooch
    import requests

    path, store = folder / archive.name, folder / f".{archive.name}.part"
    if path.exists():
        seen = pooch.file_hash(str(path), "md5")
        if seen == archive.md5:
            return path
        raise UserError(
            f"{path} is there already, but its MD5 is {seen}; expected {archive.md5}. It was not "
            "overwritten. Remove it, then run again to download it."
        )
    for url in archive.urls:
        options = {"registry": {archive.name: f"md5:{archive.md5}"}, "urls": {archive.name: url}}
        source, tries = pooch.create(store, "", **options), 0
        while tries <= RETRIES:
            before = _size(store / "part")
            try:
                os.replace(source.fetch(archive.name, downloader=_download), path)
                shutil.rmtree(store, ignore_errors=True)
                return path
            except (requests.RequestException, ValueError) as error:
                log.warning("No %s from %s: %s", archive.name, url, error)
                last = error
                if not _may_pass(error, before > 0):
                    break
            tries = 0 if _size(store / "part") >= before + (1 << 20) else tries + 1
            time.sleep(tries)
    raise UserError(
        f"Cannot download {archive.name}. Tried {', '.join(archive.urls)}; the last error: {last}. "
        f"Run again to go on, or get the file by other means and put it at {path}."
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _may_pass(error: Exception, resumed: bool) -> bool:
    """Whether this address may give the file yet."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in PASSING
    # Another checksum: bytes of two downloads that do not fit together, or another file.
    return isinstance(error, requests.RequestException) or resumed


def _download(url: str, output: str, _: Any) -> None:
    """A downloader for pooch, whose checksum tells whether bytes of two calls fit together."""
    import requests

    part = Path(output).with_name("part")
    done = _size(part)
    headers = {"User-Agent": f"tmkt-braincog/{VERSION}", "Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={done}-"} if done else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as answer:
        if answer.status_code != requests.codes.requested_range_not_satisfiable:  # else it is whole
            answer.raise_for_status()
            done *= answer.status_code == requests.codes.partial_content
            total = done + int(answer.headers.get("Content-Length", 0))
            bar = tqdm(desc=url, initial=done, total=total or None, unit="B", unit_scale=True)
            with open(part, "ab" if done else "wb") as file, bar:
                for block in answer.iter_content(BLOCK_BYTES):
                    bar.update(file.write(block))
    os.replace(part, output)
