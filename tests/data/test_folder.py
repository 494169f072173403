"""A user's own folders of recordings and photographs, without a line of code."""

import numpy as np
import pytest
import torch
from PIL import Image
from writers import random_events, structured, write_bin

from tests.program import run_train
from tmkt_braincog.cli import main
from tmkt_braincog.data import DATASETS, NO_TWIN, LoadSpec
from tmkt_braincog.data.frames import resize_frames, to_frames
from tmkt_braincog.errors import UserError

SIZE = (24, 20)


def recording(seed):
    events = structured(random_events(300, seed=seed, sensor_size=SIZE))
    return events[np.argsort(events["t"], kind="stable")]


def picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    for c, name in enumerate(("cup", "key")):
        folder = tmp_path / "own" / "events" / name
        folder.mkdir(parents=True)
        for k in range(5):
            events = recording(10 * c + k)
            if k == 2:
                np.savez(folder / f"a{k}.npz", **{n: events[n] for n in "xyp"}, t=events["t"] / 1e6)
            else:
                write_bin(folder / f"a{k}.bin", events)
            picture(tmp_path / "own" / "images" / name / f"a{k + 3}.png", k)
    return tmp_path / "own"


def test_folders_are_classes_and_names_are_twins(root):
    data = DATASETS["folder"].load(LoadSpec(root, 3, 16))
    assert data.classes == ("cup", "key") and data.labels.tolist() == [0] * 5 + [1] * 5
    assert data.names[2] == "events/cup/a2.npz" and data.images.shape == (10, 16, 16)
    assert (data.train.tolist(), data.test.tolist()) == ([0, 1, 2, 3, 5, 6, 7, 8], [4, 9])
    assert data.twins.tolist() == [NO_TWIN] * 3 + [0, 1] + [NO_TWIN] * 3 + [5, 6]
    assert data.static_train.tolist() == [0, 2, 3, 4, 5, 7, 8, 9]  # none of a test recording
    expected = resize_frames(torch.from_numpy(to_frames(recording(2), 3, SIZE)), 16)
    np.testing.assert_allclose(data.frames[2].numpy(), expected.numpy())
    files, *sensors, times = data.remarks
    assert files == "Recordings: 8 ATIS, 2 NumPy."
    for sensor, what in zip(sensors, ("8 .bin", "2 .npz"), strict=True):
        assert sensor.startswith(f"The sensor of {what} files is taken for 24 x 20 pixels")
    assert times == "Times are taken for s in .npz files, by the usual rates of events."


def test_train_and_test_folders_split(root):
    for part, own in (("train", "a[0-2]"), ("test", "a[3-7]")):
        for what in ("events", "images"):
            for name in ("cup", "key"):
                folder = root / part / what / name
                folder.mkdir(parents=True)
                for path in (root / what / name).glob(f"{own}.*"):
                    path.rename(folder / path.name)
    picture(root / "train" / "images" / "cup" / "a9.png", 9)
    picture(root / "train" / "images" / "key" / "a9.jpg", 9)
    data = DATASETS["folder"].load(LoadSpec(root, 3, 16))
    assert data.train.tolist() == [0, 1, 2, 5, 6, 7] and data.test.tolist() == [3, 4, 8, 9]
    assert [data.names[i] for i in (0, 3)] == ["train/events/cup/a0.bin", "test/events/cup/a3.bin"]
    assert data.static_train.tolist() == [0, 6]  # those of the folder train
    with pytest.raises(UserError, match="split the recordings already"):
        DATASETS["folder"].load(LoadSpec(root, 3, 16, train_portion=0.5))
    (root / "test").rename(root / "else")
    with pytest.raises(UserError, match="has the folder train alone"):
        DATASETS["folder"].load(LoadSpec(root, 3, 16))


def test_what_cannot_be_used_is_said(root, caplog):
    load = DATASETS["folder"].load
    (root / "events" / "mug").mkdir()
    write_bin(root / "events" / "mug" / "a.bin", recording(50))
    load(LoadSpec(root, 3, 16))
    assert "left out, as they have no images: mug" in caplog.text
    (root / "events" / "cup" / "Thumbs.db").write_bytes(b"of no interest")
    (root / "images" / "cup" / "A4.jpg").write_bytes((root / "images/cup/a4.png").read_bytes())
    with pytest.raises(UserError, match=r"A4\.jpg and .*a4\.png have one name"):
        load(LoadSpec(root, 3, 16))
    (root / "images" / "cup" / "A4.jpg").unlink()
    (root / "events" / "cup" / "more").mkdir()
    with pytest.raises(UserError, match="holds the folders more; files alone expected"):
        load(LoadSpec(root, 3, 16))
    (root / "events" / "cup" / "more").rmdir()
    times = {n: recording(12)[n] for n in "xyp"}
    np.savez(root / "events" / "key" / "a2.npz", **times, t=recording(12)["t"] / 1e3 + 0.5)
    with pytest.raises(UserError, match=r"times of \.npz files could be s in 1, ms in 1 of them"):
        load(LoadSpec(root, 3, 16))
    (root / "events" / "key" / "a2.npz").unlink()
    (root / "events" / "cup" / "a0.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"a0\.bin is empty"):
        load(LoadSpec(root, 3, 16))
    for name in ("cup", "key"):
        (root / "images" / name).rename(root / "images" / f"{name}s")
    both = r"events has cup, key, mug; images has cups, keys. Name the folders alike"
    with pytest.raises(UserError, match=both):
        load(LoadSpec(root, 3, 16))
    with pytest.raises(UserError, match=r"There is no folder .*events"):
        load(LoadSpec(root / "images", 3, 16))


def test_it_is_inspected_and_trained_on_without_code(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["data", "inspect", "folder", "--data-root", str(root), "--event-size", "16"]
    assert main(words) == 0
    assert "2 of 2 have recordings: cup, key" in (said := capsys.readouterr().out)
    assert "Times are taken for s in .npz" in " ".join(said.split())
    line = (
        "--target-dataset folder --model Transfer_SCNN --width-divisor 1 --event-size 16 --step 3"
    )
    line += " --batch-size 4 --epoch-size 8 --epochs 1 --warmup-epochs 0 --no-tensorboard"
    assert (
        run_train([*line.split(), "--data-root", str(root), "--output", str(tmp_path / "a")]) == 0
    )
    assert "Recordings: 8 ATIS, 2 NumPy." in (tmp_path / "a" / "comparison.md").read_text()
