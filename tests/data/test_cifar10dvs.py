"""No real CIFAR10-DVS could be had: these are stand-ins in its formats, of random and of real N-MNIST events."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from aedat4_writer import write_aedat4
from PIL import Image
from standin_cifar10dvs import recording_path, unchecked, write_cifar10, write_tree
from tonic.datasets import CIFAR10DVS
from tonic.transforms import ToFrame
from torchvision.datasets import CIFAR10
from writers import random_events, real_recordings, structured

from tmkt_braincog.data import cifar10dvs, install
from tmkt_braincog.data.base import DATASETS, NO_TWIN
from tmkt_braincog.data.cifar10dvs import CLASSES, SENSOR_SIZE, fetch, load, recordings_folder
from tmkt_braincog.data.events import read_bin
from tmkt_braincog.data.splits import make_split
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

RECORDINGS = [
    ("airplane", 0),
    ("airplane", 2),
    *(("cat", n) for n in range(10)),
    ("truck", 7),
    ("truck", 10),
]
TEST = [11]  # the last of ten cats; of two, round(0.9 * 2) = 2 train
PER_BATCH = 20


def events_of(number):
    return random_events(150, seed=number, sensor_size=SENSOR_SIZE)


@pytest.fixture
def root(tmp_path):
    # Written in an order that is not the sorted one.
    for name, number in reversed(RECORDINGS):
        write_aedat4(recording_path(tmp_path, name, number), events_of(number), SENSOR_SIZE)
    write_cifar10(tmp_path, PER_BATCH)
    with unchecked():
        yield tmp_path


def batch(root, name="data_batch_3"):
    return root / "cifar-10-batches-py" / name


def test_contract(root, caplog):
    with caplog.at_level(logging.INFO):
        data = DATASETS["CIFAR10-DVS"].load(root, steps=4, size=24, train_portion=None)
    assert data.source == "CIFAR10" and data.target == "CIFAR10-DVS" and not data.emulated
    assert data.classes == CLASSES
    assert data.names == [f"{name}/cifar10_{name}_{number}.aedat4" for name, number in RECORDINGS]
    assert data.file_ids.tolist() == [number for _, number in RECORDINGS]
    assert [CLASSES[c] for c in data.labels] == [name for name, _ in RECORDINGS]
    assert data.frames.shape == (14, 4, 2, 24, 24) and data.frames.dtype == torch.float32
    assert data.images.shape == (120, 24, 24) and data.images.dtype == torch.uint8
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    for name in ("file_ids", "twins", "train", "test", "static_train", "static_test"):
        assert getattr(data, name).dtype == np.int64
    assert (
        set(data.statistics["width"].tolist()) == set(data.statistics["height"].tolist()) == {128}
    )
    assert "CIFAR10-DVS: 14 of 10000 recordings, in 3 of 10 classes" in caplog.text
    assert DATASETS["CIFAR10-DVS"].counts == (1000,) * 10


def test_classes_are_those_of_tonic():
    assert {name: label for label, name in enumerate(CLASSES)} == CIFAR10DVS.classes
    assert CIFAR10DVS.sensor_size == (*SENSOR_SIZE, 2)
    assert CIFAR10DVS.data_filename == [f"{name}.zip" for name in CLASSES]


def test_frames_are_those_of_tonic_interpolated_by_torch(root):
    data = load(root)
    assert data.frames.shape == (14, 10, 2, 48, 48)
    for r, (_, number) in enumerate(RECORDINGS):
        counts = ToFrame(sensor_size=(*SENSOR_SIZE, 2), n_time_bins=10)(events_of(number))
        expected = F.interpolate(
            torch.tensor(counts, dtype=torch.float),
            size=[48, 48],
            mode="bilinear",
            align_corners=True,
        )
        torch.testing.assert_close(data.frames[r], expected, rtol=1e-6, atol=1e-6)


def test_images_are_the_v_channel_of_the_resized_pictures(root):
    pixels, labels = write_cifar10(root, PER_BATCH)
    data, blue = load(root, 2, 40), load(root, 2, 40, use_hsv=False)
    assert data.image_labels.tolist() == labels.tolist()
    for i in range(0, 120, 7):
        resized = T.Resize((40, 40))(Image.fromarray(pixels[i]))
        np.testing.assert_array_equal(
            data.images[i].numpy(), np.asarray(resized.convert("HSV").getchannel("V"))
        )
        np.testing.assert_array_equal(blue.images[i].numpy(), np.asarray(resized)[..., 2])


def test_split_and_static_pool(root):
    data = load(root, 2, 8)
    assert data.test.tolist() == TEST
    assert sorted([*data.train, *data.test]) == list(range(14))
    assert data.static_train.tolist() == list(range(120)) and not len(data.static_test)
    assert set(data.twins.tolist()) == {NO_TWIN}
    assert (
        len(data.remarks) == 1
        and "may show the same picture as a test recording" in data.remarks[0]
    )
    options, _ = resolve(parse(["--target-dataset", "CIFAR10-DVS"]))
    made = make_split(data, options, seed=42)
    assert made.static.tolist() == list(range(120))
    assert "1 of these recordings have no known twin among the images" in made.audit
    half = load(root, 2, 8, train_portion=0.5)
    assert [data.names[r].split("_")[-1] for r in half.test] == [
        f"{n}.aedat4" for n in (2, 5, 6, 7, 8, 9, 10)
    ]


def test_split_of_the_full_data_set(tmp_path):
    labels = np.repeat(np.arange(10), 1000)
    train, test = cifar10dvs.portion_split(labels, cifar10dvs.TRAIN_PORTION, 0.9)
    assert (len(train), len(test)) == (9000, 1000)
    assert (train % 1000 < 900).all() and (test % 1000 >= 900).all()


def test_published_draw_pairs_class_c_with_the_airplane_c(root):
    data = load(root, 2, 8)
    options, _ = resolve(parse(["--target-dataset", "CIFAR10-DVS", "--protocol", "he2024"]))
    made = make_split(data, options, seed=42)
    airplanes = [i for i, label in enumerate(data.image_labels.tolist()) if label == 0]
    assert [pool.tolist() for pool in made.pools] == [[i] for i in airplanes[:10]]
    np.testing.assert_array_equal(made.train, data.train)
    np.testing.assert_array_equal(made.test, data.test)
    assert "9 of 10 images that can be drawn are of another class" in made.audit


def test_order_is_that_of_class_and_number_in_any_directory_order(root, monkeypatch):
    expected = load(root, 2, 8)

    def shuffled(found):
        return np.random.default_rng(1).permutation(np.array(sorted(found), object)).tolist()

    for owner, name in ((Path, "iterdir"), (Path, "glob"), (Path, "rglob"), (os, "listdir")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, real=real, **k: iter(shuffled(real(*a, **k))))
    monkeypatch.setenv("TMKT_CACHE", str(root / "cache"))
    data = load(root, 2, 8)
    assert data.names == expected.names
    for name in ("frames", "labels", "images", "image_labels"):
        assert torch.equal(getattr(data, name), getattr(expected, name))
    for name in ("file_ids", "train", "test"):
        np.testing.assert_array_equal(getattr(data, name), getattr(expected, name))


def test_any_name_before_the_number_and_clutter(root):
    expected = load(root, 2, 8)
    folder = recordings_folder(root)
    recording_path(root, "cat", 3).rename(folder / "cat" / "cat_0003.aedat4")
    (folder / "airplane.zip").write_bytes(b"x")
    (folder / "cat" / "._cat_0003.aedat4").write_bytes(b"x")
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    data = load(root, 2, 8)
    assert data.file_ids.tolist() == expected.file_ids.tolist()
    assert torch.equal(data.frames, expected.frames)


def test_decoded_once_and_cifar10_is_read_from_the_cache_without_its_checksums(root, monkeypatch):
    calls = []
    before = load(root, 2, 8)
    monkeypatch.setattr(cifar10dvs, "read_aedat4", lambda path: calls.append(path))
    monkeypatch.setattr(cifar10dvs, "read_cifar10", lambda path: calls.append(path))
    again = load(root, 2, 8)
    assert not calls
    for name in ("frames", "images", "image_labels"):
        assert torch.equal(getattr(again, name), getattr(before, name))


def test_changed_pictures_are_read_again(root):
    before = load(root, 2, 8).images
    write_cifar10(root, PER_BATCH, seed=1)
    assert not torch.equal(load(root, 2, 8).images, before)


def test_pictures_with_other_checksums_are_refused(tmp_path):
    """Without the stand-ins' exception torchvision takes none but the real files."""
    write_aedat4(recording_path(tmp_path, "cat", 0), events_of(0), SENSOR_SIZE)
    write_aedat4(recording_path(tmp_path, "cat", 1), events_of(1), SENSOR_SIZE)
    write_cifar10(tmp_path, PER_BATCH)
    with pytest.raises(
        UserError,
        match=r"(?s)Cannot read CIFAR-10 in .*cifar-10-batches-py: .*corrupted.*Expected:",
    ):
        load(tmp_path, 2, 8, train_portion=0.5)


