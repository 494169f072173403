"""Data set ``N-OMNIGLOT``: N-Omniglot recordings (Li et al., Sci Data 2022) and the Omniglot drawings they show.

Not yet run on the full data set: tested on recordings of the same camera and container, real Omniglot
drawings and files written in the real formats.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..errors import UserError
from .aedat4 import read_aedat4
from .base import DATASETS, DataSet, PublishedDraw, TransferData
from .events import Events
from .images import load_images
from .install import Archive, install
from .recordings import FrameSpec, load_recordings
from .report import listed
from .splits import directory_order
from .tree import File, check_unique, file_number

SENSOR_SIZE = (346, 260)  # W, H of the DAVIS346
CROP = (4, 254, 54, 304)  # rows and columns that the publishers keep: the screen
MODE = "frequency"

# As published: characters of each part and the alphabets they are of.
CHARACTERS = {"background": 964, "evaluation": 659}
ALPHABETS = {"background": 30, "evaluation": 20}
DRAWINGS = 20  # of each character, in one recording
TRAIN_DRAWINGS = 15
COUNTS = (DRAWINGS,) * sum(CHARACTERS.values())

CHARACTER = "character01"  # a folder's name, for messages
MAX_CSV = 1 << 16  # bytes; 21 short lines were expected
NAMED = 8  # missing characters that a message names

EXPECTED = """Expected:
  <data root>/NOmniglot/dvs_background/<alphabet>/character<number>/<4 digits>.aedat4 and .csv   (964 characters of 30 alphabets)
  <data root>/NOmniglot/dvs_evaluation/<alphabet>/character<number>/<4 digits>.aedat4 and .csv   (659 characters of 20 alphabets)
  <data root>/omniglot-py/images_background/<alphabet>/character<number>/<4 digits>_<01..20>.png (the same characters)
  <data root>/omniglot-py/images_evaluation/<alphabet>/character<number>/<4 digits>_<01..20>.png (the same characters)
