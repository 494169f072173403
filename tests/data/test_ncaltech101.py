import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from PIL import Image
from tonic.io import read_mnist_file
from tonic.transforms import ToFrame
from writers import random_events, write_bin

from tmkt_braincog.data import install, ncaltech101
from tmkt_braincog.data.base import DATASETS, NO_TWIN
from tmkt_braincog.data.ncaltech101 import CLASSES, images_folder, load, recordings_folder
from tmkt_braincog.data.splits import directory_order, first_portion, make_split
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

N_DOLPHINS = 10
RECORDINGS = [("Faces_easy", 1), ("Faces_easy", 2), ("accordion", 7)] + [
    ("dolphin", n) for n in range(1, N_DOLPHINS + 1)
]
# An image more, and one recording (dolphin 4) without image.
IMAGES = [("Faces_easy", 1), ("Faces_easy", 2), ("accordion", 3), ("accordion", 7)] + [
    ("dolphin", n) for n in range(1, N_DOLPHINS + 1) if n != 4
]
PUBLISHED = (
    "--model Transfer_VGG_SNN --node-type LIFNode --source-dataset CALTECH101 --target-dataset NCALTECH101 "
    "--step 10 --batch-size 120 --act-fun QGateGrad --device 0 --seed 42 --num-classes 101 "
    "--traindata-ratio 1.0 --smoothing 0.0 --domain-loss --domain-loss-coefficient 0.5 --TET-loss "
    "--regularization"
)


def write_recording(root, name, number, events=None):
    """Random events whose coordinates start at (9, 14); the size depends on the number."""
    if events is None:
        events = random_events(300, seed=number, sensor_size=(60 + number, 45 + 2 * number))
        events["x"] += 9
        events["y"] += 14
    return write_bin(recordings_folder(root) / name / f"image_{number:04d}.bin", events)


def write_image(root, name, number, mode="RGB"):
    path = images_folder(root) / name / f"image_{number:04d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (40 + number, 61) + ((3,) if mode == "RGB" else ())
    pixels = np.random.default_rng(number).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    # Written in an order that is not the sorted one.
    for name, number in reversed(RECORDINGS):
        write_recording(tmp_path, name, number)
    for name, number in reversed(IMAGES):
        write_image(tmp_path, name, number, "L" if name == "accordion" else "RGB")
    return tmp_path


def test_contract(root):
    data = DATASETS["NCALTECH101"].load(root, steps=4, size=24, train_portion=None)
    assert data.source == "CALTECH101" and data.target == "NCALTECH101" and not data.emulated
    assert data.classes == CLASSES
    assert data.names == [f"{name}/image_{number:04d}.bin" for name, number in RECORDINGS]
    assert data.file_ids.tolist() == [number for _, number in RECORDINGS]
    assert [CLASSES[c] for c in data.labels] == [name for name, _ in RECORDINGS]
    assert [CLASSES[c] for c in data.image_labels] == [name for name, _ in IMAGES]
    assert data.frames.shape == (13, 4, 2, 24, 24) and data.frames.dtype == torch.float32
    assert data.images.shape == (13, 24, 24) and data.images.dtype == torch.uint8
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    assert (
        data.file_ids.dtype
        == data.twins.dtype
        == data.train.dtype
        == data.static_train.dtype
        == np.int64
    )


def test_twins_are_of_the_same_class_and_number(root):
    data = load(root, 2, 8)
    assert data.twins.tolist() == [IMAGES.index(r) if r in IMAGES else NO_TWIN for r in RECORDINGS]
    assert data.twins.tolist().count(NO_TWIN) == 1


@pytest.mark.parametrize("size", [24, 48])
def test_frames_are_those_of_tonic_shifted_and_interpolated_by_torch(root, size):
    data = load(root, 4, size)
    for r, name in enumerate(data.names):
        path = str(recordings_folder(root) / name)
        events = read_mnist_file(path, np.dtype([(c, int) for c in "xytp"]))
        assert events["x"].min() >= 9 and events["y"].min() >= 14
        events["x"] -= events["x"].min()
        events["y"] -= events["y"].min()
        sensor = (events["x"].max() + 1, events["y"].max() + 1, 2)
        counts = torch.tensor(ToFrame(sensor_size=sensor, n_time_bins=4)(events), dtype=torch.float)
        expected = F.interpolate(counts, size=[size, size], mode="bilinear", align_corners=True)
        torch.testing.assert_close(data.frames[r], expected, rtol=1e-6, atol=1e-6)


