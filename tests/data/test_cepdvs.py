"""CEP-DVS is not public: these are stand-ins in its documented schema, of random and of real N-MNIST events."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from standin_cepdvs import HEADER, mat_bytes, picture, png_bytes, write_table, write_tree
from tonic.transforms import ToFrame
from writers import random_events, real_recordings, structured

from tmkt_braincog.data import cepdvs
from tmkt_braincog.data.base import DATASETS, NO_TWIN
from tmkt_braincog.data.cepdvs import CLASSES, fetch, load, split
from tmkt_braincog.data.events import read_bin
from tmkt_braincog.data.splits import make_split
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

# Classes mixed, so that an order by class is not one by number: ten of class 3, five of class 0, four of class 19.
LABELS = [3, 0, 3, 19, 3, 0, 3, 3, 19, 3, 0, 3, 0, 3, 19, 3, 0, 3, 19]
# Of ten the first five train and two test, of five two and one, of four two and one.
TRAIN = [0, 1, 2, 3, 4, 5, 6, 7, 8]
TEST = [9, 10, 11, 14]


def events_of(number):
    """Random events whose coordinates start at (9, 14); the size depends on the number."""
    events = random_events(200, seed=number, sensor_size=(60 + number, 45 + 2 * number))
    events["x"] += 9
    events["y"] += 14
    return events


@pytest.fixture
def root(tmp_path):
    write_tree(tmp_path, [events_of(k) for k in range(len(LABELS))], labels=LABELS)
    return tmp_path


def recording(root, number):
    return root / "CEP-DVS" / "data" / "MAT" / "img" / f"{number}.mat"


def image(root, number):
    return root / "CEP-DVS" / "data" / "img" / f"{number}.png"


def table(root):
    return root / "CEP-DVS" / "pathFile.csv"


def test_contract(root):
    data = DATASETS["CEP-DVS"].load(root, steps=4, size=24, train_portion=None)
    assert data.source == "RGB-CEP-DVS" and data.target == "CEP-DVS" and not data.emulated
    assert data.classes == CLASSES and len(CLASSES) == 20
    assert data.names == [f"data/MAT/img/{k}.mat" for k in range(19)]
    assert data.file_ids.tolist() == list(range(19))
    assert data.labels.tolist() == data.image_labels.tolist() == LABELS
    assert data.twins.tolist() == list(range(19))
    assert data.frames.shape == (19, 4, 2, 24, 24) and data.frames.dtype == torch.float32
    assert data.images.shape == (19, 24, 24) and data.images.dtype == torch.uint8
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    for name in ("file_ids", "twins", "train", "test", "static_train", "static_test"):
        assert getattr(data, name).dtype == np.int64
    assert data.statistics["width"].tolist() == [
        int(np.ptp(events_of(k)["x"])) + 1 for k in range(19)
    ]
    assert DATASETS["CEP-DVS"].counts == (500,) * 20


def test_frames_are_those_of_tonic_shifted_and_interpolated_by_torch(root):
    data = load(root)
    assert data.frames.shape == (19, 6, 2, 48, 48)
    for k in range(19):
        events = events_of(k)
        events["x"] -= events["x"].min()
        events["y"] -= events["y"].min()
        sensor = (int(events["x"].max()) + 1, int(events["y"].max()) + 1, 2)
        counts = torch.tensor(ToFrame(sensor_size=sensor, n_time_bins=6)(events), dtype=torch.float)
        expected = F.interpolate(counts, size=[48, 48], mode="bilinear", align_corners=True)
        torch.testing.assert_close(data.frames[k], expected, rtol=1e-6, atol=1e-6)


def test_images_are_the_v_channel_resized_afterwards(root):
    data, blue = load(root, 2, 20), load(root, 2, 20, use_hsv=False)
    for k, label in enumerate(LABELS):
        for found, channel in (
            (data, picture(k, label).max(-1)),
            (blue, picture(k, label)[..., 2]),
        ):
            expected = Image.fromarray(np.ascontiguousarray(channel)).resize(
                (20, 20), Image.Resampling.BILINEAR
            )
            np.testing.assert_array_equal(found.images[k].numpy(), np.asarray(expected))


def test_split_is_the_published_one(root, caplog):
    with caplog.at_level(logging.INFO):
        data = load(root, 2, 8)
    assert data.train.tolist() == data.static_train.tolist() == TRAIN
    assert data.test.tolist() == TEST
    assert data.static_test.tolist() == list(range(9, 19))
    assert data.remarks == [
        "6 of 19 recordings neither train nor test; the published split leaves out 3000 of 10000."
    ]
    for said in (
        "CEP-DVS: 19 of 10000 recordings, in 3 of 20 classes",
        "CEP-DVS: 19 of 10000 images, in 3 of 20 classes",
        "CEP-DVS: 9 recordings train, 4 test, 6 are not used",
    ):
        assert said in caplog.text


def test_split_of_the_full_data_set():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 500))
    train, test = split(labels, 0.5)
    assert np.bincount(labels[train]).tolist() == [250] * 20
    assert np.bincount(labels[test]).tolist() == [100] * 20
    for c in range(20):
        members = np.flatnonzero(labels == c)
        np.testing.assert_array_equal(train[labels[train] == c], members[:250])
        np.testing.assert_array_equal(test[labels[test] == c], members[250:350])


def test_train_portion(root):
    data = load(root, 2, 8, train_portion=0.8)
    assert len(data.train) == 8 + 4 + 3 and len(data.test) == 2 + 1 + 1 and data.remarks == []
    for portion in (0.0, 0.01, 1.0, 0.9, -0.5):
        with pytest.raises(UserError, match=r"leaves none to train|overlaps the test set"):
            load(root, 2, 8, train_portion=portion)


def test_no_image_of_a_test_recording_is_trained_on(root):
    options, _ = resolve(parse(["--target-dataset", "CEP-DVS"]))
    made = make_split(load(root, 2, 8), options, seed=42)
    assert "Audit: 0 static twins" in made.audit
    assert made.static.tolist() == TRAIN


def test_published_draw_is_of_the_wrong_class_and_from_the_test_range(tmp_path):
    """The reference's fault: positions inside the training set index all images. 20 classes of 10 in a row."""
    write_tree(tmp_path, [random_events(50, seed=s) for s in range(3)], per_class=10)
    data = load(tmp_path, 2, 8)
    options, _ = resolve(parse(["--target-dataset", "CEP-DVS", "--protocol", "he2024"]))
    made = make_split(data, options, seed=42)
    np.testing.assert_array_equal(made.train, data.train)
    np.testing.assert_array_equal(made.test, data.test)
    for c, pool in enumerate(made.pools):
        assert pool.tolist() == list(range(5 * c, 5 * c + 5))
    drawn = np.concatenate(made.pools)
    of_class = np.repeat(np.arange(20), 5)
    shown = data.image_labels.numpy()[drawn]
    np.testing.assert_array_equal(shown, of_class // 2)
    assert (shown == of_class).mean() == 1 / 20
    assert np.isin(drawn, data.twins[data.test]).mean() == 0.2
    assert "20 static twins of validation or test recordings can be trained on" in made.audit
    assert "95 of 100 images that can be drawn are of another class" in made.audit


def test_numbers_are_compared_as_numbers(root):
    recording(root, 2).rename(recording(root, "0002"))
    image(root, 10).rename(image(root, "010"))
    data = load(root, 2, 8)
    assert data.file_ids.tolist() == data.twins.tolist() == list(range(19))


def test_order_is_that_of_the_numbers_in_any_directory_order(root, monkeypatch):
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
    for name in ("file_ids", "twins", "train", "test", "static_train", "static_test"):
        np.testing.assert_array_equal(getattr(data, name), getattr(expected, name))


def test_other_kinds_of_images_and_clutter(root):
    image(root, 4).rename(image(root, 4).with_suffix(".PNG"))
    Image.open(image(root, 5)).save(image(root, 5).with_suffix(".jpg"), quality=100)
    image(root, 5).unlink()
    for name in (".DS_Store", "._4.png", "readme.txt", "Thumbs.db"):
        (image(root, 0).parent / name).write_bytes(b"x")
        (recording(root, 0).parent / name).write_bytes(b"x")
    (recording(root, 0).parent / "._0.mat").write_bytes(b"x")
    data = load(root, 2, 32)
    assert data.twins.tolist() == list(range(19))
    assert (
        data.images[5].int() - torch.from_numpy(picture(5, 0).max(-1)).int()
    ).abs().float().mean() < 20


def test_a_recording_without_image_and_an_image_without_recording(root):
    image(root, 6).unlink()
    image(root, 12).unlink()
    recording(root, 1).unlink()
    data = load(root, 2, 8)
    assert data.file_ids.tolist() == [0, *range(2, 19)]
    assert data.labels.tolist() == [LABELS[k] for k in data.file_ids]
    images = [k for k in range(19) if k not in (6, 12)]
    assert data.image_labels.tolist() == [LABELS[k] for k in images]
    assert data.twins.tolist() == [
        images.index(k) if k in images else NO_TWIN for k in data.file_ids
    ]
    assert data.static_train.tolist() == [
        images.index(data.file_ids[r]) for r in data.train if data.twins[r] != NO_TWIN
    ]
    assert sorted([*data.static_train, *data.static_test]) == list(range(17))


def test_rows_may_have_more_words_other_spaces_and_a_byte_order_mark(root):
    expected = load(root, 2, 8)
    rows = [f"{k}\ta b  {CLASSES[label]} and fish" for k, label in enumerate(LABELS)]
    rows[3] = f"   w 1 2 3 {CLASSES[LABELS[3]]}"
    # Two spaces are two ends of words: the fifth word is the class only because an empty one counts.
    table(root).write_bytes(("\ufeff" + "\r\n".join([HEADER, *rows, "", ""])).encode())
    assert load(root, 2, 8).labels.tolist() == expected.labels.tolist()


def break_recording(root):
    recording(root, 7).write_bytes(mat_bytes(events_of(7))[:-30])


def break_image(root):
    image(root, 7).write_bytes(png_bytes(picture(7, 0))[:300])


def remove_class_images(root):
    for k in (1, 5):  # those of training recordings
        image(root, k).unlink()


def replace_row(k, row):
    def change(root):
        rows = table(root).read_text().split("\n")
        rows[k + 1] = row
        table(root).write_text("\n".join(rows))

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (break_recording, r"MAT/img/7\.mat is truncated"),
        (break_image, r"Cannot read .*data/img/7\.png"),
        (
            remove_class_images,
            r"No training recording .* image in data/img: aquatic_mammals\. Add.*Expected:",
        ),
        (lambda root: table(root).unlink(), r"There is no file .*pathFile\.csv\.\nExpected:"),
        (
            lambda root: table(root).write_bytes(b"\xff\xfe\x00\x9f" * 9),
            r"Cannot read .*pathFile\.csv",
        ),
        (
            lambda root: write_table(root / "CEP-DVS", LABELS[:18]),
            r"pathFile\.csv has 18 rows behind its header.*MAT/img/18\.mat, which needs row 18",
        ),
        (
            lambda root: (recording(root, 18).unlink(), write_table(root / "CEP-DVS", LABELS[:18])),
            r"18 rows behind its header.*data/img/18\.png, which needs row 18",
        ),
        (
            replace_row(5, "5 img 5.png cifar100 whales"),
            r"row 5 .*'5 img 5\.png cifar100 whales', the fifth word is 'whales'; one of "
            r"aquatic_mammals, fish, .*vehicles_2 was expected there, for .*5\.mat",
        ),
        (replace_row(5, "5,img,5.png,cifar100,fish"), r"row 5 .*the fifth word is ''"),
        (replace_row(5, "5 img 5.png fish"), r"row 5 .*the fifth word is ''"),
        (
            lambda root: recording(root, 3).rename(recording(root, "a3")),
            r"Found .*a3\.mat; a name like 0\.mat",
        ),
        (
            lambda root: image(root, 3).rename(image(root, "x")),
            r"Found .*x\.png; a name like 0\.png",
        ),
        (
            lambda root: recording(root, 3).rename(recording(root, "04")),
            r"Both .*04\.mat and .*4\.mat have number 4",
        ),
        (
            lambda root: image(root, 3).rename(image(root, 4).with_suffix(".jpg")),
            r"Both .* have number 4",
        ),
        (
            lambda root: recording(root, 0).parent.rename(root / "x"),
            r"no folder .*data/MAT/img\.\nExpected:",
        ),
        (
            lambda root: image(root, 0).parent.rename(root / "x"),
            r"no folder .*data/img\.\nExpected:",
        ),
        (
            lambda root: [recording(root, k).unlink() for k in range(19)],
            r"Found 0 files of the kind \.mat in",
        ),
    ],
)
def test_faults_are_named(root, change, said):
    change(root)
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(root, 2, 8)