N-Omniglot must be fetched by hand: download dvs_background and dvs_evaluation from https://doi.org/10.6084/m9.figshare.16821427 and unpack both into <data root>/NOmniglot.
Omniglot: tmkt data prepare N-OMNIGLOT --data-root DIR (or --download), or with torchvision."""


class Character(NamedTuple):
    """The folder of one character in one of the two data sets. Sorted by part, alphabet and number."""

    part: str
    alphabet: str
    number: int
    folder: Path

    @property
    def name(self) -> str:
        """The same in both data sets, however the number is padded."""
        return f"{self.part}/{self.alphabet}/character{self.number:02d}"


def load(
    root: str | Path | None,
    steps: int = 12,
    size: int = 28,
    train_portion: float | None = None,
    use_hsv: bool = True,
    mode: str = MODE,
) -> TransferData:
    """All drawings of N-Omniglot; each one's twin is the image of Omniglot that was shown to the camera.

    A class is a character of an alphabet, such as ``Greek/character05``: the alphabets of the background
    part, sorted, then those of the evaluation part, their characters by number. Drawings 1 to 15 of each
    are for training, 16 to 20 for the test (24,345 and 8,115), as in the reference (He et al. 2024).

    The reference numbers the characters of the images in the order in which the file system lists their
    folders (its fault 9), so that most classes draw images of another character. ``published`` has that:
    ``directory_order`` stands in for the file system's order.

    Args:
        root: folder that holds ``NOmniglot`` and ``omniglot-py``, both complete.
        steps: T.
        size: side of frames and images in pixels.
        train_portion: must be None: the data set has its own split.
        use_hsv: not used; the images are grey.
        mode: of :func:`~tmkt_braincog.data.frames.apply_mode`: ``frequency`` (the reference) or ``event``.

    Returns:
        Frames ``[32460, T, 2, size, size]`` float32 of the middle 250 x 250 pixels, and images
        ``[32460, size, size]`` uint8 (white 255), both sorted by class and drawing, so that twins have the
        same index. 2.4 GB at T = 12 and 28 pixels.

    Raises:
        UserError: missing, damaged or unexpected files, or characters.
    """
    if train_portion is not None:
        raise UserError(
            f"Got a training portion of {train_portion} for N-OMNIGLOT, which has its own split. "
            "Leave the option away."
        )
    if root is None:
        raise UserError(f"N-OMNIGLOT needs a data root (--data-root); none was given.\n{EXPECTED}")
    return _assemble(Path(root), steps, size, mode)


def recordings_folder(root: Path, part: str) -> Path:
    """Where the recordings of a part are unpacked."""
    return root / "NOmniglot" / f"dvs_{part}"


def images_folder(root: Path, part: str) -> Path:
    """Where torchvision keeps the images of a part."""
    return root / "omniglot-py" / f"images_{part}"


def fetch(root: Path) -> None:
    """Download and unpack Omniglot where it is missing.

    Raises:
        UserError: that failed, or N-Omniglot, which has to be fetched by hand, is not there.
    """
    from torchvision.datasets import Omniglot

    for name, md5 in Omniglot.zips_md5.items():
        url = f"{Omniglot.download_url_prefix}/{name}.zip"
        install(
            Archive(f"{name}.zip", (url,), md5), root / Omniglot.folder / name, expected=EXPECTED
        )
    for part in CHARACTERS:
        folder = recordings_folder(root, part)
        if not folder.is_dir():
            raise UserError(
                f"There is no folder {folder}, and no direct link to fetch it from.\n{EXPECTED}"
            )


def _assemble(root: Path, steps: int, size: int, mode: str) -> TransferData:
    characters, shown = (
        find_characters(root, folder) for folder in (recordings_folder, images_folder)
    )
    _check_complete(characters, shown, root)
    files = [recording_file(c.folder) for c in characters]
    images = [path for c in shown for path in image_files(c.folder)]
    spec = FrameSpec(read_drawings, steps, size, mode, CROP, DRAWINGS)
    frames, statistics = load_recordings(
        files, spec, "N-OMNIGLOT", root, [csv_file(f) for f in files]
    )
    drawings = load_images(images, size, "N-OMNIGLOT", root)
    of_character = range(1, DRAWINGS + 1)
    numbers = np.tile(of_character, len(characters))
    labels = torch.arange(len(characters)).repeat_interleave(DRAWINGS)
    train = np.flatnonzero(numbers <= TRAIN_DRAWINGS)
    test = np.flatnonzero(numbers > TRAIN_DRAWINGS)
    return TransferData(
        source="OMNIGLOT",
        target="N-OMNIGLOT",
        classes=tuple(c.name.partition("/")[2] for c in characters),
        frames=torch.from_numpy(frames),
        labels=labels,
        names=[
            f"{c.name}/{f.stem}_{d:02d}"
            for c, f in zip(characters, files, strict=True)
            for d in of_character
        ],
        file_ids=numbers,
        images=torch.from_numpy(drawings),
        image_labels=labels.clone(),
        twins=np.arange(len(images)),
        train=train,
        test=test,
        static_train=train.copy(),
        static_test=test.copy(),
        published=PublishedDraw(train, test, published_pools(characters)),
        statistics=statistics,
    )


def find_characters(root: Path, folder_of: Callable[[Path, str], Path]) -> list[Character]:
    """The character folders of one data set, sorted.

    Args:
        folder_of: ``recordings_folder`` or ``images_folder``.

    Raises:
        UserError: a part is missing, a folder has another name, or the same number is there twice.
    """
    found = []
    for part in CHARACTERS:
        folder = folder_of(root, part)
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}.\n{EXPECTED}")
        for label, alphabet in enumerate(_folders(folder)):
            files = sorted(File(label, file_number(f, CHARACTER), f) for f in _folders(alphabet))
            check_unique(files)
            found += [Character(part, alphabet.name, file.number, file.path) for file in files]
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _check_complete(recorded: Sequence[Character], shown: Sequence[Character], root: Path) -> None:
    """Refuse all but the published counts: with fewer classes the results are not those of N-Omniglot."""
    names, others = ({c.name for c in characters} for characters in (recorded, shown))
    full = all(
        Counter(c.part for c in characters) == CHARACTERS for characters in (recorded, shown)
    )
    if full and names == others:
        return
    lines = [_seen(recorded, root / "NOmniglot"), _seen(shown, root / "omniglot-py")]
    for here, there, missing in (
        ("omniglot-py", "NOmniglot", others - names),
        ("NOmniglot", "omniglot-py", names - others),
    ):
        if missing:
            lines.append(f"in {here} but not in {there}: {listed(sorted(missing), NAMED)}")
    text = "\n".join(f"  {line}" for line in lines)
    raise UserError(
        "N-Omniglot and Omniglot must be complete and of the same characters. Found:\n"
        f"{text}\nUnpack the archives again.\n{EXPECTED}"
    )


def _seen(characters: Sequence[Character], folder: Path) -> str:
    n, parts = len(characters), []
    for part, full in CHARACTERS.items():
        here = [c.alphabet for c in characters if c.part == part]
        parts.append(
            f"{part} {len(here)} of {full}, in {len(set(here))} of {ALPHABETS[part]} alphabets"
        )
    return (
        f"{folder}: {n:,} of {sum(CHARACTERS.values()):,} characters ({'; '.join(parts)}), "
        f"{TRAIN_DRAWINGS * n:,} training and {(DRAWINGS - TRAIN_DRAWINGS) * n:,} test drawings"
    )


def recording_file(folder: Path) -> Path:
    """The recording of a character.

    Raises:
        UserError: none or several, or it has no table of times.
    """
    found = sorted(folder.glob("[0-9][0-9][0-9][0-9].aedat4"))
    if len(found) != 1:
        names = ", ".join(f.name for f in found) or "none"
        raise UserError(
            f"{folder} must hold one recording like 0123.aedat4; found {names}. Unpack the archive again, or remove "
            "what does not belong there."
        )
    table = csv_file(found[0])
    if not table.is_file():
        raise UserError(
            f"There is no {table}, which says when the drawings in {found[0].name} begin and end. "
            "Unpack the archive again."
        )
    return found[0]


def csv_file(recording: Path) -> Path:
    """The table of times that belongs to a recording."""
    return recording.with_suffix(".csv")


def image_files(folder: Path) -> list[Path]:
    """The images of a character, by the number of who drew it, 1 to 20.

    Raises:
        UserError: one is missing, or there is something else.
    """
    found = {
        path: re.fullmatch("[0-9]{4}_([0-9]{2})", path.stem)
        for path in sorted(folder.glob("[!.]*.png"))
    }
    by_number = {int(match[1]): path for path, match in found.items() if match}
    if len(found) != DRAWINGS or sorted(by_number) != list(range(1, DRAWINGS + 1)):
        raise UserError(
            f"{folder} must hold one image like 0123_01.png for each of the drawings 1 to {DRAWINGS}; found "
            f"{len(found)} images, with the drawings {', '.join(map(str, sorted(by_number))) or 'none'}. "
            "Unpack the archive again."
        )
    return [by_number[number] for number in sorted(by_number)]


def read_drawings(path: Path) -> list[tuple[Events, tuple[int, int]]]:
    """The 20 drawings of one recording, each with its events in the file's order, and the sensor's size.

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
    _check_times(times, edges, events["t"][order[[0, -1]]], path)
    rows = [np.sort(order[a:b]) for a, b in edges]
    return [({name: column[r] for name, column in events.items()}, sensor_size) for r in rows]


