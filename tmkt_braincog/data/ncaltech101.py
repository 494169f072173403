"""Data set ``NCALTECH101``: N-Caltech101 recordings (Orchard et al. 2015) and the Caltech-101 images they show.

Not yet run on the full data set: tested on one real recording, real photographs and files written in
the real formats.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from .base import DATASETS, NO_TWIN, DataSet, PublishedDraw, TransferData
from .events import Events, read_bin, shift_to_origin
from .images import load_images
from .install import Archive, install
from .recordings import FrameSpec, load_recordings
from .splits import directory_order, first_portion, portion_split
from .tree import File, Layout, find_files

log = logging.getLogger(__name__)

TRAIN_PORTION = 0.9
BACKGROUND = "BACKGROUND_Google"
IGNORED = "Faces"  # the same photographs as Faces_easy, not cropped; N-Caltech101's table lacks it

# BrainCog's table (``braincog.datasets.NCALTECH101``), where it is inside a constructor.
CLASSES = (
    "BACKGROUND_Google", "Faces_easy", "Leopards", "Motorbikes", "accordion", "airplanes", "anchor",
    "ant", "barrel", "bass", "beaver", "binocular", "bonsai", "brain", "brontosaurus", "buddha",
    "butterfly", "camera", "cannon", "car_side", "ceiling_fan", "cellphone", "chair", "chandelier",
    "cougar_body", "cougar_face", "crab", "crayfish", "crocodile", "crocodile_head", "cup",
    "dalmatian", "dollar_bill", "dolphin", "dragonfly", "electric_guitar", "elephant", "emu",
    "euphonium", "ewer", "ferry", "flamingo", "flamingo_head", "garfield", "gerenuk", "gramophone",
    "grand_piano", "hawksbill", "headphone", "hedgehog", "helicopter", "ibis", "inline_skate",
    "joshua_tree", "kangaroo", "ketch", "lamp", "laptop", "llama", "lobster", "lotus", "mandolin",
    "mayfly", "menorah", "metronome", "minaret", "nautilus", "octopus", "okapi", "pagoda", "panda",
    "pigeon", "pizza", "platypus", "pyramid", "revolver", "rhino", "rooster", "saxophone",
    "schooner", "scissors", "scorpion", "sea_horse", "snoopy", "soccer_ball", "stapler", "starfish",
    "stegosaurus", "stop_sign", "strawberry", "sunflower", "tick", "trilobite", "umbrella", "watch",
    "water_lilly", "wheelchair", "wild_cat", "windsor_chair", "wrench", "yin_yang",
)  # fmt: skip
# Recordings, and images, per class.
COUNTS = (
    467, 435, 200, 798, 55, 800, 42, 42, 47, 54, 46, 33, 128, 98, 43, 85, 91, 50, 43, 123, 47, 59, 62, 107, 47,
    69, 73, 70, 50, 51, 57, 67, 52, 65, 68, 75, 64, 53, 64, 85, 67, 67, 45, 34, 34, 51, 99, 100, 42, 54, 88,
    80, 31, 64, 86, 114, 61, 81, 78, 41, 66, 43, 40, 87, 32, 76, 55, 35, 39, 47, 38, 45, 53, 34, 57, 82, 59,
    49, 40, 63, 39, 84, 57, 35, 64, 45, 86, 59, 64, 35, 85, 49, 86, 75, 239, 37, 59, 34, 56, 39, 60,
)  # fmt: skip
FULL_COUNT = sum(COUNTS)

EXPECTED = """Expected:
  <data root>/NCALTECH101/Caltech101/<class>/image_<number>.bin             (8709 recordings, or some of them)
  <data root>/caltech101/101_ObjectCategories/<class>/image_<number>.jpg    (8709 images of the same 101 classes)
with the classes BACKGROUND_Google, Faces_easy, Leopards .. yin_yang; Faces is ignored.
Fetch both with: tmkt data prepare NCALTECH101 --data-root DIR (or --download), or by hand: N-Caltech101 from https://www.garrickorchard.com/datasets/n-caltech101, Caltech-101 from https://data.caltech.edu/records/mzrjq-6wc02."""
IMAGES_ARCHIVE = Archive(
    "caltech-101.zip",
    ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
    "3138e1922a9193bfa496528edbbc45d0",
)
RECORDINGS = Layout(CLASSES, "image_0001.bin", EXPECTED, (IGNORED,))
IMAGES = Layout(CLASSES, "image_0001.jpg", EXPECTED, (IGNORED,))


def load(
    root: str | Path | None,
    steps: int = 10,
    size: int = 48,
    train_portion: float | None = None,
    use_hsv: bool = True,
    mode: str = "count",
) -> TransferData:
    """N-Caltech101 split per class in the order of the numbers; each recording's twin is the image it shows.

    Args:
        root: folder that holds ``NCALTECH101`` and ``caltech101``; parts of both are enough.
        steps: T.
        size: side of frames and images in pixels.
        train_portion: portion of each class, in the order of the numbers, that is for training, in
            (0, 1); default 0.9.
        use_hsv: images by the V channel of HSV; False: by their blue channel, as in the reference.
        mode: what a frame holds, see :func:`~tmkt_braincog.data.frames.apply_mode`.

    Returns:
        Frames ``[R, T, 2, size, size]`` float32 counts, bilinearly resized, and images
        ``[S, size, size]`` uint8, both sorted by class and number. The full data set takes 1.6 GB at
        T = 10 and 48 pixels. An image whose recording is absent trains.

    Raises:
        UserError: missing or damaged files, unknown classes, a class with recordings but no image (save
            BACKGROUND_Google, whose recordings are then left out with a remark), or a portion
            that leaves nothing to train or to test on.
    """
    if root is None:
        raise UserError(f"NCALTECH101 needs a data root (--data-root); none was given.\n{EXPECTED}")
    portion = TRAIN_PORTION if train_portion is None else train_portion
    return _assemble(Path(root), steps, size, portion, use_hsv, mode)


