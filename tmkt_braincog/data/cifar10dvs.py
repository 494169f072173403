"""Data set ``CIFAR10-DVS``: recordings of CIFAR-10 pictures that move on a screen (Li et al. 2017), and CIFAR-10.

Not yet run on the full data set: tested on files written in the real formats.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from .aedat4 import read_aedat4
from .base import DATASETS, NO_TWIN, DataSet, PublishedDraw, TransferData
from .cache import Writer, cached
from .events import Events
from .images import IMAGES_VERSION, v_channel
from .install import Archive, install
from .recordings import FrameSpec, files_digest, load_recordings
from .splits import portion_split
from .tree import Layout, find_files

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.9
SENSOR_SIZE = (128, 128)  # W, H
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = (1000,) * 10  # recordings per class
FULL_COUNT = sum(COUNTS)

EXPECTED = """Expected:
  <data root>/CIFAR10DVS/<class>/<name>_<number>.aedat4                         (10000 recordings, or some of them)
  <data root>/cifar-10-batches-py/{data_batch_1 .. 5, test_batch, batches.meta}  (CIFAR-10, 60000 images)
with the classes airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck.
Fetch both with: tmkt data prepare CIFAR10-DVS --data-root DIR (or --download), or by hand: CIFAR10-DVS as AEDAT4 from https://figshare.com/ndownloader/files/38023437, CIFAR-10 with torchvision."""
LAYOUT = Layout(CLASSES, "*_0.aedat4", EXPECTED)
# tonic's own address answers programs with a test for robots (tonic issue 329); this one is said not to (337).
DIRECT = "https://api.figshare.com/v2/file/download/38023437"
REMARK = (
    "Which image a recording of CIFAR10-DVS shows was never published: all of CIFAR-10 can be drawn, so a static image "
    "may show the same picture as a test recording."
)


class Cifar10(NamedTuple):
    """``images`` ``[S, size, size]`` uint8 V channels and ``labels`` ``[S]`` int64, the training set first."""

    images: np.ndarray
    labels: np.ndarray


def load(
    root: str | Path | None,
    steps: int = 10,
    size: int = 48,
    train_portion: float | None = None,
    use_hsv: bool = True,
    mode: str = "count",
) -> TransferData:
    """CIFAR10-DVS split per class in the order of the numbers, and all of CIFAR-10; no recording has a known twin.

    Args:
        root: folder that holds ``CIFAR10DVS`` and ``cifar-10-batches-py``; parts of the recordings are enough.
        steps: T.
        size: side of frames and images in pixels.
        train_portion: portion of each class, in the order of the numbers, that is for training, in (0, 1);
            default 0.9.
        use_hsv: images by the V channel of HSV; False: by their blue channel, as in the reference.
        mode: what a frame holds, see :func:`~tmkt_braincog.data.frames.apply_mode`.

    Returns:
        Frames ``[R, T, 2, size, size]`` float32 counts, bilinearly resized, sorted by class and number, and
        images ``[60000, size, size]`` uint8, the training set first; all of them train.

    Raises:
        UserError: missing or damaged files, unknown classes, events outside the sensor, or a portion that
            leaves nothing to train or to test on.
    """
    if root is None:
        raise UserError(f"CIFAR10-DVS needs a data root (--data-root); none was given.\n{EXPECTED}")
    portion = TRAIN_PORTION if train_portion is None else train_portion
    return _assemble(Path(root), steps, size, portion, use_hsv, mode)


def recordings_folder(root: Path) -> Path:
    """Where tonic keeps the recordings."""
    return root / "CIFAR10DVS"


def fetch(root: Path) -> None:
    """Download and unpack what is missing: CIFAR10-DVS (ten archives in one) and CIFAR-10."""
    from tonic.datasets import CIFAR10DVS
    from torchvision.datasets import CIFAR10

    recordings = Archive(CIFAR10DVS.filename, (CIFAR10DVS.url, DIRECT), CIFAR10DVS.file_md5)
    parts = [f"{name}.zip" for name in CLASSES]
    install(recordings, recordings_folder(root), parts=parts, expected=EXPECTED)
    images = Archive(CIFAR10.filename, (CIFAR10.url,), CIFAR10.tgz_md5)
    install(images, root / CIFAR10.base_folder, expected=EXPECTED)


