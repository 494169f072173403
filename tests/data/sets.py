"""The five recorded data sets as small stand-ins: what is written, and what must come back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import standins
import torch
import torch.nn.functional as F
from tonic.transforms import ToFrame
from writers import random_events, write_mnist_idx, write_nmnist_tree

from tmkt_braincog.data import (
    DATASETS,
    NO_TWIN,
    LoadSpec,
    TransferData,
    cepdvs,
    cifar10dvs,
    make_split,
    ncaltech101,
    nmnist,
    nomniglot,
)
from tmkt_braincog.options import parse, resolve

STEPS, SIZE = 3, 12


class Case(NamedTuple):
    """``write(root)`` writes it; ``files`` are (class, number) of the recordings in their order."""

    name: str
    module: Any
    write: Callable[[Path], object]
    folders: tuple[str, str]  # of recordings and of images, under the root
    files: list[tuple[int, int]]
    names: list[str]
    image_labels: list[int]
    twins: list[int]
    train: list[int]
    static_train: list[int]
    events: Callable[[int, int], np.ndarray]  # of class and number
    sensor: tuple[int, int] | None  # None: what the events span
    mode: str = "count"
    crop: tuple[int, int, int, int] | None = None

    def load(self, root, steps=STEPS, size=SIZE, portion=None) -> TransferData:
        return DATASETS[self.name].load(LoadSpec(root, steps, size, portion, self.mode))

    def split(self, data, protocol="clean"):
        words = ["--target-dataset", self.name, "--protocol", protocol]
        return make_split(data, resolve(parse(words))[0], seed=42)


def reference(events, case: Case, steps: int, size: int | None):
    """Frames by tonic and torch."""
    events = events.astype([(column, int) for column in "xytp"])
    sensor = case.sensor
    if sensor is None:
        events["x"] -= events["x"].min()
        events["y"] -= events["y"].min()
        sensor = int(events["x"].max()) + 1, int(events["y"].max()) + 1
    frames = ToFrame(sensor_size=(*sensor, 2), n_time_bins=steps)(events).astype(np.float64)
    if case.mode == "frequency":
        frames /= np.maximum(frames.max((-1, -2), keepdims=True), 1)
    if case.crop:
        top, bottom, left, right = case.crop
        frames = frames[..., top:bottom, left:right]
    frames = torch.tensor(frames, dtype=torch.float)
    if size is None:
        return frames
    return F.interpolate(frames, size=[size, size], mode="bilinear", align_corners=True)


def offset_events(k: int) -> np.ndarray:
    """Random events whose coordinates start at (9, 14); the size depends on the number."""
    events = random_events(200, seed=k, sensor_size=(60 + k, 45 + 2 * k))
    events["x"] += 9
    events["y"] += 14
    return events


# N-Caltech101: an image without recording (accordion 1) and a recording without image (dolphin 4).
OFFSET = [offset_events(k) for k in range(19)]
CALTECH = {"Faces_easy": 2, "accordion": 2, "dolphin": 10}
PICTURES = [(name, k) for name, n in CALTECH.items() for k in range(1, n + 1)]
SHOWN, RECORDED = (
    [(ncaltech101.CLASSES.index(name), k) for name, k in PICTURES if (name, k) != lost]
    for lost in (("dolphin", 4), ("accordion", 1))
)


def write_caltech(root: Path) -> None:
    standins.write_ncaltech101(root, OFFSET, CALTECH)
    (root / ncaltech101.RECORDINGS / "accordion" / "image_0001.bin").unlink()
    (root / ncaltech101.IMAGES / "dolphin" / "image_0004.jpg").unlink()


NCALTECH = Case(
    "NCALTECH101", ncaltech101, write_caltech, (ncaltech101.RECORDINGS, ncaltech101.IMAGES),
    RECORDED, [f"{ncaltech101.CLASSES[c]}/image_{k:04d}.bin" for c, k in RECORDED],
    [c for c, _ in SHOWN], [SHOWN.index(f) if f in SHOWN else NO_TWIN for f in RECORDED],
    list(range(12)), list(range(12)), lambda c, k: OFFSET[(c + k - 1) % 19], None,
)  # fmt: skip

# N-MNIST
MNIST_LABELS = [5, 0, 4, 1, 9, 2, 1], [7, 2, 1, 0]
TRAIN, TEST = [(0, 2), (1, 4), (1, 7), (5, 1)], [(0, 4), (1, 3)]
MNIST_PIXELS = [np.random.default_rng(n).integers(0, 256, (n, 28, 28), np.uint8) for n in (7, 4)]


def write_nmnist(root: Path) -> None:
    files = [*(("Train", *f) for f in TRAIN), *(("Test", *f) for f in TEST)]
    write_nmnist_tree(root, {f: random_events(200, seed=10 * f[1] + f[2]) for f in reversed(files)})
    for split, pixels, labels in zip(("train", "t10k"), MNIST_PIXELS, MNIST_LABELS, strict=True):
        write_mnist_idx(root, split, pixels, labels)


NMNIST = Case(
    "nmnist", nmnist, write_nmnist, ("NMNIST/Train", "MNIST/raw"), TRAIN + TEST,
    [f"{'Train' if i < 4 else 'Test'}/{c}/{k:05d}.bin" for i, (c, k) in enumerate(TRAIN + TEST)],
    MNIST_LABELS[0] + MNIST_LABELS[1], [1, 3, 6, 0, 10, 9], list(range(4)), list(range(7)),
    lambda c, k: random_events(200, seed=10 * c + k), (34, 34),
)  # fmt: skip

# CEP-DVS: classes mixed, so that an order by class is not one by number. Of ten recordings the
# first five train and two test, of five two and one, of four two and one.
CEP_LABELS = [3, 0, 3, 19, 3, 0, 3, 3, 19, 3, 0, 3, 0, 3, 19, 3, 0, 3, 19]
CEPDVS = Case(
    "CEP-DVS", cepdvs, lambda root: standins.write_cepdvs(root, OFFSET, CEP_LABELS),
    ("CEP-DVS/data/MAT/img", "CEP-DVS/data/img"), [(c, k) for k, c in enumerate(CEP_LABELS)],
    [f"data/MAT/img/{k}.mat" for k in range(19)], CEP_LABELS, list(range(19)), list(range(9)),
    list(range(9)), lambda c, k: OFFSET[k], None,
)  # fmt: skip

# CIFAR10-DVS: five recordings of each class, the last one tests.
MOVING = [random_events(150, seed=k, sensor_size=(128, 128)) for k in range(3)]
CIFAR = Case(
    "CIFAR10-DVS", cifar10dvs, lambda root: standins.write_cifar10dvs(root, MOVING, 5, 20),
    ("CIFAR10DVS", "cifar-10-batches-py"), [(c, k) for c in range(10) for k in range(5)],
    [f"{n}/cifar10_{n}_{k}.aedat4" for n in cifar10dvs.CLASSES for k in range(5)],
    [c % 10 for c in range(120)][::-1], [NO_TWIN] * 50, [i for i in range(50) if i % 5 < 4],
    list(range(120)), lambda c, k: MOVING[(c + k) % 3], (128, 128),
)  # fmt: skip

# N-Omniglot: two alphabets of two characters, one of three; in the order in which they are written,
# and, of each class, the place in it.
STROKES = random_events(6000, seed=5, sensor_size=nomniglot.SENSOR_SIZE, end_us=2_000_000)
for axis in "xy":
    STROKES[axis] -= STROKES[axis] % 12  # so that pixels see more than one
CHARACTERS = [("background", f"Background_0{a}", n) for n in (1, 2) for a in (0, 1)]
CHARACTERS += [("evaluation", "Evaluation_00", n) for n in (1, 2, 3)]
PLACES = {name: CHARACTERS.index(name) + 1 for name in sorted(CHARACTERS)}
FEW = {"background": 4, "evaluation": 3}
DRAWN = [(c, d) for c in range(7) for d in range(1, 21)]


def drawing(c: int, d: int) -> np.ndarray:
    start, end = standins.drawing_times(STROKES)[d - 1]
    events = standins.mirrored(STROKES, [*PLACES.values()][c])
    return events[(start <= events["t"]) & (events["t"] < end)]


NOMNIGLOT = Case(
    "N-OMNIGLOT", nomniglot,
    lambda root: standins.write_nomniglot(root, STROKES, CHARACTERS),
    ("NOmniglot/dvs_background", "omniglot-py/images_background"), DRAWN,
    [f"{part}/{alphabet}/character{n:02d}/{place:04d}_{d:02d}"
     for (part, alphabet, n), place in PLACES.items() for d in range(1, 21)],
    [c for c, _ in DRAWN], list(range(140)), [i for i in range(140) if i % 20 < 15],
    [i for i in range(140) if i % 20 < 15], drawing, (346, 260), "frequency", (4, 254, 54, 304),
)  # fmt: skip

CASES = {case.name: case for case in (NMNIST, NCALTECH, CEPDVS, CIFAR, NOMNIGLOT)}
