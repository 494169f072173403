"""Files to frames: keys, statistics, several recordings per file, processes, problems."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tonic.transforms import ToFrame
from writers import random_events, structured, write_bin

from tmkt_braincog.data import cache, parallel, recordings
from tmkt_braincog.data.cache import files_digest
from tmkt_braincog.data.events import read_bin
from tmkt_braincog.data.parallel import decode_files
from tmkt_braincog.data.recordings import FrameSpec, load_recordings
from tmkt_braincog.errors import UserError

SENSOR = (34, 34)


def read(path):
    return [(read_bin(path), SENSOR)]


def read_halves(path):
    """Two recordings per file: the first and the second half of the events."""
    events = read_bin(path)
    n = len(events["t"]) // 2
    return [({c: events[c][part] for c in "xytp"}, SENSOR) for part in (slice(n), slice(n, None))]


def read_the_first_whole(path):
    return read(path) if path.stem == "0" else read_halves(path)


@pytest.fixture
def files(tmp_path):
    return [write_bin(tmp_path / f"{i}.bin", random_events(200 + i, seed=i)) for i in range(6)]


def load(files, reader=read, steps=3, **options):
    return load_recordings(files, FrameSpec(reader, steps, **options), "test", files[0].parent)


def counts(events, steps=3):
    return ToFrame(sensor_size=(*SENSOR, 2), n_time_bins=steps)(structured(events))


def test_frames_and_statistics(files):
    frames, statistics = load(files)
    every = [read_bin(path) for path in files]
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, np.stack([counts(events) for events in every]))
    assert statistics["n_events"].tolist() == [200 + i for i in range(6)]
    assert statistics["duration_us"].tolist() == [np.ptp(events["t"]) for events in every]
    assert set(statistics["width"].tolist()) == set(statistics["height"].tolist()) == {34}
    assert not statistics["n_unsorted"].any()


@pytest.mark.parametrize("mode", ["count", "event", "frequency"])
def test_mode_then_crop_then_size(files, mode):
    frames, _ = load(files, mode=mode, crop=(2, 32, 4, 30), size=16)
    for i, path in enumerate(files):
        expected = torch.from_numpy(counts(read_bin(path))).float()
        if mode == "event":
            expected = (expected > 0).float()
        if mode == "frequency":
            expected = expected / expected.amax((-2, -1), keepdim=True)
        expected = F.interpolate(expected[..., 2:32, 4:30], (16, 16), None, "bilinear", True)
        torch.testing.assert_close(torch.from_numpy(frames[i]), expected, rtol=1e-6, atol=1e-6)


def test_several_recordings_per_file(files):
    frames, statistics = load(files, read_halves, per_file=2)
    halves = [events for path in files for events, _ in read_halves(path)]
    np.testing.assert_array_equal(frames, np.stack([counts(events) for events in halves]))
    assert statistics["n_events"].tolist() == [len(events["t"]) for events in halves]
    varying = load(files, read_the_first_whole, per_file=(1, 2, 2, 2, 2, 2))
    np.testing.assert_array_equal(varying.frames[0], counts(read_bin(files[0])))
    np.testing.assert_array_equal(varying.frames[1:], frames[2:])


def test_everything_that_shapes_frames_is_in_the_key():
    changes = [
        {}, {"steps": 4}, {"size": 16}, {"mode": "event"}, {"crop": (0, 20, 0, 20)},
        {"read": read_halves}, {"per_file": 2}, {"version": 2},
    ]  # fmt: skip
    specs = [FrameSpec(**{"read": read, "steps": 3} | changed) for changed in changes]
    assert len({str(spec.key()) for spec in specs}) == len(specs)


def test_digest_follows_names_and_contents_but_neither_times_nor_the_place(files, tmp_path):
    before = files_digest(files, tmp_path)
    assert files_digest(files[::-1], tmp_path) != before
    os.utime(files[0])
    assert files_digest(files, tmp_path) == before
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    there = [moved / f.name for f in files]
    assert files_digest(there, moved) == before
    content = bytearray(there[2].read_bytes())
    content[7] ^= 1
    there[2].write_bytes(content)
    assert files_digest(there, moved) != before
    moved.rename(tmp_path)


def test_contents_are_read_once_and_a_touched_file_keeps_the_frames(files, tmp_path, monkeypatch):
    frames, before = load(files).frames, files_digest(files, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache.hashlib, "file_digest", None)
        assert files_digest(files, tmp_path) == before
        os.utime(files[3])
        with pytest.raises(TypeError):
            files_digest(files, tmp_path)
    monkeypatch.setattr(recordings, "decode_files", None)
    np.testing.assert_array_equal(load(files).frames, frames)


def test_files_that_cannot_be_read_are_named_and_nothing_is_decoded(files, monkeypatch, caplog):
    for path in files[1:3]:
        path.unlink()
        path.mkdir()
    monkeypatch.setattr(recordings, "decode_files", None)
    with pytest.raises(UserError, match=r"(?s)2 of 6 files .*Cannot read .*1\.bin.*\n.*2\.bin"):
        load(files)
    with pytest.raises(UserError, match=r"Cannot find .*gone\.bin"):
        load([*files, files[0].parent / "gone.bin"])
    assert not caplog.records


@pytest.fixture
def many(files, monkeypatch):
    """Two processes, several messages each."""
    monkeypatch.setenv("TMKT_JOBS", "2")
    monkeypatch.setattr(parallel, "FILES_AT_ONCE", 1)
    return files + [Path(shutil.copy(path, path.with_name(f"c{path.name}"))) for path in files]


def test_several_processes_give_the_same_also_beside_threads_of_torch(many, monkeypatch):
    torch.set_num_threads(3)
    try:
        torch.randn(500, 500) @ torch.randn(500, 500)
        several = load(many, size=20)
    finally:
        torch.set_num_threads(1)
    monkeypatch.setenv("TMKT_JOBS", "1")
    monkeypatch.setattr(parallel, "FILES_AT_ONCE", 8)
    serial = load(many, size=20, version=2)
    np.testing.assert_array_equal(several.frames, serial.frames)
    for name, values in serial.statistics.items():
        np.testing.assert_array_equal(several.statistics[name], values)


def test_every_damaged_file_is_listed(many, monkeypatch):
    many[1].write_bytes(b"")
    many[4].write_bytes(b"1234567")
    said = r"(?s)2 of 12 files cannot be used:\n  .*1\.bin is empty.*\n  .*4\.bin is truncated: 7"
    with pytest.raises(UserError, match=said):
        load(many)
    monkeypatch.setattr(parallel, "MAX_PROBLEMS", 2)
    with pytest.raises(UserError, match=r"2 of 12 files cannot be used \(more were not looked at"):
        load(many)


def go_round(path):
    while True:
        pass


CRASHED = "the process that read it crashed"


@pytest.mark.parametrize(
    "fail, said",
    [
        (lambda path: os._exit(0), CRASHED),
        (lambda path: os.kill(os.getpid(), signal.SIGKILL), CRASHED),
        (lambda path: np.ones(3 << 30, np.uint8), "reading it takes more than 2 GiB"),
        (go_round, CRASHED),
    ],
)
def test_a_file_that_takes_its_process_along_is_named(many, monkeypatch, fail, said):
    """The others are read, the program lives, none of its processes is left."""
    monkeypatch.setattr(parallel, "MAX_SECONDS", 1)
    before, seen = multiprocessing.active_children(), []

    def broken(path):
        with open(path.with_suffix(".read"), "a") as file:
            file.write("x")
        return fail(path) if path.name == "3.bin" else path.name

    with pytest.raises(UserError, match=f"/3.bin: {said}") as error:
        for name in decode_files(broken, many, "test"):
            seen.append(name)
    assert "\n" not in str(error.value)
    assert seen == ["0.bin", "1.bin", "2.bin"]
    assert all(path.with_suffix(".read").exists() for path in many)
    assert multiprocessing.active_children() == before


class Odd(Exception):
    """One that cannot be sent from process to process."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def test_an_error_of_a_reader_names_the_file_and_is_no_crash(many):
    def fail(path):
        raise Odd(1, 2)

    with pytest.raises(RuntimeError, match=r"0\.bin: Odd: 1 and 2"):
        list(decode_files(fail, many, "files"))


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_number_of_processes_is_checked(monkeypatch, jobs):
    monkeypatch.setenv("TMKT_JOBS", jobs)
    with pytest.raises(UserError, match=f"TMKT_JOBS={jobs}: expected"):
        parallel.n_jobs()


