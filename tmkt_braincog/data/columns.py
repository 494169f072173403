"""The columns of a recording, x, y, t and p: found by name or content, checked, t in us."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .events import COLUMNS, MAX_SIDE, Events

Size = tuple[int, int]  # (W, H)

# What the columns are called, in lower case.
NAMES = {
    "x": ("x", "xs", "x_pos", "col"),
    "y": ("y", "ys", "y_pos", "row"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
MOST_US = 2**62  # of a time, so that differences are no larger than int64
UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}  # in us
# Events a second, and the length in us, of a recording, by which a unit is told.
SLOWEST, FASTEST, SHORTEST = 100, 1e7, 1000


def unit_of(t: np.ndarray) -> str:
    """The unit in which times ``[E]`` make a usual rate of events, 100 to 10 million a second, over
    at least 1 ms: of whole numbers us, if that is so, else ns or ms; of others s, else ms or us."""
    span, whole = float(np.ptp(t)), bool((t == np.floor(t)).all())
    order = ("us", "ns", "ms") if whole else ("s", "ms", "us")
    for unit in order:
        length = span * UNITS[unit]
        if length >= SHORTEST and SLOWEST <= len(t) * 1e6 / length <= FASTEST:
            return unit
    return order[0]


class Raw(NamedTuple):
    """A file's columns as they are, and what it says: the sensor, and whether t is in us."""

    columns: Events
    sensor: Size | None = None
    in_us: bool = False


class Told(NamedTuple):
    """What files do not say: the unit of t, None: see :func:`unit_of`; and of MATLAB's, whether x
    and y count from 1, and whether polarity is 1 (OFF) and 2 (ON)."""

    unit: str | None = None
    from_one: bool = False
    up_to_two: bool = False


class Recorded(NamedTuple):
    """One recording: events with t in us, the sensor by the file (None: it says none), the format,
    the unit that t was in (None where the file says it), and whether polarity was 1 and 2."""

    events: Events
    sensor: Size | None
    format: str
    unit: str | None
    up_to_two: bool


def checked(raw: Raw, told: Told = Told(), format: str = "") -> Recorded:
    """The recording in these columns; a ValueError for what are no events.

    Only MATLAB's polarity may be 1 and 2: a 2 in it tells that, too.
    """
    given = {name: np.asarray(raw.columns[name]).reshape(-1) for name in "xytp"}
    sizes = {name: len(column) for name, column in given.items()}
    if len(set(sizes.values())) > 1 or not sizes["t"]:
        raise ValueError(f"columns of the lengths {sizes}, at least one event in each expected")
    if not all(np.isfinite(column).all() for column in given.values() if column.dtype.kind == "f"):
        raise ValueError("numbers that are not finite, or are missing")
    matlab = format.startswith("MATLAB")
    p = np.unique(given["p"]).tolist()
    two = matlab and (told.up_to_two or 2 in p)
    if not any(set(p) <= allowed for allowed in ([{1, 2}] if two else [{0, 1}, {-1, 1}])):
        usual = "0 and 1 or -1 and 1" + ", or 1 and 2," * matlab
        which = "1 and 2" if told.up_to_two else usual
        raise ValueError(f"polarities {p[:5]}, {which} expected")
    unit = None if raw.in_us else told.unit or unit_of(given["t"])
    t = given["t"] if unit in (None, "us") else given["t"] * UNITS[unit]
    if t.min() < -MOST_US or t.max() > MOST_US:
        raise ValueError(f"times from {t.min()} to {t.max()} us, which no camera gives")
    shift = int(matlab and told.from_one and raw.sensor is None)
    for axis in "xy":
        low, high = given[axis].min(), given[axis].max()
        if low < shift or high - shift >= MAX_SIDE or (given[axis] % 1 != 0).any():
            what = f"whole numbers from {shift} to {MAX_SIDE - 1 + shift} expected"
            raise ValueError(f"{axis} from {low} to {high}, {what}")
    known = {
        **{axis: given[axis] - shift for axis in "xy"},
        "t": np.rint(t) if t.dtype.kind == "f" else t,
        "p": given["p"] > int(two),
    }
    events = {name: known[name].astype(dtype) for name, dtype in COLUMNS.items()}
    return Recorded(events, raw.sensor, format, unit, two)


def keys(source: Any) -> dict[str, str]:
    """What x, y, t and p are called in a mapping or an array of fields; empty if one is missing."""
    names = source if isinstance(source, Mapping) else getattr(source, "dtype", np.dtype(int)).names
    lower = {str(name).lower(): name for name in names or ()}
    found = {c: [lower[name] for name in known if name in lower] for c, known in NAMES.items()}
    return {c: usual[0] for c, usual in found.items()} if all(found.values()) else {}


def columns_of(found: Any) -> dict[str, Any]:
    """The columns of an array of fields or ``[E, 4]``, or of the only recording in named arrays and
    groups of them, as files of NumPy, MATLAB and HDF5 hold them: four arrays in a group, or one."""
    if names := keys(found):
        return {column: found[name] for column, name in names.items()}
    if isinstance(found, Mapping):
        return columns_of(_only_one(_recordings(found)))
    return by_content(np.asarray(found))


def _recordings(group: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Groups with the four columns and arrays of them, below this group, by their paths."""
    found = {}
    for name, item in group.items():
        if keys(item) or getattr(item, "shape", ())[1:] == (4,):
            found[f"{above}{name}"] = item
        elif isinstance(item, Mapping):
            found |= _recordings(item, f"{above}{name}/")
    return found


def _only_one(found: Mapping[str, Any]) -> Any:
    """The one that holds events: of several that which is called so, as cameras' software does."""
    usual = [found[name] for name in found if name.lower() in ("td", "events", "cd", "cd/events")]
    chosen = list(found.values()) if len(found) == 1 else usual
    if len(chosen) != 1:
        which = ", ".join(found) or "none"
        raise ValueError(
            f"{len(found)} groups or arrays with x, y, t and p ({which}), one expected"
        )
    return chosen[0]


def by_content(table: np.ndarray) -> dict[str, np.ndarray]:
    """Of ``[E, 4]`` numbers: t alone never falls, p has two values at most, x comes before y."""
    if table.ndim != 2 or table.shape[1] != 4 or len(table) < 2:
        raise ValueError(
            f"an array of shape {table.shape}; [events, 4], or fields x, y, t and p, expected"
        )
    columns = list(table.T)
    flags = [k for k, c in enumerate(columns) if ((c == 0) | (c == 1) | (c == -1)).all()]
    rises = [bool((c[1:] >= c[:-1]).all() and c[-1] > c[0]) for c in columns]
    times = [k for k in range(4) if rises[k] and k not in flags]
    times = [k for k in times if (columns[k] % 1 != 0).any()] or times
    if len(times) != 1 or len(flags) != 1:
        raise ValueError(
            f"{len(times)} columns that could be t (alone never falls) and {len(flags)} that could "
            "be p (0 and 1, or -1 and 1), one of each expected: name the columns"
        )
    x, y = (k for k in range(4) if k not in (*times, *flags))
    return dict(zip("xytp", (columns[k] for k in (x, y, times[0], flags[0])), strict=True))
