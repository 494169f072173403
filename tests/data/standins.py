"""Stand-ins for four data sets: given events, and pictures that are made up, in the real formats.

torchvision compares CIFAR-10's files with the checksums of the real ones. :func:`unchecked`
switches that off in this process; another process reads a stand-in only from the cache.
"""

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from aedat4_writer import write_aedat4
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import CIFAR10
from writers import write_bin

from tmkt_braincog.data import cepdvs, cifar10dvs, ncaltech101, nomniglot

Events = Sequence[np.ndarray]  # of several recordings


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# N-Caltech101 and Caltech-101


def write_ncaltech101(root: Path, events: Events, counts: Mapping[str, int]) -> None:
    """Recording k of class c has events number c + k, from the start again at the end.

    ``counts``: recordings, and pictures, by class; the folders of the others are empty.
    """
    packed = [write_bin(root / "one.bin", e).read_bytes() for e in events]
    (root / "one.bin").unlink()
    pixels = [np.random.default_rng(seed).integers(0, 256, (60, 80, 3)) for seed in range(10)]
    pictures = [encoded(p.astype(np.uint8), "JPEG") for p in pixels]
    for c, name in enumerate(ncaltech101.CLASSES):
        for folder in (ncaltech101.RECORDINGS, ncaltech101.IMAGES):
            (root / folder / name).mkdir(parents=True)
        for k in range(counts.get(name, 0)):
            one = f"{name}/image_{k + 1:04d}"
            write(root / ncaltech101.RECORDINGS / f"{one}.bin", packed[(c + k) % len(packed)])
            write(root / ncaltech101.IMAGES / f"{one}.jpg", pictures[(c + k) % len(pictures)])


# CEP-DVS


def write_cepdvs(root: Path, events: Events, labels: Sequence[int]) -> None:
    """Recording k has the events ``k % len(events)``, and a picture of its class."""
    packed, folder = [mat_bytes(e) for e in events], root / "CEP-DVS"
    for k, label in enumerate(labels):
        write(folder / cepdvs.RECORDINGS / f"{k}.mat", packed[k % len(packed)])
        write(folder / cepdvs.IMAGES / f"{k}.png", encoded(cep_picture(k, label), "PNG"))
    write_cep_table(root, labels)


def write_cep_table(root: Path, labels: Sequence[int]) -> None:
    """``pathFile.csv``: the class is the fifth word of its row."""
    rows = [f"{k} img {k}.png cifar100 {cepdvs.CLASSES[label]}" for k, label in enumerate(labels)]
    text = "\n".join(["number folder file source class", *rows]) + "\n"
    (root / "CEP-DVS" / cepdvs.TABLE).write_text(text)


def mat_columns(events: np.ndarray) -> dict[str, np.ndarray]:
    """``[E, 1]`` each, p in {-1, 1}, times as MATLAB's own type."""
    p = np.where(np.asarray(events["p"]) > 0, 1, -1)
    found = {"x": np.uint16(events["x"]), "y": np.uint16(events["y"])}
    found |= {"ts": np.float64(events["t"]), "p": np.int8(p)}
    return {name: column[:, None] for name, column in found.items()}


def mat_bytes(events: np.ndarray, compress: bool = True) -> bytes:
    """A ``.mat`` file."""
    file = io.BytesIO()
    savemat(file, mat_columns(events), do_compression=compress)
    return file.getvalue()


def cep_picture(number: int, label: int) -> np.ndarray:
    """``[32, 32, 3]`` uint8: stripes whose direction is the class's, under noise of its own."""
    y, x = np.mgrid[:32, :32]
    angle = np.pi * label / len(cepdvs.CLASSES)
    stripes = 90 + 80 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / 2)
    noise = np.random.default_rng(number).integers(0, 80, (32, 32, 3))
    return (stripes[..., None] + noise).astype(np.uint8)


# CIFAR10-DVS and CIFAR-10


