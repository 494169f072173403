import numpy as np
import pandas as pd
import pytest
import torch

from tmkt_braincog.data import DATASETS, LoadSpec, Pair, TSMDataset, make_split
from tmkt_braincog.data.camera import EventCamera
from tmkt_braincog.data.emulated import emulated_frames
from tmkt_braincog.data.emulator import emulate, zoomed
from tmkt_braincog.data.encodings import I2E, Repeat, Saccade
from tmkt_braincog.data.encodings.i2e import MOVEMENTS, i2e
from tmkt_braincog.data.encodings.saccade import source_camera
from tmkt_braincog.data.events import to_bin
from tmkt_braincog.engine.compare import compare
from tmkt_braincog.engine.folder import read_predictions
from tmkt_braincog.errors import UserError
from tmkt_braincog.figures.features import pairs_of
from tmkt_braincog.methods import build_method
from tmkt_braincog.methods.names import refuse_idle
from tmkt_braincog.mixing import Progress
from tmkt_braincog.options import parse, resolve
from tmkt_braincog.runs import reopen


def slow_i2e(values, directions, ratio):
    B, H, W = values.shape
    out = np.zeros((B, directions.shape[1], 2, H, W), np.float32)
    for b, t, y, x in np.ndindex(B, directions.shape[1], H, W):
        seen = [
            values[b, np.clip(y + dy - 1, 0, H - 1), np.clip(x + dx - 1, 0, W - 1)]
            for dy, dx in MOVEMENTS[directions[b, t]]
        ]
        least = ratio * (values[b].max() - values[b].min())
        if least > 0:
            out[b, t, :, y, x] = seen[1] - seen[0] <= -least, seen[1] - seen[0] >= least
    return out


def test_i2e_is_the_difference_of_shifted_images():
    rng = np.random.default_rng(0)
    values = (rng.integers(0, 256, (3, 7, 6)) / 256).astype(np.float32)
    values[2] = 0.5  # no contrast: no event
    directions = rng.integers(0, 8, (3, 9))
    directions[0, :8] = range(8)
    found = i2e(torch.from_numpy(values), torch.from_numpy(directions), 0.125)
    np.testing.assert_array_equal(found.numpy(), slow_i2e(values, directions, 0.125))
    assert not found[2].any() and found[:2].any()
    brighter = i2e(3 * torch.from_numpy(values) + 1, torch.from_numpy(directions), 0.125)
    assert (brighter[:2] != found[:2]).float().mean() < 0.001  # relative to the contrast


def test_i2e_draws_a_movement_for_every_sample_and_step():
    encoding = I2E(10)
    values = torch.rand(64, 5, 5, generator=torch.manual_seed(0))
    draws = np.random.default_rng(0).random((64, encoding.draws))
    directions = torch.from_numpy((draws * 8).astype(np.int64))
    assert torch.equal(encoding(values, np.arange(64), draws), i2e(values, directions, 0.12))
    assert set(directions.flatten().tolist()) == set(range(8))


@pytest.fixture(scope="module")
def data():
    return DATASETS["ndigits"].load(LoadSpec(steps=5))


def dataset(data, encoding, **more):
    given = dict(recordings=data.train, size=28, seed=3, augment="crop") | more
    return TSMDataset(
        data.frames, data.labels, data.images, data.image_labels, encoding=encoding, **given
    )


def test_an_encoding_changes_the_static_frames_alone(data):
    plain = dataset(data, None)[[0, 5, 900]]
    for encoding in (Repeat(5), I2E(5)):
        other = dataset(data, encoding)[[0, 5, 900]]
        for name in ("events", "label", "draws", "index", "image"):
            assert torch.equal(getattr(plain, name), getattr(other, name))
        same = torch.equal(plain.static_frames(), other.static_frames())
        assert same == isinstance(encoding, Repeat)


def test_encoded_frames_are_counts_and_are_augmented(data):
    encoding = I2E(5)
    frames = dataset(data, encoding)[list(range(40))].static_frames()
    still = dataset(data, encoding, augment="none")[list(range(40))].static_frames()
    assert set(frames.unique().tolist()) == {0.0, 1.0} and frames.shape == (40, 5, 2, 28, 28)
    moved = [not torch.equal(a, b) for a, b in zip(frames, still, strict=True)]
    assert np.mean(moved) > 0.9