def test_images_are_the_v_channel_of_the_resized_photographs(root):
    data = load(root, 2, 24)
    for i, (name, number) in enumerate(IMAGES):
        image = Image.open(images_folder(root) / name / f"image_{number:04d}.jpg")
        assert image.mode == ("L" if name == "accordion" else "RGB")
        value = T.Resize((24, 24))(image.convert("RGB")).convert("HSV").getchannel("V")
        np.testing.assert_array_equal(data.images[i].numpy(), np.asarray(value))


def test_split_is_the_first_nine_tenths_of_every_class(root):
    data = load(root, 2, 8)
    # round(0.9 * 2) = 2, round(0.9 * 1) = 1, and 9 of the 10 dolphins.
    assert data.train.tolist() == list(range(12)) and data.test.tolist() == [12]
    assert data.static_test.tolist() == [IMAGES.index(("dolphin", 10))]
    assert data.static_train.tolist() == list(
        range(12)
    )  # accordion 3, which has no recording, among them
    half = load(root, 2, 8, train_portion=0.5)
    assert [data.names[r] for r in half.test] == [
        "Faces_easy/image_0002.bin",
        "accordion/image_0007.bin",
        *(f"dolphin/image_{n:04d}.bin" for n in range(6, 11)),
    ]
    assert sorted([*half.static_train, *half.static_test]) == list(range(13))


def test_no_twin_of_a_test_recording_is_trained_on(root):
    options, _ = resolve(parse(["--target-dataset", "NCALTECH101"]))
    split = make_split(load(root, 2, 8), options, seed=42)
    assert "Audit: 0 static twins" in split.audit
    assert split.static.tolist() == list(range(12))


def test_class_table_is_that_of_braincog(tmp_path):
    from braincog.datasets.ncaltech101 import NCALTECH101

    for name in CLASSES:
        path = recordings_folder(tmp_path) / name / "image_0001.bin"
        path.parent.mkdir(parents=True)
        path.touch()
    theirs = NCALTECH101(str(tmp_path))
    assert {
        Path(p).parent.name: label for p, label in zip(theirs.data, theirs.targets, strict=True)
    } == {name: label for label, name in enumerate(CLASSES)}
    assert len(CLASSES) == len(NCALTECH101.cls_count) == 101
    assert sum(NCALTECH101.cls_count) == ncaltech101.FULL_COUNT
    assert CLASSES[:2] == ("BACKGROUND_Google", "Faces_easy") and list(CLASSES[2:]) == sorted(
        CLASSES[2:]
    )


def test_split_of_the_full_data_set_has_the_published_counts():
    from braincog.datasets.ncaltech101 import NCALTECH101

    labels = np.repeat(np.arange(101), NCALTECH101.cls_count)
    assert tuple(NCALTECH101.cls_count) == ncaltech101.COUNTS
    train, test = first_portion(labels, ncaltech101.TRAIN_PORTION)
    assert (len(train), len(test)) == (7839, 870)
    assert set(labels[train]) == set(labels[test]) == set(range(101))


def test_order_is_that_of_class_and_number_in_any_directory_order(root, monkeypatch):
    expected = load(root, 2, 8)
    real_glob, real_iterdir = Path.glob, Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda self, p: reversed(sorted(real_glob(self, p))))
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(sorted(real_iterdir(self))))
    data = load(root, 2, 8)
    assert data.names == expected.names
    for name in ("frames", "labels", "images", "image_labels"):
        assert torch.equal(getattr(data, name), getattr(expected, name))
    for name in ("file_ids", "twins", "train", "test", "static_train", "static_test"):
        np.testing.assert_array_equal(getattr(data, name), getattr(expected, name))


def test_numbers_are_compared_as_numbers(root):
    folder = recordings_folder(root) / "dolphin"
    (folder / "image_0002.bin").rename(folder / "image_2.bin")
    data = load(root, 2, 8)
    assert data.file_ids.tolist() == [number for _, number in RECORDINGS]


