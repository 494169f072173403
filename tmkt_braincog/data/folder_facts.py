"""What the files of a user's own recordings do not say, told by all of them together, and said."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..argument_types import microseconds
from ..errors import UserError
from .base import LoadSpec
from .cache import Writer, cached, files_digest
from .columns import Size, Told
from .events import Events, check_span, extent, n_windows, windows
from .formats import read_any
from .parallel import decode_files
from .recordings import FrameSpec
from .tree import listed

FACTS_VERSION = 3  # raise it when a format is read in another way
POLARITIES = {"01": "0 and 1, or -1 and 1,", "12": "1 and 2"}


class Facts(NamedTuple):
    """How recordings become frames; per file the marks of its windows, see
    :func:`~tmkt_braincog.data.events.windows`; and remarks on what files do not say."""

    frames: FrameSpec
    marks: list[list[str]]
    remarks: list[str]


def read(
    path: Path, sensors: dict[str, Size], told: dict[str, Told], window_us: int | None
) -> Iterable[tuple[Events, Size]]:
    """The recording of one file, or its windows; sensor and what else a file does not say are those
    of all that do not say theirs, by the ending of their names."""
    end = path.suffix.lower()
    found = read_any(path, told[end])
    parts = windows(found.events, window_us).values()
    return [(events, found.sensor or sensors[end]) for events in parts]


def facts(files: Sequence[Path], spec: LoadSpec, root: Path) -> Facts:
    """Look at all recordings; see :class:`Facts`.

    Raises:
        UserError: unreadable files, files that contradict each other, an option without use.
    """
    window_us = microseconds(spec.window) if spec.window else None
    key = {"files": files_digest(files, root), "version": FACTS_VERSION}
    key |= {"unit": spec.time_unit, "window_us": window_us}
    look = partial(_fact, unit=spec.time_unit, window_us=window_us)
    arrays = cached("folder-facts", key, partial(_scan, look=look, files=files))
    marks = iter(arrays.pop("marks").tolist())
    names = {"file": [path.name for path in files], "end": [path.suffix.lower() for path in files]}
    table = pd.DataFrame({**names, **arrays})
    _check_unit(table, spec)
    kinds = Counter(table["format"]).most_common()
    remarks = [f"Recordings: {', '.join(f'{n} {name}' for name, n in kinds)}."]
    told, sensors = dict[str, Told](), dict[str, Size]()
    for end in dict.fromkeys(names["end"]):
        own = table[table["end"] == end]
        told[end] = _told(own, end, root)
        if not own["known"].all():
            sensors[end], said = _sensor(own[~own["known"]], told[end], end)
            remarks.append(said)
    remarks += _on_what_was_told(told, spec)
    if window_us:
        remarks.append(_on_windows(table, window_us, spec.window))
    counts = table["windows"].tolist()
    frames = FrameSpec(
        partial(read, sensors=sensors, told=told, window_us=window_us),
        *(spec.steps, spec.size, spec.mode),
        per_file=tuple(counts) if window_us else 1,
        version=FACTS_VERSION,
    )
    return Facts(frames, [list(islice(marks, n)) for n in counts], remarks)


def _fact(path: Path, unit: str | None, window_us: int | None) -> dict[str, Any]:
    """What one file says and what it leaves open, and the marks of its windows."""
    found = read_any(path, Told(unit))
    events, matlab = found.events, found.format.startswith("MATLAB")
    check_span(events, str(path))
    width, height = found.sensor or extent(events)
    off = not events["p"].all()
    return {
        "format": found.format,
        "unit": found.unit or "",
        "known": found.sensor is not None,
        "width": width,
        "height": height,
        "span": int(np.ptp(events["t"])),
        "least": min(int(events[axis].min()) for axis in "xy"),
        "matlab": matlab,
        "polarity": ("12" if found.up_to_two else "01" if off else "") if matlab else "",
        "marks": list(windows(events, window_us)),
    }


def _scan(out: Writer, look: partial, files: Sequence[Path]) -> None:
    found = list(decode_files(look, files, "folder: looking at the recordings"))
    marks = [fact.pop("marks") for fact in found]
    out.add(marks=np.concatenate(marks), windows=np.array(list(map(len, marks))))
    for name in found[0]:
        out.add(**{name: np.array([fact[name] for fact in found])})


def _check_unit(table: pd.DataFrame, spec: LoadSpec) -> None:
    """A UserError for a given unit of time that no file needs, or that cannot be."""
    unsaid = table[table["unit"] != ""]
    if spec.time_unit and unsaid.empty:
        raise UserError("--time-unit: all files say their unit of time. Leave it away.")
    if spec.time_unit and (unsaid["span"] < spec.steps).all():
        raise UserError(
            f"--time-unit {spec.time_unit}: all recordings would be shorter than {spec.steps} us, "
            f"and their {spec.steps} frames empty. Give another unit."
        )


def _told(own: pd.DataFrame, end: str, root: Path) -> Told:
    """Of the files with one ending: unit of time, and what MATLAB's count from."""
    units, polarities = (Counter(filter(None, own[name])) for name in ("unit", "polarity"))
    if len(units) > 1:
        seen = ", ".join(f"{unit} in {n}" for unit, n in units.items())
        raise UserError(
            f"{root}: times of {end} files could be {seen} of them, by their rates of events. "
            "Say it with --time-unit (us, ms, s or ns), if it is the same in all."
        )
    if len(polarities) > 1:
        seen = "; ".join(f"{POLARITIES[p]} in {n}" for p, n in polarities.items())
        raise UserError(f"{root}: polarities of {end} files are {seen} of them. Store all alike.")
    counted = own.loc[own["matlab"] & ~own["known"], "least"]
    return Told(next(iter(units), None), bool(counted.min() >= 1), "12" in polarities)


