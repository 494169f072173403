import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tonic.io import read_mnist_file
from tonic.transforms import ToFrame
from writers import random_events, write_bin, write_mnist_idx, write_nmnist_tree

from tmkt_braincog.data import install, nmnist
from tmkt_braincog.data.base import DATASETS
from tmkt_braincog.data.nmnist import find_recordings, load
from tmkt_braincog.data.recordings import FrameSpec, load_recordings
from tmkt_braincog.errors import UserError

TRAIN_LABELS = [5, 0, 4, 1, 9, 2, 1]
TEST_LABELS = [7, 2, 1, 0]
FILES = [
    ("Train", 0, 2),
    ("Train", 1, 4),
    ("Train", 1, 7),
    ("Train", 5, 1),
    ("Test", 2, 2),
    ("Test", 7, 1),
]


def images(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), np.uint8)


def write_mnist(root):
    write_mnist_idx(root, "train", images(7, 0), TRAIN_LABELS)
    write_mnist_idx(root, "t10k", images(4, 1), TEST_LABELS)


@pytest.fixture
def root(tmp_path):
    # Written in an order that is not the sorted one.
    order = [FILES[i] for i in (4, 2, 0, 5, 3, 1)]
    write_nmnist_tree(
        tmp_path, {file: random_events(200, seed=FILES.index(file)) for file in order}
    )
    write_mnist(tmp_path)
    return tmp_path


def test_contract(root):
    data = DATASETS["nmnist"].load(root, 4, 48, None)
    assert data.source == "mnist" and data.target == "nmnist" and not data.emulated
    assert data.names == [f"{s}/{d}/{n:05d}.bin" for s, d, n in FILES]
    assert data.labels.tolist() == [0, 1, 1, 5, 2, 7]
    assert data.file_ids.tolist() == [2, 4, 7, 1, 2, 1]
    assert data.twins.tolist() == [1, 3, 6, 0, 8, 7]
    assert data.image_labels.tolist() == TRAIN_LABELS + TEST_LABELS
    assert torch.equal(data.image_labels[data.twins], data.labels)
    assert data.train.tolist() == [0, 1, 2, 3] and data.test.tolist() == [4, 5]
    assert data.static_train.tolist() == list(range(7)) and data.static_test.tolist() == list(
        range(7, 11)
    )
    np.testing.assert_array_equal(data.images.numpy(), np.concatenate([images(7, 0), images(4, 1)]))


def test_frames_are_those_of_tonic(root):
    data = load(root, 4)
    assert data.frames.shape == (6, 4, 2, 34, 34) and data.frames.dtype == torch.uint8
    transform = ToFrame(sensor_size=(34, 34, 2), n_time_bins=4)
    for r, name in enumerate(data.names):
        events = read_mnist_file(str(root / "NMNIST" / name), np.dtype([(c, int) for c in "xytp"]))
        np.testing.assert_array_equal(data.frames[r].numpy(), transform(events))


def test_order_is_that_of_the_numbers_in_any_directory_order(root, monkeypatch):
    expected = find_recordings(root)
    real_glob, real_iterdir = Path.glob, Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda self, p: reversed(sorted(real_glob(self, p))))
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(sorted(real_iterdir(self))))
    assert find_recordings(root) == expected
    assert [(r.split, r.digit, r.number) for r in expected] == FILES


def test_hidden_files_do_not_count(root):
    (root / "NMNIST" / "Train" / ".cache").mkdir()
    (root / "NMNIST" / "Train" / "1" / "._00004.bin").write_bytes(b"x")
    (root / "NMNIST" / "Train" / "readme.txt").write_text("x")
    assert len(find_recordings(root)) == 6


def test_counts_are_logged(root, caplog):
    with caplog.at_level(logging.INFO):
        find_recordings(root)
    assert "nmnist Train: 4 of 60000 recordings (0: 1, 1: 2, 2: 0," in caplog.text
    assert "nmnist Test: 2 of 10000" in caplog.text


def test_frames_come_from_the_cache_until_a_file_changes(root, monkeypatch):
    before = load(root, 4)
    calls = []
    real = nmnist.read_bin
    monkeypatch.setattr(nmnist, "read_bin", lambda path: calls.append(path) or real(path))
    assert torch.equal(load(root, 4).frames, before.frames)
    assert not calls
    write_bin(root / "NMNIST" / "Train" / "0" / "00002.bin", random_events(150, seed=9))
    assert load(root, 4).frames[0].sum() < before.frames[0].sum()
    assert len(calls) == 6


def test_more_than_255_events_in_a_cell_are_kept(tmp_path):
    many = random_events(1001, end_us=1000)
    many["x"], many["y"], many["p"] = 3, 4, 1
    few = random_events(100)
    files = [write_bin(tmp_path / f"{i}.bin", e) for i, e in enumerate((few, many, few))]
    frames, statistics = load_recordings(files, FrameSpec(nmnist.read, 2), "nmnist", tmp_path)
    assert frames.dtype == np.int16
    assert statistics["n_events"].tolist() == [100, 1001, 100]
    assert frames[1, :, 1, 4, 3].sum() == frames[1].sum() > 900
    np.testing.assert_array_equal(frames[0], frames[2])


