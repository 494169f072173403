"""Pictures for the report: those found in a folder, checked and copied beside it, with captions."""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from .. import experiments
from ..files import replacing
from ..registry import FIGURES, caption
from ..tables import SWEEP, listed

# What Pillow raises for files that are no picture, or too large to be one.
DAMAGED = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
WIDE = 1.9  # width over height from which a picture takes the whole width of the page


@dataclass(frozen=True)
class Picture:
    """A picture of the report, or why it cannot be shown.

    Attributes:
        name: where it was found or, of a curve, its file name.
        caption: one line.
        file: the copy beside the report; None if it cannot be shown.
        size: width and height in pixels.
        problem: why it cannot be shown; empty if it can.
    """

    name: str
    caption: str
    file: Path | None = None
    size: tuple[int, int] = (0, 0)
    problem: str = ""

    @property
    def wide(self) -> bool:
        return self.size[0] > WIDE * self.size[1]

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.file.read_bytes()).decode()


def take(path: Path, name: str, copy: Path) -> Picture:
    """The picture at ``path``, copied to ``copy`` if it is a PNG that decodes."""
    caption = _caption(path)
    try:
        size = _size(path)
    except DAMAGED as error:
        return Picture(
            name, caption, problem=f"{name} cannot be shown: it is no whole PNG ({error})."
        )
    with replacing(copy) as temporary:
        shutil.copyfile(path, temporary)
    return Picture(name, caption, copy, size)


def drawn(path: Path, caption: str) -> Picture:
    """A picture that the report itself has drawn."""
    return Picture(path.name, caption, path, _size(path))


def _size(path: Path) -> tuple[int, int]:
    with Image.open(path, formats=["PNG"]) as image:
        image.load()
        return image.size


def _caption(path: Path) -> str:
    """What the command or figure of that name says of itself; otherwise the name in words."""
    name = path.stem.replace("_", "-")
    about = listed() | SWEEP | experiments.MEASUREMENTS
    known = {
        "comparison": "Every seed, and mean with standard deviation, of each method.",
        **{name: f"{what}." for name, what in about.items()},
        **{figure: caption(figure) for figure in FIGURES},
    }
    fitting = [start for start in known if f"{name}-".startswith(f"{start}-")]
    start = max(fitting, key=len, default="")
    more = name[len(start) :].replace("-", " ").strip()
    text = f"{known[start]}{f' ({more})' if more else ''}" if start else f"{more}."
    numbers = f" Numbers: {path.stem}.csv." if path.with_suffix(".csv").exists() else ""
    return text[:1].upper() + text[1:] + numbers
