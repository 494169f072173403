"""Write AEDAT4 files as DV writes them, uncompressed: the container of N-Omniglot, for stand-ins.

A file is the line ``#!AER-DAT4.0``, a size-prefixed flatbuffer ``IOHE`` (compression, position of
the data table, XML description of the streams), packets (stream, size, size-prefixed flatbuffer)
and the data table. Alignment counts from the size prefix, as flatbuffers has it.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MAGIC = b"#!AER-DAT4.0\r\n"
RECORD = np.dtype(
    {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<i2", "<i2", "u1"],
     "offsets": [0, 8, 10, 12], "itemsize": 16}
)  # fmt: skip
NO_TABLE = -1


def write_aedat4(
    path: Path,
    events: np.ndarray,
    sensor_size: tuple[int, int] = (346, 260),
    per_packet: int = 10_000,
    table: bool = True,
    streams: Sequence[tuple[int, str]] = ((0, "EVTS"),),
) -> Path:
    """One recording: events (x, y, t, p) are of the first of the (id, type) ``streams``.

    ``table`` False: no data table and no position of it, as in a recording that was not closed.
    """
    parts = [events[i : i + per_packet] for i in range(0, len(events), per_packet)]
    packets = b"".join(packet(streams[0][0], event_packet(part)) for part in parts)
    text = description(sensor_size, streams)
    position = len(header(text, 0)) + len(packets) if table else NO_TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    end = prefixed(b"FTAB", vector(0)) if table else b""
    path.write_bytes(header(text, position) + packets + end)
    return path


def header(text: str, table_position: int, compression: int = 0) -> bytes:
    """Magic line and ``IOHE``; compression 0 none, 1 LZ4, 3 Zstandard."""
    raw = text.encode()
    sizes = 10, 20, 4, 8, 16, 12, compression, table_position, 4, len(raw)
    table = struct.pack("<5H2xiiqiI", *sizes)
    return MAGIC + prefixed(b"IOHE", table + raw + b"\0", root=20)


def event_packet(events: np.ndarray) -> bytes:
    """``EVTS``: a vector of 16-byte records."""
    records = np.zeros(len(events), RECORD)
    for name in RECORD.names:
        records[name] = events[name]
    return prefixed(b"EVTS", vector(len(records)) + records.tobytes())


def vector(length: int) -> bytes:
    """A table whose only field is a vector of this length, up to where its elements begin."""
    return struct.pack("<3H2xiII", 6, 8, 4, 8, 4, length)


def prefixed(identifier: bytes, content: bytes, root: int = 16) -> bytes:
    """Size prefix, position of the root table, identifier, content."""
    body = struct.pack("<I4s", root, identifier) + content
    return struct.pack("<I", len(body)) + body


def packet(stream: int, payload: bytes) -> bytes:
    """A packet of a stream."""
    return struct.pack("<iI", stream, len(payload)) + payload


def description(sensor_size: tuple[int, int], streams: Sequence[tuple[int, str]]) -> str:
    """The XML that names the streams."""
    sides = zip("XY", sensor_size, strict=True)
    size = "".join(f'<attr key="size{of}" type="int">{side}</attr>' for of, side in sides)
    nodes = "".join(
        f'<node name="{number}" path="/mainloop/Recorder/outInfo/{number}/">'
        '<attr key="compression" type="string">NONE</attr>'
        '<attr key="originalOutputName" type="string">'
        f"{'events' if kind == 'EVTS' else kind}</attr>"
        f'<attr key="typeIdentifier" type="string">{kind}</attr>'
        f'<node name="info" path="/mainloop/Recorder/outInfo/{number}/info/">{size}</node></node>'
        for number, kind in streams
    )
    outer = '<node name="outInfo" path="/mainloop/Recorder/outInfo/">'
    return f'<dv version="2.0">{outer}{nodes}</node></dv>'
