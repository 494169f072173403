"""A stand-in for CIFAR10-DVS and CIFAR-10: given events and random pictures in the real formats.

torchvision compares CIFAR-10's files with the checksums of the real ones. :func:`unchecked`
switches that off in this process. Another process reads a stand-in only from the cache: load it
once under :func:`unchecked` with the same ``TMKT_CACHE``, size and colour option.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from aedat4_writer import write_aedat4
from torchvision.datasets import CIFAR10

from tmkt_braincog.data.cifar10dvs import CLASSES, RECORDINGS, SENSOR_SIZE


def write_tree(
    root: Path, events: Sequence[np.ndarray], per_class: int = 1000, images_per_batch: int = 100
) -> None:
    """Recording k of class c has events number c + k, from the start again at the end."""
    folder = root / RECORDINGS
    packed = [write_aedat4(folder / "one.aedat4", e, SENSOR_SIZE).read_bytes() for e in events]
    (folder / "one.aedat4").unlink()
    for c, name in enumerate(CLASSES):
        (folder / name).mkdir(exist_ok=True)
        for k in range(per_class):
            recording_path(root, name, k).write_bytes(packed[(c + k) % len(packed)])
    write_cifar10(root, images_per_batch)


def recording_path(root: Path, name: str, number: int) -> Path:
    """As the files of the real data set are named."""
    return root / RECORDINGS / name / f"cifar10_{name}_{number}.aedat4"


def write_cifar10(root: Path, per_batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR-10's files; returns its ``[S, 32, 32, 3]`` uint8 pictures and ``[S]`` labels."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True, exist_ok=True)
    files = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    n = per_batch * len(files)
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)
    labels = np.arange(n)[::-1] % len(CLASSES)
    for i, name in enumerate(files):
        part = slice(i * per_batch, (i + 1) * per_batch)
        # Rows of 3072: all red pixels, then green, then blue.
        data = pixels[part].transpose(0, 3, 1, 2).reshape(per_batch, -1)
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": labels[part].tolist()}))
    (folder / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({"label_names": list(CLASSES)}))
    return pixels, labels


@contextmanager
def unchecked() -> Iterator[None]:
    """Let torchvision read files with other checksums than those of the real CIFAR-10."""
    lists = {
        name: [[file, None] for file, _ in getattr(CIFAR10, name)]
        for name in ("train_list", "test_list")
    }
    with mock.patch.multiple(CIFAR10, **lists, meta={**CIFAR10.meta, "md5": None}):
        yield