TREE = r"(?s)Expected:.*CEP-DVS/data/MAT/img/<k>\.mat.*CEP-DVS/data/img/<k>.*CEP-DVS/pathFile\.csv.*Transfer-for-DVS/issues/2"


def test_missing_parts_print_the_expected_tree(tmp_path):
    for given in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=TREE):
            load(given)


def test_fetch_says_what_to_get_by_hand(root, tmp_path):
    with pytest.raises(UserError, match=f"(?s)cannot be downloaded.*MAT/img.*{TREE[4:]}"):
        fetch(tmp_path / "empty")
    fetch(root)  # nothing is missing


def test_decoded_once(root, monkeypatch):
    calls = []
    before = load(root, 2, 8)
    real = cepdvs.read_mat
    monkeypatch.setattr(cepdvs, "read_mat", lambda path: calls.append(path) or real(path))
    monkeypatch.setattr(
        Image, "open", lambda path, real=Image.open: calls.append(path) or real(path)
    )
    assert torch.equal(load(root, 2, 8).frames, before.frames) and not calls
    # A corrected table changes labels, not what was decoded.
    write_table(root / "CEP-DVS", [1] * 10 + [2] * 9)
    assert load(root, 2, 8).labels.tolist() == [1] * 10 + [2] * 9 and not calls
    load(root, 3, 8)
    assert len(calls) == 19


