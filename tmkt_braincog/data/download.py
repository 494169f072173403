"""Fetch a file over the net: carried on where it broke off, checked against its MD5."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tqdm import tqdm

from ..errors import UserError
from ..files import replacing
from ..version import VERSION

log = logging.getLogger(__name__)

SCHEMES = ("https://", "http://", "file://")
TIMEOUT_SECONDS = 30.0  # a server silent for that long counts as a broken connection
TRIES = 5  # connections in a row, to one url, that bring less than PROGRESS_BYTES
PROGRESS_BYTES = 2**20
BACK_OFF_SECONDS = 1.0  # before the second try; doubles with every further one
BLOCK_BYTES = 2**20
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}  # statuses that may be gone a moment later
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Archive:
    """A file to fetch.

    Attributes:
        name: the name it is kept under.
        urls: where it is, tried in order; ``https://``, ``http://`` or ``file://``.
        md5: its checksum in hex, or None where unknown: then only sizes are checked.
        size: in bytes, or None where unknown.
    """

    name: str
    urls: tuple[str, ...]
    md5: str | None
    size: int | None = None


class _Broken(Exception):
    """The connection broke; another one to the same url may bring the rest."""


class _Refused(Exception):
    """This url does not give the file; the next one may."""


class _CannotResume(Exception):
    """The server does not give the rest of just these bytes; it has to send the whole file."""


@dataclass(frozen=True)
class _Origin:
    """Where a part came from. ``validator``: strong ETag or date, the server's name for this version."""

    url: str
    validator: str | None
    total: int | None


class _Part:
    """The bytes so far, ``<name>.part``, and what is known of them, ``<name>.part.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin_path = path.with_name(f"{path.name}.json")

    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def origin(self) -> _Origin | None:
        try:
            return _Origin(**json.loads(self.origin_path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def start(self, origin: _Origin) -> None:
        """Begin anew, with no bytes."""
        self.path.write_bytes(b"")  # first: old bytes must never stand beside a new origin
        with replacing(self.origin_path) as temporary:
            temporary.write_text(json.dumps(asdict(origin)))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.origin_path.unlink(missing_ok=True)


def fetch(archive: Archive, folder: Path, progress: bool = True) -> Path:
    """Download a file, unless it is there already, and return its path ``folder/name``.

    The bytes go into ``<name>.part``, which takes the final name once it is whole and its checksum is
    right. A download that broke off or was killed goes on from there: the server is asked for the
    missing bytes only, and only if it still has the same version; else the file comes anew. A broken
    connection is tried again after a pause, then the next url. Two downloads of one file into one
    folder at the same time are not supported.

    Args:
        archive: what to fetch.
        folder: made if missing.
        progress: show a bar, in bytes.

    Raises:
        UserError: no url gives the file; wrong checksum, of the download (which is deleted) or of a
            file that is there already (which is kept); full or unwritable disk; other kind of url.
    """
    folder = Path(folder)
    path = folder / archive.name
    part = _Part(folder / f"{archive.name}.part")
    _check_urls(archive)
    with _disk_errors(path, part):
        if path.exists():
            _check_present(archive, path)
            return path
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(part, archive.size)
        _try_urls(archive, part, path, progress)
        os.replace(part.path, path)
        part.remove()
    return path


def _check_urls(archive: Archive) -> None:
    wrong = [url for url in archive.urls if not url.lower().startswith(SCHEMES)]
    if wrong or not archive.urls:
        raise UserError(
            f"Cannot download {archive.name} from {', '.join(wrong) or 'nowhere: no url is given'}. "
            f"Give a url that begins with {', '.join(SCHEMES)}."
        )


def _check_present(archive: Archive, path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"{path} is in the way: it is not a file. Remove it, then run again to download it."
        )
    wrong = _mismatch(archive, path)
    if wrong:
        raise UserError(
            f"{path} is there already, but {wrong}. It was not overwritten. "
            "Remove it, then run again to download it."
        )


def _mismatch(archive: Archive, path: Path) -> str | None:
    """What is wrong with the file's size or checksum, or None."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        return f"it has {size} bytes; expected {archive.size}"
    if archive.md5 is None:
        return None
    with open(path, "rb") as file:
        seen = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return (
        None
        if seen == archive.md5.lower()
        else f"its MD5 is {seen}; expected {archive.md5.lower()}"
    )


