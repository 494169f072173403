"""From a public archive to the folders that a data set expects: downloaded once and checked."""

import logging
import os
import shutil
import zipfile
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..version import VERSION
from .cache import only_one

log = logging.getLogger(__name__)

TRIES = 3  # of every address


class Archive(NamedTuple):
    """A file to fetch: its name, which says how it is packed, urls to try in order, MD5 in hex."""

    name: str
    urls: tuple[str, ...]
    md5: str


def install(archive: Archive, targets: Mapping[Path, str | None], expected: str) -> None:
    """Download, check and unpack an archive into the folders in ``targets`` that are not there.

    Each is the folder of its name in the archive, or in the archive of the given name in it. One
    that holds more than hidden files is there; it appears whole or not at all, and a second program
    waits for the first. The archive stays beside the folders, where tonic and torchvision look for
    it, and one that is there is taken.

    Raises:
        UserError: no connection, wrong checksum, damaged archive, no such folder in it, full disk;
            with the ``expected`` tree.
    """
    home = next(iter(targets)).parent
    try:
        if not all(map(_is_there, targets)):
            home.resolve().mkdir(parents=True, exist_ok=True)
            with only_one(home / f".{archive.name}.lock", f"installs {archive.name}"):
                missing = {t: inner for t, inner in targets.items() if not _is_there(t)}
                packed = fetch(archive, home) if missing else home
                for target, inner in missing.items():
                    _install(packed, target, inner)
    except (UserError, OSError) as error:
        raise UserError(f"Cannot install {archive.name} in {home}: {error}\n{expected}") from error


def _is_there(target: Path) -> bool:
    return target.is_dir() and any(not name.startswith(".") for name in os.listdir(target))


def _install(packed: Path, target: Path, inner: str | None) -> None:
    real = target.resolve()  # beside the folder, not beside a link to it
    unpacked = real.with_name(f".{real.name}.tmp")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a program that was killed
    try:
        log.info("Unpacking %s from %s", target, packed)
        _unpack(packed, unpacked, inner)
        folders = [path for path in unpacked.rglob(target.name) if path.is_dir()]
        if not folders:
            raise UserError(f"{packed} holds no {target.name}; it is another archive by now.")
        found = min(folders, key=lambda path: len(path.parts))
        if real.is_dir():
            for hidden in real.iterdir():
                hidden.rename(found / hidden.name)
            real.rmdir()
        found.rename(real)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unpack(packed: Path, folder: Path, inner: str | None) -> None:
    try:
        if inner is not None:
            with zipfile.ZipFile(packed) as outer:
                name = next((n for n in outer.namelist() if Path(n).name == inner), None)
                if name is None:
                    raise UserError(f"{packed} holds no {inner}; it is another archive by now.")
                packed = Path(outer.extract(name, folder))
        options: dict[str, Any] = {} if packed.suffix == ".zip" else {"filter": "data"}
        shutil.unpack_archive(packed, folder, **options)
    except Exception as error:  # of zipfile, tarfile and zlib, which fail in many ways
        if isinstance(error, UserError) or (isinstance(error, OSError) and error.errno):
            raise
        raise UserError(f"{packed} is damaged: {error}. Remove it, then run again.") from error


def fetch(archive: Archive, folder: Path) -> Path:
    """Download a file to ``folder``, unless it is there, or one above, already; return its path.

    A download that broke off or was killed goes on from there.

    Raises:
        UserError: no url gives the file, or one that is there (and is kept) has another checksum.
        OSError: full or unwritable disk.
    """
    import pooch
    import requests

    homes = [home for home in (folder, folder.parent) if (home / archive.name).is_file()]
    path, part = [*homes, folder][0] / archive.name, folder / f".{archive.name}.part"
    wrong: set[str] = set()
    if path.exists():
        if (seen := pooch.file_hash(str(path), "md5")) == archive.md5:
            return path
        raise UserError(
            f"{path} is there already, but its MD5 is {seen}; expected {archive.md5}. Remove it, "
            "then run again to download it."
        )
    for url, _ in product(archive.urls, range(TRIES)):
        if url in wrong:
            continue
        try:
            with open(part, "ab") as file:
                done = file.tell()
                headers = {"Range": f"bytes={done}-"} if done else {}
                headers |= {"User-Agent": f"tmkt-braincog/{VERSION}", "Accept-Encoding": "identity"}
                pooch.HTTPDownloader(progressbar=True, headers=headers)(url, file, None)
            if (seen := pooch.file_hash(str(part), "md5")) == archive.md5:
                return part.rename(path)
            last = f"the MD5 of what it gives is {seen}; expected {archive.md5}"
            part.unlink()  # another file, or bytes of two downloads that do not fit together
            if not done:
                wrong.add(url)
        except requests.RequestException as error:
            last = str(error)
            if getattr(error.response, "status_code", None) == 416:  # it has not so many bytes
                part.unlink()
        log.warning("No %s from %s: %s", archive.name, url, last)
    raise UserError(
        f"Cannot download it. Tried {', '.join(archive.urls)}; the last error: {last}. Run again, "
        f"or get the file by other means and put it at {path}."
    )
