"""Data set ``CEP-DVS``: recordings of CIFAR-100 pictures in its 20 superclasses (He et al. 2024).

Not yet run on the real data set, which is not public: tested on files in the reference's schema.
"""

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import assemble, log_found, photographs
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, Split, TransferData
from .events import Events, read_mat, shift_to_origin
from .recordings import FrameSpec
from .splits import first_portion, portion_split
from .tree import File, entries, find_twins, labels_of, numbered

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

    Of the n recordings of a class the first ``round(train_portion * n)`` train (default 0.5) and
    the next ``n - round(0.8 * n)`` test, as published: of 500 these are 250 and 100, and 150 are
    not used. Images of training recordings train, no others.
    """
    folder = spec.folder("CEP-DVS", EXPECTED) / "CEP-DVS"
    recordings = _find_files(folder, RECORDINGS, "0.mat", {".mat"})
    images = _find_files(folder, IMAGES, "0.png", IMAGE_SUFFIXES)
    labels, twins = labels_of(recordings), find_twins(recordings, images)
    train, test = split(labels, spec.portion(TRAIN_PORTION))
    unused = len(labels) - len(train) - len(test)
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
        read_any={"sensor_by": "events", "told": {".mat": ["us", False, False]}},
        images=photographs(images, spec, "CEP-DVS", folder, resize_first=False),
        twins=twins,
        split=(train, test),
        static_train=np.setdiff1d(twins[train], [NO_TWIN]),
        published=Split(train, test, [pool[pool < len(images)] for pool in pools]),
        remarks=[f"{remark}the published split leaves out 3000 of 10000."] if unused else [],
    )


def split(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the recordings (labels in the order of the numbers) that train and test."""
    train, rest = portion_split(labels, portion, TRAIN_PORTION)
    n_test = np.bincount(labels[first_portion(labels, TEST_FROM)[1]], minlength=len(CLASSES))
    test = [rest[labels[rest] == c][:n] for c, n in enumerate(n_test)]
    return train, np.sort(np.concatenate(test))


def read_shifted(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, moved to x, y >= 0, with the sensor that it then spans."""
    return [shift_to_origin(read_mat(path))]


def _find_files(folder: Path, part: str, example: str, suffixes: Collection[str]) -> list[File]:
    """All recordings, or all images, in the order of the numbers, with the classes of the table."""
    table, found = folder / TABLE, numbered(entries(folder / part, EXPECTED, suffixes), example)
    if not found:
        raise UserError(f"Found 0 files like {example} in {folder / part}.\n{EXPECTED}")
    try:
        rows = [row for row in table.read_text("utf-8-sig").split("\n")[1:] if row.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {table}: {error}. Text was expected.\n{EXPECTED}") from error
    files = []
    for _, number, path in found:
        row = rows[number].strip(" ") if number < len(rows) else "not there"
        # As in the reference: one white-space character ends a word, and of several each ends one.
        name = next((word for word in re.split(r"\s", row)[4:] if word), "")
        if name not in CLASSES:
            raise UserError(
                f"{table}, row {number} of {len(rows)} (from 0, behind the header): {row[:200]!r}, "
                f"fifth word {name[:50]!r}; there, for {path}, one of {', '.join(CLASSES)} was "
                "expected. Correct the table, or get it again."
            )
        files.append(File(CLASSES.index(name), number, path))
    what = "images" if part == IMAGES else "recordings"
    log_found(f"CEP-DVS {what}", files, sum(COUNTS), len(CLASSES))
    return files


NEEDS = "CEP-DVS and its RGB images, by hand; prepare says from where and shows the tree"
DATASETS.register("CEP-DVS")(
    DataSet(load, ("RGB-CEP-DVS", "RGBCEPDVS"), "cepdvs", None, COUNTS, "by hand", NEEDS)
)