def break_recording(root):
    path = recording_path(root, "cat", 3)
    path.write_bytes(path.read_bytes()[:-300])


def outside(root):
    events = events_of(3)
    events["x"][5] = 128
    write_aedat4(recording_path(root, "cat", 3), events, (346, 260))


@pytest.mark.parametrize(
    "change, said",
    [
        (break_recording, r"cat/cifar10_cat_3\.aedat4"),
        (outside, r"cifar10_cat_3\.aedat4: 1 of 150 events lie outside the 128 x 128 sensor"),
        (
            lambda root: recordings_folder(root).rename(root / "x"),
            r"no folder .*CIFAR10DVS\.\nExpected:",
        ),
        (
            lambda root: (recordings_folder(root) / "cat").rename(recordings_folder(root) / "Cat"),
            r"the folders Cat, which are none of the 10 classes.*Expected:",
        ),
        (
            lambda root: recording_path(root, "cat", 3).rename(
                recordings_folder(root) / "cat" / "a.aedat4"
            ),
            r"Found .*cat/a\.aedat4; a name like \*_0\.aedat4",
        ),
        (
            lambda root: recording_path(root, "cat", 3).rename(
                recordings_folder(root) / "cat" / "b_04.aedat4"
            ),
            r"Both .* and .* have number 4",
        ),
        (
            lambda root: batch(root).unlink(),
            r"Found no data_batch_3 in .*cifar-10-batches-py\.\nExpected:",
        ),
        (
            lambda root: shutil.rmtree(batch(root).parent),
            r"Found no data_batch_1, .*batches\.meta in .*Expected:",
        ),
        (
            lambda root: batch(root).write_bytes(b"\x80\x04no pickle"),
            r"Cannot read CIFAR-10 in .*Expected:",
        ),
        (
            lambda root: batch(root, "batches.meta").write_bytes(b""),
            r"Cannot read CIFAR-10 in .*Expected:",
        ),
    ],
)
def test_faults_are_named(root, change, said):
    change(root)
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(root, 2, 8)