def recordings_folder(root: Path) -> Path:
    """Where tonic keeps the recordings."""
    return root / "NCALTECH101" / "Caltech101"


def images_folder(root: Path) -> Path:
    """Where torchvision keeps the photographs."""
    return root / "caltech101" / "101_ObjectCategories"


def fetch(root: Path) -> None:
    """Download and unpack what is missing: N-Caltech101 and the 9,144-image archive of Caltech-101."""
    from tonic.datasets import NCALTECH101

    recordings = Archive(NCALTECH101.filename, (NCALTECH101.url,), NCALTECH101.file_md5)
    install(recordings, recordings_folder(root), inner="Caltech101.zip", expected=EXPECTED)
    install(
        IMAGES_ARCHIVE, images_folder(root), inner="101_ObjectCategories.tar.gz", expected=EXPECTED
    )


def _assemble(
    root: Path, steps: int, size: int, portion: float, use_hsv: bool, mode: str
) -> TransferData:
    recordings = find_files(recordings_folder(root), RECORDINGS)
    images = find_files(images_folder(root), IMAGES)
    for what, files in (("recordings", recordings), ("images", images)):
        n_classes = len({file.label for file in files})
        log.info(
            "NCALTECH101: %d of %d %s, in %d of %d classes",
            len(files), FULL_COUNT, what, n_classes, len(CLASSES),
        )  # fmt: skip
    remarks = _without_images(recordings, images, root)
    if remarks:
        recordings = [r for r in recordings if r.label != CLASSES.index(BACKGROUND)]
    twins = find_twins(recordings, images)
    labels = np.array([r.label for r in recordings], np.int64)
    train, test = portion_split(labels, portion, TRAIN_PORTION)
    static_test = np.unique(twins[test])
    static_test = static_test[static_test != NO_TWIN]
    spec = FrameSpec(read_shifted, steps, size, mode)
    frames, statistics = load_recordings([r.path for r in recordings], spec, "NCALTECH101", root)
    photographs = load_images([i.path for i in images], size, "NCALTECH101", root, use_hsv)
    image_labels = np.array([i.label for i in images], np.int64)
    return TransferData(
        source="CALTECH101",
        target="NCALTECH101",
        classes=CLASSES,
        frames=torch.from_numpy(frames),
        labels=torch.from_numpy(labels),
        names=[f"{CLASSES[r.label]}/{r.path.name}" for r in recordings],
        file_ids=np.array([r.number for r in recordings], np.int64),
        images=torch.from_numpy(photographs),
        image_labels=torch.from_numpy(image_labels),
        twins=twins,
        train=train,
        test=test,
        static_train=np.setdiff1d(np.arange(len(images)), static_test),
        static_test=static_test,
        published=_published(recordings, labels, image_labels, portion),
        statistics=statistics,
        remarks=remarks,
    )


def _published(
    recordings: Sequence[File], labels: np.ndarray, image_labels: np.ndarray, portion: float
) -> PublishedDraw:
    """Recordings split in the order of the directory, images in that of their numbers, and one image too many."""
    order = directory_order([r.path.name for r in recordings])
    first, rest = first_portion(labels[order], portion)
    counts = np.bincount(labels, minlength=len(CLASSES))
    pools = [
        np.flatnonzero(image_labels == c)[: round(portion * n) + 1]
        for c, n in enumerate(counts.tolist())
    ]
    return PublishedDraw(np.sort(order[first]), np.sort(order[rest]), pools)


def read_shifted(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, moved to x, y >= 0, with the sensor that it then spans."""
    return [shift_to_origin(read_bin(path))]


def find_twins(recordings: Sequence[File], images: Sequence[File]) -> np.ndarray:
    """``[R]`` int64 indices of the images of the same class and number, ``NO_TWIN`` where there is none."""
    at = {image[:2]: i for i, image in enumerate(images)}
    return np.array([at.get(r[:2], NO_TWIN) for r in recordings], np.int64)


def _without_images(recordings: Sequence[File], images: Sequence[File], root: Path) -> list[str]:
    """Remarks on what is missing: all images of BACKGROUND_Google may be, as in torchvision's Caltech101."""
    missing = {r.label for r in recordings} - {i.label for i in images}
    names = [CLASSES[c] for c in sorted(missing)]
    if names and names != [BACKGROUND]:
        raise UserError(
            f"The recordings in {recordings_folder(root)} are of classes that have no image in "
            f"{images_folder(root)}: {', '.join(names)}. Add the images, or remove these recordings."
        )
    if not names:
        return []
    left_out = sum(r.label in missing for r in recordings)
    return [
        f"{left_out} recordings of {BACKGROUND} are left out: their images are missing, as in torchvision's "
        "Caltech101 of 8,677 images. The published results include them; the archive caltech-101.zip of "
        "https://data.caltech.edu/records/mzrjq-6wc02 (9,144 images in 102 folders) has the images."
    ]


DATASETS.register("NCALTECH101")(
    DataSet(
        load=load,
        sources=("CALTECH101",),
        recipe="ncaltech",
        fetch=fetch,
        counts=COUNTS,
        get="download",
        needs="N-Caltech101 and Caltech-101; prepare downloads both",
    )
)