def _check_space(part: _Part, total: int | None) -> None:
    needed = (total or 0) - part.size()
    free = shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise UserError(
            f"Too little space in {part.path.parent}: {_amount(free)} are free, the download needs "
            f"{_amount(needed)} more. Free some space or choose another folder, then run again."
        )


def _amount(size: int) -> str:
    return tqdm.format_sizeof(size, "B")


@contextmanager
def _disk_errors(path: Path, part: _Part) -> Iterator[None]:
    """Turn an error of the disk into a :class:`UserError`; the net's errors never come as OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(
                f"The disk is full: {path} was not downloaded ({error}). {_amount(part.size())} are kept in "
                f"{part.path}. Free some space, then run again to carry on from there."
            ) from error
        raise UserError(
            f"Cannot read or write {path}: {error}. Check that its folder can be written, then run again."
        ) from error


def _try_urls(archive: Archive, part: _Part, path: Path, progress: bool) -> None:
    """Bring the whole, right file into ``part``."""
    for url in archive.urls:
        try:
            _download(url, archive, part, progress)
            _check_download(archive, part)
            return
        except _Refused as error:
            last = error
            log.warning("No %s from %s: %s.", archive.name, url, error)
    kept = f"{_amount(part.size())} are kept in {part.path}; run again to carry on from there"
    raise UserError(
        f"Cannot download {archive.name}. Tried {', '.join(archive.urls)}; the last error: {last}. "
        f"{kept if part.size() else 'Run again to start anew'}, or get the file by other means and put it "
        f"at {path}."
    )


def _check_download(archive: Archive, part: _Part) -> None:
    wrong = _mismatch(archive, part.path)
    if wrong:
        part.remove()
        raise _Refused(f"the file came whole, but {wrong}; it was deleted")


def _download(url: str, archive: Archive, part: _Part, progress: bool) -> None:
    """Bring all bytes into ``part``, over as many connections as it takes."""
    tries, reached = 0, part.size()
    while True:
        try:
            return _connect(url, archive, part, progress)
        except _Broken as error:
            if part.size() >= reached + PROGRESS_BYTES:
                tries, reached = 0, part.size()
            tries += 1
            if tries >= TRIES:
                raise _Refused(f"the connection broke {tries} times: {error}") from error
            pause = BACK_OFF_SECONDS * 2 ** (tries - 1)
            log.warning("%s: the connection broke (%s); next try in %g s.", url, error, pause)
            time.sleep(pause)


def _connect(url: str, archive: Archive, part: _Part, progress: bool) -> None:
    """Bring the missing bytes into ``part``, over one connection."""
    if _is_whole(archive, part):
        return
    try:
        _transfer(url, _range_headers(url, archive, part), archive, part, progress)
    except _CannotResume as error:
        log.warning("%s: cannot carry on (%s); starting over.", url, error)
        _transfer(url, {}, archive, part, progress)


def _is_whole(archive: Archive, part: _Part) -> bool:
    """True if all bytes are there, as after a kill between the last byte and the final name."""
    origin = part.origin()
    return origin is not None and part.size() > 0 and part.size() == (origin.total or archive.size)


def _range_headers(url: str, archive: Archive, part: _Part) -> dict[str, str]:
    """What asks for the missing bytes only; nothing where the whole file is needed."""
    size, origin = part.size(), part.origin()
    if not size or origin is None:
        return {}
    if url == origin.url and origin.validator:
        return {"Range": f"bytes={size}-", "If-Range": origin.validator}
    # Without the server's word that it is the same version, only a checksum can tell afterwards.
    return {"Range": f"bytes={size}-"} if archive.md5 else {}


def _transfer(
    url: str, headers: dict[str, str], archive: Archive, part: _Part, progress: bool
) -> None:
    with _open(url, headers) as response:
        if response.status == 206 and headers:
            start, total = part.size(), _rest_total(response, headers, part)
        elif response.status in (200, None):  # None: a file:// url
            start, total = 0, _content_length(response)
        else:
            raise _Refused(f"unexpected answer, HTTP status {response.status}")
        if None not in (total, archive.size) and total != archive.size:
            raise _Refused(f"the server offers {total} bytes; expected {archive.size}")
        if not start:
            part.start(_Origin(url, _validator(response), total))
        _check_space(part, total)
        _receive(response, part, archive.size if total is None else total, progress)


def _open(url: str, headers: dict[str, str]) -> Any:
    """The server's answer, of any status below 300."""
    try:
        request = urllib.request.Request(url, headers=headers)
        return _opener().open(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if error.code == 416 and headers:
            raise _CannotResume("HTTP status 416, no such bytes") from error
        kind = _Broken if error.code in _TRANSIENT else _Refused
        raise kind(f"HTTP status {error.code}, {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        # No second try brings a missing file, a valid certificate or a well-formed url.
        final = isinstance(reason, (ssl.SSLCertVerificationError, InvalidURL, ValueError, str))
        kind = _Refused if final or url.lower().startswith("file:") else _Broken
        raise kind(_reason(reason)) from error


def _opener() -> urllib.request.OpenerDirector:
    """Opens urls of :data:`SCHEMES` and no other, not even on a redirection."""
    opener = urllib.request.OpenerDirector()
    for name in ("Proxy", "HTTP", "HTTPS", "File", "HTTPRedirect", "HTTPDefaultError", "Unknown"):
        opener.add_handler(getattr(urllib.request, f"{name}Handler")())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    opener.addheaders = [("User-Agent", f"tmkt-braincog/{VERSION}")]
    return opener


def _reason(error: Any) -> str:
    return str(error) or type(error).__name__


def _rest_total(response: Any, headers: dict[str, str], part: _Part) -> int | None:
    """The whole file's size, from a 206 answer that fits the bytes at hand."""
    shown = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", shown.strip())
    if not match or int(match[1]) != part.size():
        raise _CannotResume(f"asked for bytes from {part.size()} on, got {shown or 'no range'!r}")
    total = None if match[2] == "*" else int(match[2])
    origin = part.origin()
    known = origin.total if origin else None
    if None not in (total, known) and total != known:
        raise _CannotResume(f"the file has {total} bytes now, it had {known}")
    _check_validator(response, headers.get("If-Range"))
    return known if total is None else total


def _check_validator(response: Any, validator: str | None) -> None:
    """Some servers know Range, but not If-Range: look at the version they name, too."""
    if validator is None:
        return
    now = response.headers.get("ETag" if validator.startswith('"') else "Last-Modified")
    if now is not None and now != validator:
        raise _CannotResume(f"the file on the server changed, from {validator} to {now}")


def _content_length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    chunked = "Transfer-Encoding" in response.headers  # overrides the length
    return int(length) if re.fullmatch(r"\d{1,18}", length) and not chunked else None


def _validator(response: Any) -> str | None:
    """A strong ETag, or else the date; a weak ETag does not promise the same bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _receive(response: Any, part: _Part, total: int | None, progress: bool) -> None:
    """Append the answer's body to ``part``, up to ``total`` bytes in all."""
    position = part.size()
    with open(part.path, "ab") as file, _bar(part, total, progress) as bar:
        while position != total:
            block = _read(
                response, BLOCK_BYTES if total is None else min(BLOCK_BYTES, total - position)
            )
            if not block:
                break
            file.write(block)
            position += len(block)
            bar.update(len(block))
    if total is not None and position < total:
        raise _Broken(f"it ended after {position} of {total} bytes")


def _bar(part: _Part, total: int | None, progress: bool) -> tqdm:
    return tqdm(
        desc=part.path.stem, total=total, initial=part.size(), disable=not progress,
        unit="B", unit_scale=True, unit_divisor=1000,
    )  # fmt: skip


def _read(response: Any, size: int) -> bytes:
    """What has arrived, at most ``size`` bytes; none at the end."""
    try:
        return response.read1(size)  # not read(): that would lose what came before a break
    except (OSError, HTTPException, ValueError) as error:
        raise _Broken(_reason(error)) from error
