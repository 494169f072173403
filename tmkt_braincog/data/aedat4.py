"""Read AEDAT4 files, as the DV software records them: the container of N-Omniglot.

The package ``aedat`` decodes. It trusts the sizes in a file, so these are checked first: a damaged file
costs neither memory beyond a bound nor the process, and one that ends early is not taken for whole.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import aedat
import numpy as np

from ..errors import UserError
from .events import Events

MAGIC = b"#!AER-DAT4.0\r\n"
NO_TABLE = -1  # position of the data table in a recording that was not closed
MAX_HEADER = (
    1 << 15
)  # bytes, ten times what DV writes; deeply nested XML of 100 KiB overruns the decoder's stack
MAX_PACKET = 1 << 28  # bytes unpacked; DV writes about 10 ms of events into one
MAX_EVENTS = 1 << 24  # in one file; twenty drawings of N-Omniglot are about a million

LZ4, ZSTD = (1, 2), (3, 4)  # values of the header's compression: the usual and the high level
LZ4_MAGIC, ZSTD_MAGIC = 0x184D2204, 0xFD2FB528
LZ4_BLOCK = {
    4: 1 << 16,
    5: 1 << 18,
    6: 1 << 20,
    7: 1 << 22,
}  # bytes unpacked at most, by the frame's code
ZSTD_BLOCK = 1 << 17

_COLUMNS = {"x": np.int16, "y": np.int16, "t": np.int64, "p": np.uint8}


class Header(NamedTuple):
    """What is checked of a file's header: how packets are packed, and where they end (or ``NO_TABLE``)."""

    compression: int
    table_position: int


def read_aedat4(path: str | Path) -> tuple[Events, tuple[int, int]]:
    """All events of the lowest-numbered stream of events.

    Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html. A file
    that was not closed properly has no table that says where its packets end; if such a one was cut just
    between two packets, nothing in it tells.

    Args:
        path: the file.

    Returns:
        Columns x, y (int16, pixels), t (int64, us), p (uint8, 0 OFF, 1 ON) of length E >= 1, in the file's
        order, and the sensor's (W, H) according to the file. Events are not checked against it.

    Raises:
        UserError: missing, unreadable, truncated or damaged file, no AEDAT4 file, no stream of events or no
            event in it, more than 256 MiB in a packet or 16,777,216 events.
    """
    path = Path(path)
    check_container(path)
    try:
        return _decode(path)
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the decoder is not an Exception
        raise UserError(
            f"Cannot read {path}: {error}. It is damaged; download or copy it again."
        ) from None


def _decode(path: Path) -> tuple[Events, tuple[int, int]]:
    decoder = aedat.Decoder(str(path))
    streams = {i: s for i, s in decoder.id_to_stream().items() if s["type"] == "events"}
    if not streams:
        raise UserError(f"{path} has no stream of events. Check that it belongs to this data set.")
    first = min(streams)
    parts: list[Events] = []
    n = 0
    for packet in decoder:
        if packet["stream_id"] == first and len(packet["events"]):
            n += len(packet["events"])
            if n > MAX_EVENTS:
                raise UserError(
                    f"{path} has more than {MAX_EVENTS:,} events; it is damaged or another data set's."
                )
            parts.append(_columns(packet["events"]))
    if not parts:
        raise UserError(
            f"{path} holds no event; at least one was expected. Download or copy it again."
        )
    events = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    return events, (streams[first]["width"], streams[first]["height"])


def _columns(events: np.ndarray) -> Events:
    names = {"x": "x", "y": "y", "t": "t", "p": "on"}
    return {name: events[names[name]].astype(dtype) for name, dtype in _COLUMNS.items()}


def check_container(path: Path) -> None:
    """Check that header and packets are whole, that their sizes fit the file and that none unpacks to too much.

    Raises:
        UserError: see :func:`read_aedat4`.
    """
    try:
        with open(path, "rb") as file:
            for payload, compression in _packets(file, path):
                if unpacked_bound(payload, compression) > MAX_PACKET:
                    raise _damaged(path, f"a packet unpacks to more than {MAX_PACKET >> 20} MiB")
    except FileNotFoundError:
        raise UserError(
            f"No recording at {path}. Check the data folder, or download it again."
        ) from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    except (OSError, MemoryError) as error:
        raise UserError(
            f"Cannot read {path}: {error}. A readable .aedat4 file was expected."
        ) from error


