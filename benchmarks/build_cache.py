"""Time and memory of building the frame cache of a data set of the size of N-Caltech101.

    python benchmarks/build_cache.py DATA [--recordings 8709]

Writes stand-ins in the real file format into a temporary folder: each is six real N-MNIST
recordings side by side, about 23,000 events, 1 GB in all. Then builds the cache twice (TMKT_JOBS
processes, the cores by default): from nothing, and from the cache. T = 10, 48 x 48, as in training.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from tmkt_braincog.data.ncaltech101 import read_shifted
from tmkt_braincog.data.parallel import n_jobs
from tmkt_braincog.data.recordings import FrameSpec, load_recordings

TILES = [(34 * i, 34 * j) for i in range(3) for j in range(2)]


def write_recordings(sources: list[Path], folder: Path, n: int) -> list[Path]:
    """n files; recording k joins the sources k .. k + 5, each on its own tile, in order of time."""
    raw = [np.fromfile(path, np.uint8).reshape(-1, 5) for path in sources]
    files = []
    for k in range(n):
        parts = []
        for tile, (x, y) in enumerate(TILES):
            part = raw[(k + tile) % len(raw)].copy()
            part[:, 0] += x
            part[:, 1] += y
            parts.append(part)
        joined = np.concatenate(parts)
        times = (joined[:, 2:].astype(np.int64) * (1 << 16, 1 << 8, 1)).sum(1) & ((1 << 23) - 1)
        path = folder / f"image_{k:04d}.bin"
        joined[np.argsort(times, kind="stable")].tofile(path)
        files.append(path)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="data root with NMNIST/Train")
    parser.add_argument("--recordings", type=int, default=8709)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--size", type=int, default=48)
    options = parser.parse_args()
    sources = sorted(options.data.glob("NMNIST/Train/*/*.bin"))
    if not sources:
        raise SystemExit(f"error: no recordings in {options.data}/NMNIST/Train")
    folder = Path(tempfile.mkdtemp(prefix="tmkt-build-"))
    os.environ["TMKT_CACHE"] = str(folder / "cache")
    try:
        files = write_recordings(sources, folder, options.recordings)
        size = sum(path.stat().st_size for path in files)
        print(f"{len(files)} stand-in recordings, {size / 2**30:.2f} GiB, {n_jobs()} processes")
        spec = FrameSpec(read_shifted, options.steps, options.size)
        for what in ("built", "from the cache"):
            started = time.perf_counter()
            frames, _ = load_recordings(files, spec, "standin", folder)
            seconds, size = time.perf_counter() - started, frames.nbytes / 2**30
            print(f"{what}: {seconds:.1f} s, frames {frames.shape}, {size:.2f} GiB")
        own, children = (
            resource.getrusage(who).ru_maxrss / 2**20
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        print(
            f"peak resident memory: {own:.2f} GiB, of it mapped cache pages; largest process "
            f"{children:.2f} GiB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
