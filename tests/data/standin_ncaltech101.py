"""A stand-in for N-Caltech101 and Caltech-101: given events and random pictures as JPEG."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from writers import write_bin

from tmkt_braincog.data.ncaltech101 import CLASSES, COUNTS, IMAGES, RECORDINGS


def write_tree(root: Path, events: Sequence[np.ndarray], counts: Sequence[int] = COUNTS) -> None:
    """Recording k of class c has events number c + k, from the start again at the end."""
    packed = [write_bin(root / "one.bin", e).read_bytes() for e in events]
    (root / "one.bin").unlink()
    pictures = [_picture(k) for k in range(10)]
    for c, (name, n) in enumerate(zip(CLASSES, counts, strict=True)):
        folders = root / RECORDINGS / name, root / IMAGES / name
        for folder in folders:
            folder.mkdir(parents=True)
        for k in range(n):
            (folders[0] / f"image_{k + 1:04d}.bin").write_bytes(packed[(c + k) % len(packed)])
            (folders[1] / f"image_{k + 1:04d}.jpg").write_bytes(pictures[(c + k) % len(pictures)])


def _picture(seed: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()