def _sensor(unknown: pd.DataFrame, told: Told, end: str) -> tuple[Size, str]:
    """As large as where events are in these files, which do not say it, and that in words."""
    sizes = unknown[["width", "height"]].sub(unknown["matlab"] * told.from_one, axis=0)
    width, height = map(int, sizes.max())
    widest = unknown["file"].iloc[int(np.argmax(sizes.sum(axis=1)))]
    which = f"{len(unknown)} {end or 'other'} file{'s' if len(unknown) > 1 else ''}"
    return (width, height), (
        f"The sensor of {which} is taken for {width} x {height} pixels, by where events are (such "
        f"as in {widest})."
    )


def _on_what_was_told(told: dict[str, Told], spec: LoadSpec) -> list[str]:
    said = []
    if units := {end: t.unit for end, t in told.items() if t.unit}:
        each = ", ".join(f"{unit} in {end or 'other'} files" for end, unit in units.items())
        by = "as --time-unit says" if spec.time_unit else "by the usual rates of events"
        said.append(f"Times are taken for {each}, {by}.")
    if ends := [end for end, t in told.items() if t.from_one]:
        said.append(f"x and y of {listed(ends)} files are taken to count from 1: none is 0.")
    if ends := [end for end, t in told.items() if t.up_to_two]:
        said.append(f"Polarity 1 of {listed(ends)} files is taken for OFF, 2 for ON.")
    return said


def _on_windows(table: pd.DataFrame, window_us: int, window: str | None) -> str:
    long = table[table["span"] > window_us]
    if long.empty:
        return f"No recording is longer than the window of {window}: none was cut."
    n = long["windows"].sum()
    left_out = {
        "ends of recordings that are shorter than half a window": (
            2 * (long["span"] % window_us) < window_us
        ).sum(),
        "windows without event": n_windows(long["span"], window_us).sum() - n,
    }
    without = " and ".join(f"{count} {what}" for what, count in left_out.items() if count)
    said = f"{len(long)} of {len(table)} recordings were cut into {n} windows of {window}"
    return f"{said}{'; left out: ' if without else ''}{without}."