def write_cifar10dvs(root: Path, events: Events, per_class: int, images_per_batch: int) -> None:
    """Recording k of class c has events number c + k, from the start again at the end."""
    folder = root / cifar10dvs.RECORDINGS
    sensor = cifar10dvs.SENSOR_SIZE
    packed = [write_aedat4(folder / "one.aedat4", e, sensor).read_bytes() for e in events]
    (folder / "one.aedat4").unlink()
    for c, name in enumerate(cifar10dvs.CLASSES):
        for k in range(per_class):
            write(folder / name / f"cifar10_{name}_{k}.aedat4", packed[(c + k) % len(packed)])
    write_cifar10(root, images_per_batch)


def write_cifar10(root: Path, per_batch: int, seed: int = 0) -> np.ndarray:
    """CIFAR-10's files; returns its ``[S, 32, 32, 3]`` uint8 pictures."""
    folder = root / CIFAR10.base_folder
    files = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    n = per_batch * len(files)
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), np.uint8)
    labels = np.arange(n)[::-1] % 10
    for i, name in enumerate(files):
        part = slice(i * per_batch, (i + 1) * per_batch)
        # Rows of 3072: all red pixels, then green, then blue.
        data = pixels[part].transpose(0, 3, 1, 2).reshape(per_batch, -1)
        write(folder / name, pickle.dumps({"data": data, "labels": labels[part].tolist()}))
    meta = pickle.dumps({"label_names": list(cifar10dvs.CLASSES)})
    write(folder / CIFAR10.meta["filename"], meta)
    return pixels


@contextmanager
def unchecked() -> Iterator[None]:
    """Let torchvision read files with other checksums than those of the real CIFAR-10."""
    lists = {
        name: [[file, None] for file, _ in getattr(CIFAR10, name)]
        for name in ("train_list", "test_list")
    }
    with mock.patch.multiple(CIFAR10, **lists, meta={**CIFAR10.meta, "md5": None}):
        yield


# N-Omniglot and Omniglot: of a character ``(part, alphabet, number)``


def character_folders(root: Path, part: str, alphabet: str, number: int) -> list[Path]:
    """Of its recording and of its images."""
    both = nomniglot.RECORDINGS, nomniglot.IMAGES
    return [root / of.format(part) / alphabet / f"character{number:02d}" for of in both]


def write_nomniglot(root: Path, events: np.ndarray, characters: Sequence[tuple]) -> None:
    """The n-th character has n in its files' names, and the events mirrored in the n-th way.

    Args:
        events: sorted, of the DAVIS346; each of a recording's 20 drawings gets E / 20 of them.
    """
    for n, character in enumerate(characters, 1):
        recorded, shown = character_folders(root, *character)
        recorded.mkdir(parents=True)
        write_aedat4(recorded / f"{n:04d}.aedat4", mirrored(events, n))
        (recorded / f"{n:04d}.csv").write_text(times_table(drawing_times(events)))
        for drawer in range(20):
            # A line, its slope by character and drawer, on white paper.
            y, x = np.mgrid[:105, :105] - 52
            angle = np.pi * (n / 4 + drawer / 100)
            distance = np.abs(x * np.sin(angle) - y * np.cos(angle))
            white = (distance > 1.5) | (np.hypot(x, y) > 40)
            write(shown / f"{n:04d}_{drawer + 1:02d}.png", encoded(white, "PNG"))


def drawing_times(events: np.ndarray) -> np.ndarray:
    """``[20, 2]`` start and end (us) of windows that hold equally many events."""
    t = np.asarray(events["t"], np.int64)
    edges = t[np.linspace(0, len(t) - 1, 21).astype(int)]
    return np.stack([edges[:-1], edges[1:]], 1)


def times_table(times: Sequence[Sequence[int]]) -> str:
    """The text of a ``.csv`` file."""
    rows = "".join(f"{i},{start},{end}\n" for i, (start, end) in enumerate(times))
    return f",start_timestamp,end_timestamp\n{rows}"


def mirrored(events: np.ndarray, n: int) -> np.ndarray:
    """The events mirrored left to right (bit 0 of n) and upside down (bit 1)."""
    events = events.copy()
    for bit, (axis, side) in enumerate(zip("xy", nomniglot.SENSOR_SIZE, strict=True)):
        if n >> bit & 1:
            events[axis] = side - 1 - events[axis]
    return events
