"""The four columns of a recording, x, y, t and p: found by name or content, checked, t in us."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .events import COLUMNS, MAX_SIDE, Events

# What the columns are called, in lower case.
NAMES = {
    "x": ("x", "xs", "x_pos", "col"),
    "y": ("y", "ys", "y_pos", "row"),
    "t": ("t", "ts", "time", "times", "timestamp", "timestamps"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
UNITS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}  # in us
SLOWEST, FASTEST = 100, 1e7  # events a second of a recording, by which a unit is told


def unit_of(t: np.ndarray) -> str:
    """The unit in which times ``[E]`` make a usual rate of events, 100 to 10 million a second: of
    whole numbers us, if that is one, else ns or ms; of others s, if that is one, else ms or us."""
    span, whole = float(np.ptp(t)), bool((t == np.floor(t)).all())
    rates = {u: len(t) * 1e6 / (span * us) if span else SLOWEST for u, us in UNITS.items()}
    order = ("us", "ns", "ms") if whole else ("s", "ms", "us")
    return next((unit for unit in order if SLOWEST <= rates[unit] <= FASTEST), order[0])


def checked(found: Mapping[str, Any], unit: str | None) -> tuple[Events, str | None]:
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
    for axis in "xy":
        low, high = raw[axis].min(), raw[axis].max()
        if low < 0 or high >= MAX_SIDE or (raw[axis] % 1 != 0).any():
            what = f"whole numbers from 0 to {MAX_SIDE - 1} expected"
            raise ValueError(f"{axis} from {low} to {high}, {what}")
    known = {**raw, "t": np.rint(t) if t.dtype.kind == "f" else t, "p": raw["p"] > 0}
    return {n: known[n].astype(dtype) for n, dtype in COLUMNS.items()}, unit


def by_name(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """The four columns of a mapping, by any of their names; None where one is missing."""
    lower = {str(key).lower(): key for key in source}
    found = {
        column: next((lower[name] for name in names if name in lower), None)
        for column, names in NAMES.items()
    }
    if None in found.values():
        return None
    return {column: np.asarray(source[key]) for column, key in found.items()}  # type: ignore[index]


def by_content(table: np.ndarray) -> dict[str, np.ndarray]:
    """Of ``[E, 4]`` numbers: t alone never falls, p has two values at most, x comes before y."""
    if table.ndim != 2 or table.shape[1] != 4 or len(table) < 2:
        raise ValueError(f"an array of shape {table.shape}, [events, 4] expected")
    columns = list(table.T)
    flags = [k for k in range(4) if set(np.unique(columns[k]).tolist()) <= {-1, 0, 1}]
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