def test_short_recordings_and_events_out_of_order_are_warned_of_once(files, caplog):
    load(files)
    assert not caplog.records
    events = random_events(50)
    events["t"][[10, 20]] = events["t"][[20, 10]]
    for path in files[:2]:
        write_bin(path, events)
    write_bin(files[3], random_events(5, end_us=2))
    frames, _ = load(files)
    assert not frames[3].any()
    ordered = events[np.argsort(events["t"], kind="stable")]
    np.testing.assert_array_equal(frames[0], counts(ordered))
    unsorted, short = (r.getMessage() for r in caplog.records)
    assert unsorted == (
        "test: 4 events in 2 recordings were out of order in time; they were sorted."
    )
    assert "1 recordings are shorter than 3 us" in short and "3.bin" in short


def test_sizes_that_differ_are_refused_where_nothing_resizes(files):
    def of_two_sizes(path):
        return [(read_bin(path), (34, 34) if path.name < "3" else (40, 34))]

    with pytest.raises(UserError, match=r"3\.bin: frames of \(34, 40\), expected \(34, 34\)"):
        load(files, of_two_sizes)


def test_leaving_early_ends_the_processes_in_the_middle_of_a_message():
    """Their results are larger than what a pipe holds."""
    program = (
        "import numpy as np; from tmkt_braincog.data.parallel import decode_each\n"
        "for result in decode_each(lambda i: np.zeros(200_000), range(500), 'test'): break\n"
        "print('left')"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
        assert done.stdout == b"left\n", done.stderr
