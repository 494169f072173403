"""Events to frames: as tonic counts them, and of a file alone as among those of its data set."""

import numpy as np
import pytest
import torch
from sets import CASES
from tonic.transforms import ToFrame
from writers import random_events, real_recordings, structured, write_bin

from tests.data.test_folder import picture, recording
from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.data.events import make_events, read_bin
from tmkt_braincog.data.frames import apply_mode, narrow, resize_frames, to_frames
from tmkt_braincog.errors import UserError


def assert_as_tonic(events, steps, sensor):
    ours = to_frames(events, steps, sensor)
    theirs = ToFrame(sensor_size=(*sensor, 2), n_time_bins=steps)(structured(events))
    assert ours.dtype == theirs.dtype == np.int16
    np.testing.assert_array_equal(ours, theirs)
    return ours


@pytest.mark.parametrize("steps", [1, 3, 10, 16])
@pytest.mark.parametrize("sensor", [(34, 34), (40, 20)])
def test_equals_tonic_on_random_events_also_of_short_recordings(steps, sensor):
    for seed in range(5):
        events = random_events(3000, seed, sensor)
        frames = assert_as_tonic(events, steps, sensor)
        window = (events["t"][-1] - events["t"][0]) // steps
        kept = events["t"] < events["t"][0] + steps * window
        assert frames.sum() == kept.sum() < len(events)
        for n, end_us in ((1, 9), (2, 1), (3, 25), (12, 11)):
            assert_as_tonic(random_events(n, seed, sensor, end_us), steps, sensor)


@pytest.mark.realdata
def test_equals_tonic_on_real_recordings(real_data):
    for path in real_recordings(real_data):
        sensor = (240, 180) if "NCALTECH101" in path.parts else (34, 34)
        assert_as_tonic(read_bin(path), 10, sensor)


def test_known_frames():
    # 0..10 us in two bins: windows of 5 us, [0, 5) and [5, 10); the event at 10 us belongs to none.
    events = make_events(
        np.array([1, 1, 2, 0]), np.array([0, 0, 1, 0]), np.array([0, 4, 5, 10]), [1, 1, 0, 1]
    )
    expected = np.zeros((2, 2, 2, 3), int)
    expected[0, 1, 0, 1] = 2
    expected[1, 0, 1, 2] = 1
    np.testing.assert_array_equal(to_frames(events, 2, (3, 2)), expected)


def test_columns_and_structured_arrays_give_the_same():
    events = random_events(500)
    columns = {name: events[name].copy() for name in ("x", "y", "t", "p")}
    np.testing.assert_array_equal(to_frames(columns, 4, (34, 34)), to_frames(events, 4, (34, 34)))


def test_modes():
    counts = to_frames(random_events(40), 3, (34, 34)) * 3
    counts[1, 0] = 0
    assert apply_mode(counts, "count") is counts
    np.testing.assert_array_equal(apply_mode(counts, "event"), (counts >= 1).astype(np.uint8))
    frequency = apply_mode(counts, "frequency")
    assert frequency.dtype == np.float32 and not frequency[1, 0].any()
    for t, p in ((0, 0), (0, 1), (1, 1), (2, 0)):
        np.testing.assert_allclose(frequency[t, p], counts[t, p] / counts[t, p].max(), rtol=1e-7)


def test_bad_steps_modes_and_no_events():
    with pytest.raises(UserError, match="Got 0 time-steps and 5 events"):
        to_frames(random_events(5), 0, (34, 34))
    with pytest.raises(UserError, match="Got 5 time-steps and 0 events"):
        to_frames(random_events(0), 5, (34, 34))
    with pytest.raises(UserError, match=r"Unknown mode of frames 'freqency'.*'frequency'"):
        apply_mode(np.zeros((1, 2, 3, 3)), "freqency")


