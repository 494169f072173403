"""Data set ``nmnist``: N-MNIST recordings (Orchard et al. 2015) and the MNIST images they show."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import Images, assemble, log_found
from .base import DATASETS, DataSet, LoadSpec, TransferData
from .events import Events, read_bin
from .images import of_torchvision
from .install import Archive, install
from .recordings import FrameSpec
from .tree import File, find_files

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
    from torchvision.datasets import MNIST

    root = spec.folder("nmnist", EXPECTED, own_split=True)
    folder = root / "NMNIST"
    train, test = (find_files(folder / s, CLASSES, "00011.bin", EXPECTED) for s in FULL_COUNTS)
    for files, (split, full) in zip((train, test), FULL_COUNTS.items(), strict=True):
        log_found(f"nmnist {split} recordings", files, full, len(CLASSES))
    raw = f"MNIST in {root}/MNIST/raw"
    pixels, labels, n_train = of_torchvision(MNIST, root, raw, EXPECTED)
    twins = [*_twins(train, labels[:n_train]), *(n_train + _twins(test, labels[n_train:]))]
    every = np.arange(len(twins))
    return assemble(
        "mnist",
        "nmnist",
        CLASSES,
        root=root,
        recordings=[*train, *test],
        names=folder,
        frames=FrameSpec(read, spec.steps, mode=spec.mode),
        read_any={},
        images=Images(pixels, labels),
        twins=np.array(twins),
        split=(every[: len(train)], every[len(train) :]),
        static_train=np.arange(n_train),
    )


def read(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, and the sensor's size."""
    return [(read_bin(path), SENSOR_SIZE)]


def _twins(recordings: list[File], labels: np.ndarray) -> np.ndarray:
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
