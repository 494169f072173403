"""A stand-in for CEP-DVS: its tree and schema, given events, images that are patterns."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from tmkt_braincog.data.cepdvs import CLASSES

HEADER = "number folder file source class"
IMAGE_SIZE = 32


def write_tree(
    root: Path,
    events: Sequence[np.ndarray],
    per_class: int = 500,
    labels: Sequence[int] | None = None,
) -> Path:
    """``root/CEP-DVS``: recording k has the events ``k % len(events)``; or given labels."""
    labels = np.repeat(np.arange(len(CLASSES)), per_class) if labels is None else np.asarray(labels)
    folder = root / "CEP-DVS"
    recordings, images = folder / "data" / "MAT" / "img", folder / "data" / "img"
    recordings.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    packed = [mat_bytes(e) for e in events]
    for k, label in enumerate(labels.tolist()):
        (recordings / f"{k}.mat").write_bytes(packed[k % len(packed)])
        Image.fromarray(picture(k, label)).save(images / f"{k}.png", compress_level=1)
    write_table(folder, labels)
    return folder


def write_table(folder: Path, labels: Sequence[int]) -> None:
    """``pathFile.csv``: the class is the fifth word of its row."""
    rows = [f"{k} img {k}.png cifar100 {CLASSES[label]}" for k, label in enumerate(labels)]
    (folder / "pathFile.csv").write_text("\n".join([HEADER, *rows]) + "\n")


def columns(events: np.ndarray) -> dict[str, np.ndarray]:
    """``[E, 1]`` each, p in {-1, 1}, times as MATLAB's own type."""
    p = np.where(np.asarray(events["p"]) > 0, 1, -1)
    found = {"x": np.uint16(events["x"]), "y": np.uint16(events["y"])}
    found |= {"ts": np.float64(events["t"]), "p": np.int8(p)}
    return {name: column[:, None] for name, column in found.items()}


def mat_bytes(events: np.ndarray, compress: bool = True) -> bytes:
    """A ``.mat`` file."""
    file = io.BytesIO()
    savemat(file, columns(events), do_compression=compress)
    return file.getvalue()


def picture(number: int, label: int) -> np.ndarray:
    """``[32, 32, 3]`` uint8: stripes whose direction is the class's, under noise of its own."""
    y, x = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]
    angle = np.pi * label / len(CLASSES)
    stripes = 90 + 80 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / 2)
    noise = np.random.default_rng(number).integers(0, 80, (IMAGE_SIZE, IMAGE_SIZE, 3))
    return (stripes[..., None] + noise).astype(np.uint8)
