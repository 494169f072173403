"""Data set ``CEP-DVS``: recordings of CIFAR-100 pictures in its 20 superclasses (He et al. 2024).

Not yet run on the real data set, which is not public: tested on files in the reference's schema.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import assemble, log_found, photographs
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, PublishedDraw, TransferData
from .events import Events, shift_to_origin
from .mat import read_mat
from .recordings import FrameSpec
from .tree import File, find_twins, labels_of, numbered

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.5
TEST_FROM = 0.8  # what is behind this portion is as many as test; they follow the training set

# The superclasses of CIFAR-100, in their usual order.
_NAMES = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables "
    "household_electrical_devices household_furniture insects large_carnivores "
    "large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores "
    "medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 "
    "vehicles_2"
)
CLASSES = tuple(_NAMES.split())
COUNTS = (500,) * 20  # recordings, and images, per class

EXPECTED = """Expected:
  <data root>/CEP-DVS/data/MAT/img/<k>.mat          (10000 recordings, or some of them)
  <data root>/CEP-DVS/data/img/<k>.<png, jpg, ...>  (10000 images; recording k shows image k)
  <data root>/CEP-DVS/pathFile.csv   (a header, then row k, from 0; its fifth word is the class)
CEP-DVS (https://ieeexplore.ieee.org/document/9426390) has no direct link; the authors of the
baseline link to a copy in
https://github.com/Brain-Cog-Lab/Transfer-for-DVS/issues/2#issuecomment-2266674665."""
RECORDINGS, IMAGES, TABLE = "data/MAT/img", "data/img", "pathFile.csv"
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".tif", ".tiff", ".webp"}


def load(spec: LoadSpec) -> TransferData:
    """Split per class in the order of the numbers; the twin is the image of the same number.

    Of the n recordings of a class the first ``round(train_portion * n)`` train (default 0.5, at
    most 0.8) and the next ``n - round(0.8 * n)`` test, as published: of 500 these are 250 and 100,
    and 150 are not used. Images of training recordings train, no others.
    """
    folder = spec.folder("CEP-DVS", EXPECTED) / "CEP-DVS"
    recordings = find_files(folder, RECORDINGS, "0.mat", {".mat"})
    images = find_files(folder, IMAGES, "0.png", IMAGE_SUFFIXES)
    labels, twins = labels_of(recordings), find_twins(recordings, images)
    train, test = split(labels, spec.portion(TRAIN_PORTION))
    static_train = np.unique(twins[train])
    static_train = static_train[static_train != NO_TWIN]
    _check_images(labels[train], labels_of(images)[static_train])
    unused = len(labels) - len(train) - len(test)
    log.info(
        "CEP-DVS: %d recordings train, %d test, %d are not used", len(train), len(test), unused
    )
    # The reference takes positions inside the training set for positions among all images.
    pools = [np.flatnonzero(labels[train] == c) for c in range(len(CLASSES))]
    remark = f"{unused} of {len(labels)} recordings neither train nor test; "
    return assemble(
        "RGB-CEP-DVS",
        "CEP-DVS",
        CLASSES,
        root=folder,
        recordings=recordings,
        frames=FrameSpec(read_shifted, spec.steps, spec.size, spec.mode),
        images=photographs(images, spec, "CEP-DVS", folder, resize_first=False),
        twins=twins,
        split=(train, test),
        static_train=static_train,
        published=PublishedDraw(train, test, [pool[pool < len(images)] for pool in pools]),
        remarks=[f"{remark}the published split leaves out 3000 of 10000."] if unused else [],
    )


def split(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the recordings that train and that test, see :func:`load`.

    Args:
        labels: ``[R]`` int64, in the order of the numbers.

    Raises:
        UserError: no recording would be left on one side, or the two would overlap.
    """
    train: list[int] = []
    test: list[int] = []
    overlap = False
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
            f"Got a training portion of {portion} for {len(labels)} recordings, which {why}. "
            f"Choose a portion above 0 and up to {TEST_FROM}, such as {TRAIN_PORTION}, or add "
            "recordings."
        )
    return np.sort(np.array(train, np.int64)), np.sort(np.array(test, np.int64))


def read_shifted(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, moved to x, y >= 0, with the sensor that it then spans."""
    return [shift_to_origin(read_mat(path))]


def find_files(folder: Path, part: str, example: str, suffixes: set[str]) -> list[File]:
    """All recordings, or all images, in the order of the numbers.

    Raises:
        UserError: no such folder or no file in it, names that are no numbers, a number twice, or
            one that has no row, or none with a known class, in ``pathFile.csv``.
    """
    files = numbered(folder / part, example, EXPECTED, suffixes)
    if not files:
        raise UserError(f"Found 0 files like {example} in {folder / part}.\n{EXPECTED}")
    rows = read_rows(folder / TABLE)
    files = [file._replace(label=_label(rows, file, folder)) for file in files]
    what = "images" if part == IMAGES else "recordings"
    log_found(f"CEP-DVS {what}", files, sum(COUNTS), len(CLASSES))
    return files


def read_rows(path: Path) -> list[str]:
    """The rows of ``pathFile.csv`` behind its header; a UserError if there is no such text."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.\n{EXPECTED}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {path}: {error}. Text was expected.\n{EXPECTED}") from error
    return [row.strip(" ") for row in text.split("\n")[1:] if row.strip()]


def _label(rows: Sequence[str], file: File, folder: Path) -> int:
    table = folder / TABLE
    if file.number >= len(rows):
        raise UserError(
            f"{table} has {len(rows)} rows behind its header, so there is none for {file.path}, "
            f"which needs row {file.number} (counted from 0). Get the whole table, or remove the "
            "file."
        )
    row = rows[file.number]
    # As in the reference: one white-space character ends a word, and of several each ends one.
    name = next((word for word in re.split(r"\s", row)[4:] if word), "")
    if name not in CLASSES:
        raise UserError(
            f"{table}: in row {file.number} (counted from 0, behind the header), {row[:200]!r}, "
            f"the fifth word is {name[:50]!r}; one of {', '.join(CLASSES)} was expected there, for "
            f"{file.path}. Correct the table, or get it again."
        )
    return CLASSES.index(name)


def _check_images(labels: np.ndarray, image_labels: np.ndarray) -> None:
    missing = sorted(set(labels.tolist()) - set(image_labels.tolist()))
    if missing:
        raise UserError(
            f"No training recording of these classes has its image in {IMAGES}: "
            f"{', '.join(CLASSES[c] for c in missing)}. Add the images, or remove these "
            f"recordings.\n{EXPECTED}"
        )


def fetch(root: Path) -> None:
    """There is no public link: where something is missing, a UserError says what to get."""
    parts = [Path(root) / "CEP-DVS" / part for part in (RECORDINGS, IMAGES, TABLE)]
    missing = [str(part) for part in parts if not part.exists()]
    if missing:
        raise UserError(
            f"CEP-DVS cannot be downloaded, and {', '.join(missing)} is missing. Put it there by "
            f"hand.\n{EXPECTED}"
        )


NEEDS = "CEP-DVS and its RGB images, by hand; prepare says from where and shows the tree"
DATASETS.register("CEP-DVS")(
    DataSet(load, ("RGB-CEP-DVS", "RGBCEPDVS"), "cepdvs", fetch, COUNTS, "by hand", NEEDS)
)
