"""Data set ``E-CALTECH101``: Caltech-101 and EMULATED recordings of its photographs.

The scale of N-Caltech101 (the same images, classes, counts and split rule) without its recordings.
The events come from a sensor model (:mod:`~tmkt_braincog.data.emulator`), not from a camera;
results say nothing about N-Caltech101. The camera is another one than that of the source encoding
``saccade``, so that transfer between the two is not that between a camera and itself.
"""

import numpy as np

from .assemble import photographs
from .base import DATASETS, DataSet, LoadSpec, TransferData
from .camera import EventCamera
from .emulated import emulated_set
from .ncaltech101 import (
    CLASSES,
    COUNTS,
    IGNORED,
    IMAGES,
    TRAIN_PORTION,
    fetch_images,
    published_draw,
)
from .splits import portion_split
from .tree import find_files

EXPECTED = """Expected:
  <data root>/caltech101/101_ObjectCategories/<class>/image_<number>.jpg   (8709 images, or some)
Fetch them with: tmkt data prepare E-CALTECH101 --data-root DIR (or --download), or by hand from
https://data.caltech.edu/records/mzrjq-6wc02."""
# The path's corners as shares of the sensor's side.
PATH = ((0.03, 0.02), (-0.04, 0.0), (0.01, -0.045), (0.03, 0.02))


def target_camera(side: int) -> EventCamera:
    """The camera of the recordings: its path, speed, thresholds, dead time, noise and polarity
    differ from those of :class:`EventCamera`'s defaults."""
    corners = tuple((x * side, y * side) for x, y in PATH)
    return EventCamera(
        (side, side), corners, moving=0.75, border="edge", threshold=0.28, mismatch=0.08,
        dark=0.06, refractory_us=5_000, noise_hz=1.0, flip=True, seed=101,
    )  # fmt: skip


def load(spec: LoadSpec) -> TransferData:
    """N-Caltech101's classes and split rule; frames and images of ``size`` pixels.

    Recording k is emulated from image k, so every image is the twin of one recording.
    """
    root = spec.folder("E-CALTECH101", EXPECTED)
    files = find_files(root / IMAGES, CLASSES, "image_0001.jpg", EXPECTED, (IGNORED,))
    images = photographs(files, spec, "E-CALTECH101", root)
    portion = spec.portion(TRAIN_PORTION)
    train, test = portion_split(images.labels, portion, TRAIN_PORTION)
    return emulated_set(
        images,
        target_camera(spec.size),
        spec,
        source="CALTECH101",
        target="E-CALTECH101",
        classes=CLASSES,
        names=[f.path.relative_to(root / IMAGES).as_posix() for f in files],
        train=train,
        test=test,
        static_train=train.copy(),
        file_ids=np.array([f.number for f in files], np.int64),
        published=published_draw(files, images.labels, portion),
    )


NEEDS = "Caltech-101 alone, 130 MB; its events are emulated from the photographs"
DATASETS.register("E-CALTECH101")(
    DataSet(load, ("CALTECH101",), "ecaltech", fetch_images, COUNTS, "download", NEEDS)
)