def test_one_warning_for_unsorted_events_also_from_the_cache(root, caplog):
    for digit, number, n_swapped in ((0, 2, 1), (1, 4, 2)):
        events = random_events(50, seed=number)
        events["t"] = np.arange(50) * 1000
        for i in range(n_swapped):
            events["t"][[10 * i, 10 * i + 1]] = events["t"][[10 * i + 1, 10 * i]]
        write_bin(root / "NMNIST" / "Train" / str(digit) / f"{number:05d}.bin", events)
    for _ in range(2):
        caplog.clear()
        load(root, 4)
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warnings == [
            "nmnist: 3 events in 2 recordings were out of order in time; they were sorted."
        ]


def break_with(content):
    return lambda root: (root / "NMNIST" / "Train" / "1" / "00004.bin").write_bytes(content)


def move(old, new):
    def change(root):
        target = root / "NMNIST" / new
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / "NMNIST" / old).rename(target)

    return change


def cut_mnist(root):
    path = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "change, said",
    [
        (break_with(b""), r"00004\.bin is empty"),
        (break_with(b"1234567"), r"00004\.bin is truncated: 7 bytes"),
        (
            break_with(bytes([34, 0, 0, 0, 1])),
            r"00004\.bin: 1 of 1 events lie outside the 34 x 34 sensor",
        ),
        (move("Train/5", "Train/ten"), r"folders ten, which are none of the 10 classes"),
        (
            move("Train/1/00004.bin", "Train/1/four.bin"),
            r"four\.bin; a name like 00011\.bin was expected",
        ),
        (
            move("Train/1/00004.bin", "Train/1/00003.bin"),
            r"class 1, but image 3 of MNIST's Train set.* is a 4",
        ),
        (
            move("Train/1/00004.bin", "Train/1/00008.bin"),
            r"number 8, but MNIST's Train set has the images 1\.\.7",
        ),
        (move("Train/1/00004.bin", "Train/1/00000.bin"), r"number 0, but MNIST's"),
        (move("Train/1/00004.bin", "Train/1/2.bin"), r"Both .* and .* have number 2"),
        (move("Train/1/00004.bin", "Train/3/00004.bin"), r"no image for \[3\]"),
        (move("Test", "Gone"), r"There is no folder .*Test.*\n.*Expected:"),
        (cut_mnist, r"Cannot read MNIST"),
    ],
)
def test_faults_are_named(root, change, said):
    change(root)
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(root, 4)


def test_missing_parts_print_the_expected_tree(tmp_path):
    for given in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=r"(?s)Expected:.*NMNIST/Train.*download"):
            load(given, 4)
    write_nmnist_tree(tmp_path, {file: random_events(20) for file in FILES})
    with pytest.raises(UserError, match=r"(?s)Cannot read MNIST.*Expected:"):
        load(tmp_path, 4)


def test_empty_split(root):
    for path in (root / "NMNIST" / "Test").glob("*/*"):
        path.unlink()
    with pytest.raises(UserError, match=r"Found 0 files like 00011\.bin"):
        load(root, 4)


def test_portion_is_refused(root):
    with pytest.raises(UserError, match="own split"):
        load(root, 4, train_portion=0.5)


def test_fetch_leaves_alone_what_is_there_and_asks_for_the_rest(root, monkeypatch):
    import torchvision.datasets

    asked = []
    monkeypatch.setattr(
        torchvision.datasets, "MNIST", lambda folder, download: asked.append(folder)
    )
    monkeypatch.setattr(install, "fetch", lambda archive, folder: asked.append(archive.name))
    monkeypatch.setattr(nmnist, "install", install.install)
    nmnist.fetch(root)
    assert asked == [str(root)]
    shutil.rmtree(root / "NMNIST" / "Test")

    def fail(archive, folder):
        raise UserError(f"no route to {archive.name}")

    monkeypatch.setattr(install, "fetch", fail)
    with pytest.raises(UserError, match=r"(?s)no route to test\.zip.*Expected:"):
        nmnist.fetch(root)


def test_counts_are_those_of_mnist():
    assert sum(nmnist.COUNTS) == sum(nmnist.FULL_COUNTS.values()) and len(nmnist.COUNTS) == 10


@pytest.mark.realdata
def test_real_recordings_and_their_twins(real_data):
    data = load(real_data, 10)
    assert torch.equal(data.image_labels[data.twins], data.labels)
    assert data.images.shape == (70_000, 28, 28)
    assert data.static_train[-1] == 59_999 and data.static_test[0] == 60_000
    counts = data.frames.sum((1, 2, 3, 4))
    assert counts.min() > 1000 and counts.max() < 10_000
    of_digit = np.bincount(data.image_labels, minlength=10)
    assert tuple(of_digit) == nmnist.COUNTS
