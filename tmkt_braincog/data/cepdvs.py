"""Data set ``CEP-DVS``: recordings of CIFAR-100 pictures in its 20 superclasses, and these pictures (He et al. 2024).

Not yet run on the real data set, which is not public: tested on files written in the schema of the reference.
"""

import logging
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from .base import DATASETS, NO_TWIN, DataSet, PublishedDraw, TransferData
from .events import Events, shift_to_origin
from .images import load_images
from .mat import read_mat
from .recordings import FrameSpec, load_recordings
from .tree import File, check_unique, file_number

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.5
TEST_FROM = (
    0.8  # the test set is as large as the rest behind this portion, but follows the training set
)

# The superclasses of CIFAR-100, in their usual order.
CLASSES = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes", "large_omnivores_and_herbivores",
    "medium_mammals", "non-insect_invertebrates", "people", "reptiles", "small_mammals", "trees",
    "vehicles_1", "vehicles_2",
)  # fmt: skip
COUNTS = (500,) * 20  # recordings, and images, per class
FULL_COUNT = sum(COUNTS)

TREE = """Expected:
  <data root>/CEP-DVS/data/MAT/img/<k>.mat          (10000 recordings, or some of them)
  <data root>/CEP-DVS/data/img/<k>.<png, jpg, ...>  (10000 images; image k is what recording k shows)
  <data root>/CEP-DVS/pathFile.csv                  (one header row, then row k, from 0; its fifth word is the class)"""
SOURCE = (
    "CEP-DVS (https://ieeexplore.ieee.org/document/9426390) has no direct link; the authors of the baseline link to a copy "
    "in https://github.com/Brain-Cog-Lab/Transfer-for-DVS/issues/2#issuecomment-2266674665."
)
EXPECTED = f"{TREE}\n{SOURCE}"
RECORDINGS = {".mat"}
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp"}


def load(
    root: str | Path | None,
    steps: int = 6,
    size: int = 48,
    train_portion: float | None = None,
    use_hsv: bool = True,
    mode: str = "count",
) -> TransferData:
    """CEP-DVS split per class in the order of the numbers; each recording's twin is the image of its number.

    Of the n recordings of a class the first ``round(train_portion * n)`` train and the next
    ``n - round(0.8 * n)`` test, as published: of 500 these are 250 and 100, and 150 are not used.

    Args:
        root: folder that holds ``CEP-DVS``; a part of the recordings and of the images is enough.
        steps: T.
        size: side of frames and images in pixels.
        train_portion: portion of each class that trains; default 0.5, at most 0.8.
        use_hsv: images by the V channel of HSV; False: by their blue channel, as in the reference.
        mode: what a frame holds, see :func:`~tmkt_braincog.data.frames.apply_mode`.

    Returns:
        Frames ``[R, T, 2, size, size]`` float32 counts, bilinearly resized, and images ``[S, size, size]``
        uint8, both in the order of the numbers. Images of training recordings train, no others.

    Raises:
        UserError: missing or damaged files, numbers without a row, unknown classes, a class without an
            image to train with, or a portion that leaves nothing to train or to test on.
    """
    if root is None:
        raise UserError(f"CEP-DVS needs a data root (--data-root); none was given.\n{EXPECTED}")
    portion = TRAIN_PORTION if train_portion is None else train_portion
    return _assemble(Path(root) / "CEP-DVS", steps, size, portion, use_hsv, mode)


def fetch(root: Path) -> None:
    """There is no public link.

    Raises:
        UserError: always where the data set is missing: what to get, and the tree to put it into.
    """
    folder = Path(root) / "CEP-DVS"
    missing = [
        p
        for p in (folder / "data/MAT/img", folder / "data/img", folder / "pathFile.csv")
        if not p.exists()
    ]
    if missing:
        raise UserError(
            f"CEP-DVS cannot be downloaded, and {', '.join(map(str, missing))} is missing. Put it there by hand.\n{EXPECTED}"
        )


def _assemble(
    folder: Path, steps: int, size: int, portion: float, use_hsv: bool, mode: str
) -> TransferData:
    recordings, images = find_files(folder)
    labels = np.array([r.label for r in recordings], np.int64)
    image_labels = np.array([i.label for i in images], np.int64)
    twins = find_twins(recordings, images)
    train, test = split(labels, portion)
    static_train = np.unique(twins[train])
    static_train = static_train[static_train != NO_TWIN]
    _check_images(labels[train], image_labels[static_train])
    unused = len(labels) - len(train) - len(test)
    log.info(
        "CEP-DVS: %d recordings train, %d test, %d are not used", len(train), len(test), unused
    )
    spec = FrameSpec(read_shifted, steps, size, mode)
    frames, statistics = load_recordings([r.path for r in recordings], spec, "CEP-DVS", folder)
    pixels = load_images(
        [i.path for i in images], size, "CEP-DVS", folder, use_hsv, resize_first=False
    )
    return TransferData(
        source="RGB-CEP-DVS",
        target="CEP-DVS",
        classes=CLASSES,
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(labels),
        names=[r.path.relative_to(folder).as_posix() for r in recordings],
        file_ids=np.array([r.number for r in recordings], np.int64),
        images=torch.from_numpy(pixels),
        image_labels=torch.from_numpy(image_labels),
        twins=twins,
        train=train,
        test=test,
        static_train=static_train,
        static_test=np.setdiff1d(np.arange(len(images)), static_train),
        published=_published(labels, train, test, len(images)),
        statistics=statistics,
        remarks=_remarks(unused, len(labels)),
    )


