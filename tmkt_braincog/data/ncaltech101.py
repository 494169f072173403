"""Recordings of Caltech-101's photographs: data set ``NCALTECH101`` and EMULATED ``E-CALTECH101``.

N-Caltech101 (Orchard et al. 2015) is not yet run on the full data set: tested on one real
recording, real photographs and stand-ins. E-CALTECH101 has its scale (the same images, classes,
counts and split rule), but its events come from a sensor model, not from a camera; results say
nothing about N-Caltech101. The emulated camera is another one than that of the source encoding
``saccade``, so that transfer between the two is not that between a camera and itself.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import assemble, log_found, photographs
from .base import DATASETS, DataSet, LoadSpec, Split, TransferData
from .camera import EventCamera
from .emulated import emulated_set
from .events import Events, read_bin, shift_to_origin
from .install import Archive, install
from .recordings import FrameSpec
from .splits import directory_order, first_portion, portion_split
from .tree import File, find_files, find_twins, labels_of

TRAIN_PORTION = 0.9
BACKGROUND = "BACKGROUND_Google"
IGNORED = ("Faces",)  # the photographs of Faces_easy, not cropped; N-Caltech101's table lacks it

# BrainCog's table (``braincog.datasets.NCALTECH101``), where it is inside a constructor.
_NAMES = (
    "BACKGROUND_Google Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass "
    "beaver binocular bonsai brain brontosaurus buddha butterfly camera cannon car_side "
    "ceiling_fan cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile "
    "crocodile_head cup dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu "
    "euphonium ewer ferry flamingo flamingo_head garfield gerenuk gramophone grand_piano "
    "hawksbill headphone hedgehog helicopter ibis inline_skate joshua_tree kangaroo ketch lamp "
    "laptop llama lobster lotus mandolin mayfly menorah metronome minaret nautilus octopus okapi "
    "pagoda panda pigeon pizza platypus pyramid revolver rhino rooster saxophone schooner "
    "scissors scorpion sea_horse snoopy soccer_ball stapler starfish stegosaurus stop_sign "
    "strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair wild_cat "
    "windsor_chair wrench yin_yang"
)
CLASSES = tuple(_NAMES.split())
COUNTS = (  # recordings, and images, per class
    467, 435, 200, 798, 55, 800, 42, 42, 47, 54, 46, 33, 128, 98, 43, 85, 91, 50, 43, 123, 47, 59,
    62, 107, 47, 69, 73, 70, 50, 51, 57, 67, 52, 65, 68, 75, 64, 53, 64, 85, 67, 67, 45, 34, 34, 51,
    99, 100, 42, 54, 88, 80, 31, 64, 86, 114, 61, 81, 78, 41, 66, 43, 40, 87, 32, 76, 55, 35, 39,
    47, 38, 45, 53, 34, 57, 82, 59, 49, 40, 63, 39, 84, 57, 35, 64, 45, 86, 59, 64, 35, 85, 49, 86,
    75, 239, 37, 59, 34, 56, 39, 60,
)  # fmt: skip

# Where tonic keeps the recordings and torchvision the photographs, under the data root.
RECORDINGS, IMAGES = "NCALTECH101/Caltech101", "caltech101/101_ObjectCategories"
ORIGIN = "https://data.caltech.edu/records/mzrjq-6wc02"
EXPECTED = f"""Expected:
  <data root>/{RECORDINGS}/<class>/image_<number>.bin   (8709 recordings, or some of them)
  <data root>/{IMAGES}/<class>/image_<number>.jpg   (8709 images of these)
with the 101 classes BACKGROUND_Google, Faces_easy, Leopards .. yin_yang; Faces is ignored.
Fetch both with: tmkt data prepare NCALTECH101 --data-root DIR (or --download), or by hand:
N-Caltech101 from https://www.garrickorchard.com/datasets/n-caltech101,
Caltech-101 from {ORIGIN}."""
EMULATED_EXPECTED = f"""Expected:
  <data root>/{IMAGES}/<class>/image_<number>.jpg   (8709 images, or some)
