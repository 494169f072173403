"""What the files of a user's own recordings do not say, told by all of them together, and said."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..argument_types import microseconds
from ..errors import UserError
from .base import LoadSpec
from .cache import Writer, cached, files_digest
from .columns import Size, Told
from .events import Events
from .formats import read_any
from .parallel import decode_files
from .preparation import extent
from .recordings import FrameSpec
from .tree import listed
from .windows import Cut, check_span, cut, pieces

FACTS_VERSION = 2  # raise it when a format is read in another way
POLARITIES = {"01": "0 and 1, or -1 and 1,", "12": "1 and 2"}


class Facts(NamedTuple):
    """How recordings become frames; per file the marks of its windows, see
    :class:`~tmkt_braincog.data.windows.Cut`; and remarks on what files do not say."""

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
    parts = pieces(found.events, window_us).values() if window_us else [found.events]
    return [(events, found.sensor or sensors[end]) for events in parts]


def facts(files: Sequence[Path], spec: LoadSpec, root: Path) -> Facts:
    """Look at all recordings; see :class:`Facts`.

    Raises:
        UserError: unreadable files, files that contradict each other, an option without use.
    """
    window_us = microseconds(spec.window) if spec.window else None
    arrays = cached(
        "folder-facts",
        {
            **{"files": files_digest(files, root), "version": FACTS_VERSION},
            **{"unit": spec.time_unit, "window_us": window_us},
        },
        partial(_scan, files=files, unit=spec.time_unit, window_us=window_us),
    )
    kinds = Counter(arrays["format"].tolist()).most_common()
    remarks = [f"Recordings: {', '.join(f'{n} {name}' for name, n in kinds)}."]
    if spec.time_unit and not arrays["unit"].any():
        raise UserError("--time-unit: all files say their unit of time. Leave it away.")
    if spec.time_unit and (arrays["span"][arrays["unit"] != ""] < spec.steps).all():
        raise UserError(
            f"--time-unit {spec.time_unit}: all recordings would be shorter than {spec.steps} us, "
            f"and their {spec.steps} frames empty. Give another unit."
        )
    told, sensors = dict[str, Told](), dict[str, Size]()
    ends = np.array([path.suffix.lower() for path in files])
    for end in dict.fromkeys(ends.tolist()):
        here = np.flatnonzero(ends == end)
        own = {name: array[here] for name, array in arrays.items() if name != "marks"}
        told[end] = _told(own, end, root)
        if not own["known"].all():
            names = [files[i].name for i in here.tolist()]
            sensors[end], said = _sensor(own, told[end], end, names)
            remarks.append(said)
    remarks += _on_what_was_told(told, spec)
    if spec.window:
        remarks.append(_on_windows(arrays, spec.window))
    windows = arrays["windows"].tolist()
    frames = FrameSpec(
        partial(read, sensors=sensors, told=told, window_us=window_us),
        *(spec.steps, spec.size, spec.mode),
        per_file=tuple(windows) if window_us else 1,
        version=FACTS_VERSION,
    )
    marks = iter(arrays["marks"].tolist())
    return Facts(frames, [list(islice(marks, n)) for n in windows], remarks)


def _told(own: dict[str, np.ndarray], end: str, root: Path) -> Told:
    """Of the files with one ending: unit of time, and what MATLAB's count from."""
    units = Counter(filter(None, own["unit"].tolist()))
    if len(units) > 1:
        seen = ", ".join(f"{unit} in {n}" for unit, n in units.items())
        raise UserError(
            f"{root}: times of {end} files could be {seen} of them, by their rates of events. "
            "Say it with --time-unit (us, ms, s or ns), if it is the same in all."
        )
    polarities = Counter(filter(None, own["polarity"].tolist()))
    if len(polarities) > 1:
        seen = "; ".join(f"{POLARITIES[p]} in {n}" for p, n in polarities.items())
        raise UserError(f"{root}: polarities of {end} files are {seen} of them. Store all alike.")
    counted = own["matlab"] & ~own["known"]
    from_one = bool(counted.any() and own["least"][counted].min() >= 1)
    return Told(next(iter(units), None), from_one, "12" in polarities)


def _sensor(
    own: dict[str, np.ndarray], told: Told, end: str, names: Sequence[str]
) -> tuple[Size, str]:
    """As large as where events are in the files that do not say it, and that in words."""
    unknown = np.flatnonzero(~own["known"])
    sizes = own["size"][unknown] - told.from_one * own["matlab"][unknown, None]
    width, height = map(int, sizes.max(axis=0))
    widest = names[unknown[int(sizes.sum(axis=1).argmax())]]
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


def _on_windows(arrays: dict[str, np.ndarray], window: str) -> str:
    parts = arrays["windows"][~arrays["whole"]]
    if not len(parts):
        return f"No recording is longer than the window of {window}: none was cut."
    left_out = [
        (arrays["shortened"].sum(), "ends of recordings that are shorter than half a window"),
        (arrays["empty"].sum(), "windows without event"),
    ]
    without = " and ".join(f"{n} {what}" for n, what in left_out if n)
    said = (
        f"{len(parts)} of {len(arrays['windows'])} recordings were cut into {parts.sum()} windows"
    )
    return f"{said} of {window}{'; left out: ' if without else ''}{without}."


def _scan(out: Writer, files: Sequence[Path], unit: str | None, window_us: int | None) -> None:
    look = partial(_fact, unit=unit, window_us=window_us)
    found = list(decode_files(look, files, "folder: looking at the recordings"))
    out.add(marks=np.array([mark for _, marks in found for mark in marks]))
    out.add(windows=np.array([len(marks) for _, marks in found]))
    for name in found[0][0]:
        out.add(**{name: np.array([fact[name] for fact, _ in found])})


def _fact(path: Path, unit: str | None, window_us: int | None) -> tuple[dict[str, Any], list[str]]:
    """What one file says and what it leaves open, and the marks of its windows."""
    found = read_any(path, Told(unit))
    events, matlab = found.events, found.format.startswith("MATLAB")
    windows = cut(events, window_us) if window_us else Cut([""], [])
    check_span(events, str(path))
    off = not events["p"].all()
    return {
        "format": found.format,
        "unit": found.unit or "",
        "known": found.sensor is not None,
        "size": found.sensor or extent(events),
        "span": int(np.ptp(events["t"])),
        "least": min(int(events[axis].min()) for axis in "xy"),
        "matlab": matlab,
        "polarity": ("12" if found.up_to_two else "01" if off else "") if matlab else "",
        "whole": windows.marks == [""],
        "empty": windows.empty,
        "shortened": windows.shortened,
    }, windows.marks
