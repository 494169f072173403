"""Data set ``N-OMNIGLOT``: N-Omniglot (Li et al., Sci Data 2022) and the Omniglot drawings shown.

Not yet run on the full data set: tested on recordings of the same camera and container, real
Omniglot drawings and files written in the real formats.
"""

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .aedat4 import read_aedat4
from .assemble import assemble, photographs
from .base import DATASETS, DataSet, LoadSpec, PublishedDraw, TransferData
from .events import Events
from .install import Archive, install
from .recordings import FrameSpec
from .splits import directory_order
from .tree import File, check_unique, entries, file_number, listed, numbered

SENSOR_SIZE = (346, 260)  # W, H of the DAVIS346
CROP = (4, 254, 54, 304)  # rows and columns that the publishers keep: the screen

CHARACTERS = {"background": 964, "evaluation": 659}  # of each part, as published
DRAWINGS = 20  # of each character, in one recording
TRAIN_DRAWINGS = 15
COUNTS = (DRAWINGS,) * sum(CHARACTERS.values())
NAMED = 8  # missing characters that a message names

EXPECTED = """Expected, for background (964 characters, 30 alphabets) and evaluation (659, 20):
  <data root>/NOmniglot/dvs_<part>/<alphabet>/character<number>/<4 digits>.aedat4 and .csv
  <data root>/omniglot-py/images_<part>/<alphabet>/character<number>/<4 digits>_<01..20>.png
N-Omniglot must be fetched by hand: download dvs_background and dvs_evaluation from
https://doi.org/10.6084/m9.figshare.16821427 and unpack both into <data root>/NOmniglot.
Omniglot: tmkt data prepare N-OMNIGLOT --data-root DIR (or --download), or with torchvision."""


def recordings_folder(root: Path, part: str) -> Path:
    """Where the recordings of a part are unpacked."""
    return root / "NOmniglot" / f"dvs_{part}"


def images_folder(root: Path, part: str) -> Path:
    """Where torchvision keeps the images of a part."""
    return root / "omniglot-py" / f"images_{part}"


def load(spec: LoadSpec) -> TransferData:
    """All drawings of N-Omniglot; the twin of each is the image of Omniglot that was shown.

    A class is a character, such as ``Greek/character05``: the alphabets of the background part,
    then those of the evaluation part, their characters by number. Drawings 1 to 15 of each train,
    16 to 20 test, as in the reference (He et al. 2024). Frames are of the middle 250 x 250 pixels;
    the reference's ``mode`` is ``frequency``. Images are white on 255. Both parts must be complete.
    """
    root = spec.folder("N-OMNIGLOT", EXPECTED, own_split=True)
    characters, shown = (find_characters(root, part) for part in (recordings_folder, images_folder))
    _check_complete(characters, shown, root)
    paths = {name: recording_file(folder) for name, folder in characters.items()}
    drawings, pictures = range(1, DRAWINGS + 1), map(image_files, shown.values())
    images = [File(c, 0, path) for c, files in enumerate(pictures) for path in files]
    number = np.tile(drawings, len(characters))
    split = np.flatnonzero(number <= TRAIN_DRAWINGS), np.flatnonzero(number > TRAIN_DRAWINGS)
    return assemble(
        "OMNIGLOT",
        "N-OMNIGLOT",
        [name.partition("/")[2] for name in characters],
        root=root,
        recordings=[File(c, d, p) for c, p in enumerate(paths.values()) for d in drawings],
        names=[f"{name}/{p.stem}_{d:02d}" for name, p in paths.items() for d in drawings],
        frames=FrameSpec(read_drawings, spec.steps, spec.size, spec.mode, CROP, DRAWINGS),
        also=[csv_file(path) for path in paths.values()],
        images=photographs(images, spec, "N-OMNIGLOT", root),
        twins=np.arange(len(images)),
        split=split,
        published=PublishedDraw(*split, published_pools(list(characters))),
    )