def _check_times(times: np.ndarray, edges: np.ndarray, extent: np.ndarray, path: Path) -> None:
    """Refuse drawings that begin before the first event, end after the last or have none."""
    first, last = extent.tolist()
    outside = (times[:, 0] < first) | (times[:, 1] > last)
    wrong = outside | (edges[:, 0] == edges[:, 1])
    if wrong.any():
        k = int(np.argmax(wrong))
        raise UserError(
            f"{csv_file(path)}, row {k + 1}: the drawing from {times[k, 0]} to {times[k, 1]} us "
            f"{'is not all in the recording' if outside[k] else 'has no event in'} {path.name}, which has events from "
            f"{first} to {last} us. Get both files again."
        )


def read_times(path: Path) -> np.ndarray:
    """``[20, 2]`` int64: start and end of each drawing in us, from the second and third column.

    Raises:
        UserError: missing or no such table: other rows than a header and 20, a field that is no time, or
            drawings out of order.
    """
    rows = _read_rows(path)[1:]
    if len(rows) != DRAWINGS:
        raise UserError(
            f"{path} has {len(rows)} rows after its header; {DRAWINGS} were expected, one per drawing. "
            "Unpack the archive again."
        )
    times = np.array(
        [[_time(row, column, n, path) for column in (1, 2)] for n, row in enumerate(rows, 1)]
    )
    begins = np.append(-1, times[:-1, 1])
    for n, (start, end, before) in enumerate(
        zip(*times.T.tolist(), begins.tolist(), strict=True), 1
    ):
        if start >= end or start < before:
            after = (
                f"before the drawing above it ends, at {before} us"
                if start < before
                else f"but ends at {end} us"
            )
            raise UserError(
                f"{path}, row {n}: the drawing begins at {start} us, {after}. Unpack the archive again."
            )
    return times


def _read_rows(path: Path) -> list[list[str]]:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_CSV + 1)
        if len(content) > MAX_CSV:
            raise ValueError(f"more than {MAX_CSV} bytes")
        return [row for row in csv.reader(content.decode("utf-8-sig").splitlines()) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(
            f"Cannot read {path}: {error}. A table of {DRAWINGS} rows was expected. Unpack the archive again."
        ) from error


def _time(row: Sequence[str], column: int, number: int, path: Path) -> int:
    text = row[column] if column < len(row) else ""
    match = re.fullmatch(r"\s*([0-9]{1,18})(\.0*)?\s*", text)
    if match is None:
        raise UserError(
            f"{path}, row {number}: seen {text[:40]!r} in column {column + 1}; a time in whole microseconds was "
            "expected. Unpack the archive again."
        )
    return int(match[1])


def published_pools(characters: Sequence[Character]) -> list[np.ndarray]:
    """Per class, the indices of the training images of the character that stands in its place in the order of
    the directory, alphabet by alphabet."""
    alphabets = defaultdict(list)
    for c, character in enumerate(characters):
        alphabets[character.part, character.alphabet].append(c)
    listed = []
    for members in alphabets.values():
        order = directory_order([f"character{characters[c].number:02d}" for c in members])
        listed += [members[i] for i in order]
    return [DRAWINGS * c + np.arange(TRAIN_DRAWINGS) for c in listed]


DATASETS.register("N-OMNIGLOT")(
    DataSet(
        load=load,
        sources=("OMNIGLOT", "omni"),
        recipe="nomniglot",
        fetch=fetch,
        counts=COUNTS,
        get="by hand",
        needs="N-Omniglot, from figshare by hand; prepare downloads Omniglot and shows the tree",
    )
)