def test_missing_parts_print_the_expected_tree(tmp_path):
    tree = r"(?s)Expected:.*CIFAR10DVS/<class>/<name>_<number>\.aedat4.*cifar-10-batches-py.*prepare CIFAR10-DVS"
    for given in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=tree):
            load(given)


@pytest.mark.parametrize("portion", [0.0, 0.01, 1.0])
def test_portion_that_leaves_a_side_empty_is_refused(root, portion):
    with pytest.raises(UserError, match="leaves none to train"):
        load(root, 2, 8, train_portion=portion)


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Both archives as they are distributed, made of a stand-in, and what was asked for."""
    made, asked = tmp_path / "made", []
    write_tree(made, [events_of(k) for k in range(3)], per_class=2, images_per_batch=PER_BATCH)
    folder = recordings_folder(made)
    for name in CLASSES:
        shutil.make_archive(str(folder / name), "zip", folder, name)
        shutil.rmtree(folder / name)
    shutil.make_archive(str(made / "CIFAR10DVS"), "zip", folder)
    shutil.make_archive(str(made / "cifar-10-python"), "gztar", made, "cifar-10-batches-py")

    def download(archive, into):
        asked.append((archive.name, archive.urls, archive.md5))
        into.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made / archive.name, into / archive.name))

    monkeypatch.setattr(install, "fetch", download)
    return asked, made


def test_fetch_unpacks_the_ten_inner_archives_and_cifar10(tmp_path, archives):
    asked, _ = archives
    root = tmp_path / "root"
    for _ in range(2):
        fetch(root)
    assert asked == [
        ("CIFAR10DVS.zip", (CIFAR10DVS.url, cifar10dvs.DIRECT), "ce3a4a0682dc0943703bd8f749a7701c"),
        ("cifar-10-python.tar.gz", (CIFAR10.url,), "c58f30108f718f92721af3b95e74349a"),
    ]
    assert sorted(os.listdir(root)) == ["CIFAR10DVS", "cifar-10-batches-py"]
    assert sorted(os.listdir(root / "CIFAR10DVS")) == list(CLASSES)
    with unchecked():
        data = load(root, 2, 8, train_portion=0.5)
    assert len(data.labels) == 20 and len(data.images) == 120


def test_fetch_leaves_nothing_behind_where_an_inner_archive_is_missing(tmp_path, archives):
    _, made = archives
    (recordings_folder(made) / "frog.zip").unlink()
    shutil.make_archive(str(made / "CIFAR10DVS"), "zip", recordings_folder(made))
    root = tmp_path / "root"
    with pytest.raises(UserError, match=r"(?s)CIFAR10DVS\.zip holds no frog\.zip.*Expected:"):
        fetch(root)
    assert os.listdir(root) == ["CIFAR10DVS.zip"]


def test_an_archive_with_a_folder_of_the_same_name(tmp_path, archives):
    _, made = archives
    shutil.make_archive(str(made / "CIFAR10DVS"), "zip", made, "CIFAR10DVS")
    fetch(tmp_path / "root")
    assert sorted(os.listdir(tmp_path / "root" / "CIFAR10DVS")) == list(CLASSES)


def test_recipe_is_that_of_the_defaults():
    options, _ = resolve(parse(["--target-dataset", "CIFAR10-DVS"]))
    expected = {
        "source_dataset": "CIFAR10",
        "model": "Transfer_VGG_SNN",
        "step": 10,
        "epochs": 300,
        "batch_size": 120,
        "lr": 5e-3,
        "sched": "cosine",
        "event_size": 48,
        "augment": "none",
        "sampling": "shuffle",
        "mixup_ratio": 0.4,
    }
    assert {name: getattr(options, name) for name in expected} == expected
    with pytest.raises(UserError, match="expected CIFAR10"):
        resolve(parse(["--target-dataset", "CIFAR10-DVS", "--source-dataset", "mnist"]))


@pytest.mark.realdata
def test_real_events_in_this_format(real_data, tmp_path):
    events = [structured(read_bin(path)) for path in real_recordings(real_data)[:3]]
    write_tree(tmp_path, events, per_class=2, images_per_batch=PER_BATCH)
    with unchecked():
        data = load(tmp_path, train_portion=0.5)
    for r in range(20):
        shown = events[(int(data.labels[r]) + int(data.file_ids[r])) % 3]
        counts = ToFrame(sensor_size=(*SENSOR_SIZE, 2), n_time_bins=10)(shown)
        expected = F.interpolate(
            torch.tensor(counts, dtype=torch.float),
            size=[48, 48],
            mode="bilinear",
            align_corners=True,
        )
        torch.testing.assert_close(data.frames[r], expected, rtol=1e-6, atol=1e-6)
