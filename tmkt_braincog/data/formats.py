"""Recordings in any common format, told apart by what is in the file and not by its name.

Decoded by expelliarmus, aedat, h5py, SciPy and NumPy where these can; columns are then found and
checked by :mod:`~tmkt_braincog.data.columns`."""

import io
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from ..errors import UserError
from .columns import Raw, Recorded, Told, by_content, checked, columns_of, keys
from .events import read_aedat4, read_bin

DISORDER = 0.01  # share of times that run backwards, or of events twice, in unmarked records
SEPARATORS = bytes.maketrans(b",;\t", b"   ")
BOM = b"\xef\xbb\xbf"
ECF = 0x8ECF  # Prophesee's filter; it is not among those of hdf5plugin


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
        return checked(FORMATS[name][1](path), told, name)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"Cannot read {path} as {name}: {reason}. It is damaged or no recording: get it again, "
            "or move it out of the folder."
        ) from error


def _numpy(path: Path) -> Raw:
    return Raw(columns_of(np.load(path, allow_pickle=False)))


def _matlab(path: Path) -> Raw:
    """Four variables, or one struct of them, such as TD."""
    found = loadmat(path, appendmat=False, simplify_cells=True)
    return _spike_train(found["spiketrain"]) if "spiketrain" in found else Raw(columns_of(found))


def _spike_train(trains: np.ndarray) -> Raw:
    """ST-MNIST: ``[W W + 1, E]``, 1 or -1 where a sensor of the square fired, t in the last row."""
    side = round((len(trains) - 1) ** 0.5)
    at, when = np.nonzero(trains[:-1])
    order = np.argsort(when, kind="stable")
    at, when = at[order], when[order]
    p = trains[at, when] > 0
    return Raw({"x": at % side, "y": at // side, "t": trains[-1, when], "p": p}, (side, side))


def _hdf5(path: Path) -> Raw:
    """HDF5 of any layout, such as DSEC's (four arrays) and Metavision's (one of fields), and MATLAB
    7.3, which is HDF5.

    Times of both are us. DSEC's ``t_offset`` is not added: frames are cut from the first event on.
    """
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (compression filters that h5py lacks)
    with h5py.File(path) as file:
        try:
            columns = {name: np.asarray(column) for name, column in columns_of(file).items()}
        except OSError:
            file.visititems(partial(_check_filters, path))
            raise
        geometry = re.fullmatch(r"(\d+)x(\d+)", str(file.attrs.get("geometry")))
        sensor = (int(geometry[1]), int(geometry[2])) if geometry else None
        return Raw(columns, sensor, in_us="CD/events" in file or "ms_to_idx" in file)


def _check_filters(path: Path, name: str, item: Any) -> None:
    """A UserError that says what to install for a filter of this data set that is not there."""
    from h5py import Dataset
    from h5py.h5z import filter_avail

    if not isinstance(item, Dataset):
        return
    made = item.id.get_create_plist()
    for number, _, _, words in map(made.get_filter, range(made.get_nfilters())):
        if filter_avail(number):
            continue
        said = f"{path} is compressed by the filter {number} ({words.split(b';')[0].decode()})"
        if number == ECF:
            raise UserError(
                f"{said} of Prophesee. Install its plug-in (github.com/prophesee-ai/hdf5_ecf) and "
                "set HDF5_PLUGIN_PATH to its folder, or record as .raw."
            )
        raise UserError(f"{said}, which h5py lacks. Install it: pip install hdf5plugin")


def _is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 without signs of control."""
    text = head.decode("utf-8-sig", "ignore")
    lost = len(head.removeprefix(BOM)) - len(text.encode())  # a letter cut at the end
    return b"\0" not in head and lost < 4 and "".join(text.split()).isprintable()


def _text(path: Path) -> Raw:
    """Columns by the names in the last line before the numbers, a comment or not, or by content."""
    raw = path.read_bytes().removeprefix(BOM).translate(SEPARATORS)
    lines = takewhile(lambda line: not re.match(rb"\s*[-+]?\.?\d", line), io.BytesIO(raw))
    above = [line.decode().split() for line in lines]
    named = next((words for words in reversed(above) if words), [])
    names = [word.strip("\"'") for word in " ".join(named).strip("#%/ ").split()]
    with warnings.catch_warnings(action="ignore"):  # of no line at all
        table = np.loadtxt(io.TextIOWrapper(io.BytesIO(raw)), skiprows=len(above), ndmin=2)
    if len(names) == table.shape[1]:
        found = dict(zip(names, table.T, strict=True))
        if keys(found):
            return Raw(columns_of(found))
    if any(words[0][0] not in "#%/" for words in above if words):
        raise ValueError(f"the columns {', '.join(names)}; x, y, t and p expected")
    return Raw(by_content(table))


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
        return Raw({"x": x, "y": y, "t": t, "p": p}, (128, 128), in_us=True)
    x, y = side[0] - 1 - (address >> 12 & 0x3FF), side[1] - 1 - (address >> 22 & 0x1FF)
    return Raw({"x": x, "y": y, "t": t, "p": address >> 11 & 1}, side, in_us=True)


def _prophesee(path: Path) -> Raw:
    """DAT, EVT2 or EVT3, by expelliarmus."""
    from expelliarmus import Wizard

    with open(path, "rb") as file:
        header = takewhile(lambda line: line.startswith(b"%"), file)
        said = b"".join(header).decode("latin-1").lower()
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
    return Raw(events, sensor, in_us=True)


def _atis(path: Path) -> Raw:
    """What has no mark: any file could be this, but for different times that run forwards."""
    try:
        events = read_bin(path)
    except UserError:
        events = dict.fromkeys("xytp", np.zeros(1, np.int64))
    t = events["t"]
    x, y = (events[axis].astype(np.int64) for axis in "xy")
    every = t << 17 | x << 9 | y << 1 | events["p"]  # unique columns of a stack take much longer
    same = len(t) - len(np.unique(every))
    if not np.ptp(t) or max((np.diff(t) < 0).mean(), same / len(t)) > DISORDER:
        tried = ", ".join(FORMATS)
        raise UserError(
            f"{path} is of no format that is known here (tried: {tried}). Convert it, or move it "
            "out of the folder."
        )
    return Raw(events, None, in_us=True)


# In the order in which they are tried: whether the first bytes are of it, and its reader.
FORMATS: dict[str, tuple[Callable[[bytes], bool], Callable[[Path], Raw]]] = {
    "AEDAT 4": (
        lambda head: head.startswith(b"#!AER-DAT4"),
        lambda path: Raw(*read_aedat4(path), in_us=True),
    ),
    "AEDAT 2": (lambda head: head.startswith(b"#!AER-DAT"), _aedat),
    "Prophesee": (lambda head: bool(re.match(rb"% ?[\t\x20-\x7e]{4,}\r?\n", head)), _prophesee),
    "HDF5": (lambda head: head.startswith(b"\x89HDF"), _hdf5),
    "MATLAB 7.3": (lambda head: head.startswith(b"MATLAB 7.3"), _hdf5),
    "MATLAB": (lambda head: head.startswith(b"MATLAB 5.0"), _matlab),
    "NumPy": (lambda head: head[:6] == b"\x93NUMPY" or head[:4] == b"PK\x03\x04", _numpy),
    "text": (_is_text, _text),
    "ATIS": (lambda head: True, _atis),
}
