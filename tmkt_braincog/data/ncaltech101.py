"""Data set ``NCALTECH101``: N-Caltech101 recordings (Orchard et al. 2015) and the Caltech-101 images they show.

Not yet run on the full data set: tested on one real recording, real photographs and files written in
the real formats.
"""

import logging
import re
import tarfile
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import Resize
from tqdm import tqdm

from ..errors import UserError
from .base import DATASETS, NO_TWIN, DataSet, TransferData
from .cache import cached
from .events import check_events, read_bin, warn_unsorted
from .frames import resize_frames, to_frames
from .recordings import files_digest
from .splits import first_portion

log = logging.getLogger(__name__)

FRAMES_VERSION = 1
IMAGES_VERSION = 1
PROGRESS_FROM = 500  # files; below it decoding takes some seconds
TRAIN_PORTION = 0.9
FULL_COUNT = 8709  # recordings, and images without Faces
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

# Where the published recipe differs from the defaults, which are made for this data set.
RECIPE = {"augment": "crop", "sampling": "balanced"}

EXPECTED = """Expected:
  <data root>/NCALTECH101/Caltech101/<class>/image_<number>.bin             (8709 recordings, or some of them)
  <data root>/caltech101/101_ObjectCategories/<class>/image_<number>.jpg    (8709 images of the same 101 classes)
with the classes BACKGROUND_Google, Faces_easy, Leopards .. yin_yang; Faces is ignored.
Add --download to fetch both (several GB), or get them by hand: N-Caltech101 from https://www.garrickorchard.com/datasets/n-caltech101, Caltech-101 from https://data.caltech.edu/records/mzrjq-6wc02."""


class File(NamedTuple):
    """One recording or image; recording and image of the same label and number belong together."""

    label: int
    number: int
    path: Path


def load(
    root: str | Path | None,
    steps: int = 10,
    size: int = 48,
    train_portion: float | None = None,
    download: bool = False,
    use_hsv: bool = True,
) -> TransferData:
    """N-Caltech101 split per class in the order of the numbers; each recording's twin is the image it shows.

    Args:
        root: folder that holds ``NCALTECH101`` and ``caltech101``; parts of both are enough.
        steps: T.
        size: side of frames and images in pixels.
        train_portion: portion of each class, in the order of the numbers, that is for training, in
            (0, 1); default 0.9.
        download: fetch what is missing first (several GB).
        use_hsv: images by the V channel of HSV; False: by their blue channel, as in the reference.

    Returns:
        Frames ``[R, T, 2, size, size]`` float32 counts, bilinearly resized, and images
        ``[S, size, size]`` uint8, both sorted by class and number. The full data set takes 1.5 GB at
        T = 10 and 48 pixels, in memory and in the cache. An image whose recording is absent trains.

    Raises:
        UserError: missing or damaged files, unknown classes, a class with recordings but no image, or
            a portion that leaves nothing to train or to test on.
    """
    if root is None:
        raise UserError(f"NCALTECH101 needs a data root (--data-root); none was given.\n{EXPECTED}")
    if download:
        _download(Path(root))
    portion = TRAIN_PORTION if train_portion is None else train_portion
    return _assemble(Path(root), steps, size, portion, use_hsv)


def recordings_folder(root: Path) -> Path:
    """Where tonic keeps the recordings."""
    return root / "NCALTECH101" / "Caltech101"


def images_folder(root: Path) -> Path:
    """Where torchvision keeps the photographs."""
    return root / "caltech101" / "101_ObjectCategories"


def _download(root: Path) -> None:
    from tonic.datasets import NCALTECH101
    from torchvision.datasets import Caltech101

    try:
        NCALTECH101(save_to=str(root))
        _unpack_inner(recordings_folder(root))
        # With the folder there, torchvision fetches nothing, but refuses parts of the data set.
        if not images_folder(root).is_dir():
            Caltech101(str(root), download=True)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise UserError(
            f"Downloading N-Caltech101 and Caltech-101 into {root} failed: {error}\n{EXPECTED}"
        ) from error


def _unpack_inner(folder: Path) -> None:
    """Unpack the ``Caltech101.zip`` that the downloaded archive holds, where tonic left it packed."""
    inner = sorted(folder.parent.rglob("Caltech101.zip"))
    if inner and not folder.is_dir():
        with zipfile.ZipFile(inner[0]) as archive:
            archive.extractall(folder.parent)