def find_characters(root: Path, folder_of: Callable[[Path, str], Path]) -> dict[str, Path]:
    """The character folders of one data set by name, ``<part>/<alphabet>/character<2 digits>``.

    Args:
        folder_of: ``recordings_folder`` or ``images_folder``.

    Raises:
        UserError: a part is missing, a folder has another name, or the same number is there twice.
    """
    found = {}
    for part in CHARACTERS:
        for alphabet in entries(folder_of(root, part), EXPECTED):
            folders = entries(alphabet, EXPECTED)
            files = sorted(File(0, file_number(f, "character01"), f) for f in folders)
            check_unique(files)
            for _, number, folder in files:
                found[f"{part}/{alphabet.name}/character{number:02d}"] = folder
    return found


def _check_complete(recorded: Collection[str], shown: Collection[str], root: Path) -> None:
    """Refuse all but the published counts: fewer classes would give other results."""
    names, others = set(recorded), set(shown)
    lines, complete = [], names == others
    for here, missing, folder in (
        (names, others - names, "NOmniglot"),
        (others, names - others, "omniglot-py"),
    ):
        counts = Counter(name.partition("/")[0] for name in here)
        complete &= counts == CHARACTERS
        parts = ", ".join(f"{part} {counts[part]:,} of {n:,}" for part, n in CHARACTERS.items())
        lost = f"; not there: {listed(sorted(missing), NAMED)}" if missing else ""
        lines.append(f"  {root / folder}: characters of {parts}{lost}\n")
    if not complete:
        raise UserError(
            "N-Omniglot and Omniglot must be complete and of the same characters. Found:\n"
            f"{''.join(lines)}Unpack the archives again.\n{EXPECTED}"
        )


def recording_file(folder: Path) -> Path:
    """The recording of a character; a UserError: none or several, or one without table of times."""
    found = [file.path for file in numbered(folder, "0123.aedat4", EXPECTED)]
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise UserError(
            f"{folder} must hold one recording like 0123.aedat4; found {names}. Unpack the archive "
            "again, or remove what does not belong there."
        )
    if not csv_file(found[0]).is_file():
        raise UserError(
            f"There is no {csv_file(found[0])}, which says when the drawings in {found[0].name} "
            "begin and end. Unpack the archive again."
        )
    return found[0]


def csv_file(recording: Path) -> Path:
    """The table of times that belongs to a recording."""
    return recording.with_suffix(".csv")


def image_files(folder: Path) -> list[Path]:
    """The images of a character by drawer, 1 to 20; a UserError where there are others."""
    found = numbered(folder, "*_01.png", EXPECTED)
    if [file.number for file in found] != list(range(1, DRAWINGS + 1)):
        numbers = ", ".join(str(file.number) for file in found) or "none"
        raise UserError(
            f"{folder} must hold one image like 0123_01.png for each of the drawings 1 to "
            f"{DRAWINGS}; found the drawings {numbers}. Unpack the archive again."
        )
    return [file.path for file in found]


