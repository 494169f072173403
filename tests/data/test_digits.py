import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from tmkt_braincog.data import DATASETS, LoadSpec, cache, camera, digits, emulated
from tmkt_braincog.data.camera import EventCamera
from tmkt_braincog.data.digits import digit_images
from tmkt_braincog.data.emulator import emulate, fire, position
from tmkt_braincog.errors import UserError

FIRST_FOUR = "0b3c600b1686d4371bc1dbffb3f7251ab05e589c08e936a3384bf145f7fe7ec9"


@pytest.fixture(scope="module")
def recordings():
    return emulate(digit_images()[0][::20], range(0, 1797, 20))


@pytest.fixture(scope="module")
def data():
    return DATASETS["ndigits"].load(LoadSpec(steps=5))


def test_images_are_centred_and_full_range():
    images, labels = digit_images()
    assert images.shape == (1797, 28, 28)
    assert images.dtype == np.uint8
    assert images.max() == 255
    assert not images[:, :2].any() and not images[:, -2:].any()
    assert not images[:, :, :2].any() and not images[:, :, -2:].any()
    np.testing.assert_array_equal(labels, load_digits().target)
    # The centre of each 3 x 3 block is the source pixel itself.
    centres = images[:, 3:26:3, 3:26:3].astype(float)
    assert np.abs(centres - load_digits().images * 255 / 16).max() <= 0.5


def test_scene_moves_along_a_triangle():
    corners = [position(t, EventCamera()) for t in (0, 105_000, 210_000, 315_000)]
    steps = np.diff(corners, axis=0)
    np.testing.assert_allclose(steps, [(3.5, 7), (3.5, -7), (-7, 0)], atol=1e-9)
    np.testing.assert_allclose(position(52_500, EventCamera()), np.mean(corners[:2], axis=0))


def test_number_polarity_and_order_of_events(recordings):
    counts = np.array([len(e) for e in recordings])
    assert counts.min() >= 2000 and counts.max() <= 6000
    assert 3500 < counts.mean() < 5000
    assert 0.45 < np.mean([e["p"].mean() for e in recordings]) < 0.55
    for events in recordings:
        assert events["x"].max() <= 33 and events["y"].max() <= 33
        assert (np.diff(events["t"]) >= 0).all() and events["t"].min() >= 0
        assert events["t"].max() <= EventCamera().duration_us
        assert 0.3 < events["p"].mean() < 0.7


def test_events_are_the_same_on_every_machine():
    digest = hashlib.sha256(
        b"".join(e.tobytes() for e in emulate(digit_images()[0][:4]))
    ).hexdigest()
    assert digest == FIRST_FOUR


def test_recording_does_not_depend_on_its_batch():
    images = digit_images()[0][:6]
    together, alone = emulate(images)[4], emulate(images[4:5], [4])[0]
    np.testing.assert_array_equal(together, alone)


def edge_image():
    image = np.zeros((1, 28, 28), np.uint8)
    image[:, :, :14] = 255
    return image


def test_bright_edge_moving_right_gives_on_events_then_off_events():
    quiet = EventCamera(noise_hz=0)
    events = emulate(edge_image(), camera=quiet)[0]
    events = events[
        (events["x"] >= 12) & (events["x"] < 22) & (events["y"] > 10) & (events["y"] < 22)
    ]
    right, left = events["t"] < 210_000, events["t"] > 212_500
    assert events["p"][right].mean() > 0.99
    assert events["p"][left].mean() < 0.01
    # log(1 / 0.1) / 0.36 thresholds for each of the 7 columns the edge passes, fewer for the dead
    # time.
    per_row = right.sum() / 11
    assert 7 * 2 < per_row <= 7 * np.log(10) / 0.36 * 1.05


def test_no_contrast_gives_noise_only():
    flat = np.zeros((1, 28, 28), np.uint8)
    assert len(emulate(flat, camera=EventCamera(noise_hz=0))[0]) == 0
    n = np.mean([len(emulate(flat, [i], camera=EventCamera(noise_hz=10))[0]) for i in range(20)])
    assert n == pytest.approx(10 * 34 * 34 * 0.315, rel=0.02)


def test_dead_time_separates_the_events_of_a_pixel():
    camera = EventCamera(noise_hz=0, refractory_us=6_000)
    events = emulate(edge_image(), camera=camera)[0]
    order = np.lexsort((events["t"], events["x"], events["y"]))
    events = events[order]
    same = (np.diff(events["x"]) == 0) & (np.diff(events["y"]) == 0)
    assert same.sum() > 100
    assert np.diff(events["t"])[same].min() >= 5_999  # whole microseconds


