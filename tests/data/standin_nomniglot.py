"""A stand-in for N-Omniglot and Omniglot in their true file formats: not their data.

Four recordings and eighty drawings are made and repeated under every name, so that the full tree of
1,623 characters is written in seconds.
"""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from aedat4_writer import write_aedat4
from PIL import Image

DRAWINGS = 20
SENSOR = (346, 260)
ALPHABETS = {"background": 30, "evaluation": 20}


def write_tree(
    root: Path,
    events: np.ndarray,
    characters_background: int = 964,
    characters_evaluation: int = 659,
) -> None:
    """``root/NOmniglot`` and ``root/omniglot-py``, characters over at most 30 and 20 alphabets.

    Args:
        events: sorted, of the DAVIS346; each of a recording's 20 drawings gets E / 20 of them.
    """
    recordings = [recording(mirrored(events, v)) for v in range(4)]
    table = times_table(drawing_times(events))
    images = [[png(stroke(v, drawer)) for drawer in range(DRAWINGS)] for v in range(4)]
    number = 0
    for part, n in (("background", characters_background), ("evaluation", characters_evaluation)):
        for alphabet, character in character_names(part, n):
            number += 1
            variant = number % 4
            folder = root / "NOmniglot" / f"dvs_{part}" / alphabet / character
            folder.mkdir(parents=True)
            (folder / f"{number:04d}.aedat4").write_bytes(recordings[variant])
            (folder / f"{number:04d}.csv").write_text(table)
            folder = root / "omniglot-py" / f"images_{part}" / alphabet / character
            folder.mkdir(parents=True)
            for drawer, content in enumerate(images[variant], 1):
                (folder / f"{number:04d}_{drawer:02d}.png").write_bytes(content)


def character_names(part: str, n: int) -> list[tuple[str, str]]:
    """n characters, evenly over the alphabets of a part."""
    n_alphabets = min(ALPHABETS[part], n)
    names = [f"{part.title()}_{a:02d}" for a in range(n_alphabets)]
    return [(names[i % n_alphabets], f"character{i // n_alphabets + 1:02d}") for i in range(n)]


def drawing_times(events: np.ndarray) -> np.ndarray:
    """``[20, 2]`` start and end (us) of windows that hold equally many events."""
    t = np.asarray(events["t"], np.int64)
    edges = t[np.linspace(0, len(t) - 1, DRAWINGS + 1).astype(int)]
    return np.stack([edges[:-1], edges[1:]], 1)


def times_table(times: Sequence[Sequence[int]]) -> str:
    """The text of a ``.csv`` file."""
    rows = "".join(f"{i},{start},{end}\n" for i, (start, end) in enumerate(times))
    return f",start_timestamp,end_timestamp\n{rows}"


def mirrored(events: np.ndarray, variant: int) -> np.ndarray:
    """The events mirrored left to right (bit 0) and upside down (bit 1)."""
    events = events.copy()
    for bit, axis in enumerate("xy"):
        if variant >> bit & 1:
            events[axis] = SENSOR[bit] - 1 - events[axis]
    return events


def recording(events: np.ndarray) -> bytes:
    """The content of an ``.aedat4`` file."""
    with tempfile.TemporaryDirectory() as folder:
        return write_aedat4(Path(folder) / "a.aedat4", events).read_bytes()


def stroke(variant: int, drawer: int) -> np.ndarray:
    """``[105, 105]`` bool, True where the paper is white: a line, its slope by variant, drawer."""
    y, x = np.mgrid[:105, :105] - 52
    angle = np.pi * (variant / 4 + drawer / 100)
    distance = x * np.sin(angle) - y * np.cos(angle)
    return (np.abs(distance) > 1.5) | (np.hypot(x, y) > 40)


def png(white: np.ndarray) -> bytes:
    """A 1-bit PNG, as Omniglot's are."""
    out = io.BytesIO()
    Image.fromarray(white).convert("1").save(out, "PNG")
    return out.getvalue()
