"""Recordings in any common format, told apart by what is in the file and not by its name.

Decoded by expelliarmus, aedat, h5py, SciPy and NumPy where these can; columns are then found and
checked by :mod:`~tmkt_braincog.data.columns`."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import loadmat

from ..errors import UserError
from .columns import Raw, Size, Told, by_name, checked, of_array, only_one
from .events import Events, columns, read_aedat4, read_bin
from .format_hdf5 import read_hdf5
from .format_text import is_text, read_text

DISORDER = 0.01  # share of times that run backwards, or of events twice, in unmarked records


class Recorded(NamedTuple):
    """One recording: events with t in us, the sensor by the file (None: it says none), the format,
    the unit that t was in (None where the file says it), and whether polarity was 1 and 2."""

    events: Events
    sensor: Size | None
    format: str
    unit: str | None
    up_to_two: bool


def read_any(path: Path, told: Told = Told()) -> Recorded:
    """Read a recording of any of :data:`FORMATS`.

    Args:
        told: what the file does not say.

    Raises:
        UserError: no event file, a damaged one, or columns that are no events.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error}.") from error
    if not head:
        raise UserError(f"{path} is empty. Get it again, or leave it out.")
    name = next(name for name, (fits, _) in FORMATS.items() if fits(head))
    try:
        raw = FORMATS[name][1](path)
        events, unit, up_to_two = checked(raw, told, name.startswith("MATLAB"))
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"Cannot read {path} as {name}: {reason}. It is damaged or no recording: get it again, "
            "or move it out of the folder."
        ) from error
    return Recorded(events, raw.sensor, name, unit, up_to_two)


def _numpy(path: Path) -> Raw:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return Raw(of_array(found))
    with found:
        arrays = {name: found[name] for name in found.files}
    if columns := by_name(arrays):
        return Raw(columns)
    tables = {n: a for n, a in arrays.items() if a.dtype.names or (a.ndim == 2 and a.shape[1] == 4)}
    return Raw(only_one({name: of_array(table) for name, table in tables.items()}, "arrays"))


def _matlab(path: Path) -> Raw:
    """Four variables, or one struct of them, such as TD."""
    found = {k: v for k, v in loadmat(path, appendmat=False).items() if k[:2] != "__"}
    if "spiketrain" in found:
        return _spike_train(found["spiketrain"])
    if columns := by_name(found):
        return Raw(columns)
    structs = {k: v for k, v in found.items() if v.dtype.names and v.size == 1}
    fields = {k: {name: v[name].item() for name in v.dtype.names} for k, v in structs.items()}
    return Raw(only_one({k: c for k, v in fields.items() if (c := by_name(v))}, "structs"))