def read_drawings(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The 20 drawings of one recording, their events in the file's order, and the sensor's size.

    Drawing k has the events with start <= t < end of row k of the table beside the file.

    Raises:
        UserError: damaged recording or table, another sensor, or a time outside the recording.
    """
    events, sensor_size = read_aedat4(path)
    if sensor_size != SENSOR_SIZE:
        raise UserError(
            f"{path} is of a sensor of {sensor_size[0]} x {sensor_size[1]} pixels; expected "
            f"{SENSOR_SIZE[0]} x {SENSOR_SIZE[1]}. Check that it belongs to N-Omniglot."
        )
    times = read_times(csv_file(path))
    order = np.argsort(events["t"], kind="stable")
    edges = np.searchsorted(events["t"], times, sorter=order)
    first, last = events["t"][order[[0, -1]]].tolist()
    outside = (times[:, 0] < first) | (times[:, 1] > last)
    wrong = outside | (edges[:, 0] == edges[:, 1])
    if wrong.any():
        k = int(np.argmax(wrong))
        raise UserError(
            f"{csv_file(path)}, row {k + 1}: the drawing from {times[k, 0]} to {times[k, 1]} us "
            f"{'is not all in the recording' if outside[k] else 'has no event in'} {path.name}, "
            f"which has events from {first} to {last} us. Get both files again."
        )
    rows = [np.sort(order[a:b]) for a, b in edges]
    return [({name: column[r] for name, column in events.items()}, sensor_size) for r in rows]


def read_times(path: Path) -> np.ndarray:
    """``[20, 2]`` int64: start and end of each drawing in us, from the second and third column.

    Raises:
        UserError: missing or no such table: other rows than a header and 20, a field that is no
            whole number >= 0, or drawings out of order.
    """
    form: dict[str, Any] = {"delimiter": ",", "skiprows": 1, "usecols": (1, 2), "ndmin": 2}
    form |= {"quotechar": '"', "comments": None}
    try:
        with warnings.catch_warnings():  # of an empty file: it has 0 rows
            warnings.simplefilter("ignore")
            times = np.loadtxt(path, encoding="utf-8-sig", max_rows=DRAWINGS + 1, **form)
    except (OSError, ValueError) as error:
        raise _unusable(path, f": {error}") from error
    if len(times) != DRAWINGS:
        raise _unusable(path, f", which has {'more' if len(times) > DRAWINGS else len(times)} rows")
    starts, ends = times.T
    in_order = (starts >= np.append(0, ends[:-1])) & (starts < ends)
    wrong = ~(in_order & (ends < 2**53) & (times == np.floor(times)).all(1))
    if wrong.any():
        k = int(np.argmax(wrong))
        seen = f"row {k + 1}: a drawing from {starts[k]:.16g} to {ends[k]:.16g} us"
        raise _unusable(path, f", {seen}, behind one to {ends[k - 1] if k else 0:.16g} us")
    return times.astype(np.int64)


def _unusable(path: Path, what: str) -> UserError:
    return UserError(
        f"Cannot use {path}{what}. A header and {DRAWINGS} rows were expected, start and end of a "
        "drawing in whole microseconds in the second and third column. Unpack the archive again."
    )


def published_pools(names: Sequence[str]) -> list[np.ndarray]:
    """Per class, the training images of the character in its place in the order of the directory.

    The reference numbers the characters of an alphabet as the file system lists their folders (its
    fault 9), so that most classes draw another one's images.
    """
    alphabets = defaultdict(list)
    for c, name in enumerate(names):
        alphabets[name.rpartition("/")[0]].append(c)
    places: list[int] = []
    for members in alphabets.values():
        order = directory_order([names[c].rpartition("/")[2] for c in members])
        places += [members[i] for i in order]
    return [DRAWINGS * c + np.arange(TRAIN_DRAWINGS) for c in places]


def fetch(root: Path) -> None:
    """Omniglot; a UserError where N-Omniglot, which has to be fetched by hand, is not there."""
    from torchvision.datasets import Omniglot

    for name, md5 in Omniglot.zips_md5.items():
        archive = Archive(f"{name}.zip", (f"{Omniglot.download_url_prefix}/{name}.zip",), md5)
        install(archive, root / Omniglot.folder / name, expected=EXPECTED)
    for part in CHARACTERS:
        folder = recordings_folder(root, part)
        if not folder.is_dir():
            raise UserError(
                f"There is no folder {folder}, and no direct link to fetch it from.\n{EXPECTED}"
            )


NEEDS = "N-Omniglot, from figshare by hand; prepare downloads Omniglot and shows the tree"
DATASETS.register("N-OMNIGLOT")(
    DataSet(load, ("OMNIGLOT", "omni"), "nomniglot", fetch, COUNTS, "by hand", NEEDS)
)