def _assemble(root: Path, steps: int, size: int, portion: float, use_hsv: bool) -> TransferData:
    recordings = find_files(recordings_folder(root), ".bin", "recordings")
    images = find_files(images_folder(root), ".jpg", "images")
    twins = find_twins(recordings, images, root)
    labels = np.array([r.label for r in recordings], np.int64)
    train, test = _split(labels, portion)
    static_test = np.unique(twins[test])
    static_test = static_test[static_test != NO_TWIN]
    return TransferData(
        source="CALTECH101",
        target="NCALTECH101",
        classes=CLASSES,
        frames=torch.from_numpy(load_frames([r.path for r in recordings], steps, size)),
        labels=torch.from_numpy(labels),
        names=[f"{CLASSES[r.label]}/{r.path.name}" for r in recordings],
        file_ids=np.array([r.number for r in recordings], np.int64),
        images=torch.from_numpy(load_images([i.path for i in images], size, use_hsv)),
        image_labels=torch.tensor([i.label for i in images]),
        twins=twins,
        train=train,
        test=test,
        static_train=np.setdiff1d(np.arange(len(images)), static_test),
        static_test=static_test,
    )


def find_files(folder: Path, suffix: str, what: str) -> list[File]:
    """All ``<folder>/<class>/image_<number><suffix>``, sorted by class and number.

    Args:
        what: the files' name in messages, ``recordings`` or ``images``.

    Raises:
        UserError: no such folder, no file in it, an unknown class or file name, or the same number
            twice in a class.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.\n{EXPECTED}")
    found = sorted(file for of_class in _class_folders(folder) for file in _files(of_class, suffix))
    if not found:
        raise UserError(f"Found 0 {what} (image_<number>{suffix}) in {folder}.\n{EXPECTED}")
    _check_unique(found)
    n_classes = len({file.label for file in found})
    log.info(
        "NCALTECH101: %d of %d %s, in %d of %d classes", len(found), FULL_COUNT, what, n_classes, len(CLASSES)
    )
    return found


def _class_folders(folder: Path) -> list[Path]:
    """The classes' folders. Hidden ones, which operating systems leave behind, do not count."""
    folders = [f for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != IGNORED]
    unknown = sorted(f.name for f in folders if f.name not in CLASSES)
    if unknown:
        raise UserError(
            f"{folder} holds the folders {', '.join(unknown)}, which are none of N-Caltech101's "
            f"{len(CLASSES)} classes. Rename or remove them, or check the data root.\n{EXPECTED}"
        )
    return folders


def _files(folder: Path, suffix: str) -> list[File]:
    label, found = CLASSES.index(folder.name), []
    for path in folder.glob(f"[!.]*{suffix}"):
        match = re.fullmatch(r"image_([0-9]+)", path.stem)
        if match is None:
            raise UserError(
                f"Found {path}; a name like image_0001{suffix} was expected. Rename or remove it."
            )
        found.append(File(label, int(match[1]), path))
    return found


def _check_unique(files: Sequence[File]) -> None:
    for one, other in pairwise(files):
        if one[:2] == other[:2]:
            raise UserError(
                f"Both {one.path} and {other.path} have number {one.number}; every number is one image. "
                "Remove one."
            )


def find_twins(recordings: Sequence[File], images: Sequence[File], root: Path) -> np.ndarray:
    """``[R]`` int64 indices of the images of the same class and number, ``NO_TWIN`` where there is none.

    Raises:
        UserError: a class has recordings but no image.
    """
    _check_classes(recordings, images, root)
    at = {image[:2]: i for i, image in enumerate(images)}
    return np.array([at.get(r[:2], NO_TWIN) for r in recordings], np.int64)


