"""Data set ``nmnist``: N-MNIST recordings (Orchard et al. 2015) and the MNIST images they show."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from .assemble import Images, assemble, log_found
from .base import DATASETS, DataSet, LoadSpec, TransferData
from .events import Events, read_bin
from .install import Archive, install
from .recordings import FrameSpec
from .tree import File, check_unique, find_files

SENSOR_SIZE = (34, 34)  # W, H
CLASSES = tuple("0123456789")
FULL_COUNTS = {"Train": 60_000, "Test": 10_000}
# Recordings per digit, both splits together, as in MNIST.
COUNTS = (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958)

EXPECTED = """Expected:
  <data root>/NMNIST/Train/<digit 0..9>/<number>.bin   (60000 recordings, or some of them)
  <data root>/NMNIST/Test/<digit 0..9>/<number>.bin    (10000 recordings, or some of them)
  <data root>/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
Fetch both (about 1.2 GB) with: tmkt data prepare nmnist --data-root DIR (or --download), or
by hand: N-MNIST from https://www.garrickorchard.com/datasets/n-mnist, MNIST with torchvision."""


def load(spec: LoadSpec) -> TransferData:
    """N-MNIST with its own split, at the sensor's 34 x 34 pixels, and all of MNIST, 28 x 28.

    Recordings are sorted by split (Train first), digit and number, images as in MNIST, its training
    set first. Recording k of a split is of its image k - 1; a label that differs is an error.
    """
    root = spec.folder("nmnist", EXPECTED, own_split=True)
    train, test = (_find_recordings(root, split) for split in FULL_COUNTS)
    images, n_train = read_mnist(root)
    twins = _twins(train, images.labels[:n_train]), _twins(test, images.labels[n_train:])
    every = np.arange(len(train) + len(test))
    return assemble(
        "mnist",
        "nmnist",
        CLASSES,
        root=root,
        recordings=[*train, *test],
        names=root / "NMNIST",
        frames=FrameSpec(read, spec.steps, mode=spec.mode),
        read_any={},
        images=images,
        twins=np.concatenate([twins[0], n_train + twins[1]]),
        split=(every[: len(train)], every[len(train) :]),
        static_train=np.arange(n_train),
    )


def read(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, and the sensor's size."""
    return [(read_bin(path), SENSOR_SIZE)]


def _find_recordings(root: Path, split: str) -> list[File]:
    files = find_files(root / "NMNIST" / split, CLASSES, "00011.bin", EXPECTED)
    check_unique(sorted(files, key=lambda file: file.number))
    log_found(f"nmnist {split} recordings", files, FULL_COUNTS[split], len(CLASSES))
    return files


def read_mnist(root: Path) -> tuple[Images, int]:
    """MNIST's images ``[S, 28, 28]``, its training set first, and how many these are."""
    from torchvision.datasets import MNIST

    try:
        parts = [MNIST(str(root), train=train) for train in (True, False)]
        if any(len(part.data) != len(part.targets) for part in parts):
            raise ValueError("a set has not as many images as labels")
    except Exception as error:  # torchvision checks little, and fails in many ways
        raise UserError(f"Cannot read MNIST in {root}/MNIST/raw: {error}\n{EXPECTED}") from error
    pixels, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("data", "targets"))
    return Images(pixels.numpy(), labels.long().numpy()), len(parts[0].data)


def _twins(recordings: Sequence[File], labels: np.ndarray) -> np.ndarray:
    """``[R]`` int64: number k shows image k - 1 of those of its split, which have these labels."""
    for digit, number, path in recordings:
        shown = labels[number - 1] if 1 <= number <= len(labels) else "not there"
        if shown != digit:
            raise UserError(
                f"{path} is in class {digit}, but image {number} (of 1..{len(labels)}) of MNIST, "
                f"which it was made from, is {shown}. Files were renamed or moved, or are of "
                "another MNIST; get both again."
            )
    return np.array([r.number - 1 for r in recordings], np.int64)


def fetch(root: Path) -> None:
    """N-MNIST (1.1 GB) and MNIST."""
    from tonic.datasets import NMNIST
    from torchvision.datasets import MNIST

    train = Archive(NMNIST.train_filename, (NMNIST.train_url,), NMNIST.train_md5)
    test = Archive(NMNIST.test_filename, (NMNIST.test_url,), NMNIST.test_md5)
    install(train, {root / "NMNIST" / "Train": None}, EXPECTED)
    install(test, {root / "NMNIST" / "Test": None}, EXPECTED)
    try:
        MNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"Downloading MNIST into {root} failed: {error}\n{EXPECTED}") from error


NEEDS = "N-MNIST and MNIST, about 1.2 GB; prepare downloads both"
DATASETS.register("nmnist")(DataSet(load, ("mnist",), "nmnist", fetch, COUNTS, "download", NEEDS))
