"""``tmkt data emulate``: recordings of any photographs, as files in N-Caltech101's layout."""

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import plots
from .data.emulated import emulate_all, emulated_frames
from .data.encodings.saccade import source_camera
from .data.events import to_bin
from .data.images import load_images
from .data.ncaltech101 import RECORDINGS
from .data.tree import File, entries, labels_of, listed
from .errors import UserError
from .files import PICTURES, check_output, replacing
from .inspect_picture import Shown, draw_rows, spread

KINDS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SHOWN, STEPS = 5, 10  # rows and frames of the picture
EXPECTED = """Expected: <images>/<class>/<name>.jpg (or .png, .bmp, .webp), a folder per class."""


def emulate_folder(args: Namespace) -> None:
    """Write one ``.bin`` for each image and a picture of some; says what it wrote.

    Raises:
        UserError: no images, a damaged one, a camera that they do not fit, or files in the way.
    """
    classes, files = _find(args.images)
    side = args.size
    camera = source_camera(side, side, args.camera or ())
    if camera.sensor != (side, side) or side > 239:
        raise UserError(
            f"A sensor of {camera.sensor[0]} x {camera.sensor[1]} pixels for images of {side} x "
            f"{side}: .bin files hold at most 239, and --size gives both."
        )
    output, picture = args.output / RECORDINGS, args.output / "recordings.png"
    check_output(picture, PICTURES, args.force)
    targets = [output / classes[f.label] / f"{f.path.stem}.bin" for f in files]
    there = [path for path in targets if path.exists()]
    if there and not args.force:
        raise UserError(
            f"{len(there)} of the {len(targets)} recordings exist, the first is {there[0]}. Give "
            "--force to replace them, or another --output."
        )
    images = load_images([f.path for f in files], side, "emulate", args.images)

    def write(ids: Sequence[int], made: list[np.ndarray]) -> int:
        for i, events in zip(ids, made, strict=True):
            with replacing(targets[i]) as temporary:
                temporary.write_bytes(to_bin(events))
        return sum(map(len, made))

    n_events = sum(emulate_all(write, images, camera, "emulating"))
    first = spread(np.unique(labels_of(files), return_index=True)[1], SHOWN)
    frames = emulated_frames(images[first], STEPS, camera, "images", first)["frames"]
    rows = [
        Shown(classes[files[i].label], images[i], f) for i, f in zip(first, frames, strict=True)
    ]
    plots.save(lambda: draw_rows(rows, "Emulated recordings", emulated=True), picture)
    print(
        f"{len(files):,} recordings of {len(classes)} classes, {n_events / len(files):,.0f} events "
        f"each, sensor {side} x {side}, {camera.duration_us / 1000:g} ms, emulated.\nWritten: "
        f"{output}/<class>/<name>.bin and {picture}"
    )


def _find(images: Path) -> tuple[list[str], list[File]]:
    classes = entries(images, EXPECTED)
    files = [
        File(label, number, path)
        for label, folder in enumerate(classes)
        for number, path in enumerate(entries(folder, EXPECTED, KINDS))
    ]
    if not files:
        raise UserError(f"Found no image in the folders of {images}.\n{EXPECTED}")
    count = Counter(f"{file.path.parent.name}/{file.path.stem}" for file in files)
    if twice := [name for name, n in count.items() if n > 1]:
        raise UserError(
            f"Images of one name, {listed(twice)}: their recordings would be one file. Rename one."
        )
    return [folder.name for folder in classes], files
