"""Files to frames: what shapes the cache, statistics, several recordings per file, processes, problems."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tonic.transforms import ToFrame
from writers import random_events, structured, write_bin

from tmkt_braincog.data import parallel
from tmkt_braincog.data.events import read_bin
from tmkt_braincog.data.parallel import decode_files
from tmkt_braincog.data.recordings import FrameSpec, files_digest, load_recordings
from tmkt_braincog.errors import UserError

SENSOR = (34, 34)


def read(path):
    return [(read_bin(path), SENSOR)]


def read_halves(path):
    """Two recordings per file: the first and the second half of the events."""
    events = read_bin(path)
    n = len(events["t"]) // 2
    return [({c: events[c][part] for c in "xytp"}, SENSOR) for part in (slice(n), slice(n, None))]


@pytest.fixture
def files(tmp_path):
    return [write_bin(tmp_path / f"{i}.bin", random_events(200 + i, seed=i)) for i in range(6)]


def load(files, reader=read, steps=3, **options):
    return load_recordings(files, FrameSpec(reader, steps, **options), "test", files[0].parent)


def counts(path, steps=3):
    return ToFrame(sensor_size=(*SENSOR, 2), n_time_bins=steps)(structured(read_bin(path)))


def test_frames_and_statistics(files):
    frames, statistics = load(files)
    assert frames.dtype == np.uint8
    for i, path in enumerate(files):
        np.testing.assert_array_equal(frames[i], counts(path))
        events = read_bin(path)
        assert statistics["n_events"][i] == 200 + i
        assert statistics["duration_us"][i] == events["t"][-1] - events["t"][0]
    assert set(statistics["width"].tolist()) == set(statistics["height"].tolist()) == {34}
    assert not statistics["n_unsorted"].any()


@pytest.mark.parametrize("mode", ["count", "event", "frequency"])
def test_mode_then_crop_then_size(files, mode):
    frames, _ = load(files, mode=mode, crop=(2, 32, 4, 30), size=16)
    for i, path in enumerate(files):
        expected = torch.from_numpy(counts(path)).float()
        if mode == "event":
            expected = (expected > 0).float()
        if mode == "frequency":
            expected = expected / expected.amax((-2, -1), keepdim=True)
        expected = F.interpolate(
            expected[..., 2:32, 4:30], size=(16, 16), mode="bilinear", align_corners=True
        )
        torch.testing.assert_close(torch.from_numpy(frames[i]), expected, rtol=1e-6, atol=1e-6)


def test_several_recordings_per_file(files):
    frames, statistics = load(files, read_halves, per_file=2)
    assert frames.shape[0] == 12
    for i, path in enumerate(files):
        for part, (events, _) in enumerate(read_halves(path)):
            expected = ToFrame(sensor_size=(*SENSOR, 2), n_time_bins=3)(structured(events))
            np.testing.assert_array_equal(frames[2 * i + part], expected)
    assert statistics["n_events"].sum() == sum(200 + i for i in range(6))
    with pytest.raises(UserError, match=r"0\.bin holds 2 recordings; 3 were expected"):
        load(files, read_halves, per_file=3)


def test_everything_that_shapes_frames_is_in_the_key(files):
    specs = [
        FrameSpec(read, 3), FrameSpec(read, 4), FrameSpec(read, 3, size=16), FrameSpec(read, 3, mode="event"),
        FrameSpec(read, 3, crop=(0, 20, 0, 20)), FrameSpec(read_halves, 3, per_file=2), FrameSpec(read, 3, version=2),
    ]  # fmt: skip
    assert len({str(spec.key()) for spec in specs}) == len(specs)


def test_digest_follows_name_size_and_time_but_not_the_place(files, tmp_path):
    before = files_digest(files, tmp_path)
    assert files_digest(files[::-1], tmp_path) != before
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    there = [moved / f.name for f in files]
    assert files_digest(there, moved) == before
    there[2].write_bytes(there[2].read_bytes()[:-5])
    assert files_digest(there, moved) != before
    moved.rename(tmp_path)


def test_processes_give_the_same(files, monkeypatch):
    serial, serial_statistics = load(files)
    monkeypatch.setattr(parallel, "PARALLEL_FROM", 0)
    monkeypatch.setenv("TMKT_JOBS", "2")
    several, statistics = load(files, version=2)
    np.testing.assert_array_equal(several, serial)
    for name, values in serial_statistics.items():
        np.testing.assert_array_equal(statistics[name], values)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_every_damaged_file_is_listed(files, monkeypatch, jobs):
    monkeypatch.setattr(parallel, "PARALLEL_FROM", 0)
    monkeypatch.setenv("TMKT_JOBS", jobs)
    files[1].write_bytes(b"")
    files[4].write_bytes(b"1234567")
    said = (
        r"(?s)2 of 6 files cannot be used:\n  .*1\.bin is empty.*\n  .*4\.bin is truncated: 7 bytes"
    )
    with pytest.raises(UserError, match=said):
        load(files)
    monkeypatch.setattr(parallel, "MAX_PROBLEMS", 2)
    with pytest.raises(UserError, match=r"2 of 6 files cannot be used \(more were not looked at\)"):
        load(files)


def _die(path: Path, victim: str):
    if path.name == victim:
        import os

        os._exit(1)
    return 0


def test_a_process_that_dies_is_an_error(files, monkeypatch):
    monkeypatch.setattr(parallel, "PARALLEL_FROM", 0)
    monkeypatch.setenv("TMKT_JOBS", "2")
    with pytest.raises(UserError, match="a decoding process was lost"):
        list(decode_files(partial(_die, victim="3.bin"), files, "test"))


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_number_of_processes_is_checked(files, monkeypatch, jobs):
    monkeypatch.setenv("TMKT_JOBS", jobs)
    with pytest.raises(UserError, match=f"TMKT_JOBS={jobs}: expected"):
        parallel.n_jobs()


def test_short_recordings_are_warned_of(files, tmp_path, caplog):
    files[3] = write_bin(tmp_path / "3.bin", random_events(5, end_us=2))
    frames, _ = load(files)
    assert not frames[3].any()
    assert "1 recordings last less than 3 us" in caplog.text and "3.bin" in caplog.text


def test_sizes_that_differ_are_refused_where_nothing_resizes(files):
    def of_two_sizes(path):
        return [(read_bin(path), (34, 34) if path.name < "3" else (40, 34))]

    with pytest.raises(UserError, match=r"3\.bin: frames of \(34, 40\), expected \(34, 34\)"):
        load(files, of_two_sizes)


def test_missing_file(files):
    with pytest.raises(UserError, match=r"Cannot find .*gone\.bin"):
        load([*files, files[0].parent / "gone.bin"])