def _check_classes(recordings: Sequence[File], images: Sequence[File], root: Path) -> None:
    missing = sorted({r.label for r in recordings} - {i.label for i in images})
    if not missing:
        return
    names = [CLASSES[c] for c in missing]
    hint = ""
    if BACKGROUND in names:
        hint = (
            f" Stock torchvision's Caltech101 lacks {BACKGROUND} (it drops the class, and so do copies "
            "exported from it); the original archive caltech-101.zip of "
            "https://data.caltech.edu/records/mzrjq-6wc02 (9,144 images in 102 folders) has it."
        )
    raise UserError(
        f"The recordings in {recordings_folder(root)} are of classes that have no image in "
        f"{images_folder(root)}: {', '.join(names)}.{hint} Add the images, or remove these recordings."
    )


def _split(labels: np.ndarray, portion: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices (train, test): the first ``round(portion * n)`` of each class, and the rest."""
    train, test = first_portion(labels, portion) if 0 < portion < 1 else (labels[:0], labels[:0])
    if not len(train) or not len(test):
        raise UserError(
            f"Got a training portion of {portion} for {len(labels)} recordings, which leaves none to train or "
            f"none to test on. Choose a portion between 0 and 1, such as {TRAIN_PORTION}, or add recordings."
        )
    return train, test


def load_frames(files: Sequence[Path], steps: int, size: int) -> np.ndarray:
    """Frames of the recordings, in the files' order, from the cache where nothing has changed.

    Logs one warning if timestamps ran backwards.

    Returns:
        ``[R, T, 2, size, size]`` float32, channel 0 OFF, 1 ON.

    Raises:
        UserError: a file is missing, empty or truncated.
    """
    key = {"files": files_digest(files), "steps": steps, "size": size, "version": FRAMES_VERSION}
    arrays = cached("NCALTECH101-frames", key, lambda: _decode(files, steps, size))
    warn_unsorted(int(arrays["n_unsorted"].sum()), int(np.count_nonzero(arrays["n_unsorted"])), "NCALTECH101")
    return arrays["frames"]


def _decode(files: Sequence[Path], steps: int, size: int) -> dict[str, np.ndarray]:
    frames = np.empty((len(files), steps, 2, size, size), np.float32)
    n_unsorted = np.zeros(len(files), np.int64)
    for i, path in enumerate(_progress(files, "events to frames")):
        events, sensor_size = shift_to_origin(read_bin(path))
        events, n_unsorted[i] = check_events(events, sensor_size, str(path))
        counts = torch.from_numpy(to_frames(events, steps, sensor_size))
        frames[i] = resize_frames(counts, size).numpy()
    return {"frames": frames, "n_unsorted": n_unsorted}


def shift_to_origin(events: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The ``[E]`` events, E >= 1, moved to x, y >= 0, and the (W, H) that they then span.

    The recordings are of the sizes of their images, so each is its own sensor, as in BrainCog.
    """
    events = events.copy()
    for axis in ("x", "y"):
        events[axis] -= events[axis].min()
    return events, (int(events["x"].max()) + 1, int(events["y"].max()) + 1)


def load_images(files: Sequence[Path], size: int, use_hsv: bool = True) -> np.ndarray:
    """V (or blue) channels of the images, in the files' order, from the cache where nothing has changed.

    Returns:
        ``[S, size, size]`` uint8.

    Raises:
        UserError: a file is missing or no image.
    """
    key = {"files": files_digest(files), "size": size, "use_hsv": use_hsv, "version": IMAGES_VERSION}
    return cached("NCALTECH101-images", key, lambda: _decode_images(files, size, use_hsv))["images"]


def _decode_images(files: Sequence[Path], size: int, use_hsv: bool) -> dict[str, np.ndarray]:
    images = np.empty((len(files), size, size), np.uint8)
    resize = Resize((size, size))  # bilinear, antialiased
    for i, path in enumerate(_progress(files, "images")):
        try:
            with Image.open(path) as image:
                # Resized before the maximum is taken, as in the reference.
                rgb = np.asarray(resize(image.convert("RGB")))
                images[i] = rgb.max(-1) if use_hsv else rgb[..., -1]
        except OSError as error:
            raise UserError(
                f"Cannot read {path}: {error}. A JPEG image was expected. Get it again."
            ) from error
    return {"images": images}


def _progress(files: Sequence[Path], what: str) -> tqdm:
    return tqdm(files, desc=f"NCALTECH101: {what}", disable=len(files) <= PROGRESS_FROM)


DATASETS.register("NCALTECH101")(DataSet(load=load, sources=("CALTECH101",), recipe=RECIPE))
