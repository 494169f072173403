"""Data set ``folder``: a user's own recordings and photographs, in folders that are classes.

Recordings may be of any format of :mod:`~tmkt_braincog.data.formats`; what the files do not say,
the size of the sensor and the unit of time, is told by all of them together, and said."""

import logging
from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from .assemble import assemble, photographs
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, TransferData
from .folder_facts import facts
from .folder_files import EXPECTED, TABLE, Found, Row, find
from .splits import portion_split
from .tree import File, labels_of, listed, natural

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.8


def load(spec: LoadSpec) -> TransferData:
    """Per class the first 80 % of the recordings by name train, the others test; or as the folders
    ``train`` and ``test`` or the table say. Images of test recordings do not train. All windows of
    a recording are on its side, and have its twin.

    Raises:
        UserError: missing folders, classes without images or that only images have, unreadable
            files, or events outside the sensor.
    """
    found = find(spec.folder("folder", EXPECTED))
    classes = _classes(found)
    (rows, recordings), (shown, pictures) = (
        _by_class(all_rows, classes) for all_rows in (found.recordings, found.images)
    )
    told = facts([file.path for file in recordings], spec, found.root)
    train, test = _split(rows, recordings, classes, spec)
    place = {file.path: i for i, file in enumerate(pictures)}
    twins = np.array([place[row.image] if row.image else NO_TWIN for row in rows], np.int64)
    trains = np.flatnonzero([row.split != "test" for row in shown])
    of = np.repeat(np.arange(len(recordings)), list(map(len, told.marks)))  # of every sample
    names = [
        file.path.relative_to(found.root).as_posix() + mark
        for file, marks in zip(recordings, told.marks, strict=True)
        for mark in marks
    ]
    return assemble(
        "images",
        "folder",
        classes,
        root=found.root,
        recordings=[recordings[i] for i in of],
        names=names,
        frames=told.frames,
        read_any={},
        images=photographs(pictures, spec, "folder", found.root),
        twins=twins[of],
        split=(np.flatnonzero(np.isin(of, train)), np.flatnonzero(np.isin(of, test))),
        static_train=np.setdiff1d(trains, twins[test]),
        remarks=told.remarks,
        cut_from=of if spec.window else None,
    )


def _classes(found: Found) -> tuple[str, ...]:
    """Classes that both have, in natural order; a UserError if there is none."""
    events, images = (
        list(dict.fromkeys(row.name for row in rows)) for rows in (found.recordings, found.images)
    )
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


NEEDS = (
    "your own recordings and images in folders: events/<class>/*, images/<class>/*; or a table of "
    "them (recordings.csv)"
)
TAKES = ("window", "time_unit")
DATASETS.register("folder")(DataSet(load, ("images",), "folder", None, (), "by hand", NEEDS, TAKES))