def _packets(file: BinaryIO, path: Path) -> Iterator[tuple[bytes, int]]:
    """The packets of a file, still packed, and their compression."""
    size = os.fstat(file.fileno()).st_size
    header = _read_header(file, path)
    end = size if header.table_position == NO_TABLE else header.table_position
    if end > size:
        raise _damaged(
            path, f"it ends after {size} bytes, of {end} or more that its header announces"
        )
    while (at := file.tell()) < end:
        length = int.from_bytes(file.read(8)[4:], "little")
        if at + 8 + length > end:
            raise _damaged(
                path, f"the packet at byte {at} does not end where the packets end, at {end}"
            )
        if length > MAX_PACKET:
            raise _damaged(path, f"the packet at byte {at} has {length} bytes")
        yield file.read(length), header.compression
    if at != end:
        raise _damaged(path, f"its packets begin at byte {at}, but should end at {end}")


def _read_header(file: BinaryIO, path: Path) -> Header:
    start = file.read(len(MAGIC))
    if start != MAGIC:
        raise UserError(
            f"{path} is no AEDAT4 file: it begins with {start!r}, expected {MAGIC!r}. Download or copy it again."
        )
    length = int.from_bytes(file.read(4), "little")
    if length > MAX_HEADER:
        raise _damaged(path, f"its header has {length} bytes, more than {MAX_HEADER}")
    raw = file.read(length)
    try:
        return _parse_header(raw)
    except (struct.error, IndexError, ValueError):
        raise _damaged(
            path, f"its header cannot be read ({len(raw)} of {length} bytes are there)"
        ) from None


def _parse_header(raw: bytes) -> Header:
    """The header's flatbuffer: a table of compression, position of the data table and description.

    Raises:
        struct.error, IndexError, ValueError: an offset leads outside, or the description is no text.
    """

    def number(form: str, at: int) -> int:
        if at < 0:  # struct would count from the end
            raise IndexError(at)
        return struct.unpack_from(f"<{form}", raw, at)[0]

    table = number("I", 0)
    fields = table - number("i", table)
    n_fields = number("H", fields) // 2 - 2

    def position(field: int) -> int:
        offset = number("H", fields + 4 + 2 * field) if field < n_fields else 0
        return table + offset if offset else -1

    compression, table_position, text = map(position, range(3))
    text += number("I", text)
    length = number("I", text)
    if text + 4 + length > len(raw):
        raise IndexError(length)
    raw[text + 4 : text + 4 + length].decode()
    return Header(
        number("i", compression) if compression > 0 else 0,
        number("q", table_position) if table_position > 0 else NO_TABLE,
    )


def unpacked_bound(payload: bytes, compression: int) -> int:
    """Bytes that a packet can unpack to at most, from the sizes of its blocks.

    Raises:
        ValueError: it is not packed as the header says.
    """
    if compression in LZ4:
        return _lz4_bound(payload)
    return _zstd_bound(payload) if compression in ZSTD else len(payload)


def _lz4_bound(payload: bytes) -> int:
    """One frame; format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md."""
    if len(payload) < 7 or _little(payload, 0, 4) != LZ4_MAGIC or payload[5] >> 4 not in LZ4_BLOCK:
        raise ValueError("a packet is no LZ4 frame")
    flags, block = payload[4], LZ4_BLOCK[payload[5] >> 4]
    at, bound = 7 + 8 * (flags >> 3 & 1) + 4 * (flags & 1), 0
    while size := _little(payload, at, 4) & 0x7FFFFFFF:
        at += 4 + size + 4 * (flags >> 4 & 1)
        bound += block
    return bound


def _zstd_bound(payload: bytes) -> int:
    """Any number of frames; format: RFC 8878, section 3.1.1."""
    at = bound = 0
    while at < len(payload):
        if len(payload) < at + 5 or _little(payload, at, 4) != ZSTD_MAGIC:
            raise ValueError("a packet is no Zstandard frame")
        flags = payload[at + 4]
        single = flags >> 5 & 1
        at += 6 - single + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        last = False
        while not last and at < len(payload):
            block = _little(payload, at, 3)
            last = block & 1
            at += 3 + (1 if block >> 1 & 3 == 1 else block >> 3)  # 1: one byte, repeated
            bound += ZSTD_BLOCK
        at += 4 * (flags >> 2 & 1)
    return bound


def _little(data: bytes, at: int, n: int) -> int:
    return int.from_bytes(data[at : at + n], "little")


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is truncated or damaged: {what}. Download or copy it again.")
