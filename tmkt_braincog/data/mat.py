"""Read one recording from a MATLAB file (``.mat`` of version 5 to 7, as ``save -v6`` and ``-v7`` write it).

The little of the format that a column of numbers needs: SciPy's reader crashes the process on some damaged files,
and reserves the memory that a file claims to need. On sound files the values are those of ``scipy.io.loadmat``.

A file is a header and one element per variable, maybe packed by zlib; an element is a tag (type, bytes) and parts,
each with such a tag: flags, dimensions, name, numbers ("MAT-File Format", The MathWorks).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ..errors import UserError
from .events import MAX_SPAN_US, Events

VARIABLES = ("x", "y", "ts", "p")
MAX_EVENTS = (
    20_000_000  # more do not fit into the memory promised, nor into a recording of this kind
)
MAX_COORDINATE = 2**15 - 1
LARGEST = 2.0**62  # far beyond any clock, and safe to cast
POLARITIES = ({0, 1}, {-1, 1})

HEADER_BYTES = 128
VERSION = 0x0100
TAG_BYTES = 8
MAX_VARIABLES = 1000
MAX_NAME_BYTES = 256
MAX_DIMENSIONS = 32
BLOCK_BYTES = 1 << 16
# Types of elements and parts.
MATRIX, PACKED = 14, 15
FLAGS, DIMENSIONS, NAME = 6, 5, 1
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
# Classes of variables; the other numbers are numeric.
CLASSES = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix"}
NUMERIC = range(6, 16)
OPAQUE = 17  # has no dimensions, and its name elsewhere
COMPLEX = 0x0800


class _Bad(Exception):
    """What is wrong with a file, and what to do if that is not just to get it again."""

    def __init__(self, seen: str, remedy: str = "Get the file again.") -> None:
        super().__init__(f"{seen} {remedy}")


class _Variable(NamedTuple):
    """What stands before the numbers of a variable."""

    name: str
    kind: int
    is_complex: bool
    shape: tuple[int, ...]


def read_mat(path: str | Path) -> Events:
    """Read the variables ``x``, ``y``, ``ts`` and ``p`` of one recording; others are passed over.

    Each of shape ``[E, 1]``, ``[1, E]`` or ``[E]``, of any real numeric type, whole numbers: x and y in pixels,
    ts in microseconds, p in {0, 1} or {-1, 1}, where -1 becomes 0. Needs less than 1 GiB whatever a file claims.

    Returns:
        Columns x, y (int16), t (int64, us), p (uint8, 0 OFF, 1 ON) of length E >= 1, in the file's order.

    Raises:
        UserError: missing, empty, truncated or damaged file, another format or version, missing or other
            variables, no event, more than 20 million, or values that cannot be such events.
    """
    path = Path(path)
    with _explaining(path), open(path, "rb") as file:
        columns = _columns(file, path.stat().st_size)
        _check_lengths(columns)
        # Taken out one after the other: of a large recording not all are kept in both types.
        return {
            "x": _coordinates(columns.pop("x"), "x"),
            "y": _coordinates(columns.pop("y"), "y"),
            "t": _times(columns.pop("ts"), "ts"),
            "p": _polarities(columns.pop("p"), "p"),
        }


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turn whatever is wrong into one :class:`UserError` that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(
            f"No recording at {path}. Check the data folder, or get it again."
        ) from None
    except _Bad as error:
        raise UserError(f"{path} {error}") from None
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error}. A readable .mat file was expected."
        ) from error


# The container


def _columns(file: BinaryIO, total: int) -> dict[str, np.ndarray]:
    """The four variables, ``[E]`` each, as they are stored."""
    order = _byte_order(file.read(HEADER_BYTES))
    names, columns = [], {}
    while file.tell() < total and len(names) < MAX_VARIABLES:
        kind, size = _tag(file.read(TAG_BYTES), order)
        end = file.tell() + size
        if end > total:
            raise _Bad(f"is truncated: {end} bytes or more were expected, {total} are there.")
        element = _Element(file, size, packed=kind == PACKED)
        if kind == PACKED:
            kind, _ = _tag(element.read(TAG_BYTES), order)
        if kind != MATRIX:
            raise _Bad(f"is damaged: it holds an element of type {kind}.")
        variable = _variable(element, order)
        names.append(variable.name)
        if variable.name in VARIABLES:
            columns[variable.name] = _numbers(element, variable, order)
        file.seek(end)
    _check_names(names)
    return columns


def _check_names(names: list[str]) -> None:
    if sorted(name for name in names if name in VARIABLES) != sorted(VARIABLES):
        shown = ", ".join(name if name.isprintable() else repr(name) for name in names[:20])
        raise _Bad(
            f"holds {shown or 'no variable'}; {', '.join(VARIABLES)}, once each, were expected.",
            "Check that it is a recording of this data set.",
        )


def _byte_order(header: bytes) -> str:
    """``<`` or ``>``."""
    if not header:
        raise _Bad("is empty (0 bytes); a MATLAB file was expected.")
    if header.startswith((b"\x89HDF", b"MATLAB 7.3")):
        raise _Bad(
            "is a MATLAB file of version 7.3 (HDF5); version 5 to 7 was expected.",
            "Save it again in MATLAB: save(FILE, 'x', 'y', 'ts', 'p', '-v7').",
        )
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None or struct.unpack(f"{order}H", header[124:126])[0] != VERSION:
        raise _Bad(
            "is not a MATLAB file of version 5 to 7.",
            "Get it again, or save it in MATLAB with save(FILE, 'x', 'y', 'ts', 'p', '-v7').",
        )
    return order


class _Element:
    """The next ``size`` bytes of the file, unpacked as they are read."""

    def __init__(self, file: BinaryIO, size: int, packed: bool) -> None:
        self.file, self.left = file, size
        self.stream = zlib.decompressobj() if packed else None

    def read(self, size: int) -> bytes:
        """Just so many bytes."""
        data = self.take(size)
        if len(data) < size:
            raise _Bad("is damaged: a variable ends too early.")
        return data

    def take(self, size: int) -> bytes:
        """At most so many bytes, fewer at the end."""
        return self._stored(size) if self.stream is None else self._unpacked(size)

    def check_end(self) -> None:
        """Raise unless only padding is left; the checksum of what is packed is compared at its end."""
        packed = self.stream is not None
        if packed and (len(self.take(TAG_BYTES)) == TAG_BYTES or not self.stream.eof):
            raise _Bad("is damaged: a variable does not end where it should.")

    def _stored(self, size: int) -> bytes:
        data = self.file.read(min(size, self.left))
        self.left -= len(data)
        return data

    def _unpacked(self, size: int) -> bytes:
        parts, stream = [], self.stream
        try:
            while size and not stream.eof:
                part = stream.decompress(stream.unconsumed_tail, size)
                if not part and not stream.eof:
                    packed = self._stored(BLOCK_BYTES)
                    if not packed:
                        break
                    part = stream.decompress(packed, size)
                parts.append(part)
                size -= len(part)
        except zlib.error as error:
            raise _Bad(f"is damaged: {error}.") from None
        return b"".join(parts)


def _tag(tag: bytes, order: str) -> tuple[int, int]:
    """Type and size in bytes."""
    if len(tag) < TAG_BYTES:
        raise _Bad("is truncated: it ends where a variable begins.")
    return struct.unpack(f"{order}II", tag)


def _part(element: _Element, order: str, most: int) -> tuple[int, bytes]:
    """Type and bytes of the next part, at most ``most``."""
    tag = element.read(TAG_BYTES)
    kind, size = _tag(tag, order)
    if kind >> 16:  # up to four bytes stand in the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        if size > min(4, most):
            raise _Bad(f"is damaged: a short part claims {size} bytes.")
        return kind, tag[4 : 4 + size]
    if size > most:
        raise _Bad(f"is damaged: a part claims {size} bytes, {most} or less were expected.")
    data = element.read(size)
    element.take(-size % TAG_BYTES)  # padding
    return kind, data


def _expect(part: tuple[int, bytes], kind: int) -> bytes:
    if part[0] != kind:
        raise _Bad(f"is damaged: it holds a part of type {part[0]} where {kind} was expected.")
    return part[1]


def _variable(element: _Element, order: str) -> _Variable:
    flags = _expect(_part(element, order, 8), FLAGS)
    if len(flags) != 8:
        raise _Bad("is damaged: a variable has no flags.")
    (flags,) = struct.unpack(f"{order}I4x", flags)
    kind, is_complex = flags & 0xFF, bool(flags & COMPLEX)
    if kind == OPAQUE:
        return _Variable("(a variable of another kind)", kind, False, ())
    sizes = _expect(_part(element, order, 4 * MAX_DIMENSIONS), DIMENSIONS)
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes[: len(sizes) // 4 * 4])
    name = _expect(_part(element, order, MAX_NAME_BYTES), NAME).decode("latin-1")
    return _Variable(name, kind, is_complex, shape)


def _numbers(element: _Element, variable: _Variable, order: str) -> np.ndarray:
    """``[E]``, of the type that they are stored in."""
    name, kind, is_complex, shape = variable
    if kind not in NUMERIC or is_complex or not shape or sum(size > 1 for size in shape) > 1:
        what = "complex numbers" if is_complex else CLASSES.get(kind, "numbers")
        text = " x ".join(map(str, shape))
        raise _Bad(
            f"holds {name} as {what}, {text}; one column or row of real numbers was expected."
        )
    n = math.prod(shape)
    if not 1 <= n <= MAX_EVENTS:
        raise _Bad(
            f"holds {n} events; 1 to {MAX_EVENTS} were expected.",
            "Get it again, or remove the recording.",
        )
    kind, data = _part(element, order, 8 * n)
    element.check_end()
    dtype = np.dtype(NUMBERS.get(kind, "V1")).newbyteorder(order)
    if dtype.kind == "V" or len(data) != n * dtype.itemsize:
        raise _Bad(f"is damaged: {name} has {len(data)} bytes of type {kind} for {n} numbers.")
    return np.frombuffer(data, dtype)


# The values


def _check_lengths(columns: dict[str, np.ndarray]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{lengths[name]} {name}" for name in VARIABLES)
        raise _Bad(f"holds {text}; one of each per event was expected.")


def _integers(array: np.ndarray, name: str) -> np.ndarray:
    """``[E]`` int64."""
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            fractional = array != np.trunc(array)
        _refuse(array, ~np.isfinite(array) | fractional, name, "whole numbers")
    _refuse(array, (array < -LARGEST) | (array > LARGEST), name, "numbers of at most 62 bits")
    return array.astype(np.int64)


def _refuse(array: np.ndarray, wrong: np.ndarray, name: str, expected: str) -> None:
    if wrong.any():
        at = int(np.argmax(wrong))
        raise _Bad(
            f"has {name} = {array[at]} at event {at} (and {int(wrong.sum()) - 1} more such); {expected} were expected."
        )


def _coordinates(column: np.ndarray, name: str) -> np.ndarray:
    values = _integers(column, name)
    _refuse(
        values, (values < 0) | (values > MAX_COORDINATE), name, f"pixels in 0..{MAX_COORDINATE}"
    )
    return values.astype(np.int16)


def _times(column: np.ndarray, name: str) -> np.ndarray:
    values = _integers(column, name)
    span = int(values.max()) - int(values.min())
    if span > MAX_SPAN_US:
        raise _Bad(
            f"has {name} from {values.min()} to {values.max()}; at most an hour ({MAX_SPAN_US} us) was expected.",
            "Check that the times are in microseconds, or get the file again.",
        )
    return values


def _polarities(column: np.ndarray, name: str) -> np.ndarray:
    values = _integers(column, name)
    codes = np.unique(values).tolist()
    if not any(set(codes) <= known for known in POLARITIES):
        more = f" and {len(codes) - 5} more" if len(codes) > 5 else ""
        shown = ", ".join(map(str, codes[:5]))
        raise _Bad(f"has the polarities {shown}{more}; 0 and 1 or -1 and 1 were expected.")
    return (values > 0).astype(np.uint8)
