"""Data set ``CIFAR10-DVS``: CIFAR-10 pictures that move on a screen (Li et al. 2017), and CIFAR-10.

Not yet run on the full data set: tested on files written in the real formats.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError
from .assemble import Images, assemble, log_found
from .base import DATASETS, NO_TWIN, DataSet, LoadSpec, Split, TransferData
from .cache import Writer, cached, files_digest
from .events import Events, read_aedat4
from .images import IMAGES_VERSION, of_torchvision, v_channel
from .install import Archive, install
from .recordings import FrameSpec
from .splits import portion_split
from .tree import find_files, labels_of

TRAIN_PORTION = 0.9
SENSOR_SIZE = (128, 128)  # W, H
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = (1000,) * 10  # recordings per class
RECORDINGS = "CIFAR10DVS"  # under the data root, where tonic keeps them
EXPECTED = f"""Expected:
  <data root>/{RECORDINGS}/<class>/<name>_<number>.aedat4   (10000 recordings, or some of them)
  <data root>/cifar-10-batches-py/{{data_batch_1 .. 5, test_batch, batches.meta}}   (CIFAR-10)
with the classes {", ".join(CLASSES)}.
Fetch both with: tmkt data prepare CIFAR10-DVS --data-root DIR (or --download), or by hand:
CIFAR10-DVS as AEDAT4 from https://figshare.com/ndownloader/files/38023437,
CIFAR-10 with torchvision."""
# tonic's own address tests for robots (tonic issue 329); this one is said not to (337).
DIRECT = "https://api.figshare.com/v2/file/download/38023437"
REMARK = (
    "Which image a recording of CIFAR10-DVS shows was never published: all of CIFAR-10 can be "
    "drawn, so a static image may show the same picture as a test recording."
)


def load(spec: LoadSpec) -> TransferData:
    """Split per class in the order of the numbers; all of CIFAR-10, its training set first, trains.

    No recording has a known twin. The reference sorts the images by class and takes the label for
    the position, so that every recording of class c is paired with the c-th airplane.
    """
    root = spec.folder("CIFAR10-DVS", EXPECTED)
    recordings = find_files(root / RECORDINGS, CLASSES, "*_0.aedat4", EXPECTED)
    log_found("CIFAR10-DVS recordings", recordings, sum(COUNTS), len(CLASSES))
    split = portion_split(labels_of(recordings), spec.portion(TRAIN_PORTION), TRAIN_PORTION)
    images = load_cifar10(root, spec.size)
    airplanes = np.flatnonzero(images.labels == CLASSES.index("airplane"))
    return assemble(
        "CIFAR10",
        "CIFAR10-DVS",
        CLASSES,
        root=root,
        recordings=recordings,
        names=root / RECORDINGS,
        frames=FrameSpec(read, spec.steps, spec.size, spec.mode),
        read_any={"sensor_by": "set"},
        images=images,
        twins=np.full(len(recordings), NO_TWIN, np.int64),
        split=split,
        published=Split(*split, [airplanes[c : c + 1] for c in range(len(CLASSES))]),
        remarks=[REMARK],
    )


def read(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, and the size of the sensor that all were made with."""
    events, _ = read_aedat4(path)
    return [(events, SENSOR_SIZE)]


def load_cifar10(root: Path, size: int) -> Images:
    """CIFAR-10 as torchvision keeps it, its V channels resized (colours first) and cached."""
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    files = [folder / name for name in [*names, CIFAR10.meta["filename"]]]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"Found no {', '.join(missing)} in {folder}.\n{EXPECTED}")

    def build(out: Writer) -> None:
        # The files are pickles: torchvision compares their checksums before it reads them.
        pixels, labels, _ = of_torchvision(CIFAR10, root, f"CIFAR-10 in {folder}", EXPECTED)
        out.add(labels=labels)
        images = out.create("images", (len(pixels), size, size), np.uint8)
        for i, image in enumerate(pixels):
            images[i] = v_channel(Image.fromarray(image), size, resize_first=True)

    key = {"files": files_digest(files, root), "size": size}
    arrays = cached("CIFAR10-images", {**key, "version": IMAGES_VERSION}, build)
    return Images(arrays["images"], arrays["labels"])


def fetch(root: Path) -> None:
    """CIFAR10-DVS (ten archives in one) and CIFAR-10."""
    from tonic.datasets import CIFAR10DVS
    from torchvision.datasets import CIFAR10

    recordings = Archive(CIFAR10DVS.filename, (CIFAR10DVS.url, DIRECT), CIFAR10DVS.file_md5)
    folders = {root / RECORDINGS / name: f"{name}.zip" for name in CLASSES}
    install(recordings, folders, EXPECTED)
    images = Archive(CIFAR10.filename, (CIFAR10.url,), CIFAR10.tgz_md5)
    install(images, {root / CIFAR10.base_folder: None}, EXPECTED)


NEEDS = "CIFAR10-DVS and CIFAR-10; prepare downloads both"
DATASETS.register("CIFAR10-DVS")(
    DataSet(load, ("CIFAR10", "cifar10"), "cifar10dvs", fetch, COUNTS, "download", NEEDS)
)