def test_many_events_in_one_pixel_do_not_wrap():
    for n, dtype in ((32767, np.int16), (32768, np.int32), (40_000, np.int32)):
        events = make_events(np.zeros(n), np.zeros(n), np.r_[np.zeros(n - 1), 9], np.ones(n))
        events = np.r_[events, make_events([0], [0], [10], [0])]
        frames = to_frames(events, 1, (2, 1))
        assert frames.dtype == dtype and frames[0].tolist() == [[[0, 0]], [[n, 0]]]
        assert narrow(frames).dtype == dtype and narrow(frames).max() == n


def test_narrow_keeps_values():
    for top, dtype in ((255, np.uint8), (256, np.int16), (40_000, np.int32)):
        frames = np.array([[0, top]], np.int32)
        assert narrow(frames).dtype == dtype
        np.testing.assert_array_equal(narrow(frames), frames)


def test_resize_interpolates_between_aligned_corners():
    frames = torch.tensor([[0, 4], [8, 12]], dtype=torch.uint8).expand(5, 3, 2, 2, 2)
    resized = resize_frames(frames, 3)
    assert resized.shape == (5, 3, 2, 3, 3) and resized.dtype == torch.float32
    assert resized[4, 2, 1].tolist() == [[0, 2, 4], [4, 6, 8], [8, 10, 12]]
    assert torch.equal(resize_frames(frames, 2), frames.float())


def test_resize_keeps_leading_dimensions_apart():
    frames = torch.randint(0, 9, (4, 3, 2, 7, 5), generator=torch.Generator().manual_seed(0))
    resized = resize_frames(frames, 6)
    torch.testing.assert_close(resized[2, 1, 0], resize_frames(frames[2, 1, 0], 6))


# A file by itself


def check(data, path, r):
    how = data.preparation
    found = how.frames(*how.read(path), 16, str(path))
    np.testing.assert_array_equal(found, resize_frames(data.frames[r], 16).numpy())


@pytest.mark.parametrize("name", sorted({*CASES} - {"N-OMNIGLOT"}))  # there a file holds twenty
def test_a_file_by_itself(name, tmp_path, few):
    case = CASES[name]
    case.write(tmp_path)
    data = case.load(tmp_path)
    for r in (0, len(data.names) - 1):
        check(data, next(tmp_path.rglob(data.names[r])), r)


@pytest.mark.realdata
def test_every_real_recording_by_itself(real_data):
    data = DATASETS["nmnist"].load(LoadSpec(real_data, 5))
    for r, name in enumerate(data.names):
        check(data, real_data / "NMNIST" / name, r)


def test_windows_of_a_file_by_itself(tmp_path):
    for c, name in enumerate(("cup", "key")):
        (tmp_path / "events" / name).mkdir(parents=True)
        for k in range(3):
            write_bin(tmp_path / "events" / name / f"a{k}.bin", recording(10 * c + k))
        picture(tmp_path / "images" / name / "b.png", 0)
    span = int(np.ptp(recording(0)["t"]))
    data = DATASETS["folder"].load(LoadSpec(tmp_path, 3, 16, window=f"{span // 4}us"))
    how = data.preparation
    events, sensor = how.read(tmp_path / "events/cup/a0.bin")
    parts = how.windows(events)
    assert len(parts) == 4 and [f"events/cup/a0.bin{mark}" for mark in parts] == data.names[:4]
    for r, part in enumerate(parts.values()):
        np.testing.assert_array_equal(how.frames(part, sensor, 16, "it"), data.frames[r].numpy())


def test_of_n_omniglot_no_file_is_read_and_no_other_sensor_taken(tmp_path, few):
    case = CASES["N-OMNIGLOT"]
    case.write(tmp_path)
    how = case.load(tmp_path).preparation
    with pytest.raises(UserError, match="in a way of its own"):
        how.read(next(tmp_path.rglob("*.aedat4")))
    with pytest.raises(UserError, match="a part of 346 x 260, and takes no other"):
        how.frames(recording(0), (128, 128), 16, "it")