def test_faces_and_hidden_files_do_not_count(root):
    expected = load(root, 2, 8)
    write_recording(root, "Faces", 1)
    write_image(root, "Faces", 1)
    for folder in (recordings_folder(root), images_folder(root)):
        (folder / ".cache").mkdir()
        (folder / "readme.txt").write_text("x")
        (folder / "dolphin" / "tmp").write_text("x")
    (recordings_folder(root) / "dolphin" / "._image_0001.bin").write_bytes(b"x")
    data = load(root, 2, 8)
    assert data.names == expected.names and torch.equal(data.image_labels, expected.image_labels)


def test_counts_are_logged(root, caplog):
    with caplog.at_level(logging.INFO):
        load(root, 2, 8)
    assert "NCALTECH101: 13 of 8709 recordings, in 3 of 101 classes" in caplog.text
    assert "NCALTECH101: 13 of 8709 images, in 3 of 101 classes" in caplog.text


def test_decoded_once_until_a_file_the_steps_or_the_size_change(root, monkeypatch):
    calls = []
    real = ncaltech101.read_bin
    before = load(root, 2, 8)
    monkeypatch.setattr(ncaltech101, "read_bin", lambda path: calls.append(path) or real(path))
    monkeypatch.setattr(
        Image, "open", lambda path, real=Image.open: calls.append(path) or real(path)
    )
    again = load(root, 2, 8)
    assert not calls
    assert torch.equal(again.frames, before.frames) and torch.equal(again.images, before.images)
    load(root, 3, 8)
    assert len(calls) == 13
    load(root, 2, 9)
    assert len(calls) == 13 + 26
    write_recording(root, "accordion", 7, random_events(100, seed=1))
    assert not torch.equal(load(root, 2, 8).frames[2], before.frames[2])
    assert len(calls) == 13 + 26 + 13


def test_unsorted_events_are_sorted_with_one_warning(root, caplog):
    expected = load(root, 2, 8).frames
    events = random_events(300, seed=7, sensor_size=(67, 59))
    events["x"] += 9
    events["y"] += 14
    at = int(np.argmax(np.diff(events["t"]) > 0))
    events[[at, at + 1]] = events[[at + 1, at]]
    write_recording(root, "accordion", 7, events)
    for _ in range(2):
        caplog.clear()
        assert torch.equal(load(root, 2, 8).frames, expected)
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warnings == [
            "NCALTECH101: 1 events in 1 recordings were out of order in time; they were sorted."
        ]


def break_with(content, suffix=".bin"):
    def change(root):
        folder = recordings_folder(root) if suffix == ".bin" else images_folder(root)
        (folder / "dolphin" / f"image_0003{suffix}").write_bytes(content)

    return change


def rename(folder, old, new):
    return lambda root: (folder(root) / old).rename(folder(root) / new)


@pytest.mark.parametrize(
    "change, said",
    [
        (break_with(b""), r"image_0003\.bin is empty"),
        (break_with(b"1234567"), r"image_0003\.bin is truncated: 7 bytes"),
        (break_with(b"no image", ".jpg"), r"Cannot read .*image_0003\.jpg"),
        (
            rename(recordings_folder, "dolphin", "Dolphin"),
            r"folders Dolphin, which are none of .*101 classes",
        ),
        (
            rename(images_folder, "dolphin", "shark"),
            r"101_ObjectCategories holds the folders shark",
        ),
        (
            rename(recordings_folder, "dolphin/image_0003.bin", "dolphin/3.bin"),
            r"a name like image_0001\.bin",
        ),
        (
            rename(images_folder, "dolphin/image_0003.jpg", "dolphin/a.jpg"),
            r"a name like image_0001\.jpg",
        ),
        (
            rename(recordings_folder, "dolphin/image_0003.bin", "dolphin/image_4.bin"),
            r"Both .*dolphin.* and .*dolphin.* have number 4",
        ),
        (
            rename(images_folder, "dolphin", "panda"),
            r"recordings in .*NCALTECH101/Caltech101 .*no image in .*101_ObjectCategories: dolphin\. Add",
        ),
        (rename(recordings_folder, "", "../Gone"), r"There is no folder .*Caltech101\.\nExpected:"),
        (
            rename(images_folder, "", "../Gone"),
            r"There is no folder .*101_ObjectCategories\.\nExpected:",
        ),
    ],
)
def test_faults_are_named(root, change, said):
    change(root)
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(root, 2, 8)