Fetch them with: tmkt data prepare E-CALTECH101 --data-root DIR (or --download), or by hand from
{ORIGIN}."""


def load(spec: LoadSpec) -> TransferData:
    """Split per class in the order of the numbers; the twin is the image of that class and number.

    An image whose recording is absent trains. A class with recordings but no image is an error,
    save BACKGROUND_Google, whose recordings are then left out with a remark. The full data set
    takes 1.6 GB at T = 10 and 48 pixels.
    """
    root = spec.folder("NCALTECH101", EXPECTED)
    recordings = find_files(root / RECORDINGS, CLASSES, "image_0001.bin", EXPECTED, IGNORED)
    images = _find_images(root, EXPECTED)
    for what, files in (("recordings", recordings), ("images", images)):
        log_found(f"NCALTECH101 {what}", files, sum(COUNTS), len(CLASSES))
    remarks = _without_images(recordings, images, root)
    if remarks:
        recordings = [r for r in recordings if CLASSES[r.label] != BACKGROUND]
    portion = spec.portion(TRAIN_PORTION)
    return assemble(
        "CALTECH101",
        "NCALTECH101",
        CLASSES,
        root=root,
        recordings=recordings,
        names=root / RECORDINGS,
        frames=FrameSpec(read_shifted, spec.steps, spec.size, spec.mode),
        read_any={"sensor_by": "events"},
        images=photographs(images, spec, "NCALTECH101", root),
        twins=find_twins(recordings, images),
        split=portion_split(labels_of(recordings), portion, TRAIN_PORTION),
        published=published_draw(recordings, labels_of(images), portion),
        remarks=remarks,
    )


def load_emulated(spec: LoadSpec) -> TransferData:
    """N-Caltech101's classes and split rule; frames and images of ``size`` pixels.

    Recording k is emulated from image k, so every image is the twin of one recording.
    """
    root = spec.folder("E-CALTECH101", EMULATED_EXPECTED)
    files = _find_images(root, EMULATED_EXPECTED)
    images = photographs(files, spec, "E-CALTECH101", root)
    portion = spec.portion(TRAIN_PORTION)
    train, test = portion_split(images.labels, portion, TRAIN_PORTION)
    return emulated_set(
        images,
        emulated_camera(spec.size),
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


def emulated_camera(side: int) -> EventCamera:
    """Its path, speed, thresholds, dead time, noise and polarity differ from those of
    :class:`EventCamera`'s defaults."""
    path = ((0.03, 0.02), (-0.04, 0.0), (0.01, -0.045), (0.03, 0.02))  # shares of the side
    corners = tuple((x * side, y * side) for x, y in path)
    return EventCamera(
        (side, side), corners, moving=0.75, border="edge", threshold=0.28, mismatch=0.08,
        dark=0.06, refractory_us=5_000, noise_hz=1.0, flip=True, seed=101,
    )  # fmt: skip


def _find_images(root: Path, expected: str) -> list[File]:
    return find_files(root / IMAGES, CLASSES, "image_0001.jpg", expected, IGNORED)


def published_draw(recordings: Sequence[File], images: np.ndarray, portion: float) -> Split:
    """Recordings split as the directory lists them, images by number, one too many."""
    labels = labels_of(recordings)
    order = directory_order([r.path.name for r in recordings])
    first, rest = first_portion(labels[order], portion)
    counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
    pools = [np.flatnonzero(images == c)[: round(portion * n) + 1] for c, n in enumerate(counts)]
    return Split(np.sort(order[first]), np.sort(order[rest]), pools)


def read_shifted(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The recording of one file, moved to x, y >= 0, with the sensor that it then spans."""
    return [shift_to_origin(read_bin(path))]


def _without_images(recordings: Sequence[File], images: Sequence[File], root: Path) -> list[str]:
    """A remark where BACKGROUND_Google has no images, as in torchvision's Caltech101."""
    missing = {r.label for r in recordings} - {i.label for i in images}
    names = [CLASSES[c] for c in sorted(missing)]
    if set(names) - {BACKGROUND}:
        raise UserError(
            f"The recordings in {root / RECORDINGS} are of classes that have no image in "
            f"{root / IMAGES}: {', '.join(names)}. Add the images, or remove these recordings."
        )
    left_out = sum(r.label in missing for r in recordings)
    remark = (
        f"{left_out} recordings of {BACKGROUND} are left out: their images are missing, as in "
        "torchvision's Caltech101 of 8,677 images. The published results include them; the "
        f"archive caltech-101.zip of {ORIGIN} (9,144 images in 102 folders) has the images."
    )
    return [remark] if left_out else []


def fetch(root: Path) -> None:
    """N-Caltech101 and Caltech-101."""
    from tonic.datasets import NCALTECH101

    recordings = Archive(NCALTECH101.filename, (NCALTECH101.url,), NCALTECH101.file_md5)
    install(recordings, {root / RECORDINGS: "Caltech101.zip"}, EXPECTED)
    fetch_images(root)


def fetch_images(root: Path) -> None:
    """The archive of Caltech-101, which has all 9,144 images."""
    url = f"{ORIGIN}/files/caltech-101.zip"
    archive = Archive("caltech-101.zip", (url,), "3138e1922a9193bfa496528edbbc45d0")
    install(archive, {root / IMAGES: "101_ObjectCategories.tar.gz"}, EXPECTED)


NEEDS = "N-Caltech101 and Caltech-101; prepare downloads both"
DATASETS.register("NCALTECH101")(
    DataSet(load, ("CALTECH101",), "ncaltech", fetch, COUNTS, "download", NEEDS)
)
EMULATED_NEEDS = "Caltech-101 alone, 130 MB; its events are emulated from the photographs"
DATASETS.register("E-CALTECH101")(
    DataSet(
        load_emulated, ("CALTECH101",), "ecaltech", fetch_images, COUNTS, "download", EMULATED_NEEDS
    )
)