def test_ideal_pixels_fire_once_per_threshold():
    # Light rising by 1 in log intensity at a constant rate over 100 ms, threshold 0.25.
    start, threshold = np.zeros((1, 34, 34), np.float32), np.full((1, 34, 34), 0.25, np.float32)
    views = (start + np.float32(i / 40) for i in range(1, 41))
    dead = np.array([2_500], np.float32)
    pixel, is_on, t = fire(start, views, start.copy(), threshold, threshold, 2_500, dead)
    assert is_on.all()
    times = t[pixel == 0].tolist()
    # Each event costs the dead time, 2500 us, in which the level follows the light.
    np.testing.assert_allclose(times, [25_000, 52_500, 80_000], atol=2)


def test_a_pixel_that_stands_at_its_threshold_fires_at_once():
    still, threshold = np.zeros((1, 8, 8), np.float32), np.full((1, 8, 8), 0.25, np.float32)
    dead = np.array([2_500], np.float32)
    with np.errstate(all="raise"):
        pixel, is_on, t = fire(still, [still], still + threshold, threshold, threshold, 2_500, dead)
    assert pixel.tolist() == [*range(64)] and not is_on.any() and not t.any()


@pytest.mark.parametrize("portion", [0, 1, -0.5, 1.5, 0.001, float("nan")])
def test_split_with_an_empty_side(portion):
    with pytest.raises(UserError, match="training portion"):
        digits.load(LoadSpec(train_portion=portion))


@pytest.mark.parametrize(
    "owner, name, value",
    [
        (EventCamera, "__init__", lambda self, real=EventCamera.__init__: real(self, dark=0.2)),
        (camera, "_ZOOM", 1e-5),
        (camera, "EMULATOR_VERSION", 0),
        (digits, "digit_images", lambda real=digit_images: (real()[0] // 2, real()[1])),
    ],
)
def test_the_cache_depends_on_the_images_and_on_every_number_of_the_camera(
    owner, name, value, monkeypatch
):
    asked = []

    def record(name, key, build):
        asked.append(cache.cache_folder(name, key))

    monkeypatch.setattr(emulated, "cached", record)
    for _ in range(2):
        emulated.emulated_frames(digits.digit_images()[0], 5, EventCamera(), "ndigits")
        monkeypatch.setattr(owner, name, value)
    assert len(set(asked)) == 2


def test_contract(data):
    assert data.source == "digits" and data.target == "ndigits"
    assert data.emulated
    assert data.frames.shape == (1797, 5, 2, 34, 34) and data.frames.dtype == torch.uint8
    assert data.images.shape == (1797, 28, 28) and data.images.dtype == torch.uint8
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    assert data.names[0] == "digits/0000" and len(set(data.names)) == 1797
    np.testing.assert_array_equal(data.twins, np.arange(1797))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([data.static_train, data.test])), np.arange(1797)
    )
    assert set(data.train) < set(data.static_train)
    for digit in range(10):
        n = int((data.labels == digit).sum())
        assert int((data.labels[data.static_train] == digit).sum()) == round(n / 2)
        assert int((data.labels[data.train] == digit).sum()) == round(round(n / 2) / 2)


def test_frames_hold_the_events(data, recordings):
    for r in (0, 900, 1780):
        t = recordings[r // 20]["t"]
        kept = (t - t[0] < (t[-1] - t[0]) // 5 * 5).sum()
        assert data.frames[r].sum() == kept
        assert data.statistics["n_events"][r] == len(t)


def test_frames_come_from_the_cache(data, monkeypatch):
    monkeypatch.setattr(emulated, "emulate", None)
    again = digits.load(LoadSpec(steps=5, train_portion=0.2))
    assert torch.equal(again.frames, data.frames)
    assert len(again.train) < len(data.train)


def test_recordings_of_a_class_resemble_each_other(data):
    # A nearest-mean classifier on blurred event counts: far above chance, so the events show the
    # digit.
    x = torch.nn.functional.avg_pool2d(data.frames.float().flatten(1, 2), 3)
    x = torch.nn.functional.normalize(x.flatten(1))
    means = torch.stack([x[data.train][data.labels[data.train] == c].mean(0) for c in range(10)])
    found = (x[data.test] @ torch.nn.functional.normalize(means).T).argmax(1)
    assert (found == data.labels[data.test]).float().mean() > 0.7
