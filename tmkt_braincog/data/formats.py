"""Recordings in any common format, told apart by what is in the file and not by its name.

Decoded by tonic, expelliarmus, aedat, h5py, SciPy and NumPy; what is ours is to find the four
columns and their unit of time."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.io import loadmat

from ..errors import UserError
from .events import COLUMNS, Events, read_aedat4, read_bin

Size = tuple[int, int]  # (W, H)
Raw = tuple[Mapping[str, Any], Size | None]  # columns as they are, and the sensor by the file

# What the columns are called, in lower case.
NAMES = {
    "x": ("x", "xs", "x_pos", "col"),
    "y": ("y", "ys", "y_pos", "row"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}  # in us
DISORDER = 0.01  # share of times that may run backwards in a file of unmarked records
SLOWEST, FASTEST = 100, 1e7  # events a second of a recording, by which a unit is told


class Recorded(NamedTuple):
    """One recording: events with t in us, the sensor by the file (None: it says none), the format,
    and the unit that t was in, None where the format fixes it."""

    events: Events
    sensor: Size | None
    format: str
    unit: str | None


def read_any(path: Path, unit: str | None = None) -> Recorded:
    """Read a recording of any of :data:`FORMATS`.

    Args:
        unit: of t, ``us``, ``ms`` or ``s``, where the format does not fix it; None: see
            :func:`unit_of`.

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
        found, sensor = FORMATS[name][1](path)
        columns, unit = _columns(found, None if name in IN_US else unit or "?")
    except UserError:
        raise
    except Exception as error:  # damaged files fail in many ways
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"Cannot read {path} as {name}: {reason}. Get it again.") from error
    return Recorded(columns, sensor, name, unit)


def unit_of(t: np.ndarray) -> str:
    """The unit in which times ``[E]`` make a usual rate of events, 100 to 10 million a second: of
    whole numbers us, if that is one, else ms or s; of others s, if that is one, else ms."""
    span, whole = float(np.ptp(t)), bool((t == np.floor(t)).all())
    rates = {u: len(t) * 1e6 / (span * us) if span else FASTEST for u, us in UNITS.items()}
    if whole:
        return next((unit for unit, rate in rates.items() if rate <= FASTEST), "s")
    return "s" if rates["s"] >= SLOWEST else "ms"


def _columns(found: Mapping[str, Any], unit: str | None) -> tuple[Events, str | None]:
    """Checked columns, t in us; ``unit`` "?" is to be found, None is us by the format."""
    raw = {name: np.asarray(found[name]).reshape(-1) for name in "xytp"}
    sizes = {name: len(column) for name, column in raw.items()}
    if len(set(sizes.values())) > 1 or not sizes["t"]:
        raise ValueError(f"columns of the lengths {sizes}, at least one event in each expected")
    if not all(np.isfinite(column).all() for column in raw.values() if column.dtype.kind == "f"):
        raise ValueError("numbers that are not finite")
    polarities = np.unique(raw["p"])
    if not (set(polarities.tolist()) <= {0, 1} or set(polarities.tolist()) <= {-1, 1}):
        raise ValueError(f"polarities {polarities[:5].tolist()}, 0 and 1 or -1 and 1 expected")
    if unit == "?":
        unit = unit_of(raw["t"])
    t = raw["t"] if unit in (None, "us") else raw["t"] * UNITS[str(unit)]
    checked = {**raw, "t": np.rint(t) if t.dtype.kind == "f" else t, "p": raw["p"] > 0}
    return {n: checked[n].astype(dtype) for n, dtype in COLUMNS.items()}, unit


