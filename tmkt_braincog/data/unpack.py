"""Unpack a downloaded archive, whole or not at all, trusting nothing that it says."""

import contextlib
import errno
import gzip
import os
import re
import secrets
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from ..errors import UserError

MAX_ENTRIES = 2_000_000
MAX_DEPTH = 64  # folders inside folders
MAX_HEADER_BYTES = 2**20  # tar: names and attributes of one entry
MAX_PADDING_BYTES = 2**26  # tar: zeros after the end mark
BLOCK_BYTES = 2**20
TAR_BLOCK = 512

# What Python's readers raise for bytes that make no sense, besides OSError.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, ValueError, LookupError,
    OverflowError, RuntimeError, MemoryError,
)  # fmt: skip
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


class _Damaged(Exception):
    """The archive cannot be read; the message says why."""


class _Unsafe(Exception):
    """The archive can be read but holds what must not be unpacked; the message says what."""


@dataclass
class _Entry:
    """One file or folder of an archive; ``blocks`` gives the file's bytes and can be read once."""

    name: str
    is_folder: bool
    size: int
    blocks: Iterator[bytes]


def unpack(archive: Path, folder: Path, *, max_bytes: int, progress: bool = True) -> None:
    """Unpack a .zip, .tar, .tar.gz/.tgz (kind found from the content, not the name) into ``folder``,
    whole or not at all.

    Everything goes into a temporary folder beside ``folder`` first, which takes its name at the end and
    vanishes on any failure. Files get the permissions of new files. What macOS adds for itself
    (``__MACOSX``, ``._*``, ``.DS_Store``) is left out.

    Args:
        archive: the file.
        folder: missing or empty; its parents are made.
        max_bytes: limit of the unpacked size, for what the archive declares and for what comes out.
        progress: show a bar, in bytes of the archive.

    Raises:
        UserError: ``folder`` is not empty; the archive is missing, damaged, of another kind or
            encrypted; holds a link, a device, a path that leads outside, one path twice, more than
            ``max_bytes`` or more than :data:`MAX_ENTRIES` entries; full or unwritable disk.
    """
    archive, folder = (
        Path(archive),
        Path(folder).resolve(),
    )  # beside the folder, not beside a link to it
    with _explaining(archive, folder), open(archive, "rb") as file, _bar(archive, progress) as bar:
        entries = _entries(file, max_bytes)
        with _writing(folder), _renamed_to(folder) as temporary:
            _write_all(entries, temporary, max_bytes, lambda: _show(bar, file))
        bar.update(bar.total - bar.n)


# What can go wrong, as the user sees it


@contextmanager
def _explaining(archive: Path, folder: Path) -> Iterator[None]:
    try:
        yield
    except _Damaged as error:
        raise UserError(
            f"{archive} is damaged: {error}. Remove it and download it again."
        ) from error
    except _Unsafe as error:
        raise UserError(
            f"{archive} was not unpacked: {error}. Download it again from its official source; unpack it by "
            f"hand into {folder} only if you trust it."
        ) from error
    except FileNotFoundError:
        raise UserError(f"No archive at {archive}. Check the path, or download it.") from None
    except OSError as error:
        raise UserError(
            f"Cannot read {archive}: {error}. A readable archive was expected."
        ) from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        what = "The disk is full" if error.errno in _FULL else "Cannot write"
        raise UserError(
            f"{what}: nothing was unpacked into {folder} ({error}). Make room, check that the folder can be "
            "written, or choose another one, then run again."
        ) from error


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever Python's readers raise into :class:`_Damaged`; around reading only."""
    try:
        yield
    except _DAMAGE as error:
        raise _Damaged(str(error) or type(error).__name__) from error
    except OSError as error:  # of the disk, or of a reader that thinks so: bad gzip, bad seek
        raise _Damaged(f"it cannot be read to its end ({error})") from error


# The folder


def _check_free(folder: Path) -> None:
    taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if taken:
        raise UserError(
            f"{folder} is in the way: a missing or empty folder was expected. Remove it, then run again."
        )


