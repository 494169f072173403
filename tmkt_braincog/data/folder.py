"""Data set ``folder``: a user's own recordings and photographs, in folders that are classes.

Recordings may be of any format of :mod:`~tmkt_braincog.data.formats`; what the files do not say,
the size of the sensor and the unit of time, is told by all of them together, and said."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..argument_types import microseconds
from ..errors import UserError
from .assemble import assemble, photographs
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, TransferData
from .cache import Writer, cached, files_digest
from .columns import Size, Told
from .events import Events, check_span, extent, n_windows, windows
from .folder_files import EXPECTED, TABLE, Row, find
from .formats import read_any
from .parallel import decode_files
from .recordings import FrameSpec
from .splits import portion_split
from .tree import File, labels_of, listed, natural

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.8
FACTS_VERSION = 3  # raise it when a format is read in another way
POLARITIES = {"01": "0 and 1, or -1 and 1,", "12": "1 and 2"}


def load(spec: LoadSpec) -> TransferData:
    """Per class the first 80 % of the recordings by name train, the others test; or as the folders
    ``train`` and ``test`` or the table say. Images of test recordings do not train. All windows of
    a recording are on its side, and have its twin.

    Raises:
        UserError: missing folders, classes without images or that only images have, unreadable
            files, or events outside the sensor.
    """
    *found, root = find(spec.folder("folder", EXPECTED))
    classes = _classes(*found)
    (rows, recordings), (shown, pictures) = (_by_class(every, classes) for every in found)
    frames, marks_of, remarks = facts([file.path for file in recordings], spec, root)
    train, test = _split(rows, recordings, classes, spec)
    place = {file.path: i for i, file in enumerate(pictures)}
    twins = np.array([place[row.image] if row.image else NO_TWIN for row in rows], np.int64)
    trains = np.flatnonzero([row.split != "test" for row in shown])
    of = np.repeat(np.arange(len(recordings)), list(map(len, marks_of)))  # of every sample
    names = [
        file.path.relative_to(root).as_posix() + mark
        for file, marks in zip(recordings, marks_of, strict=True)
        for mark in marks
    ]
    return assemble(
        "images",
        "folder",
        classes,
        root=root,
        recordings=[recordings[i] for i in of],
        names=names,
        frames=frames,
        read_any={},
        images=photographs(pictures, spec, "folder", root),
        twins=twins[of],
        split=(np.flatnonzero(np.isin(of, train)), np.flatnonzero(np.isin(of, test))),
        static_train=np.setdiff1d(trains, twins[test]),
        remarks=remarks,
        cut_from=of if spec.window else None,
    )


def _classes(*found: Sequence[Row]) -> tuple[str, ...]:
    """Classes that recordings and images have, in natural order; a UserError if there is none."""
    events, images = (list(dict.fromkeys(row.name for row in rows)) for rows in found)
    both = sorted([name for name in events if name in images], key=natural)
    if not both:
        raise UserError(
            f"No class has recordings and images: events has {listed(events) or 'none'}; images "
            f"has {listed(images) or 'none'}. Name the folders alike.\n{EXPECTED}"
        )
    for what, names in (("images", events), ("recordings", images)):
        if only := [name for name in names if name not in both]:
            log.warning("folder: left out, as they have no %s: %s", what, listed(only))
    if len(both) < 2:
        raise UserError(f"{both[0]} alone is a class of recordings and images: two are needed.")
    return tuple(both)


def _by_class(rows: Sequence[Row], classes: Sequence[str]) -> tuple[list[Row], list[File]]:
    """Those of these classes, and their files, numbered in each."""
    kept, files = list[Row](), list[File]()
    for label, name in enumerate(classes):
        own = [row for row in rows if row.name == name]
        kept += own
        files += [File(label, number, row.path) for number, row in enumerate(own)]
    return kept, files


def _split(
    rows: Sequence[Row], recordings: Sequence[File], classes: Sequence[str], spec: LoadSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Indices that train and test. Every class must train; what is not tested is said."""
    labels = labels_of(recordings)
    if not rows[0].split:
        train, test = portion_split(labels, spec.portion(TRAIN_PORTION), TRAIN_PORTION)
    elif spec.train_portion is not None:
        raise UserError(
            f"--train-portion: the folders train and test, or the column split of {TABLE}, split "
            "the recordings already."
        )
    else:
        train, test = (
            np.flatnonzero([r.split == part for r in rows]) for part in ("train", "test")
        )
    untrained, untested = (
        [name for c, name in enumerate(classes) if c not in labels[part]] for part in (train, test)
    )
    if untrained:
        raise UserError(f"No recording trains of {listed(untrained)}. Add some.")
    if untested:
        log.warning("folder: no recording tests of %s", listed(untested))
    return train, test


def read(
    path: Path, sensors: dict[str, Size], told: dict[str, Told], window_us: int | None
) -> Iterable[tuple[Events, Size]]:
    """The recording of one file, or its windows; what the file does not say is as by its ending."""
    end = path.suffix.lower()
    found = read_any(path, told[end])
    parts = windows(found.events, window_us).values()
    return [(events, found.sensor or sensors[end]) for events in parts]


def facts(
    files: Sequence[Path], spec: LoadSpec, root: Path
) -> tuple[FrameSpec, list[list[str]], list[str]]:
    """How recordings become frames; the marks of each file's windows; what files do not say.

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
    return frames, [list(islice(marks, n)) for n in counts], remarks


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


NEEDS = (
    "your own recordings and images in folders: events/<class>/*, images/<class>/*; or a table of "
    "them (recordings.csv)"
)
TAKES = ("window", "time_unit")
DATASETS.register("folder")(DataSet(load, ("images",), "folder", None, (), "by hand", NEEDS, TAKES))
