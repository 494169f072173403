"""Data set ``folder``: a user's own recordings and photographs, in folders that are classes.

Recordings may be of any format of :mod:`~tmkt_braincog.data.formats`; what the files do not say,
the size of the sensor and the unit of time, is told by all of them together, and said."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import assemble, photographs
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, TransferData
from .cache import Writer, cached, files_digest
from .events import Events
from .formats import Size, read_any
from .parallel import decode_files
from .preparation import extent
from .recordings import FrameSpec
from .splits import portion_split
from .tree import File, entries, labels_of, listed, natural, visible

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.8
# What lies in folders beside recordings, and is none.
OTHERS = {".db", ".ini", ".json", ".yaml", ".md", ".log", ".md5", ".sha256", ".pdf", ".avi", ".mp4"}
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
FACTS_VERSION = 1  # raise it when a format is read in another way

EXPECTED = """Expected:
  <data root>/events/<class>/*   recordings, of any format
  <data root>/images/<class>/*   photographs of the same classes (.png, .jpg, ...)
or the same below <data root>/train and <data root>/test. An image with the name of a recording, but
for the ending, is taken for the one that it was made from (a same-image pair)."""


def read(
    path: Path, sensors: dict[str, Size], units: dict[str, str]
) -> Iterable[tuple[Events, Size]]:
    """The recording of one file; sensor and unit are those of all that do not say theirs, by the
    ending of their names."""
    end = path.suffix.lower()
    found = read_any(path, units.get(end))
    return [(found.events, found.sensor or sensors[end])]


def load(spec: LoadSpec) -> TransferData:
    """Per class the first 80 % of the recordings by name train, the others test; or as the folders
    ``train`` and ``test`` say. Images of test recordings do not train.

    Raises:
        UserError: missing folders, classes without images or that only images have, unreadable
            files, or events outside the sensor.
    """
    root = spec.folder("folder", EXPECTED)
    parts = [root / part for part in ("train", "test") if (root / part).is_dir()] or [root]
    if len(parts) == 1 and parts != [root]:
        raise UserError(f"{root} has the folder {parts[0].name} alone; train and test expected.")
    events, images = _find(parts, "events"), _find(parts, "images")
    classes = _classes(events, images)
    recordings = _labelled(events, classes, lambda path: path.suffix.lower() not in IMAGE_SUFFIXES)
    pictures = _labelled(images, classes, lambda path: path.suffix.lower() in IMAGE_SUFFIXES)
    _check_images(classes, pictures, root)
    frames, remarks = _facts([file.path for file in recordings], spec, root)
    train, test = _split(recordings, parts, spec)
    _check_split(classes, labels_of(recordings), train, test)
    twins, trains = _twins(recordings, pictures), _in_first(pictures, parts)
    return assemble(
        "images",
        "folder",
        classes,
        root=root,
        recordings=recordings,
        frames=frames,
        images=photographs(pictures, spec, "folder", root),
        twins=twins,
        split=(train, test),
        static_train=np.setdiff1d(np.flatnonzero(trains), twins[test]),
        remarks=remarks,
    )


def _find(parts: Sequence[Path], what: str) -> dict[str, list[Path]]:
    """Files by class, those of ``train`` first."""
    found: dict[str, list[Path]] = {}
    for part in parts:
        for folder in entries(part / what, EXPECTED):
            found.setdefault(folder.name, []).extend(_files(folder))
    return {name: files for name, files in found.items() if files}


def _files(folder: Path) -> list[Path]:
    found = visible(folder, EXPECTED, lambda p: p.suffix.lower() not in OTHERS)
    if nested := [p.name for p in found if p.is_dir()]:
        raise UserError(f"{folder} holds the folders {listed(nested)}; files alone expected.")
    return found


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


def _labelled(
    found: dict[str, list[Path]], classes: tuple[str, ...], fits: Callable[[Path], bool]
) -> list[File]:
    """The files of these classes, numbered in each."""
    return [
        File(label, number, path)
        for label, name in enumerate(classes)
        for number, path in enumerate(filter(fits, found[name]))
    ]


def _check_images(classes: tuple[str, ...], pictures: Sequence[File], root: Path) -> None:
    there = {file.label for file in pictures}
    if lacking := [name for label, name in enumerate(classes) if label not in there]:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{root}: no image ({endings}) in the folders of {listed(lacking)}.")


def _twins(recordings: Sequence[File], pictures: Sequence[File]) -> np.ndarray:
    """``[R]``, the image of the same class and name, or NO_TWIN."""
    at = _numbers(pictures)
    return np.array([at.get(name, NO_TWIN) for name in _numbers(recordings)], np.int64)


def _numbers(files: Sequence[File]) -> dict[tuple[int, str], int]:
    """Where each file is, by class and name; a UserError for two of one name."""
    at: dict[tuple[int, str], int] = {}
    for i, file in enumerate(files):
        if (first := at.setdefault((file.label, file.path.stem.casefold()), i)) != i:
            raise UserError(
                f"{files[first].path} and {file.path} have one name: whether they show the same "
                "cannot be known. Rename one, or remove it."
            )
    return at


def _split(
    recordings: Sequence[File], parts: Sequence[Path], spec: LoadSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Indices that train and test."""
    if len(parts) == 1:
        return portion_split(labels_of(recordings), spec.portion(TRAIN_PORTION), TRAIN_PORTION)
    if spec.train_portion is not None:
        raise UserError("--train-portion: the folders train and test split the recordings already.")
    trains = _in_first(recordings, parts)
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


def _in_first(files: Sequence[File], parts: Sequence[Path]) -> np.ndarray:
    """``[files]``, whether each lies in the first of the parts."""
    return np.array([parts[0] in file.path.parents for file in files])


def _facts(files: Sequence[Path], spec: LoadSpec, root: Path) -> tuple[FrameSpec, list[str]]:
    """How the recordings become frames, and remarks on what their files do not say."""
    arrays = cached(
        "folder-facts",
        {"files": files_digest(files, root), "version": FACTS_VERSION},
        lambda out: _scan(out, files),
    )
    kinds = Counter(arrays["format"].tolist()).most_common()
    remarks = [f"Recordings: {', '.join(f'{n} {name}' for name, n in kinds)}."]
    ends = np.array([path.suffix.lower() for path in files])
    sensors, units = dict[str, Size](), dict[str, str]()
    for end in dict.fromkeys(ends.tolist()):
        own = np.flatnonzero((ends == end) & ~arrays["known"])
        if len(own):
            sizes = arrays["size"][own]
            width, height = map(int, sizes.max(axis=0))
            sensors[end] = width, height
            widest = files[own[int(sizes.sum(axis=1).argmax())]].name
            remarks.append(
                f"The sensor of {len(own)} {end or 'other'} files is taken for {width} x {height} "
                f"pixels, by where their events are (such as in {widest})."
            )
        if told := Counter(filter(None, arrays["unit"][ends == end].tolist())):
            units[end] = _agreed(told, end, root)
    if units:
        each = ", ".join(f"{unit} in {end or 'other'} files" for end, unit in units.items())
        remarks.append(f"Times are taken for {each}, by the usual rates of events.")
    reader = partial(read, sensors=sensors, units=units)
    return FrameSpec(reader, spec.steps, spec.size, spec.mode, version=FACTS_VERSION), remarks


def _agreed(told: Counter, end: str, root: Path) -> str:
    """The unit of time that the files with this ending have by their rates of events."""
    if len(told) > 1:
        seen = ", ".join(f"{unit} in {n}" for unit, n in told.items())
        raise UserError(
            f"{root}: times of {end} files could be {seen} of them, by their rates of events. "
            "Store t in microseconds."
        )
    return next(iter(told))


def _scan(out: Writer, files: Sequence[Path]) -> None:
    found = list(decode_files(_fact, files, "folder: looking at the recordings"))
    formats, units, sizes, known = zip(*found, strict=True)
    out.add(format=np.array(formats), unit=np.array(units))
    out.add(size=np.array(sizes, np.int64), known=np.array(known))


def _fact(path: Path) -> tuple[str, str, Size, bool]:
    """Format, unit where it was told by the times, size of the sensor or of what has events."""
    found = read_any(path)
    size = found.sensor or extent(found.events)
    return found.format, found.unit or "", size, found.sensor is not None


NEEDS = "your own recordings and images in folders: events/<class>/*, images/<class>/*"
DATASETS.register("folder")(DataSet(load, ("images",), "folder", None, (), "by hand", NEEDS))
