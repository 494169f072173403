"""Data set ``N-OMNIGLOT``: N-Omniglot (Li et al., Sci Data 2022) and the Omniglot drawings shown.

Not yet run on the full data set: tested on recordings of the same camera and container, real
Omniglot drawings and files written in the real formats.
"""

import warnings
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from ..errors import UserError
from .assemble import assemble, photographs
from .base import DATASETS, DataSet, LoadSpec, Split, TransferData
from .events import Events, read_aedat4
from .install import Archive, install
from .recordings import FrameSpec
from .splits import directory_order
from .tree import File, entries, listed, numbered

SENSOR_SIZE = (346, 260)  # W, H of the DAVIS346
CROP = (4, 254, 54, 304)  # rows and columns that the publishers keep: the screen
CHARACTERS = {"background": 964, "evaluation": 659}  # of each part, as published
DRAWINGS, TRAIN_DRAWINGS = 20, 15  # of each character, in one recording
COUNTS = (DRAWINGS,) * sum(CHARACTERS.values())

# The folders of a part, under the data root: recordings, and images where torchvision keeps them.
RECORDINGS, IMAGES = "NOmniglot/dvs_{}", "omniglot-py/images_{}"
EXPECTED = """Expected, for background (964 characters, 30 alphabets) and evaluation (659, 20):
  <data root>/NOmniglot/dvs_<part>/<alphabet>/character<number>/<4 digits>.aedat4 and .csv
  <data root>/omniglot-py/images_<part>/<alphabet>/character<number>/<4 digits>_<01..20>.png
N-Omniglot must be fetched by hand: download dvs_background and dvs_evaluation from
https://doi.org/10.6084/m9.figshare.16821427 and unpack both into <data root>/NOmniglot.
Omniglot: tmkt data prepare N-OMNIGLOT --data-root DIR (or --download), or with torchvision."""


def load(spec: LoadSpec) -> TransferData:
    """All drawings of N-Omniglot; the twin of each is the image of Omniglot that was shown.

    A class is a character, such as ``Greek/character05``: the alphabets of the background part,
    then those of the evaluation part, their characters by number. Drawings 1 to 15 of each train,
    16 to 20 test, as in the reference (He et al. 2024). Frames are of the middle 250 x 250 pixels;
    the reference's ``mode`` is ``frequency``. Images are white on 255. Both parts must be complete.
    """
    root = spec.folder("N-OMNIGLOT", EXPECTED, own_split=True)
    recorded = _find(root, RECORDINGS, "0123.aedat4", 1)
    shown = _find(root, IMAGES, "*_01.png", DRAWINGS)
    _check_complete(recorded, shown)
    paths = {name: path for name, (path,) in recorded.items()}
    images = [File(c, 0, path) for c, files in enumerate(shown.values()) for path in files]
    drawn = [(c, name, d) for c, name in enumerate(paths) for d in range(1, DRAWINGS + 1)]
    trains = np.array([d <= TRAIN_DRAWINGS for _, _, d in drawn])
    split = np.flatnonzero(trains), np.flatnonzero(~trains)
    return assemble(
        "OMNIGLOT",
        "N-OMNIGLOT",
        [name.partition("/")[2] for name in paths],
        root=root,
        recordings=[File(c, d, paths[name]) for c, name, d in drawn],
        names=[f"{name}/{paths[name].stem}_{d:02d}" for _, name, d in drawn],
        frames=FrameSpec(read_drawings, spec.steps, spec.size, spec.mode, CROP, DRAWINGS),
        also=[path.with_suffix(".csv") for path in paths.values()],
        images=photographs(images, spec, "N-OMNIGLOT", root),
        twins=np.arange(len(images)),
        split=split,
        published=Split(*split, published_pools(list(paths))),
    )


Found = dict[str, list[Path]]


def _find(root: Path, folder: str, example: str, n: int) -> Found:
    """The n files of each character, by ``<part>/<alphabet>/character<NN>``."""
    found = {}
    for part in CHARACTERS:
        for alphabet in entries(root / folder.format(part), EXPECTED):
            for _, number, path in numbered(entries(alphabet, EXPECTED), "character01"):
                name = f"{part}/{alphabet.name}/character{number:02d}"
                found[name] = _files(path, example, n)
    return found