def _spike_train(trains: np.ndarray) -> Raw:
    """ST-MNIST: ``[W W + 1, E]``, 1 or -1 where a sensor of the square fired, t in the last row."""
    side = round((len(trains) - 1) ** 0.5)
    at, when = np.nonzero(trains[:-1])
    order = np.argsort(when, kind="stable")
    at, when = at[order], when[order]
    p = trains[at, when] > 0
    return Raw({"x": at % side, "y": at // side, "t": trains[-1, when], "p": p}, (side, side))


def _aedat(path: Path) -> Raw:
    """AEDAT 2.0 of a DVS128, DAVIS240 or DAVIS346: jAER's bits of an address, x and y from above
    left. Events of a DAVIS that are samples of frames or of the IMU, and triggers, are left out."""
    raw = path.read_bytes()
    header = re.match(rb"(?:#[\t\x20-\x7e]*\r?\n)*", raw)
    head = header[0].upper() if header else b""
    if not head.startswith(b"#!AER-DAT2.0"):
        version = head[9:12].decode() or "1.0"
        raise ValueError(f"AEDAT {version}; 2.0 and 4.0 can be read: convert it with dv-processing")
    n = (len(raw) - len(head)) // 8
    events = np.frombuffer(raw, [("address", ">u4"), ("t", ">u4")], n, len(head))
    address, t = events["address"].astype(np.int64), events["t"]
    side = (240, 180) if b"DAVIS240" in head else (346, 260) if b"DAVIS346" in head else None
    if side is None and len(address) and (address < 2**16).mean() < 0.9:
        raise ValueError("addresses of no DVS128, and no DAVIS240 or DAVIS346 in the header")
    kept = address < 2**15 if side is None else (address >> 31 == 0) & (address >> 10 & 1 == 0)
    address, t = address[kept], t[kept]
    if side is None:
        x, y, p = 127 - (address >> 1 & 0x7F), 127 - (address >> 8 & 0x7F), 1 - (address & 1)
        return Raw({"x": x, "y": y, "t": t, "p": p}, (128, 128), "us")
    x, y = side[0] - 1 - (address >> 12 & 0x3FF), side[1] - 1 - (address >> 22 & 0x1FF)
    return Raw({"x": x, "y": y, "t": t, "p": address >> 11 & 1}, side, "us")


def _prophesee(path: Path) -> Raw:
    """DAT, EVT2 or EVT3, by expelliarmus."""
    from expelliarmus import Wizard

    with open(path, "rb") as file:
        lines = []
        while (line := file.readline())[:1] == b"%":
            lines.append(line.decode("latin-1").lower())
    said = "".join(lines)
    kind = re.search(r"evt ?(\d)\.?(\d)?", said)
    if kind and (kind[1] not in "23" or kind[2] not in (None, "0")):
        raise ValueError(f"EVT {kind[1]}.{kind[2] or 0}; DAT, EVT2 and EVT3 can be read")
    wizard = Wizard(f"evt{kind[1]}" if kind else "dat")
    wizard._fpath = path.resolve()  # set_file() wants another ending for each
    events = wizard.read()
    if events is None:
        raise ValueError("no event")
    width, height = (re.search(rf"\b{side}[ =](\d+)", said) for side in ("width", "height"))
    sensor = (int(width[1]), int(height[1])) if width and height else None
    if geometry := re.search(r"geometry[: ](\d+)x(\d+)", said):
        sensor = int(geometry[1]), int(geometry[2])
    return Raw(columns(events), sensor, "us")


def _atis(path: Path) -> Raw:
    """What has no mark: any file could be this, but for different times that run forwards."""
    try:
        events = read_bin(path)
    except UserError:
        events = dict.fromkeys("xytp", np.zeros(1, np.int64))
    t = events["t"]
    every = t << 17  # x and y are bytes; a stack's unique columns take ten times as long
    for name, bits in (("x", 9), ("y", 1), ("p", 0)):
        every = every | events[name].astype(np.int64) << bits
    same = len(t) - len(np.unique(every))
    if not np.ptp(t) or max((np.diff(t) < 0).mean(), same / len(t)) > DISORDER:
        tried = ", ".join(FORMATS)
        raise UserError(
            f"{path} is of no format that is known here (tried: {tried}). Convert it, or move it "
            "out of the folder."
        )
    return Raw(events, None, "us")


# In the order in which they are tried: whether the first bytes are of it, and its reader.
FORMATS: dict[str, tuple[Callable[[bytes], bool], Callable[[Path], Raw]]] = {
    "AEDAT 4": (
        lambda head: head.startswith(b"#!AER-DAT4"),
        lambda path: Raw(*read_aedat4(path), "us"),
    ),
    "AEDAT 2": (lambda head: head.startswith(b"#!AER-DAT"), _aedat),
    "Prophesee": (lambda head: bool(re.match(rb"% ?[\t\x20-\x7e]{4,}\r?\n", head)), _prophesee),
    "HDF5": (lambda head: head.startswith(b"\x89HDF"), read_hdf5),
    "MATLAB 7.3": (lambda head: head.startswith(b"MATLAB 7.3"), read_hdf5),
    "MATLAB": (lambda head: head.startswith(b"MATLAB 5.0"), _matlab),
    "NumPy": (lambda head: head[:6] == b"\x93NUMPY" or head[:4] == b"PK\x03\x04", _numpy),
    "text": (is_text, read_text),
    "ATIS": (lambda head: True, _atis),
}
