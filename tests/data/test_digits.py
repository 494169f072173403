"""The built-in data: scikit-learn's digits, and the sensor model that makes events of them."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import avg_pool2d, interpolate, normalize

from tmkt_braincog.data import DATASETS, LoadSpec, cache, digits, emulator
from tmkt_braincog.data.digits import digit_images, emulated_stream, enlarge_thrice, recording
from tmkt_braincog.data.emulator import DURATION_US, SensorModel, emulate, fire, position
from tmkt_braincog.errors import UserError

FIRST_FOUR = "0b3c600b1686d4371bc1dbffb3f7251ab05e589c08e936a3384bf145f7fe7ec9"


@pytest.fixture(scope="module")
def stream():
    return emulated_stream(digit_images()[0])


@pytest.fixture(scope="module")
def data():
    return DATASETS["ndigits"].load(LoadSpec(steps=5))


def test_images_are_centred_and_full_range_and_enlarged_bilinearly():
    images, labels = digit_images()
    assert images.shape == (1797, 28, 28) and images.dtype == np.uint8 and images.max() == 255
    border = np.ones((28, 28), bool)
    border[2:-2, 2:-2] = False
    assert not images[:, border].any()
    np.testing.assert_array_equal(labels, load_digits().target)
    # The centre of each 3 x 3 block is the source pixel itself.
    centres = images[:, 3:26:3, 3:26:3].astype(float)
    assert np.abs(centres - load_digits().images * 255 / 16).max() <= 0.5
    small = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    big = interpolate(torch.from_numpy(small)[None].double(), scale_factor=3, mode="bilinear")[0]
    np.testing.assert_allclose(enlarge_thrice(small), 9 * big.numpy(), atol=1e-9)


def test_scene_moves_along_a_triangle():
    corners = [position(t) for t in (0, 105_000, 210_000, 315_000)]
    steps = np.diff(corners, axis=0)
    np.testing.assert_allclose(steps, [(3.5, 7), (3.5, -7), (-7, 0)], atol=1e-9)
    np.testing.assert_allclose(position(52_500), np.mean(corners[:2], axis=0))


def test_events_of_all_recordings(stream):
    counts = np.diff(stream["offsets"])
    assert len(counts) == 1797
    assert counts.min() >= 2000 and counts.max() <= 6000
    assert 3500 < counts.mean() < 5000
    assert 0.45 < stream["p"].mean() < 0.55
    assert stream["x"].max() <= 33 and stream["y"].max() <= 33
    assert stream["t"].min() >= 0 and stream["t"].max() <= DURATION_US
    for r in range(0, 1797, 50):
        events = recording(stream, r)
        assert (np.diff(events["t"]) >= 0).all()
        assert 0.3 < events["p"].mean() < 0.7


def test_events_are_the_same_on_every_machine_and_in_every_batch(stream):
    images = digit_images()[0]
    four = emulate(images[:4])
    assert hashlib.sha256(b"".join(e.tobytes() for e in four)).hexdigest() == FIRST_FOUR
    np.testing.assert_array_equal(four[3], emulate(images[3:4], first_id=3)[0])
    alone = emulate(images[100:101], first_id=100)[0]
    for name in "xytp":
        np.testing.assert_array_equal(recording(stream, 100)[name], alone[name])


def edge_events(**model):
    """Of a vertical edge, bright on the left, without noise."""
    image = np.zeros((1, 28, 28), np.uint8)
    image[:, :, :14] = 255
    return emulate(image, model=SensorModel(noise_hz=0, **model))[0]


def test_bright_edge_moving_right_gives_on_events_then_off_events():
    events = edge_events()
    x, y = events["x"], events["y"]
    events = events[(x >= 12) & (x < 22) & (y > 10) & (y < 22)]
    right, left = events["t"] < 210_000, events["t"] > 212_500
    assert events["p"][right].mean() > 0.99
    assert events["p"][left].mean() < 0.01
    # log(1 / 0.1) / 0.36 thresholds for each of the 7 columns the edge passes, fewer for the dead
    # time.
    per_row = right.sum() / 11
    assert 7 * 2 < per_row <= 7 * np.log(10) / 0.36 * 1.05


def test_no_contrast_gives_noise_only():
    flat = np.zeros((1, 28, 28), np.uint8)
    assert len(emulate(flat, model=SensorModel(noise_hz=0))[0]) == 0
    model = SensorModel(noise_hz=10)
    n = np.mean([len(emulate(flat, first_id=i, model=model)[0]) for i in range(20)])
    assert n == pytest.approx(10 * 34 * 34 * 0.315, rel=0.02)


def test_dead_time_separates_the_events_of_a_pixel():
    events = edge_events(refractory_us=6_000)
    events = events[np.lexsort((events["t"], events["x"], events["y"]))]
    same = (np.diff(events["x"]) == 0) & (np.diff(events["y"]) == 0)
    assert same.sum() > 100
    assert np.diff(events["t"])[same].min() >= 5_999  # whole microseconds


def test_ideal_pixels_fire_once_per_threshold():
    # One pixel, light rising by 1 in log intensity at a constant rate over 100 ms, threshold 0.25.
    model = SensorModel(threshold=0.25, mismatch=0)
    start = np.zeros((1, 34, 34), np.float32)
    thresholds = np.full((2, 34, 34), 0.25, np.float32)
    views = (start + np.float32(i / 40) for i in range(41))
    times = []
    for _, _, y, x, t in fire(views, start, thresholds, model):
        times += t[(y == 0) & (x == 0)].tolist()
    # Each event costs the dead time, 2500 us, in which the level follows the light.
    np.testing.assert_allclose(times, [25_000, 52_500, 80_000], atol=2)


@pytest.mark.parametrize("portion", [0, 1, -0.5, 1.5, 0.001, float("nan")])
def test_split_with_an_empty_side(portion):
    with pytest.raises(UserError, match="training portion"):
        digits.load(LoadSpec(train_portion=portion))


@pytest.mark.parametrize(
    "owner, name, value", [
        (SensorModel, "__init__", lambda self, real=SensorModel.__init__: real(self, dark=0.2)),
        (emulator, "CORNERS", ((0.0, 0.0),) * 4),
        (emulator, "_LOG_QUANTUM", 1e-5),
        (digits, "STREAM_VERSION", 0),
        (digits, "enlarge_thrice", lambda images, real=enlarge_thrice: 8 * real(images) // 9),
    ],
)  # fmt: skip
def test_the_cache_depends_on_the_images_and_on_every_number_of_the_sensor(
    owner, name, value, monkeypatch
):
    asked = []
    ask = lambda name, key, build: asked.append(cache.cache_folder(name, key))  # noqa: E731
    monkeypatch.setattr(digits, "cached", ask)
    for _ in range(2):
        for read in (emulated_stream, lambda images: digits.emulated_frames(images, 5)):
            read(digit_images()[0])
        monkeypatch.setattr(owner, name, value)
    assert len(set(asked)) == 4


def test_contract(data, stream, monkeypatch):
    assert (data.source, data.target, data.emulated) == ("digits", "ndigits", True)
    assert data.frames.shape == (1797, 5, 2, 34, 34) and data.frames.dtype == torch.uint8
    assert data.images.shape == (1797, 28, 28) and data.images.dtype == torch.uint8
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    assert data.names[0] == "digits/0000" and len(set(data.names)) == 1797
    np.testing.assert_array_equal(data.twins, np.arange(1797))
    parts = np.sort(np.concatenate([data.static_train, data.test]))
    np.testing.assert_array_equal(parts, np.arange(1797))
    assert set(data.train) < set(data.static_train)
    for digit in range(10):
        n = int((data.labels == digit).sum())
        assert int((data.labels[data.static_train] == digit).sum()) == round(n / 2)
        assert int((data.labels[data.train] == digit).sum()) == round(round(n / 2) / 2)
    for r in (0, 900, 1796):  # frames hold the events
        t = recording(stream, r)["t"]
        kept = (t - t[0] < (t[-1] - t[0]) // 5 * 5).sum()
        assert data.frames[r].sum() == kept
    monkeypatch.setattr(digits, "to_frames", None)  # and come from the cache
    again = digits.load(LoadSpec(steps=5, train_portion=0.2))
    assert torch.equal(again.frames, data.frames) and len(again.train) < len(data.train)


def test_recordings_of_a_class_resemble_each_other(data):
    """A nearest-mean classifier on blurred counts is far above chance: events show the digit."""
    x = normalize(avg_pool2d(data.frames.float().flatten(1, 2), 3).flatten(1))
    means = torch.stack([x[data.train][data.labels[data.train] == c].mean(0) for c in range(10)])
    found = (x[data.test] @ normalize(means).T).argmax(1)
    assert (found == data.labels[data.test]).float().mean() > 0.7