def _check_complete(recorded: Found, shown: Found) -> None:
    """Refuse all but the published characters: fewer classes would give other results."""
    if recorded.keys() != shown.keys() or len(recorded) != sum(CHARACTERS.values()):
        lacking = listed(sorted(recorded.keys() ^ shown.keys())) or "none"
        raise UserError(
            f"N-Omniglot and Omniglot must be complete, {CHARACTERS} characters each. Found "
            f"{len(recorded)} in NOmniglot and {len(shown)} in omniglot-py; in only one of them: "
            f"{lacking}. Unpack the archives again.\n{EXPECTED}"
        )


def _files(folder: Path, example: str, n: int) -> list[Path]:
    """The n files of a character, numbered from 1 where they are several."""
    found = numbered(entries(folder, EXPECTED, {Path(example).suffix}), example)
    numbers = [file.number for file in found]
    if len(found) != n or (n > 1 and numbers != list(range(1, n + 1))):
        raise UserError(
            f"{folder} must hold {n} of {example}, numbered from 1 if several; found the numbers "
            f"{numbers}. Unpack the archive again, or remove what does not belong there."
        )
    return [file.path for file in found]


def read_drawings(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The 20 drawings of one recording, their events in the file's order, and the sensor's size.

    Drawing k has the events with start <= t < end of row k of the table beside the file. A table or
    recording that is damaged, of another sensor or does not fit is a :class:`UserError`.
    """
    events, sensor_size = read_aedat4(path)
    if sensor_size != SENSOR_SIZE:
        raise UserError(f"{path} is of a sensor of {sensor_size} pixels, not {SENSOR_SIZE}.")
    table = path.with_suffix(".csv")
    times = read_times(table)
    order = np.argsort(events["t"], kind="stable")
    edges = np.searchsorted(events["t"], times, sorter=order)
    first, last = events["t"][order[[0, -1]]].tolist()
    wrong = (times[:, 0] < first) | (times[:, 1] > last) | (edges[:, 0] == edges[:, 1])
    if wrong.any():
        k = int(np.argmax(wrong))
        raise UserError(
            f"{table}, row {k + 1}: the drawing from {times[k, 0]} to {times[k, 1]} us is not all "
            f"in {path.name}, or has no event there; it has events from {first} to {last} us. Get "
            "both files again."
        )
    rows = [np.sort(order[a:b]) for a, b in edges]
    return [({name: column[r] for name, column in events.items()}, sensor_size) for r in rows]


def read_times(path: Path) -> np.ndarray:
    """``[20, 2]`` int64: start and end of each drawing in us, from the second and third column."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of an empty file: it has 0 rows
            times = np.loadtxt(
                path, delimiter=",", skiprows=1, usecols=(1, 2), ndmin=2, quotechar='"',
                comments=None, encoding="utf-8-sig",
            )  # fmt: skip
        starts, ends = times.T
        good = (starts >= np.append(0, ends[:-1])) & (starts < ends) & (ends < 2**53)
        good &= (times == np.floor(times)).all(1)
        if len(times) != DRAWINGS or not good.all():
            raise ValueError(f"it has {len(times)} rows, of them {good.sum()} in order")
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot use {path}: {error}. A header and {DRAWINGS} rows were expected, start and "
            "end of a drawing in whole microseconds in the second and third column, one behind the "
            "other. Unpack the archive again."
        ) from error
    return times.astype(np.int64)


def published_pools(names: Sequence[str]) -> list[np.ndarray]:
    """Per class, the training images of the character in its place in the order of the directory.

    The reference numbers the characters of an alphabet as the file system lists their folders (its
    fault 9), so that most classes draw another one's images.
    """
    places: list[int] = []
    for _, alphabet in groupby(names, key=lambda name: name.rpartition("/")[0]):
        order = directory_order([name.rpartition("/")[2] for name in alphabet])
        places += (len(places) + order).tolist()
    return [DRAWINGS * c + np.arange(TRAIN_DRAWINGS) for c in places]


def fetch(root: Path) -> None:
    """Omniglot; the recordings have no direct link."""
    from torchvision.datasets import Omniglot

    for name, md5 in Omniglot.zips_md5.items():
        archive = Archive(f"{name}.zip", (f"{Omniglot.download_url_prefix}/{name}.zip",), md5)
        install(archive, {root / Omniglot.folder / name: None}, EXPECTED)


NEEDS = "N-Omniglot, from figshare by hand; prepare downloads Omniglot and shows the tree"
DATASETS.register("N-OMNIGLOT")(
    DataSet(load, ("OMNIGLOT", "omni"), "nomniglot", fetch, COUNTS, "by hand", NEEDS)
)