@contextmanager
def _renamed_to(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` on success and vanishes on failure."""
    _check_free(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()  # succeeds on an empty one only
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_all(
    entries: Iterator[_Entry], folder: Path, max_bytes: int, show: Callable[[], None]
) -> None:
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = {()}
    declared, left = 0, max_bytes
    for number, entry in enumerate(entries, 1):
        declared += entry.size
        _check_amount(declared, number, max_bytes)
        parts = _parts(entry.name)
        if _is_clutter(parts):
            continue
        _make_folders(parts if entry.is_folder else parts[:-1], entry.name, folder, files, folders)
        if not entry.is_folder:
            if not parts or parts in files or parts in folders:
                raise _Unsafe(
                    f"it holds {entry.name!r} twice" if parts else f"it holds a file {entry.name!r}"
                )
            files.add(parts)
            left -= _write_file(folder.joinpath(*parts), entry, left, show)
    if not files:
        raise _Damaged("it holds no file")


def _check_amount(declared: int, number: int, max_bytes: int) -> None:
    if number > MAX_ENTRIES:
        raise _Unsafe(f"it holds more than {MAX_ENTRIES} entries")
    if declared > max_bytes:
        raise _Unsafe(f"it holds {declared} bytes or more; at most {max_bytes} were expected")


def _make_folders(
    parts: tuple[str, ...],
    name: str,
    root: Path,
    files: set[tuple[str, ...]],
    folders: set[tuple[str, ...]],
) -> None:
    """Make a folder and those around it; one that is there already is fine, a file is not."""
    for depth in range(1, len(parts) + 1):
        path = parts[:depth]
        if path in folders:
            continue
        if path in files:
            raise _Unsafe(f"entry {name!r} needs a folder where another entry is a file")
        root.joinpath(*path).mkdir()
        folders.add(path)


def _write_file(path: Path, entry: _Entry, left: int, show: Callable[[], None]) -> int:
    """Write one file of at most ``left`` bytes, whatever size it declares; return its size."""
    size = 0
    with open(path, "xb") as file:
        for block in entry.blocks:
            size += len(block)
            if size > left:
                raise _Unsafe(
                    f"entry {entry.name!r} holds more than declared and breaks the size limit"
                )
            file.write(block)
            show()
    if size != entry.size:
        raise _Damaged(f"entry {entry.name!r} gave {size} bytes and not {entry.size}")
    return size


# Names


def _parts(name: str) -> tuple[str, ...]:
    """The path inside the folder, without ``.``; refuses every name that could lead elsewhere."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/"):
        raise _Unsafe(f"entry {name!r} has an absolute path")
    if ".." in parts:
        raise _Unsafe(f"entry {name!r} leads outside the folder")
    if "\\" in name or "\0" in name or any(re.match("[A-Za-z]:", part) for part in parts):
        raise _Unsafe(f"entry {name!r} is no plain path (backslash, drive letter or NUL)")
    if len(parts) > MAX_DEPTH:
        raise _Unsafe(f"entry {name[:80]!r}... is more than {MAX_DEPTH} folders deep")
    try:
        os.fsencode(name)
    except UnicodeError as error:
        raise _Unsafe(f"entry {name!r} has a name that this system cannot write") from error
    return parts


def _is_clutter(parts: tuple[str, ...]) -> bool:
    """True for what macOS adds to archives for itself."""
    return (
        "__MACOSX" in parts
        or (parts[-1:] == (".DS_Store",))
        or any(p.startswith("._") for p in parts[-1:])
    )


# Both kinds of archive as entries


def _kind(file: BinaryIO) -> str:
    """``zip``, ``tar`` or ``tar.gz``, from the first bytes; the file is rewound."""
    file.seek(0)
    head = file.read(TAR_BLOCK)
    file.seek(0)
    if not head:
        raise _Damaged("it is empty (0 bytes)")
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except _DAMAGE as error:
        raise _Damaged(
            f"a .zip, .tar or .tar.gz was expected, but it begins with {head[:20]!r}"
        ) from error
    return "tar"


def _entries(file: BinaryIO, max_bytes: int) -> Iterator[_Entry]:
    """Open the archive; the entries, and what is wrong with them, come one by one."""
    kind = _kind(file)
    with _reading():
        if kind == "zip":
            return _zip_entries(zipfile.ZipFile(file), max_bytes)
        stream = _Forward(gzip.GzipFile(fileobj=file, mode="rb") if kind == "tar.gz" else file)
        return _tar_entries(tarfile.open(fileobj=stream, mode="r:"), stream)


def _zip_entries(archive: zipfile.ZipFile, max_bytes: int) -> Iterator[_Entry]:
    infos = archive.infolist()
    _check_amount(sum(info.file_size for info in infos), len(infos), max_bytes)
    for info in sorted(infos, key=lambda info: info.header_offset):
        _check_zip_entry(info)
        name = info.orig_filename
        yield _Entry(name, name.endswith("/"), info.file_size, _zip_blocks(archive, info))


def _check_zip_entry(info: zipfile.ZipInfo) -> None:
    name = info.orig_filename
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _Unsafe(f"entry {name!r} is a link or a device; only files and folders were expected")
    if info.flag_bits & 0x41:
        raise _Unsafe(f"entry {name!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Damaged(
            f"entry {name!r} is packed by method {info.compress_type}, which cannot be read here "
            f"(only {zipfile.ZIP_STORED} and {zipfile.ZIP_DEFLATED} can)"
        )


def _zip_blocks(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with _reading():
        stream = archive.open(info)
    with stream:
        while block := _read(stream, BLOCK_BYTES):  # compares the checksum at the end
            yield block


class _Forward:
    """What tarfile needs of a file, but it only goes forward and never reads much at once.

    A damaged header may claim a negative size, which would send tarfile round in circles, or a name of
    gigabytes. Sizes and positions in bytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.position = 0
        self.last = b""  # what the last read gave

    def tell(self) -> int:
        return self.position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= max(MAX_HEADER_BYTES, BLOCK_BYTES):
            raise _Damaged(f"a header claims {size} bytes for itself")
        self.last = self.file.read(size)
        self.position += len(self.last)
        return self.last

    def seek(self, position: int) -> None:
        if position < self.position:
            raise _Damaged("a header has a negative size")
        while self.position < position and self.read(min(BLOCK_BYTES, position - self.position)):
            pass


def _tar_entries(archive: tarfile.TarFile, stream: _Forward) -> Iterator[_Entry]:
    while (member := _next(archive)) is not None:
        archive.members.clear()  # tarfile would keep them all
        if member.size < 0:
            raise _Damaged(f"entry {member.name!r} has {member.size} bytes")
        if not (member.isdir() or member.isreg()) or member.issparse():
            raise _Unsafe(
                f"entry {member.name!r} is a link, a device or sparse; only files and folders were expected"
            )
        size = member.size if member.isreg() else 0
        yield _Entry(
            member.name, member.isdir(), size, _tar_blocks(stream, member.offset_data, size)
        )
    _check_end(stream)


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    with _reading():
        return archive.next()


def _tar_blocks(stream: _Forward, start: int, size: int) -> Iterator[bytes]:
    with _reading():
        stream.seek(start)
    while size > 0 and (block := _read(stream, min(BLOCK_BYTES, size))):
        size -= len(block)
        yield block


def _check_end(stream: _Forward) -> None:
    """Read to the end; gzip compares its checksum there.

    tarfile takes a damaged header for the end, so the real end mark, a block of zeros, has to be seen.
    """
    if stream.last != bytes(TAR_BLOCK):
        raise _Damaged("it ends without an end mark, as if cut short")
    end = stream.position + MAX_PADDING_BYTES
    while block := _read(stream, BLOCK_BYTES):
        if block.strip(b"\0") or stream.position > end:
            raise _Damaged("there is more behind its end mark")


def _read(stream: BinaryIO | _Forward, size: int) -> bytes:
    with _reading():
        return stream.read(size)


# The bar


def _bar(archive: Path, progress: bool) -> tqdm:
    return tqdm(
        desc=f"unpack {archive.name}", total=archive.stat().st_size, disable=not progress,
        unit="B", unit_scale=True, unit_divisor=1000,
    )  # fmt: skip


def _show(bar: tqdm, file: BinaryIO) -> None:
    bar.update(max(0, file.tell() - bar.n))
