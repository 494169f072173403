"""Feed damaged files to every reader: python tests/data/fuzz.py --files 2000

A reader must return a result or raise one UserError that names the file; it must not fail in another way, take longer
than 20 s, or need more than 1 GiB. Prints a line per reader and ends with status 1 if one of them misbehaved. A crash
ends the process: run it as one.
"""

import argparse
import io
import resource
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from aedat4_writer import write_aedat4
from writers import random_events, write_bin, write_mnist_idx

from tmkt_braincog.data import cepdvs, cifar10dvs, nmnist, nomniglot
from tmkt_braincog.data.aedat4 import read_aedat4
from tmkt_braincog.data.images import read_image
from tmkt_braincog.data.mat import read_mat
from tmkt_braincog.data.recordings import FrameSpec, decode
from tmkt_braincog.data.tree import File
from tmkt_braincog.errors import UserError

SECONDS = 20
MAX_BYTES = 1 << 30


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage of one to three kinds: cut, flipped bits, numbers that lie, inserted, lost or repeated bytes, text."""
    for _ in range(rng.integers(1, 4)):
        data = bytearray(data or b"\0")
        at = int(rng.integers(len(data)))
        # Half of the damage goes to the beginning, where headers are.
        at = at if rng.random() < 0.5 else min(at, int(rng.integers(1, 200)))
        kind = rng.integers(7)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            for i in rng.integers(0, len(data), int(rng.integers(1, 20))):
                data[i] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            number = int(
                rng.choice([0, -1, 2**31 - 1, -(2**31), 2**30, 2**24, int(rng.integers(2**31))])
            )
            data[at : at + 4] = struct.pack(rng.choice(["<i", ">i"]), number)
        elif kind == 3:
            data[at : at + 8] = struct.pack(
                "<d", float(rng.choice([np.nan, np.inf, -1.0, 1e300, 0.5]))
            )
        elif kind == 4:
            data[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 5:
            del data[at : at + int(rng.integers(1, 64))]
        else:
            data += data[at : at + 4096]
        data = bytes(data)
    return data


def columns(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What a .mat file of CEP-DVS holds, now and then with values that no camera gives."""
    events = random_events(300, int(rng.integers(1000)))
    table = {
        "x": events["x"] + 0.0,
        "y": events["y"] + 0.0,
        "ts": events["t"] + 0.0,
        "p": events["p"] * 2.0 - 1,
    }
    if rng.random() < 0.5:
        name = str(rng.choice(list(table)))
        table[name][int(rng.integers(300))] = rng.choice(
            [np.nan, np.inf, -5, 7, 1e18, -1e300, 0.5, 2**40]
        )
    if rng.random() < 0.1:
        table.pop(str(rng.choice(list(table))))
    return {name: column[:, None] for name, column in table.items()}


def mat(rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    scipy.io.savemat(out, columns(rng), do_compression=bool(rng.integers(2)))
    return out.getvalue()


def picture(form: str, mode: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)).convert(
        mode
    ).save(out, form)
    return out.getvalue()


def drawing_table() -> bytes:
    rows = "\n".join(f"{k},{1000 * k},{1000 * k + 900}" for k in range(1, 21))
    return f"index,start,end\n{rows}\n".encode()


def path_file() -> bytes:
    rows = "\n".join(f"{k} of 40 shows {cepdvs.CLASSES[k % 20]} rest" for k in range(40))
    return f"header\n{rows}\n".encode()


