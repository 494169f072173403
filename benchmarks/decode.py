"""From a .bin recording to frames: this package against tonic's reader and ToFrame, one core, in
one run.

    python benchmarks/decode.py DATA/NCALTECH101/Caltech101/Faces_easy/image_0001.bin \\
        DATA/NMNIST/Test/0/*.bin

Prints, per kind of sensor, milliseconds per recording (best of --repeat) and the ratio; the frames
are compared first and must be equal. --json FILE writes the same.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import tonic
import torch
from tonic.io import read_mnist_file
from tonic.transforms import ToFrame

from tmkt_braincog.data.events import check_events, read_bin, shift_to_origin
from tmkt_braincog.data.frames import narrow, resize_frames, to_frames

TONIC_DTYPE = np.dtype([(name, int) for name in "xytp"])


def with_tonic(path: Path, steps: int) -> np.ndarray:
    """As BrainCog's loaders do it."""
    events = read_mnist_file(str(path), TONIC_DTYPE)
    for axis in ("x", "y"):
        events[axis] -= events[axis].min()
    sensor_size = (int(events["x"].max()) + 1, int(events["y"].max()) + 1, 2)
    return ToFrame(sensor_size=sensor_size, n_time_bins=steps)(events)


def with_this(path: Path, steps: int) -> np.ndarray:
    """With every check that a build of the cache makes."""
    events, sensor_size = shift_to_origin(read_bin(path))
    events, _ = check_events(events, sensor_size, str(path))
    return narrow(to_frames(events, steps, sensor_size))


def milliseconds(function, *arguments, repeat: int) -> float:
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        function(*arguments)
        best = min(best, time.perf_counter() - started)
    return 1000 * best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="recordings of N-MNIST or N-Caltech101")
    parser.add_argument("--steps", type=int, default=10, help="T (default: 10)")
    parser.add_argument("--repeat", type=int, default=20, help="the best of so many (default: 20)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in options.files:
        theirs, ours = with_tonic(path, options.steps), with_this(path, options.steps)
        if not np.array_equal(theirs, ours):
            raise SystemExit(f"error: {path}: frames differ")
        row = {
            "file": "/".join(path.parts[-2:]),
            "events": len(read_bin(path)["t"]),
            "tonic_ms": milliseconds(with_tonic, path, options.steps, repeat=options.repeat),
            "ours_ms": milliseconds(with_this, path, options.steps, repeat=options.repeat),
            "resize_ms": milliseconds(
                resize_frames, torch.from_numpy(ours), 48, repeat=options.repeat
            ),
        }
        rows.append(row | {"ratio": row["tonic_ms"] / row["ours_ms"]})
    print(
        f"{'file':36} {'events':>8} {'tonic ms':>9} {'ours ms':>8} {'ratio':>6} {'resize ms':>10}"
    )
    for row in rows:
        print(
            f"{row['file']:36} {row['events']:8d} {row['tonic_ms']:9.2f} {row['ours_ms']:8.2f} "
            f"{row['ratio']:6.1f} {row['resize_ms']:10.2f}"
        )
    versions = {"tonic": tonic.__version__, "numpy": np.__version__, "torch": torch.__version__}
    print(f"Frames equal. {platform.processor() or platform.machine()}, one core, {versions}")
    if options.json:
        options.json.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
