"""A user's own folders of recordings and photographs, without a line of code."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
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


def load(root, steps=3, size=16, **more):
    return DATASETS["folder"].load(LoadSpec(root, steps, size, **more))


def refused(root, said, **more):
    with pytest.raises(UserError, match=said) as error:
        load(root, **more)
    return str(error.value)


def test_folders_are_classes_and_names_are_twins(root):
    data = load(root)
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
    data = load(root)
    assert data.train.tolist() == [0, 1, 2, 5, 6, 7] and data.test.tolist() == [3, 4, 8, 9]
    assert [data.names[i] for i in (0, 3)] == ["train/events/cup/a0.bin", "test/events/cup/a3.bin"]
    assert data.static_train.tolist() == [0, 6]  # those of the folder train
    refused(root, "split the recordings already", train_portion=0.5)
    (root / "test").rename(root / "else")
    refused(root, "has the folder train alone")


def test_a_table_in_place_of_folders(root, tmp_path, caplog):
    for name in ("cup", "key"):
        (root / "events" / name).rename(root / f"of_{name}")
        (root / "images" / name / "a7.png").rename(tmp_path / f"{name}.png")
    rows = [
        *("of_cup/a0.bin;cup;train;../cup.png;x", "of_cup/a1.bin;cup;train;;x"),
        *(f"{root}/of_cup/a2.npz;cup;test;images/cup/a4.png;", "of_key/a2.npz;key;TRAIN"),
        *("", "of_key/a3.bin;key;test;../key.png"),
    ]
    (root / "recordings.csv").write_text("\n".join(["Path;class;split;image;note", *rows]))
    data = load(root)
    assert "columns that are not read: note" in caplog.text
    assert data.names[:2] == ["own/of_cup/a0.bin", "own/of_cup/a1.bin"]  # an image is outside
    assert data.labels.tolist() == [0, 0, 0, 1, 1] and data.images.shape == (10, 16, 16)
    assert (data.train.tolist(), data.test.tolist()) == ([0, 1, 3], [2, 4])
    assert data.twins.tolist() == [4, NO_TWIN, 1, NO_TWIN, 9]
    assert data.static_train.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    refused(root, r"column split of recordings\.csv, split the recordings", train_portion=0.5)
    (root / "recordings.csv").write_text(
        "path,class\n"
        + "".join(f"of_{c}/a{k}.bin,{c}\n" for c in ("cup", "key") for k in (0, 1, 3))
    )
    data = load(root)
    assert data.names[0] == "of_cup/a0.bin" and data.test.tolist() == [2, 5]
    assert data.twins.tolist() == [NO_TWIN, NO_TWIN, 0, NO_TWIN, NO_TWIN, 4]  # by name


ROWS = """path,class,split,image
events/cup/a0.bin,cup,train,
events/cup/a0.bin,cup,train,
events/cup/a9.bin,cup,train,
events/cup/a1.bin,,train,
,cup,train,

