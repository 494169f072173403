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
    train, test = (find_recordings(root, split) for split in FULL_COUNTS)
    images, n_train = read_mnist(root)
    recordings = [*train, *test]
    twins = [
        *find_twins(train, "Train", images.labels[:n_train]),
        *(n_train + find_twins(test, "Test", images.labels[n_train:])),
    ]
    return assemble(
        "mnist",
        "nmnist",
        CLASSES,
        root=root,
        recordings=recordings,
        names=root / "NMNIST",
        frames=FrameSpec(read, spec.steps, mode=spec.mode),
        images=images,
        twins=np.array(twins),
        split=(np.arange(len(train)), np.arange(len(train), len(recordings))),
        static_train=np.arange(n_train),
    )


def read(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, and the sensor's size."""
    return [(read_bin(path), SENSOR_SIZE)]


def find_recordings(root: Path, split: str) -> list[File]:
    """The recordings of ``Train`` or ``Test``, by digit and number; every number is there once."""
    files = find_files(root / "NMNIST" / split, CLASSES, "00011.bin", EXPECTED)
    check_unique(sorted(files, key=lambda file: file.number))
    log_found(f"nmnist {split} recordings", files, FULL_COUNTS[split], len(CLASSES))
    return files


def read_mnist(root: Path) -> tuple[Images, int]:
    """MNIST's images ``[S, 28, 28]``, its training set first, and how many these are.

    Raises:
        UserError: missing or damaged files in ``<root>/MNIST/raw``.
    """
    from torchvision.datasets import MNIST

    raw = root / "MNIST" / "raw"
    try:
        parts = [MNIST(str(root), train=train) for train in (True, False)]
    except (OSError, RuntimeError, ValueError, AssertionError, KeyError, IndexError) as error:
        raise UserError(f"Cannot read MNIST in {raw}: {error}\n{EXPECTED}") from error
    for part in parts:
        if len(part.data) != len(part.targets):
            raise UserError(
                f"MNIST in {raw} has {len(part.data)} images but {len(part.targets)} labels in one "
                f"of its two sets; equal numbers were expected. Download it again.\n{EXPECTED}"
            )
    pixels, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("data", "targets"))
    return Images(pixels.numpy(), labels.long().numpy()), len(parts[0].data)


def find_twins(recordings: Sequence[File], split: str, labels: np.ndarray) -> np.ndarray:
    """``[R]`` int64 indices into the ``labels`` of the split's images: number k is image k - 1.

    Raises:
        UserError: no such image, or its label is not the recording's.
    """
    for digit, number, path in recordings:
        if not 1 <= number <= len(labels):
            raise UserError(
                f"{path} has number {number}, but MNIST's {split} set has the images "
                f"1..{len(labels)}. Check that both are complete and belong together."
            )
        if labels[number - 1] != digit:
            raise UserError(
                f"{path} is in class {digit}, but image {number} of MNIST's {split} set, which it "
                f"was made from, is a {labels[number - 1]}. Files were renamed or moved, or MNIST "
                "is another one; get both again."
            )
    return np.array([r.number - 1 for r in recordings], np.int64)


def fetch(root: Path) -> None:
    """N-MNIST (1.1 GB) and MNIST."""
    from tonic.datasets import NMNIST
    from torchvision.datasets import MNIST

    for split, name, url, md5 in (
        ("Train", NMNIST.train_filename, NMNIST.train_url, NMNIST.train_md5),
        ("Test", NMNIST.test_filename, NMNIST.test_url, NMNIST.test_md5),
    ):
        install(Archive(name, (url,), md5), root / "NMNIST" / split, expected=EXPECTED)
    try:
        MNIST(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"Downloading MNIST into {root} failed: {error}\n{EXPECTED}") from error


NEEDS = "N-MNIST and MNIST, about 1.2 GB; prepare downloads both"
DATASETS.register("nmnist")(DataSet(load, ("mnist",), "nmnist", fetch, COUNTS, "download", NEEDS))
