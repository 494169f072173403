"""Data set ``nmnist``: N-MNIST recordings (Orchard et al. 2015) and the MNIST images they show."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import UserError
from .base import DATASETS, DataSet, TransferData
from .events import Events, read_bin
from .install import Archive, install
from .recordings import FrameSpec, load_recordings
from .tree import Layout, find_files

log = logging.getLogger(__name__)

SENSOR_SIZE = (34, 34)  # W, H
CLASSES = tuple("0123456789")
FULL_COUNTS = {"Train": 60_000, "Test": 10_000}
# Recordings per digit, both splits together, as in MNIST.
COUNTS = (6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958)

EXPECTED = """Expected:
  <data root>/NMNIST/Train/<digit 0..9>/<number>.bin   (60000 recordings, or some of them)
  <data root>/NMNIST/Test/<digit 0..9>/<number>.bin    (10000 recordings, or some of them)
  <data root>/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
Fetch both (about 1.2 GB) with: tmkt data prepare nmnist --data-root DIR (or --download), or by hand: N-MNIST from https://www.garrickorchard.com/datasets/n-mnist, MNIST with torchvision."""
LAYOUT = Layout(CLASSES, "00011.bin", EXPECTED)


class Recording(NamedTuple):
    """One file: ``number`` is its 1-based position in its split of MNIST."""

    split: str
    digit: int
    number: int
    path: Path


class Mnist(NamedTuple):
    """MNIST's images, its training set first.

    Attributes:
        images: ``[S, 28, 28]`` uint8.
        labels: ``[S]`` int64.
        n_train: how many of the S are the training set.
    """

    images: torch.Tensor
    labels: torch.Tensor
    n_train: int


def load(
    root: str | Path | None,
    steps: int = 10,
    size: int | None = None,
    train_portion: float | None = None,
    use_hsv: bool = True,
    mode: str = "count",
) -> TransferData:
    """N-MNIST with its own split, and all of MNIST; each recording's twin is the image it shows.

    Args:
        root: folder that holds ``NMNIST`` and ``MNIST``; parts of the recordings are enough.
        steps: T.
        size: not used; frames stay at the sensor's 34 x 34 pixels.
        train_portion: must be None: the data set has its own split.
        use_hsv: not used; the images are grey.
        mode: what a frame holds, see :func:`~tmkt_braincog.data.frames.apply_mode`.

    Returns:
        Frames ``[R, T, 2, 34, 34]`` uint8, sorted by split (Train first), digit and number; images
        ``[70000, 28, 28]`` uint8, MNIST's training set first.

    Raises:
        UserError: missing or damaged files, unknown classes, or a recording whose image has another
            label.
    """
    if train_portion is not None:
        raise UserError(
            f"Got a training portion of {train_portion} for nmnist, which has its own split. "
            "Leave the option away."
        )
    if root is None:
        raise UserError(f"nmnist needs a data root (--data-root); none was given.\n{EXPECTED}")
    return _assemble(Path(root), steps, mode)


def fetch(root: Path) -> None:
    """Download and unpack what is missing: N-MNIST (1.1 GB) and MNIST."""
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


def _assemble(root: Path, steps: int, mode: str) -> TransferData:
    recordings = find_recordings(root)
    mnist = read_mnist(root)
    twins = find_twins(recordings, mnist)
    frames, statistics = load_recordings(
        [r.path for r in recordings], FrameSpec(read, steps, mode=mode), "nmnist", root
    )
    is_train = np.array([r.split == "Train" for r in recordings])
    return TransferData(
        source="mnist",
        target="nmnist",
        classes=CLASSES,
        frames=torch.from_numpy(frames),
        labels=torch.tensor([r.digit for r in recordings]),
        names=[f"{r.split}/{r.digit}/{r.path.name}" for r in recordings],
        file_ids=np.array([r.number for r in recordings], np.int64),
        images=mnist.images,
        image_labels=mnist.labels,
        twins=twins,
        train=np.flatnonzero(is_train),
        test=np.flatnonzero(~is_train),
        static_train=np.arange(mnist.n_train),
        static_test=np.arange(mnist.n_train, len(mnist.labels)),
        statistics=statistics,
    )