events/cup/a1.bin,cup,val,
images/cup/a3.png,cup,train,
events/cup/a2.npz,cup,train,events/cup/a2.npz
events/cup/a3.bin,cup,train,images/cup/a3.png
events/key/a0.bin,key,train,images/cup/a3.png
events/key/a1.bin,key,train,,and more
"""


BAD = {
    **{3: "events/cup/a0.bin is in line 2 already", 4: "there is no file .*a9.bin"},
    **{5: "no class", 6: "no path", 8: "split val; train, test or nothing expected"},
    **{9: "images/cup/a3.png is an image", 10: "events/cup/a2.npz is no image"},
    **{12: "the image images/cup/a3.png is of class cup", 13: "more cells .*: and more"},
}
TABLES = {
    ROWS: "".join(["9 of 11 rows cannot be used:", *(f"\n  line {n}: {BAD[n]}.*" for n in BAD)]),
    "": "columns none; path and class expected",
    "file,class\na,b": "columns file, class; path and class expected",
    "path,class\n": "no row below its header",
    "path,class,split\nevents/cup/a0.bin,cup,test\nevents/cup/a1.bin,cup,": "1 of 2 rows",
    'path,class\n"events': "Cannot use .*: unexpected end of data",
    "path,class,image\nevents/cup/a0.bin,cup,images/key/a3.png": "line 2: .* is of class key",
}


@pytest.mark.parametrize("text", TABLES)
def test_a_table_that_cannot_be_used_and_every_bad_row_by_its_line(text, root):
    (root / "recordings.csv").write_text(text)
    refused(root, TABLES[text])


def test_long_recordings_are_cut_and_their_windows_stay_together(root):
    long = np.concatenate([recording(k) for k in range(3)])
    long["t"] += np.repeat([0, 290_000, 900_000], 300)  # to 1.2 s, nothing from 0.6 to 0.9
    write_bin(root / "events" / "cup" / "a4.bin", long)
    short = recording(7)
    write_bin(root / "events" / "key" / "a1.bin", short[short["t"] < short["t"][0] + 199_000])
    data = load(root, window="200ms")
    cup4 = [f"events/cup/a4.bin@{k}ms" for k in (0, 200, 400, 800, 1000)]
    assert [name for name in data.names if "cup/a4" in name] == cup4
    assert "events/key/a1.bin" in data.names and "events/cup/a2.npz@200ms" not in data.names
    assert "events/cup/a2.npz@0ms" in data.names
    part = long[(long["t"] >= long["t"][0] + 200_000) & (long["t"] < long["t"][0] + 400_000)]
    expected = resize_frames(torch.from_numpy(to_frames(part, 3, SIZE)), 16)
    np.testing.assert_allclose(data.frames[data.names.index(cup4[1])].numpy(), expected.numpy())
    tested = [name for name in data.names if re.search("a4", name)]
    assert [data.names[i] for i in data.test] == tested
    assert set(data.twins[data.test].tolist()) == {1, 6} and len(data.static_train) == 8
    assert data.cut_from is not None and len(set(data.cut_from.tolist())) == 10
    assert re.search(
        r"9 of 10 recordings were cut into \d+ windows of 200ms; left out: \d+ ends of recordings "
        r"that are shorter than half a window and 1 windows without event\.",
        data.remarks[-1],
    )
    whole = load(root, window="5s")
    assert len(whole.names) == 10 and whole.remarks[-1].endswith("window of 5s: none was cut.")


def test_the_unit_of_time_can_be_said(root):
    for name in ("cup", "key"):
        (root / "events" / name / "a2.npz").unlink()
    refused(root, "all files say their unit of time", time_unit="s")
    for k, us in enumerate((1, 1000)):
        columns = {n: recording(k)[n] for n in "xyp"} | {"t": recording(k)["t"] // us + 0.5}
        np.savez(root / "events" / "cup" / f"b{k}.npz", **columns)
    refused(root, r"us in 1, ms in 1 of them.* Say it with --time-unit")
    data = load(root, time_unit="ms")
    assert data.remarks[-1] == "Times are taken for ms in .npz files, as --time-unit says."
    first = data.names.index("events/cup/b0.npz")
    short = "all recordings would be shorter than 999999 us"
    refused(root, short, steps=999_999, time_unit="us")
    assert data.statistics["duration_us"][first] == 1000 * np.ptp(recording(0)["t"])
    refused(root, r"29\d,\d+ s long; at most an hour .*--time-unit", time_unit="s")


def test_matlab_files_that_count_from_one_are_recognised_together(root):
    def write(name, k, one, p):
        x, y, ts, polarity = (recording(k)[column] for column in "xytp")
        td = {"x": x + one, "y": y + one, "ts": ts, "p": p(polarity)}
        savemat(root / "events" / name / f"m{k}.mat", {"TD": td})

    write("cup", 1, 1, lambda p: p + 1)
    write("key", 2, 1, lambda p: p * 0 + 1)  # alone it would be ON
    data = load(root, size=24)
    i = data.names.index("events/key/m2.mat")
    assert data.frames[i, :, 0].sum() > 0 == data.frames[i, :, 1].sum()
    assert (data.statistics["width"][i], data.statistics["height"][i]) == SIZE
    assert data.remarks[-2:] == [
        "x and y of .mat files are taken to count from 1: none is 0.",
        "Polarity 1 of .mat files is taken for OFF, 2 for ON.",
    ]
    write("key", 3, 0, lambda p: p + 1)
    assert "count from 1" not in " ".join(load(root, size=24).remarks)
    write("key", 3, 0, lambda p: p)
    refused(root, r"\.mat files are 1 and 2 in 1; 0 and 1, or -1 and 1, in 1")


def test_what_cannot_be_used_is_said(root, caplog):
    (root / "events" / "mug").mkdir()
    write_bin(root / "events" / "mug" / "a.bin", recording(50))
    load(root)
    assert "left out, as they have no images: mug" in caplog.text
    (root / "events" / "cup" / "Thumbs.db").write_bytes(b"of no interest")
    (root / "images" / "cup" / "A4.jpg").write_bytes((root / "images/cup/a4.png").read_bytes())
    refused(root, r"A4\.jpg and .*a4\.png have one name")
    (root / "images" / "cup" / "A4.jpg").unlink()
    (root / "events" / "cup" / "more").mkdir()
    refused(root, "holds the folders more; files alone expected")
    (root / "events" / "cup" / "more").rmdir()
    times = {n: recording(12)[n] for n in "xyp"}
    np.savez(root / "events" / "key" / "a2.npz", **times, t=recording(12)["t"] / 1e3 + 0.5)
    refused(root, r"times of \.npz files could be s in 1, ms in 1 of them")
    (root / "events" / "key" / "a2.npz").unlink()
    (root / "events" / "cup" / "a0.bin").write_bytes(b"")
    refused(root, r"a0\.bin is empty")
    picture(root / "events" / "mug" / "a.png", 0)  # no recording
    picture(root / "images" / "mug" / "a.png", 0)
    (root / "events" / "mug" / "a.bin").unlink()
    refused(root, r"mug holds files such as a\.png, and no recording")
    (root / "events" / "mug" / "a.png").rename(root / "events" / "mug" / "a.bin")
    for name in ("cup", "key", "mug"):
        (root / "images" / name).rename(root / "images" / f"{name}s")
    both = r"events has cup, key, mug; images has cups, keys, mugs. Name the folders alike"
    refused(root, both)
    refused(root / "images", r"There is no folder .*events")


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