def _assemble(
    root: Path, steps: int, size: int, portion: float, use_hsv: bool, mode: str
) -> TransferData:
    recordings = find_files(recordings_folder(root), LAYOUT)
    labels = np.array([r.label for r in recordings], np.int64)
    n_classes = len(np.unique(labels))
    log.info(
        "CIFAR10-DVS: %d of %d recordings, in %d of %d classes",
        len(recordings), FULL_COUNT, n_classes, len(CLASSES),
    )  # fmt: skip
    train, test = portion_split(labels, portion, TRAIN_PORTION)
    cifar10 = load_cifar10(root, size, use_hsv)
    spec = FrameSpec(read, steps, size, mode)
    frames, statistics = load_recordings([r.path for r in recordings], spec, "CIFAR10-DVS", root)
    return TransferData(
        source="CIFAR10",
        target="CIFAR10-DVS",
        classes=CLASSES,
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(labels),
        names=[f"{CLASSES[r.label]}/{r.path.name}" for r in recordings],
        file_ids=np.array([r.number for r in recordings], np.int64),
        images=torch.from_numpy(cifar10.images),
        image_labels=torch.from_numpy(cifar10.labels),
        twins=np.full(len(recordings), NO_TWIN, np.int64),
        train=train,
        test=test,
        static_train=np.arange(len(cifar10.labels)),
        static_test=np.empty(0, np.int64),
        published=_published(train, test, cifar10.labels),
        statistics=statistics,
        remarks=[REMARK],
    )


def _published(train: np.ndarray, test: np.ndarray, image_labels: np.ndarray) -> PublishedDraw:
    """The draw of the reference: images are sorted by class, and the label itself is taken for the position.

    So every recording of class c is paired with one and the same image, the c-th airplane.
    """
    airplanes = np.flatnonzero(image_labels == CLASSES.index("airplane"))
    return PublishedDraw(train, test, [airplanes[c : c + 1] for c in range(len(CLASSES))])


def read(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, and the size of the sensor that all were made with."""
    events, _ = read_aedat4(path)
    return [(events, SENSOR_SIZE)]


def load_cifar10(root: Path, size: int, use_hsv: bool = True) -> Cifar10:
    """CIFAR-10 as torchvision keeps it, its V channels resized (colours first) and cached.

    Raises:
        UserError: missing or damaged files.
    """
    files = _batches(root)
    key = {
        "files": files_digest(files, root), "size": size, "use_hsv": use_hsv, "version": IMAGES_VERSION
    }  # fmt: skip

    def build(out: Writer) -> None:
        pixels, labels = read_cifar10(root)
        out.add(labels=labels)
        images = out.create("images", (len(pixels), size, size), np.uint8)
        for i, image in enumerate(pixels):
            images[i] = v_channel(Image.fromarray(image), size, use_hsv, resize_first=True)

    arrays = cached("CIFAR10-images", key, build)
    return Cifar10(arrays["images"], arrays["labels"])


def _batches(root: Path) -> list[Path]:
    from torchvision.datasets import CIFAR10

    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    files = [root / CIFAR10.base_folder / name for name in [*names, CIFAR10.meta["filename"]]]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(
            f"Found no {', '.join(missing)} in {root / CIFAR10.base_folder}.\n{EXPECTED}"
        )
    return files


def read_cifar10(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """``[S, 32, 32, 3]`` uint8 RGB and ``[S]`` int64 labels, the training set first.

    The files are pickles: torchvision compares their checksums before it reads them.

    Raises:
        UserError: missing or damaged files.
    """
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    try:
        parts = [CIFAR10(str(root), train=train) for train in (True, False)]
    except Exception as error:
        raise UserError(
            f"Cannot read CIFAR-10 in {folder}: {error}. Remove the folder and get it again.\n{EXPECTED}"
        ) from error
    return (
        np.concatenate([part.data for part in parts]),
        np.concatenate([np.array(part.targets, np.int64) for part in parts]),
    )


DATASETS.register("CIFAR10-DVS")(
    DataSet(
        load=load,
        sources=("CIFAR10", "cifar10"),
        recipe="cifar10dvs",
        fetch=fetch,
        counts=COUNTS,
        get="download",
        needs="CIFAR10-DVS and CIFAR-10; prepare downloads both",
    )
)