def read(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, and the sensor's size."""
    return [(read_bin(path), SENSOR_SIZE)]


def find_recordings(root: Path) -> list[Recording]:
    """All recordings under ``root``, sorted by split (Train first), digit and number.

    Raises:
        UserError: no such folders, no recording in a split, an unknown class or file name, or the
            same number twice in a split.
    """
    found = []
    for split in FULL_COUNTS:
        folder = root / "NMNIST" / split
        part = [Recording(split, *file) for file in find_files(folder, LAYOUT)]
        _check_unique(part)
        _log_counts(split, part)
        found += part
    return found


def _check_unique(recordings: Sequence[Recording]) -> None:
    first: dict[int, Path] = {}
    for r in recordings:
        other = first.setdefault(r.number, r.path)
        if other is not r.path:
            raise UserError(
                f"Both {other} and {r.path} have number {r.number}; every number is one image. Remove one."
            )


def _log_counts(split: str, recordings: Sequence[Recording]) -> None:
    counts = Counter(r.digit for r in recordings)
    per_class = ", ".join(f"{digit}: {counts[digit]}" for digit in range(len(CLASSES)))
    log.info(
        "nmnist %s: %d of %d recordings (%s)", split, len(recordings), FULL_COUNTS[split], per_class
    )


def read_mnist(root: Path) -> Mnist:
    """MNIST from ``<root>/MNIST/raw``.

    Raises:
        UserError: missing or damaged files.
    """
    from torchvision.datasets import MNIST

    try:
        parts = [MNIST(str(root), train=train) for train in (True, False)]
    except (OSError, RuntimeError, ValueError, AssertionError, KeyError, IndexError) as error:
        raise UserError(
            f"Cannot read MNIST in {root / 'MNIST' / 'raw'}: {error}\n{EXPECTED}"
        ) from error
    for part in parts:
        if len(part.data) != len(part.targets):
            raise UserError(
                f"MNIST in {root / 'MNIST' / 'raw'} has {len(part.data)} images but {len(part.targets)} "
                f"labels in one of its two sets; equal numbers were expected. Download it again.\n{EXPECTED}"
            )
    images, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("data", "targets"))
    return Mnist(images, labels.long(), len(parts[0].data))


def find_twins(recordings: Sequence[Recording], mnist: Mnist) -> np.ndarray:
    """``[R]`` int64 indices of the images that the recordings show: number k is image k - 1 of its split.

    Raises:
        UserError: no such image, or its label is not the recording's.
    """
    _check_classes(recordings, mnist)
    first = {"Train": 0, "Test": mnist.n_train}
    end = {"Train": mnist.n_train, "Test": len(mnist.labels)}
    labels = mnist.labels.tolist()
    twins = np.empty(len(recordings), np.int64)
    for i, r in enumerate(recordings):
        twin = first[r.split] + r.number - 1
        if not first[r.split] <= twin < end[r.split]:
            raise UserError(
                f"{r.path} has number {r.number}, but MNIST's {r.split} set has the images "
                f"1..{end[r.split] - first[r.split]}. Check that both are complete and belong together."
            )
        if labels[twin] != r.digit:
            raise UserError(
                f"{r.path} is in class {r.digit}, but image {r.number} of MNIST's {r.split} set, which it "
                f"was made from, is a {labels[twin]}. Files were renamed or moved, or MNIST is another one; "
                "get both again."
            )
        twins[i] = twin
    return twins


def _check_classes(recordings: Sequence[Recording], mnist: Mnist) -> None:
    recorded, shown = {r.digit for r in recordings}, set(mnist.labels.tolist())
    if recorded - shown:
        raise UserError(
            f"The recordings are of classes {sorted(recorded)}, the images of {sorted(shown)}: no image for "
            f"{sorted(recorded - shown)}. Complete MNIST, or remove these recordings."
        )


DATASETS.register("nmnist")(
    DataSet(
        load=load,
        sources=("mnist",),
        recipe="nmnist",
        fetch=fetch,
        counts=COUNTS,
        get="download",
        needs="N-MNIST and MNIST, about 1.2 GB; prepare downloads both",
    )
)