def test_saccade_frames_are_those_of_the_images_own_recordings(data):
    encoding = Saccade(5)
    which = np.array([3, 7, 1200])
    encoding.prepare(data, which)
    values = torch.zeros(2, 34, 34)
    found = encoding(values, np.array([1200, 3]), np.empty((2, 0)))
    # The built-in recordings are those of the same camera, in which image k is recording k.
    assert torch.equal(found, data.frames[[1200, 3]].float())


def test_without_recordings_classes_take_turns(data):
    pairs = dataset(data, None, recordings=[])
    batch = pairs[list(range(20))]
    assert len(pairs) == 10 and batch.label.tolist() == [*range(10)] * 2
    assert not batch.events.any() and set(batch.index.tolist()) == {-1}
    assert torch.equal(data.image_labels[batch.image], batch.label)
    assert batch.image[:10].ne(batch.image[10:]).any()  # repeats have other partners


def test_camera_of_any_size_and_border():
    image = np.zeros((1, 40, 40), np.uint8)
    image[:, :, 20:] = 255
    camera = EventCamera((40, 40), ((-2.0, 0.0), (2.0, 0.0)), border="edge", noise_hz=0)
    events = emulate(image, camera=camera)[0]
    # The edge goes on above and below: only the columns that the step passes see a change.
    assert set(events["x"].tolist()) == {18, 19, 20, 21} and len(set(events["y"].tolist())) == 40
    assert events["p"].max() == 0 and events["t"].max() <= camera.duration_us
    flipped = emulate(image, camera=EventCamera((40, 40), camera.corners, border="edge",
                                                noise_hz=0, flip=True))[0]  # fmt: skip
    assert (flipped["p"] == 1).all() and np.array_equal(flipped["t"], events["t"])


def test_varied_cameras_differ_between_recordings_and_not_between_batches(data):
    images = np.repeat(data.images[:1].numpy(), 20, 0)
    camera = EventCamera(vary=1.0)
    together = emulate(images, camera=camera)
    assert np.array_equal(emulate(images[:1], [4], camera)[0], together[4])
    counts = [len(e) for e in together]
    assert max(counts) > 1.3 * min(counts)
    steady = [len(e) for e in emulate(images)]
    assert max(steady) < 1.1 * min(steady)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EventCamera().changed(["treshold=1"]), "threshold"),
        (lambda: EventCamera().changed(["threshold"]), "NAME=VALUE"),
        (lambda: EventCamera().changed(["threshold=much"]), "such as 0.36"),
        (lambda: EventCamera().changed(["flip=1"]), "such as False"),
        (lambda: EventCamera(sensor=(4, 4)), "sensor"),
        (lambda: EventCamera(step_us=2_000), "divisor"),
        (lambda: EventCamera(refractory_us=100), "at least step_us"),
        (lambda: emulate(np.zeros((1, 6, 6), np.uint8)), "do not fit"),
        (lambda: emulate(np.zeros((1, 40, 40), np.uint8)), "do not fit"),
        (lambda: emulated_frames(np.zeros((1, 28, 28), np.uint8), 200, EventCamera(), "x"), "200"),
        (lambda: I2E(10, 1.5), "i2e-ratio"),
        (lambda: to_bin({c: np.array([300]) for c in "xytp"}), "below 240"),
    ],
)
def test_impossible_cameras_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_the_default_path_is_n_mnists_on_a_dark_ground():
    assert source_camera(28, 34) == EventCamera()
    photograph = source_camera(48, 48, ["vary=0.5"])
    assert photograph.border == "edge" and photograph.vary == 0.5
    assert photograph.corners[1] == pytest.approx((0, 5 * 48 / 55))


FINETUNE = "--method finetune --shots 2 --epoch-size 32 --batch-size 8 --step 4 --warmup-epochs 0"


def test_fine_tuning_sees_images_and_then_recordings(monkeypatch):
    options, _ = resolve(parse([*FINETUNE.split(), "--epochs", "4"]))
    method = build_method("finetune", options, 1)
    batch = Pair(torch.ones(2, 4, 2, 3, 3), torch.zeros(2, 2, 3, 3), *[torch.zeros(2)] * 4)
    seen = (method.run(lambda x: x.mean(), batch, Progress(epoch, 4))[0] for epoch in range(4))
    assert list(map(float, seen)) == [0, 0, 1, 1]
    options.shots = 0
    assert build_method("finetune", options, 1).portion == 1


