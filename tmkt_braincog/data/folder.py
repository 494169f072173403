"""Data set ``folder``: a user's own recordings and photographs, in folders that are classes.

Recordings may be of any format of :mod:`~tmkt_braincog.data.formats`; what the files do not say,
the size of the sensor and the unit of time, is told by all of them together, and said."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import assemble, photographs
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, TransferData
from .folder_facts import facts
from .folder_files import EXPECTED, TABLE, Found, find
from .folder_table import IMAGE_SUFFIXES
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
    classes = _classes(found.events, found.images)
    recordings, pictures = (_labelled(f, classes) for f in (found.events, found.images))
    _check_any(classes, recordings, "recording", found.root)
    _check_any(classes, pictures, f"image ({', '.join(sorted(IMAGE_SUFFIXES))})", found.root)
    told = facts([file.path for file in recordings], spec, found.root)
    train, test = _split(recordings, found, spec)
    _check_split(classes, labels_of(recordings), train, test)
    twins = _twins(recordings, pictures, found)
    trains = [found.train is None or file.path in found.train for file in pictures]
    static_train = np.setdiff1d(np.flatnonzero(trains), twins[test])
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
        static_train=static_train,
        remarks=told.remarks,
        cut_from=of if spec.window else None,
    )


def _classes(events: dict[str, list[Path]], images: dict[str, list[Path]]) -> tuple[str, ...]:
    """Classes that both have, in natural order; a UserError if there is none."""
    both = sorted((name for name in events if name in images), key=natural)
    if not both:
        raise UserError(
            f"No class has recordings and images: events has {listed(list(events)) or 'none'}; "
            f"images has {listed(list(images)) or 'none'}. Name the folders alike.\n{EXPECTED}"
        )
    for what, found in (("images", events), ("recordings", images)):
        if only := [name for name in found if name not in both]:
            log.warning("folder: left out, as they have no %s: %s", what, listed(only))
    if len(both) < 2:
        raise UserError(f"{both[0]} alone is a class of recordings and images: two are needed.")
    return tuple(both)


def _labelled(found: dict[str, list[Path]], classes: tuple[str, ...]) -> list[File]:
    """The files of these classes, numbered in each."""
    return [
        File(label, number, path)
        for label, name in enumerate(classes)
        for number, path in enumerate(found[name])
    ]


def _check_any(classes: tuple[str, ...], files: Sequence[File], what: str, root: Path) -> None:
    there = {file.label for file in files}
    if lacking := [name for label, name in enumerate(classes) if label not in there]:
        raise UserError(f"{root}: no {what} in the folders of {listed(lacking)}.")


def _twins(recordings: Sequence[File], pictures: Sequence[File], found: Found) -> np.ndarray:
    """``[R]``, the image that the table names, or that of the same class and name, or NO_TWIN."""
    if found.twins is not None:
        place = {file.path: i for i, file in enumerate(pictures)}
        shown = [found.twins.get(file.path) for file in recordings]
        return np.array([NO_TWIN if image is None else place[image] for image in shown], np.int64)
    at, twins = dict[tuple[int, str], list[int]](), np.full(len(recordings), NO_TWIN, np.int64)
    for i, file in enumerate(pictures):
        at.setdefault(_name(file), []).append(i)
    of_image: dict[int, File] = {}
    for r, file in enumerate(recordings):
        images = at.get(_name(file), [])
        other = of_image.setdefault(images[0], file) if images else file
        if len(images) > 1 or other is not file:
            first, second = [pictures[i] for i in images[:2]] if len(images) > 1 else (other, file)
            raise UserError(
                f"{first.path} and {second.path} have one name: which of them shows the same as "
                f"{file.path.stem} cannot be known. Rename or remove one, or say it in {TABLE}, in "
                "the column image."
            )
        twins[r] = images[0] if images else NO_TWIN
    return twins


def _name(file: File) -> tuple[int, str]:
    """Class and name, of which the ending and the case say nothing."""
    return file.label, file.path.stem.casefold()


def _split(
    recordings: Sequence[File], found: Found, spec: LoadSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Indices that train and test."""
    if found.train is None:
        return portion_split(labels_of(recordings), spec.portion(TRAIN_PORTION), TRAIN_PORTION)
    if spec.train_portion is not None:
        raise UserError(
            f"--train-portion: the folders train and test, or the column split of {TABLE}, split "
            "the recordings already."
        )
    trains = np.array([file.path in found.train for file in recordings])
    return np.flatnonzero(trains), np.flatnonzero(~trains)


def _check_split(
    classes: tuple[str, ...], labels: np.ndarray, train: np.ndarray, test: np.ndarray
) -> None:
    """Every class must train; what is not tested is said."""
    lacking = [
        [name for c, name in enumerate(classes) if c not in labels[part]] for part in (train, test)
    ]
    if lacking[0]:
        raise UserError(f"No recording trains of {listed(lacking[0])}. Add some.")
    if lacking[1]:
        log.warning("folder: no recording tests of %s", listed(lacking[1]))


NEEDS = (
    "your own recordings and images in folders: events/<class>/*, images/<class>/*; or a table of "
    "them (recordings.csv)"
)
TAKES = ("window", "time_unit")
DATASETS.register("folder")(DataSet(load, ("images",), "folder", None, (), "by hand", NEEDS, TAKES))