def split(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the recordings that train and that test, see :func:`load`.

    Args:
        labels: ``[R]`` int64, in the order of the numbers.

    Raises:
        UserError: no recording would be left on one side, or the two would overlap.
    """
    train, test, overlap = [], [], False
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        n = len(members)
        n_train, n_test = round(portion * n), n - round(TEST_FROM * n)
        overlap |= n_train + n_test > n
        train.extend(members[: max(n_train, 0)])
        test.extend(members[n_train : n_train + n_test])
    if overlap or not train or not test:
        why = "overlaps the test set" if overlap else "leaves none to train or none to test on"
        raise UserError(
            f"Got a training portion of {portion} for {len(labels)} recordings, which {why}. Choose a portion above 0 "
            f"and up to {TEST_FROM}, such as {TRAIN_PORTION}, or add recordings."
        )
    return np.sort(np.array(train, np.int64)), np.sort(np.array(test, np.int64))


def _remarks(unused: int, n: int) -> list[str]:
    """What neither side uses: the published split is kept as it is."""
    if not unused:
        return []
    return [
        f"{unused} of {n} recordings neither train nor test; the published split leaves out 3000 of {FULL_COUNT}."
    ]


def _published(
    labels: np.ndarray, train: np.ndarray, test: np.ndarray, n_images: int
) -> PublishedDraw:
    """The draw of the reference: positions inside the training set taken for positions among all images."""
    pools = [np.flatnonzero(labels[train] == c) for c in range(len(CLASSES))]
    return PublishedDraw(train, test, [pool[pool < n_images] for pool in pools])


def read_shifted(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, moved to x, y >= 0, with the sensor that it then spans."""
    return [shift_to_origin(read_mat(path))]


def find_files(folder: Path) -> tuple[list[File], list[File]]:
    """All recordings and all images, each in the order of the numbers.

    Raises:
        UserError: no such folders or no files in them, names that are no numbers, a number twice, or one that
            has no row, or none with a known class, in ``pathFile.csv``.
    """
    rows = read_rows(folder / "pathFile.csv")
    found = []
    for part, suffixes, what in (
        ("data/MAT/img", RECORDINGS, "recordings"),
        ("data/img", IMAGES, "images"),
    ):
        files = [File(0, number, path) for number, path in _numbered(folder / part, suffixes)]
        check_unique(files)
        files = [file._replace(label=_label(rows, file, folder)) for file in files]
        log.info(
            "CEP-DVS: %d of %d %s, in %d of %d classes",
            len(files), FULL_COUNT, what, len({f.label for f in files}), len(CLASSES),
        )  # fmt: skip
        found.append(files)
    return found[0], found[1]


def _numbered(folder: Path, suffixes: Collection[str]) -> list[tuple[int, Path]]:
    """Numbers and paths, sorted; hidden files and those of other kinds do not count."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.\n{EXPECTED}")
    paths = [
        p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith(".")
    ]
    if not paths:
        raise UserError(
            f"Found 0 files of the kind {', '.join(sorted(suffixes))} in {folder}.\n{EXPECTED}"
        )
    return sorted((file_number(path, f"0{path.suffix}"), path) for path in paths)


def read_rows(path: Path) -> list[str]:
    """The rows of ``pathFile.csv`` behind its header; row k belongs to recording k.

    Raises:
        UserError: no such file, or it is no text.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.\n{EXPECTED}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Cannot read {path}: {error}. A text file was expected.\n{EXPECTED}"
        ) from error
    return [row.strip(" ") for row in text.split("\n")[1:] if row.strip()]


def _label(rows: Sequence[str], file: File, folder: Path) -> int:
    table = folder / "pathFile.csv"
    if file.number >= len(rows):
        raise UserError(
            f"{table} has {len(rows)} rows behind its header, so there is none for {file.path}, which needs row "
            f"{file.number} (counted from 0). Get the whole table, or remove the file."
        )
    row = rows[file.number]
    # As in the reference: one white-space character ends a word, and of several in a row each ends one.
    name = next((word for word in re.split(r"\s", row)[4:] if word), "")
    if name not in CLASSES:
        raise UserError(
            f"{table}: in row {file.number} (counted from 0, behind the header), {row[:200]!r}, the fifth word is {name[:50]!r}; one of "
            f"{', '.join(CLASSES)} was expected there, for {file.path}. Correct the table, or get it again."
        )
    return CLASSES.index(name)


def find_twins(recordings: Sequence[File], images: Sequence[File]) -> np.ndarray:
    """``[R]`` int64 indices of the images of the same number, ``NO_TWIN`` where there is none."""
    at = {image.number: i for i, image in enumerate(images)}
    return np.array([at.get(r.number, NO_TWIN) for r in recordings], np.int64)


def _check_images(labels: np.ndarray, image_labels: np.ndarray) -> None:
    missing = sorted(set(labels.tolist()) - set(image_labels.tolist()))
    if missing:
        raise UserError(
            "No training recording of these classes has its image in data/img: "
            f"{', '.join(CLASSES[c] for c in missing)}. Add the images, or remove these recordings.\n{EXPECTED}"
        )


DATASETS.register("CEP-DVS")(
    DataSet(
        load=load,
        sources=("RGB-CEP-DVS", "RGBCEPDVS"),
        recipe="cepdvs",
        fetch=fetch,
        counts=COUNTS,
        get="by hand",
        needs="CEP-DVS and its RGB images, fetched by hand; prepare says from where and shows the tree",
    )
)