def test_missing_parts_print_the_expected_tree(tmp_path):
    tree = r"(?s)Expected:.*NCALTECH101/Caltech101/<class>.*caltech101/101_ObjectCategories.*prepare NCALTECH101"
    for given in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=tree):
            load(given)
    recordings_folder(tmp_path).mkdir(parents=True)
    with pytest.raises(UserError, match=f"(?s)Found 0 files like.*{tree[4:]}"):
        load(tmp_path)


@pytest.mark.parametrize("portion", [0.0, 0.01, 1.0])
def test_portion_that_leaves_a_side_empty_is_refused(root, portion):
    with pytest.raises(UserError, match="leaves none to train"):
        load(root, 2, 8, train_portion=portion)


def test_fetch_unpacks_both_archives(root, monkeypatch, tmp_path):
    expected = load(root, 2, 8)
    archives = tmp_path / "archives"

    def packed(name, inner_folder, inner, kind):
        """The folder in an archive in an archive, as both are distributed."""
        outer = archives / name / Path(name).stem
        outer.mkdir(parents=True)
        made = shutil.make_archive(
            str(archives / "inner"), kind, inner_folder.parent, inner_folder.name
        )
        Path(made).rename(outer / inner)
        shutil.make_archive(str(archives / name / "outer"), "zip", archives / name, outer.name)
        shutil.rmtree(inner_folder)
        return archives / name / "outer.zip"

    files = {
        "N-Caltech101-archive.zip": packed(
            "N-Caltech101-archive.zip", recordings_folder(root), "Caltech101.zip", "zip"
        ),
        "caltech-101.zip": packed(
            "caltech-101.zip", images_folder(root), "101_ObjectCategories.tar.gz", "gztar"
        ),
    }
    asked = []

    def fetch(archive, folder):
        asked.append((archive.name, archive.md5, folder))
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.copy(files[archive.name], folder / archive.name)

    monkeypatch.setattr(install, "fetch", lambda *args: Path(fetch(*args)))
    for _ in range(2):
        ncaltech101.fetch(root)
    assert asked == [
        ("N-Caltech101-archive.zip", "66201824eabb0239c7ab992480b50ba3", root / "NCALTECH101"),
        ("caltech-101.zip", "3138e1922a9193bfa496528edbbc45d0", root / "caltech101"),
    ]
    assert sorted(p.name for p in (root / "NCALTECH101").iterdir()) == ["Caltech101"]
    data = load(root, 2, 8)
    assert data.names == expected.names and torch.equal(data.images, expected.images)


def test_failed_download_shows_the_tree(tmp_path, monkeypatch):
    def fail(archive, folder):
        raise UserError(f"no route to {archive.name}")

    monkeypatch.setattr(install, "fetch", fail)
    with pytest.raises(UserError, match=r"(?s)no route to N-Caltech101-archive\.zip.*Expected:"):
        ncaltech101.fetch(tmp_path)


def test_images_of_stock_torchvision_leave_the_background_out_and_say_so(root, caplog):
    expected = load(root, 2, 8)
    for number in (1, 2, 3):
        write_recording(root, "BACKGROUND_Google", number)
    data = load(root, 2, 8)
    assert data.names == expected.names and torch.equal(data.labels, expected.labels)
    assert data.classes == CLASSES
    (remark,) = data.remarks
    assert remark.startswith("3 recordings of BACKGROUND_Google are left out") and "9,144" in remark
    write_image(root, "BACKGROUND_Google", 2)
    whole = load(root, 2, 8)
    assert whole.remarks == [] and len(whole.names) == len(expected.names) + 3
    assert whole.twins[:3].tolist() == [NO_TWIN, 0, NO_TWIN]


def write_class(root, name, n):
    for number in range(1, n + 1):
        write_recording(root, name, number, random_events(20, seed=number, sensor_size=(20, 20)))
        write_image(root, name, number)


def split_of(data, protocol):
    options, _ = resolve(parse(["--target-dataset", "NCALTECH101", "--protocol", protocol]))
    return make_split(data, options, seed=42)


def test_fault_1_the_first_test_image_of_every_class_is_drawn(tmp_path):
    write_class(tmp_path, "dolphin", 20)
    write_class(tmp_path, "emu", 10)
    data = load(tmp_path, 2, 8)
    n = {"dolphin": 20, "emu": 10}
    pools = split_of(data, "he2024").pools
    for name, count in n.items():
        numbers = [int(i) - (20 if name == "emu" else 0) for i in pools[CLASSES.index(name)]]
        assert numbers == list(range(round(0.9 * count) + 1))
    clean = split_of(data, "clean")
    assert set(clean.static.tolist()) == set(data.twins[data.train].tolist())


