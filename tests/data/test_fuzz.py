"""Damaged files, and kills at any moment, through the whole way from files to cached arrays."""

import io
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import time
from collections import Counter
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import zstd
from aedat4_writer import description, event_packet, header, packet
from PIL import Image
from scipy.io import savemat
from writers import random_events, write_bin

from tmkt_braincog.data import cepdvs, cifar10dvs, nmnist, parallel
from tmkt_braincog.data.images import load_images
from tmkt_braincog.data.recordings import FrameSpec, load_recordings
from tmkt_braincog.errors import UserError

N_FILES = 286  # of each of the seven kinds: 2,002


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage of one to three kinds, half of it at the beginning, where headers are."""
    for _ in range(rng.integers(1, 4)):
        data = bytearray(data or b"\0")
        at = int(rng.integers(len(data)))
        at = at if rng.random() < 0.5 else min(at, int(rng.integers(1, 200)))
        kind = rng.integers(7)
        if kind == 0:  # cut
            data = data[:at]
        elif kind == 1:  # flipped bits
            for i in rng.integers(0, len(data), int(rng.integers(1, 20))):
                data[i] ^= 1 << int(rng.integers(8))
        elif kind == 2:  # a number that lies
            lies = [0, -1, 2**31 - 1, -(2**31), 2**30, 2**24, rng.integers(2**31)]
            data[at : at + 4] = struct.pack(rng.choice(["<i", ">i"]), int(rng.choice(lies)))
        elif kind == 3:
            data[at : at + 8] = struct.pack("<d", rng.choice([np.nan, np.inf, -1.0, 1e300, 0.5]))
        elif kind == 4:  # inserted
            data[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif kind == 5:  # lost
            del data[at : at + int(rng.integers(1, 64))]
        else:  # spliced
            data += data[at : at + 4096]
        data = bytes(data)
    return data


def mat(rng: np.random.Generator) -> bytes:
    """A recording, now and then with values that no camera gives, or without a column."""
    events = random_events(300, int(rng.integers(1000)))
    table = {n: events[n[0]] * 1.0 for n in ("x", "y", "ts")} | {"p": events["p"] * 2.0 - 1}
    if rng.random() < 0.5:
        wrong = [np.nan, np.inf, -5, 7, 1e18, -1e300, 0.5, 2**40, 30_000]
        table[str(rng.choice(list(table)))][int(rng.integers(300))] = rng.choice(wrong)
    if rng.random() < 0.1:
        table.pop(str(rng.choice(list(table))))
    out = io.BytesIO()
    savemat(out, table, do_compression=bool(rng.integers(2)), oned_as="column")
    return out.getvalue()


def aedat4(pack, compression: int) -> bytes:
    events = random_events(3000, sensor_size=cifar10dvs.SENSOR_SIZE)
    parts = [event_packet(events[i : i + 500]) for i in range(0, 3000, 500)]
    packets = b"".join(packet(0, pack(part)) for part in parts)
    text = description(cifar10dvs.SENSOR_SIZE, ((0, "EVTS"),))
    return header(text, len(header(text, 0)) + len(packets), compression) + packets


def picture(form: str, mode: str) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 50, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(out, form)
    return out.getvalue()


def recordings(read, *options):
    spec = FrameSpec(read, *options)
    return lambda files, root: load_recordings(files, spec, "fuzz", root).frames


def images(files, root):
    return load_images(files, 28, "fuzz", root)


def kinds(folder: Path) -> dict:
    """By suffix: what makes a sound file's bytes, and what loads files."""
    small = write_bin(folder / "sound", random_events(2000)).read_bytes()
    packed = [aedat4(bytes, 0), aedat4(lz4.frame.compress, 1), aedat4(zstd.compress, 3)]
    dvs = recordings(cifar10dvs.read, 10, 48)
    return {
        ".bin": (lambda rng: small, recordings(nmnist.read, 10)),
        ".mat": (mat, recordings(cepdvs.read_shifted, 6, 48)),
        ".aedat4": (lambda rng: packed[0], dvs),
        ".lz4.aedat4": (lambda rng: packed[1], dvs),
        ".zstd.aedat4": (lambda rng: packed[2], dvs),
        ".png": (lambda rng: picture("PNG", "L"), images),
        ".jpg": (lambda rng: picture("JPEG", "RGB"), images),
    }


@pytest.mark.slow
def test_damaged_files_give_a_result_or_one_clear_error_each(tmp_path, monkeypatch, capfd):
    """And the program's memory stays within 300 MiB, whatever the files claim."""
    monkeypatch.setattr(parallel, "MAX_PROBLEMS", 1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_read = 0
    for number, (suffix, (make, load)) in enumerate(kinds(tmp_path).items()):
        files = [tmp_path / f"{k:03d}{suffix}" for k in range(N_FILES)]
        for k, path in enumerate(files):
            rng = np.random.default_rng((number, k))
            path.write_bytes(mutate(make(rng), rng))
        with pytest.raises(UserError) as error:
            load(files, tmp_path)
        first, *lines = re.split(r"\n  (?=\S)", str(error.value))
        named = [{path for path in files if str(path) in line} for line in lines]
        assert all(len(paths) == 1 for paths in named), lines
        assert "Traceback" not in str(error.value)
        assert first.startswith(f"{len(lines)} of {N_FILES} files")
        bad = set.union(*named)
        assert len(bad) == len(lines)
        good = [path for path in files if path not in bad]
        found = load(good, tmp_path) if good else np.empty(0)
        assert len(found) == len(good) and np.isfinite(found).all() and (found >= 0).all()
        n_read += len(good)
    assert "Traceback" not in capfd.readouterr().err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB
    assert n_read > 100


def _prepare(files, cache, count):
    def read(path):
        count.value += 1
        return nmnist.read(path)

    os.environ["TMKT_CACHE"], os.environ["TMKT_JOBS"] = str(cache), "2"
    load_recordings(files, FrameSpec(read, 5, 24), "kill", files[0].parent)


def _written(cache: Path) -> dict[str, bytes]:
    return {str(p.relative_to(cache)): p.read_bytes() for p in cache.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_a_build_that_is_killed_at_any_moment_changes_nothing_of_the_next_one(tmp_path):
    """Moments are numbers of files that were read, drawn at random: none and all of them too."""
    many = ((tmp_path / "in" / f"{i}.bin", random_events(300, seed=i)) for i in range(200))
    files = [write_bin(*file) for file in many]
    context, rng = multiprocessing.get_context("fork"), random.Random(0)
    count, codes, cache = context.RawValue("i"), Counter(), tmp_path / "cache"

    def start(cache):
        count.value = 0
        process = context.Process(target=_prepare, args=(files, cache, count))
        process.start()
        return process

    def finish(cache):
        process = start(cache)
        process.join()
        assert process.exitcode == 0
        return _written(cache)

    expected = finish(tmp_path / "whole")
    assert len(expected) == 9  # six arrays, the manifest, the lock, the digest
    for trial in range(20):
        moment, process = rng.randrange(-10, 205), start(cache)
        while count.value < moment and process.is_alive():
            time.sleep(0.0005)
        (process.terminate if trial % 2 else process.kill)()
        process.join()
        codes[process.exitcode] += 1
        if trial % 3:  # else one killed build follows another
            assert finish(cache) == expected
            shutil.rmtree(cache)
    assert codes[-signal.SIGKILL] > 2 and codes[-signal.SIGTERM] > 2, codes