def _by_name(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """The four columns of a mapping, by any of their names; None where one is missing."""
    lower = {str(key).lower(): key for key in source}
    found = {
        column: next((lower[name] for name in names if name in lower), None)
        for column, names in NAMES.items()
    }
    if None in found.values():
        return None
    return {column: np.asarray(source[key]) for column, key in found.items()}  # type: ignore[index]


def _by_content(table: np.ndarray) -> dict[str, np.ndarray]:
    """Of ``[E, 4]`` numbers: t never falls and spans most, p has two values, x comes before y."""
    if table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(f"an array of shape {table.shape}, [events, 4] expected")
    every = range(4)
    rising = [k for k in every if (np.diff(table[:, k]) >= 0).all()]
    flags = [k for k in every if set(np.unique(table[:, k]).tolist()) <= {-1, 0, 1}]
    if not rising or not flags:
        raise ValueError("no column that never falls (t), or none of 0 and 1 or -1 and 1 (p)")
    t = max(rising, key=lambda k: np.ptp(table[:, k]))
    p = next((k for k in reversed(flags) if k != t), flags[-1])
    x, y = (k for k in every if k not in (t, p))
    return {"x": table[:, x], "y": table[:, y], "t": table[:, t], "p": table[:, p]}


def _array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.names is None:
        return _by_content(array)
    if found := _by_name({name: array[name] for name in array.dtype.names}):
        return found
    raise ValueError(f"fields {', '.join(array.dtype.names)}; x, y, t and p expected")


def _numpy(path: Path) -> Raw:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return _array(found), None
    with found:
        arrays = {name: found[name] for name in found.files}
    return _by_name(arrays) or _array(_only(arrays)), None


def _only(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The one array that can hold events."""
    tables = [a for a in arrays.values() if a.dtype.names or (a.ndim == 2 and a.shape[1] == 4)]
    if len(tables) != 1:
        raise ValueError(f"the arrays {', '.join(arrays)}; x, y, t and p, or one table, expected")
    return tables[0]


def _hdf5(path: Path) -> Raw:
    import h5py

    groups: dict[str, dict[str, Any]] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            groups.setdefault(name.rpartition("/")[0], {})[name.rpartition("/")[2]] = item

    with h5py.File(path) as file:
        file.visititems(note)
        for group in groups.values():
            if found := _by_name({k: v for k, v in group.items() if v.ndim == 1}):
                return found, None
        tables = {k: v for g in groups.values() for k, v in g.items() if v.dtype.names}
        return _array(_only({k: v[:] for k, v in tables.items()})), None


def _matlab(path: Path) -> Raw:
    found = {k: v for k, v in loadmat(path, appendmat=False).items() if k[:2] != "__"}
    for value in (found, *found.values()):
        if getattr(value, "dtype", None) is not None and value.dtype.names:  # a struct, such as TD
            value = {name: value[name].item() for name in value.dtype.names}
        if isinstance(value, Mapping) and (columns := _by_name(value)):
            return columns, None
    if "spiketrain" in found:
        return _spike_train(found["spiketrain"])
    raise ValueError(f"the variables {', '.join(found)}; x, y, t and p expected")


def _spike_train(trains: np.ndarray) -> Raw:
    """ST-MNIST: ``[W W + 1, E]``, 1 or -1 where a sensor of the square fired, t in the last row."""
    side = round((len(trains) - 1) ** 0.5)
    at, when = np.nonzero(trains[:-1])
    order = np.argsort(when, kind="stable")
    at, when = at[order], when[order]
    p = trains[at, when] > 0
    return {"x": at % side, "y": at // side, "t": trains[-1, when], "p": p}, (side, side)


def _text(path: Path) -> Raw:
    lines = path.read_text("utf-8-sig").splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip() and line.lstrip()[0] != "#")
    words = [word for word in re.split(r"[,;\s]+", lines[first].strip()) if word]
    named = any(word[0].isalpha() for word in words)
    rows = [re.split(r"[,;\s]+", line.strip(" ,;\t")) for line in lines[first + named :]]
    table = np.array([row for row in rows if row != [""] and row[0][:1] != "#"], np.float64)
    if not named:
        return _by_content(table), None
    if columns := _by_name(dict(zip(map(str, words), table.T, strict=True))):
        return columns, None
    raise ValueError(f"the columns {', '.join(words)}; x, y, t and p expected")


def _aedat(path: Path) -> Raw:
    """AEDAT 2.0 of a DVS128 or a DAVIS346, or 3.1: tonic's records, with jAER's bits of an address.

    tonic's own readers of these fail on the third value that its header has since version 1.6."""
    from tonic import io

    version, start, *_ = io.read_aedat_header_from_file(str(path))
    found = io.get_aer_events_from_file(str(path), version, start)
    address, sensor = found["address"].astype(np.int64), None
    if version >= 3:
        x, y, p = address >> 17 & 0x1FFF, address >> 2 & 0x1FFF, address >> 1 & 1
    elif (address < 2**15).all():
        x, y, p, sensor = (
            127 - (address >> 1 & 0x7F),
            127 - (address >> 8 & 0x7F),
            1 - (address & 1),
            (128, 128),
        )
    else:
        found = found[address >> 31 == 0]  # the others are samples of its frames
        address = address[address >> 31 == 0]
        x, y = 345 - (address >> 12 & 0x3FF), 259 - (address >> 22 & 0x1FF)
        p, sensor = address >> 11 & 1, (346, 260)
    return {"x": x, "y": y, "t": found["timeStamp"], "p": p}, sensor


def _prophesee(path: Path) -> Raw:
    """DAT, EVT2 or EVT3, by expelliarmus."""
    from expelliarmus import Wizard

    with open(path, "rb") as file:
        lines = []
        while (line := file.readline())[:1] == b"%":
            lines.append(line.decode("latin-1").lower())
    said = "".join(lines)
    kind = re.search(r"(?:evt ?|format evt)(\d)(\.1)?", said)
    if kind and (kind[2] or kind[1] not in "23"):
        raise ValueError(f"EVT {kind[1]}{kind[2] or ''}; DAT, EVT2 and EVT3 can be read")
    events = Wizard(f"evt{kind[1]}" if kind else "dat", path).read()
    width, height = (re.search(rf"\b{side}[ =](\d+)", said) for side in ("width", "height"))
    geometry = re.search(r"geometry[: ](\d+)x(\d+)", said)
    if geometry:
        return _named(events), (int(geometry[1]), int(geometry[2]))
    return _named(events), (int(width[1]), int(height[1])) if width and height else None


def _atis(path: Path) -> Raw:
    """What has no mark: any file could be this, but for times that run forwards."""
    try:
        events = read_bin(path)
    except UserError:
        events = {}
    if not events or (np.diff(events["t"]) < 0).mean() > DISORDER:
        tried = ", ".join(FORMATS)
        raise UserError(f"{path} is of no format that is known here (tried: {tried}).")
    return events, None


def _named(events: np.ndarray) -> dict[str, np.ndarray]:
    return {name: events[name] for name in "xytp"}


def _is_text(head: bytes) -> bool:
    return bool(re.match(rb"(\xef\xbb\xbf)?[\s\w#.,;:+\-()]+\Z", head[:-20] or head))


# In the order in which they are tried: whether the first bytes are of it, and its reader.
FORMATS: dict[str, tuple[Callable[[bytes], bool], Callable[[Path], Raw]]] = {
    "AEDAT 4": (lambda head: head.startswith(b"#!AER-DAT4"), read_aedat4),
    "AEDAT 2 or 3": (lambda head: head.startswith(b"#!AER-DAT"), _aedat),
    "Prophesee": (lambda head: head.startswith(b"% "), _prophesee),
    "HDF5": (lambda head: head.startswith(b"\x89HDF") or b"MATLAB 7.3" in head[:128], _hdf5),
    "MATLAB": (lambda head: head.startswith(b"MATLAB 5.0"), _matlab),
    "NumPy": (lambda head: head[:6] == b"\x93NUMPY" or head[:4] == b"PK\x03\x04", _numpy),
    "text": (_is_text, _text),
    "ATIS": (lambda head: True, _atis),
}
IN_US = ("AEDAT 4", "AEDAT 2 or 3", "Prophesee", "ATIS")