def cases(folder: Path, real: Path | None) -> dict:
    """By name: a function that gives a sound file's bytes, the file's name, and what reads it."""
    small_bin = write_bin(folder / "sound.bin", random_events(2000)).read_bytes()
    events = random_events(3000, sensor_size=nomniglot.SENSOR_SIZE)
    small_aedat = folder / "sound.aedat4"
    write_aedat4(small_aedat, events, nomniglot.SENSOR_SIZE)
    aedat = small_aedat.read_bytes()
    write_mnist_idx(folder, "t10k", np.zeros((5, 28, 28), np.uint8), [1, 2, 3, 4, 5])
    write_mnist_idx(folder, "train", np.zeros((5, 28, 28), np.uint8), [1, 2, 3, 4, 5])
    idx = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    whole_idx = idx.read_bytes()
    frames = FrameSpec(nmnist.read, 10)
    whole = FrameSpec(cifar10dvs.read, 10, 48)
    drawings = FrameSpec(nomniglot.read_drawings, 12, 28, "frequency", nomniglot.CROP, 20)
    t = events["t"]
    rows = [f"{k},{t[150 * k]},{t[min(150 * k + 150, 2999)]}" for k in range(20)]
    (folder / "drawn.csv").write_text("index,start,end\n" + "\n".join(rows) + "\n")
    write_aedat4(
        small_aedat, random_events(3000, sensor_size=cifar10dvs.SENSOR_SIZE), cifar10dvs.SENSOR_SIZE
    )
    moving = small_aedat.read_bytes()
    found = {
        ".bin to frames": (lambda rng: small_bin, "a.bin", lambda path: decode(path, frames)),
        ".mat": (mat, "a.mat", read_mat),
        ".aedat4 (written)": (lambda rng: aedat, "a.aedat4", read_aedat4),
        "drawings to frames": (
            lambda rng: aedat,
            "drawn.aedat4",
            lambda path: decode(path, drawings),
        ),
        "CIFAR10-DVS to frames": (lambda rng: moving, "c.aedat4", lambda path: decode(path, whole)),
        "drawings .csv": (lambda rng: drawing_table(), "a.csv", nomniglot.read_times),
        "pathFile.csv": (lambda rng: path_file(), "pathFile.csv", read_path_file),
        ".png": (lambda rng: picture("PNG", "1"), "a.png", lambda path: read_image(path, 28)),
        ".jpg": (lambda rng: picture("JPEG", "RGB"), "a.jpg", lambda path: read_image(path, 48)),
        "MNIST idx": (lambda rng: whole_idx, str(idx), lambda path: nmnist.read_mnist(folder)),
    }
    if real is not None:
        recording = (real / "aedat4" / "davis346_a.aedat4").read_bytes()
        found[".aedat4 (real)"] = (lambda rng: recording, "b.aedat4", read_aedat4)
    return found


def read_path_file(path: Path) -> list[int]:
    """The classes of 40 recordings."""
    rows = cepdvs.read_rows(path)
    return [
        cepdvs._label(rows, File(0, k, path.with_name(f"{k}.mat")), path.parent) for k in range(40)
    ]


def fuzz(name: str, case, n: int, folder: Path, seed: int) -> list[str]:
    """What went wrong with n damaged files."""
    make, file_name, read = case
    outcomes, wrong = Counter(), []
    for k in range(n):
        rng = np.random.default_rng((seed, k))
        path = folder / file_name
        path.write_bytes(mutate(make(rng), rng))
        signal.alarm(SECONDS)
        try:
            read(path)
            outcomes["read"] += 1
        except UserError as error:
            outcomes["refused"] += 1
            if path.name not in str(error) and "MNIST" not in str(error):
                wrong.append(f"{name}, file {k}: the message names no file: {error}")
        except BaseException:
            wrong.append(f"{name}, file {k}: {traceback.format_exc()}")
        finally:
            signal.alarm(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{name:21} {n} files: {dict(outcomes)}, {len(wrong)} failures, peak {peak / 2**20:.0f} MiB",
        flush=True,
    )
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=300, help="damaged files per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=Path, help="folder of real data, for the real AEDAT4 file")
    options = parser.parse_args()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(Path(folder), options.real).items():
            wrong += fuzz(name, case, options.files, Path(folder), options.seed)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(f"memory grew by {grown / 2**20:.0f} MiB at most")
    if grown > MAX_BYTES:
        wrong.append(f"memory grew by {grown} bytes")
    for text in wrong[:20]:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