def test_recipe_is_the_published_one():
    options, _ = resolve(parse(["--target-dataset", "CEP-DVS"]))
    expected = {
        "source_dataset": "RGB-CEP-DVS",
        "model": "Transfer_ResNet18",
        "step": 6,
        "epochs": 200,
        "batch_size": 120,
        "lr": 5e-3,
        "opt": "adamw",
        "weight_decay": 0.01,
        "clip_grad": None,
        "sched": "cosine",
        "warmup_epochs": 5,
        "event_size": 48,
        "augment": "dvs-da",
        "sampling": "shuffle",
        "act_fun": "QGateGrad",
        "threshold": 0.5,
        "smoothing": 0.0,
        "TET_loss": True,
        "domain_loss_coefficient": 0.5,
        "mixup_ratio": 0.9,
        "protocol": "clean",
        "train_portion": None,
    }
    assert {name: getattr(options, name) for name in expected} == expected
    assert resolve(parse(["--target-dataset", "CEP-DVS", "--augment", "none"]))[0].augment == "none"
    with pytest.raises(UserError, match="expected RGB-CEP-DVS"):
        resolve(parse(["--target-dataset", "CEP-DVS", "--source-dataset", "mnist"]))


@pytest.mark.realdata
def test_real_events_in_this_schema(real_data, tmp_path):
    events = [structured(read_bin(path)) for path in real_recordings(real_data)[:4]]
    write_tree(tmp_path, events, labels=[2, 2, 2, 2])
    data = load(tmp_path)
    for k, shown in enumerate(events):
        x, y = shown["x"] - shown["x"].min(), shown["y"] - shown["y"].min()
        sensor = (int(x.max()) + 1, int(y.max()) + 1, 2)
        shown["x"], shown["y"] = x, y
        counts = torch.tensor(ToFrame(sensor_size=sensor, n_time_bins=6)(shown), dtype=torch.float)
        expected = F.interpolate(counts, size=[48, 48], mode="bilinear", align_corners=True)
        torch.testing.assert_close(data.frames[k], expected, rtol=1e-6, atol=1e-6)