def test_fault_2_recordings_are_split_in_directory_order_so_that_twins_of_test_recordings_train(
    tmp_path,
):
    write_class(tmp_path, "dolphin", 40)
    data = load(tmp_path, 2, 8)
    published, clean = split_of(data, "he2024"), split_of(data, "clean")
    assert clean.test.tolist() == list(range(36, 40))
    assert len(published.test) == 4 and published.test.tolist() != clean.test.tolist()
    order = directory_order([Path(name).name for name in data.names])
    assert sorted(order[36:]) == published.test.tolist()
    leaked = len(set(data.twins[published.test].tolist()) & set(published.static.tolist()))
    assert leaked > 0
    assert (
        f"Audit: {leaked} static twins" in published.audit
        and "Audit: 0 static twins" in clean.audit
    )


def test_published_line_runs_the_baseline_with_the_published_recipe():
    options, remarks = resolve(parse(PUBLISHED.split()))
    expected = {
        "method": ["baseline"],
        "seed": [42],
        "device": "0",
        "source_dataset": "CALTECH101",
        "target_dataset": "NCALTECH101",
        "num_classes": 101,
        "model": "Transfer_VGG_SNN",
        "node_type": "LIFNode",
        "act_fun": "QGateGrad",
        "threshold": 0.5,
        "tau": 2.0,
        "step": 10,
        "event_size": 48,
        "batch_size": 120,
        "epochs": 300,
        "lr": 5e-3,
        "opt": "adamw",
        "weight_decay": 0.01,
        "clip_grad": None,
        "sched": "cosine",
        "warmup_epochs": 5,
        "augment": "crop",
        "sampling": "balanced",
        "protocol": "clean",
        "train_portion": None,
        "traindata_ratio": 1.0,
        "smoothing": 0.0,
        "TET_loss": True,
        "domain_loss": True,
        "domain_loss_coefficient": 0.5,
        "regularization": True,
        "sliding_training": True,
        "pow": 3,
    }
    assert {name: getattr(options, name) for name in expected} == expected
    assert len(remarks) == 1 and "running --method baseline" in remarks[0]


def test_source_is_the_published_name():
    options, _ = resolve(parse(["--target-dataset", "NCALTECH101"]))
    assert options.source_dataset == "CALTECH101"
    with pytest.raises(UserError, match="expected CALTECH101"):
        resolve(parse(["--target-dataset", "NCALTECH101", "--source-dataset", "mnist"]))


@pytest.mark.realdata
def test_real_recording_and_photographs(real_data, tmp_path):
    real = recordings_folder(real_data) / "Faces_easy" / "image_0001.bin"
    shown = [("Faces_easy", 1), ("airplanes", 1), *(("chair", k) for k in (1, 2, 3))]
    photographs = [images_folder(real_data) / name / f"image_{k:04d}.jpg" for name, k in shown]
    lacking = [path for path in (real, *photographs) if not path.is_file()]
    if lacking:
        pytest.skip(f"no real N-Caltech101 recording or Caltech-101 photograph at {lacking[0]}")
    for path in photographs:
        folder = images_folder(tmp_path) / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    for name, number in (("Faces_easy", 1), ("chair", 1), ("chair", 2)):
        path = recordings_folder(tmp_path) / name / f"image_{number:04d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(real)
    data = load(tmp_path, 10, 48, train_portion=0.6)
    assert [data.names[r] for r in data.test] == ["chair/image_0002.bin"]
    assert len(data.images) == len(photographs) and data.images.float().std() > 30
    events = read_mnist_file(str(real), np.dtype([(c, int) for c in "xytp"]))
    assert len(events) == 67_445
    assert [events[c].min() for c in "xy"] == [0, 0] and [events[c].max() for c in "xy"] == [
        150,
        172,
    ]
    counts = torch.tensor(
        ToFrame(sensor_size=(151, 173, 2), n_time_bins=10)(events), dtype=torch.float
    )
    assert counts.sum() > 67_000
    expected = F.interpolate(counts, size=[48, 48], mode="bilinear", align_corners=True)
    for frames in data.frames:
        torch.testing.assert_close(frames, expected, rtol=1e-6, atol=1e-6)
