"""Write small data sets to disk in their real file formats, and find the real ones."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tmkt_braincog.data.events import EVENT_DTYPE

TIMER_MARK = bytes([0, 240, 0, 0, 0])


def structured(events) -> np.ndarray:
    """Columns as the structured array that tonic's transforms take."""
    array = np.empty(len(events["t"]), EVENT_DTYPE)
    for name in EVENT_DTYPE.names:
        array[name] = events[name]
    return array


def random_events(
    n: int, seed: int = 0, sensor_size: tuple[int, int] = (34, 34), end_us: int = 300_000
):
    """``[n]`` events, uniform over sensor and time, sorted."""
    rng = np.random.default_rng(seed)
    events = np.empty(n, EVENT_DTYPE)
    events["x"], events["y"] = (rng.integers(0, side, n) for side in sensor_size)
    events["t"], events["p"] = np.sort(rng.integers(0, end_us, n)), rng.integers(0, 2, n)
    return events


def write_bin(path: Path, events: np.ndarray, marks: Sequence[int] = ()) -> Path:
    """ATIS ``.bin``; a timer mark before each event in ``marks``, 2**13 us off the times then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = []
    for i, event in enumerate(events):
        records += [TIMER_MARK] * marks.count(i) if marks else []
        t = int(event["t"]) - 2**13 * sum(m <= i for m in marks)
        assert 0 <= t < 2**23, "23 bits of time"
        word = (int(event["p"]) << 23) | t
        records.append(bytes([event["x"], event["y"]]) + word.to_bytes(3, "big"))
    path.write_bytes(b"".join(records))
    return path


def write_nmnist_tree(root: Path, recordings: Mapping[tuple[str, int, int], np.ndarray]) -> None:
    """``root/NMNIST/<split>/<digit>/<number>.bin`` for each (split, digit, number), in order."""
    for (split, digit, number), events in recordings.items():
        write_bin(root / "NMNIST" / split / str(digit) / f"{number:05d}.bin", events)


def write_mnist_idx(root: Path, split: str, images: np.ndarray, labels: Sequence[int]) -> None:
    """``root/MNIST/raw/<split>-*-ubyte``, split "train" or "t10k"; images ``[n, 28, 28]`` uint8."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">iiii", 2051, *images.shape)
    (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.astype(np.uint8).tobytes())
    header = struct.pack(">ii", 2049, len(labels))
    (raw / f"{split}-labels-idx1-ubyte").write_bytes(header + bytes(labels))


def real_recordings(root: Path) -> list[Path]:
    """A few real ``.bin`` files of N-MNIST and all of N-Caltech101 in the folder of real data."""
    few = sorted(root.glob("NMNIST/Train/*/*.bin"))[::50]
    return few + sorted(root.glob("NCALTECH101/*/*/*.bin"))