def test_zero_shots_end_to_end(tmp_path):
    words = [*FINETUNE.split(), "--shots", "0", "--epochs", "2", "--source-encoding", "i2e"]
    options, _ = resolve(parse([*words, "--output", str(tmp_path / "run"), "--no-tensorboard"]))
    rows = compare(options)
    predictions = read_predictions(tmp_path / "run" / "runs" / "finetune-seed42")
    assert set(predictions["part"]) == {"val", "test"} and set(predictions.columns) == {
        "part", "recording", "label", "event",
    }  # fmt: skip
    test = predictions[predictions["part"] == "test"]
    assert 100 * (test["event"] == test["label"]).mean() == pytest.approx(rows["top1_last"][0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of TMKT with the encoding ``saccade``."""
    folder = tmp_path_factory.mktemp("saccade")
    words = "--method tmkt --shots 2 --epoch-size 16 --batch-size 8 --step 4 --warmup-epochs 0"
    words += f" --epochs 1 --source-encoding saccade --no-tensorboard --output {folder}/run"
    compare(resolve(parse(words.split()))[0])
    return folder / "run" / "runs" / "tmkt-seed42"


def test_both_heads_are_logged_and_predicted(finished):
    log = pd.read_csv(finished / "log.csv")
    test = read_predictions(finished).query("part == 'test'")
    for head in ("static", "both"):
        top1 = 100 * (test[head] == test["label"]).mean()
        assert log[f"test_top1_{head}"].item() == pytest.approx(top1)


def test_figures_look_at_the_frames_that_the_run_was_trained_with(finished):
    (run,) = reopen([finished])
    test = run.split.test[:3]
    pairs = pairs_of(run, test, run.data.twins[test])
    # Their own images, which no pool of the training holds, and the camera of the recordings.
    assert torch.equal(pairs[[0, 1, 2]].static_frames(), pairs[[0, 1, 2]].events)


@pytest.mark.parametrize(
    "words, message",
    [
        ("--method tmkt --shots 0", "--method finetune"),
        ("--method baseline --source-encoding i2e --i2e-ratio 2", "i2e-ratio"),
        ("--method baseline --source-encoding saccade --camera vary=2", "vary"),
    ],
)
def test_what_an_encoding_or_a_method_cannot_take(words, message):
    with pytest.raises(UserError, match=message):
        resolve(parse(words.split()))


def test_an_encoding_means_nothing_to_a_method_without_images():
    words = ["--method", "event-only", "--source-encoding", "i2e"]
    with pytest.raises(UserError, match="changes nothing for event-only"):
        refuse_idle(resolve(parse(words))[0], words)
    words = ["--method", "tmkt", "--camera", "vary=1"]
    with pytest.raises(UserError, match="It is an option of --source-encoding saccade: give that"):
        refuse_idle(resolve(parse(words))[0], words)


def test_the_validation_part_is_the_same_for_every_seed(data):
    words = ["--shots", "5", "--leftover", "test", "--val-portion", "0.2"]
    options, _ = resolve(parse(words))
    one, other = (make_split(data, options, seed) for seed in (1, 2))
    np.testing.assert_array_equal(one.val, other.val)
    assert not np.array_equal(one.train, other.train) and len(one.train) == 50
    for split in (one, other):
        every = np.concatenate([split.train, split.val, split.test])
        assert len(set(every.tolist())) == len(every) == len(data.train) + len(data.test)
    with pytest.raises(UserError, match="--val-portion"):
        make_split(data, resolve(parse(words[:-2]))[0], 1)


def test_a_varied_scene_is_zoomed_about_its_centre():
    scene = np.zeros((2, 9, 9), np.float32)
    scene[:, 4, 2:7] = 1  # five pixels across
    wide = zoomed(scene, np.array([1.0, 2.0]), 2)
    assert np.array_equal(wide[0], scene[0])
    np.testing.assert_allclose(wide[1, 4], [1] * 9)
    np.testing.assert_allclose(zoomed(scene, np.array([0.5, 1.0]), 2)[0, 4, 3:6], [1, 1, 1])
    tall = zoomed(scene, np.array([2.0, 1.0]), 1)[0, :, 4]
    np.testing.assert_allclose(tall, [0, 0, 0, 0.5, 1, 0.5, 0, 0, 0])
