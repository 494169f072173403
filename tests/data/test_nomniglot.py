"""The trees here are stand-ins in the true file formats, see ``standin_nomniglot``; no real N-Omniglot could be had."""

import csv
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import standin_nomniglot
import torch
import torch.nn.functional as F
import torchvision.transforms as T
from aedat4_writer import write_aedat4
from PIL import Image
from standin_nomniglot import SENSOR, drawing_times, times_table, write_tree
from tonic.io import read_aedat4 as tonic_read_aedat4
from tonic.transforms import ToFrame
from writers import random_events

from tests.program import run_train
from tmkt_braincog.data import install, nomniglot
from tmkt_braincog.data.base import DATASETS
from tmkt_braincog.data.images import read_image
from tmkt_braincog.data.nomniglot import load, published_pools, read_drawings, read_times
from tmkt_braincog.data.splits import directory_order, make_split
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

EVENTS = random_events(6000, seed=5, sensor_size=SENSOR, end_us=2_000_000)
for axis in "xy":
    EVENTS[axis] -= EVENTS[axis] % 12  # so that pixels see more than one
CLASSES = (
    "Background_00/character01",
    "Background_00/character02",
    "Background_01/character01",
    "Background_01/character02",
    "Evaluation_00/character01",
    "Evaluation_00/character02",
    "Evaluation_00/character03",
)
DVS, PNG = "NOmniglot/dvs_{}", "omniglot-py/images_{}"


@pytest.fixture(autouse=True)
def few_characters(monkeypatch):
    monkeypatch.setattr(nomniglot, "CHARACTERS", {"background": 4, "evaluation": 3})
    monkeypatch.setattr(standin_nomniglot, "ALPHABETS", {"background": 2, "evaluation": 1})


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Written once, never changed."""
    root = tmp_path_factory.mktemp("nomniglot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standin_nomniglot, "ALPHABETS", {"background": 2, "evaluation": 1})
        write_tree(root, EVENTS, 4, 3)
    return root


@pytest.fixture
def root(tree, tmp_path):
    """A copy to change; names and times are the same, so that the frames come from the cache."""
    return shutil.copytree(tree, tmp_path / "data")


def recording(root, c=0):
    """The recording of a class."""
    part = "background" if CLASSES[c].startswith("B") else "evaluation"
    (path,) = (root / DVS.format(part) / CLASSES[c]).glob("*.aedat4")
    return path


def images(root, c=0):
    """The images of a class, by drawer."""
    return sorted(
        (root / PNG.format("background" if c < 4 else "evaluation") / CLASSES[c]).glob("*.png"),
        key=lambda p: int(p.stem[-2:]),
    )


def slow_drawings(path):
    """Drawings by tonic's reader and a comparison per event."""
    events = tonic_read_aedat4(str(path))
    with open(path.with_suffix(".csv")) as file:
        times = [(int(row[1]), int(row[2])) for row in list(csv.reader(file))[1:]]
    return [events[[start <= e["t"] < end for e in events]] for start, end in times]


def test_contract(tree):
    data = DATASETS["N-OMNIGLOT"].load(tree, steps=3, size=28, train_portion=None, use_hsv=True)
    assert data.source == "OMNIGLOT" and data.target == "N-OMNIGLOT" and not data.emulated
    assert data.classes == CLASSES
    assert data.frames.shape == (140, 3, 2, 28, 28) and data.frames.dtype == torch.float32
    assert data.images.shape == (140, 28, 28) and data.images.dtype == torch.uint8
    assert (
        data.labels.tolist()
        == data.image_labels.tolist()
        == [c for c in range(7) for _ in range(20)]
    )
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    assert data.file_ids.tolist() == [*range(1, 21)] * 7
    assert data.names[:2] == [
        f"background/{CLASSES[0]}/{recording(tree).stem}_{d}" for d in ("01", "02")
    ]
    assert data.names[-1] == f"evaluation/{CLASSES[6]}/{recording(tree, 6).stem}_20"
    assert len(set(data.names)) == 140
    for name in ("file_ids", "twins", "train", "test", "static_train", "static_test"):
        assert getattr(data, name).dtype == np.int64
    assert data.statistics["n_events"].sum() == 7 * 5999  # the last event of all is in no drawing
    assert set(data.statistics["width"].tolist()) == {346}
    assert set(data.statistics["height"].tolist()) == {260}


def test_split_is_by_drawing_and_twins_are_of_the_same_number(tree):
    data = load(tree, 3, 28)
    assert set(data.file_ids[data.train].tolist()) == set(range(1, 16))
    assert set(data.file_ids[data.test].tolist()) == set(range(16, 21))
    assert sorted([*data.train, *data.test]) == list(range(140))
    assert data.static_train.tolist() == data.train.tolist()
    assert data.static_test.tolist() == data.test.tolist()
    for r in (0, 19, 45, 139):
        path = images(tree, r // 20)[data.file_ids[r] - 1]
        np.testing.assert_array_equal(data.images[data.twins[r]], read_image(path, 28))


def test_published_numbers():
    assert len(nomniglot.COUNTS) == 1623 and set(nomniglot.COUNTS) == {20}
    assert (15 * 1623, 5 * 1623) == (24_345, 8_115)
    assert DATASETS["N-OMNIGLOT"].counts == nomniglot.COUNTS
    assert DATASETS["N-OMNIGLOT"].sources == ("OMNIGLOT", "omni")


@pytest.mark.parametrize("mode", ["frequency", "event"])
def test_frames_are_those_of_tonic_divided_cropped_and_interpolated_by_torch(tree, mode):
    data = load(tree, 3, 28, mode=mode)
    for c in (1, 6):
        for d, drawing in enumerate(slow_drawings(recording(tree, c))):
            events = drawing.astype([("t", int), ("x", int), ("y", int), ("p", int)])
            frames = ToFrame(sensor_size=(*SENSOR, 2), n_time_bins=3)(events).astype(np.float64)
            for frame in frames.reshape(-1, 260, 346):
                frame[...] = frame / max(frame.max(), 1) if mode == "frequency" else frame > 0
            assert frames.max() == 1
            cropped = torch.tensor(frames[..., 4:254, 54:304], dtype=torch.float)
            expected = F.interpolate(cropped, size=[28, 28], mode="bilinear", align_corners=True)
            torch.testing.assert_close(data.frames[20 * c + d], expected, rtol=1e-6, atol=1e-6)
    assert data.frames.sum() > 100


def test_frames_are_those_of_the_publishers_code_but_for_the_last_events(tree):
    from braincog.datasets.NOmniglot.utils import integrate_events_to_frames

    from tmkt_braincog.data.frames import apply_mode, to_frames

    for events, sensor in read_drawings(recording(tree)):
        ours = apply_mode(to_frames(events, 12, sensor), "frequency")
        columns = {name: column.astype(np.int64) for name, column in events.items()}
        theirs = integrate_events_to_frames(columns, 260, 346, 12, "frequency")
        np.testing.assert_allclose(ours[:-1], theirs[:-1], atol=2e-3)  # theirs are float16


def test_drawings_are_cut_by_start_and_end(tree):
    path = recording(tree, 2)
    drawings = read_drawings(path)
    assert len(drawings) == 20
    for (events, sensor), expected in zip(drawings, slow_drawings(path), strict=True):
        assert sensor == (346, 260) and len(expected) > 290
        for name, column in (("x", "x"), ("y", "y"), ("t", "t"), ("p", "on")):
            np.testing.assert_array_equal(events[name], expected[column])


def test_events_out_of_order_are_in_the_drawing_of_their_time_with_one_warning(root, caplog):
    expected = load(root, 3, 28).frames
    path = recording(root, 3)
    events = standin_nomniglot.mirrored(EVENTS, int(path.stem) % 4)
    times = drawing_times(EVENTS)
    swapped = [700, 701], [701, 700]
    assert times[2, 0] < events["t"][700] < events["t"][701] < times[2, 1]
    events[swapped[0]] = events[swapped[1]]
    write_aedat4(path, events)
    for _ in range(2):
        caplog.clear()
        assert torch.equal(load(root, 3, 28).frames, expected)
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert warnings == [
            "N-OMNIGLOT: 1 events in 1 recordings were out of order in time; they were sorted."
        ]


def test_images_are_the_grey_values_of_the_drawings_not_inverted(tree):
    data = load(tree, 3, 28)
    for c in (0, 5):
        for d, path in enumerate(images(tree, c)):
            image = Image.open(path)
            assert image.mode == "1" and image.size == (105, 105)
            grey = np.asarray(T.Resize((28, 28))(image.convert("L")))
            np.testing.assert_array_equal(data.images[20 * c + d], grey)
    assert data.images.max() == 255 and data.images.min() < 200 and data.images.float().mean() > 220


def test_order_is_that_of_names_in_any_directory_order(root, monkeypatch):
    expected = load(root, 3, 28)
    real_glob, real_iterdir = Path.glob, Path.iterdir
    monkeypatch.setattr(Path, "glob", lambda self, p: reversed(sorted(real_glob(self, p))))
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(sorted(real_iterdir(self))))
    monkeypatch.setenv("TMKT_CACHE", str(root / "cache"))
    data = load(root, 3, 28)
    assert data.names == expected.names and data.classes == expected.classes
    for name in ("frames", "labels", "images", "image_labels"):
        assert torch.equal(getattr(data, name), getattr(expected, name))
    for one, other in zip(data.published.pools, expected.published.pools, strict=True):
        np.testing.assert_array_equal(one, other)


def test_decoded_once_until_a_recording_or_its_table_changes(root, monkeypatch):
    calls = []
    before = load(root, 3, 28)
    real = nomniglot.read_aedat4
    monkeypatch.setattr(nomniglot, "read_aedat4", lambda path: calls.append(path) or real(path))
    monkeypatch.setattr(
        Image, "open", lambda path, real=Image.open: calls.append(path) or real(path)
    )
    again = load(root, 3, 28)
    assert not calls
    assert torch.equal(again.frames, before.frames) and torch.equal(again.images, before.images)
    table = recording(root, 4).with_suffix(".csv")
    times = drawing_times(EVENTS)
    times[7, 1] = times[7].mean()
    table.write_text(times_table(times))
    changed = load(root, 3, 28)
    assert len(calls) == 7
    same = (changed.frames == before.frames).flatten(1).all(1)
    assert same.tolist() == [r != 4 * 20 + 7 for r in range(140)]


def test_hidden_and_other_files_do_not_count(root):
    expected = load(root, 3, 28)
    for folder in (root / DVS.format("background"), root / PNG.format("evaluation")):
        (folder / ".cache").mkdir()
        (folder / "readme.txt").write_text("x")
    folder = recording(root).parent
    for name in ("._0001.aedat4", ".0001.csv", "0001.txt", "copy.aedat4", "9999.csv"):
        (folder / name).write_text("x")
    (images(root)[0].parent / "._0001_01.png").write_text("x")
    data = load(root, 3, 28)
    assert data.names == expected.names and torch.equal(data.frames, expected.frames)


def test_numbers_of_characters_are_compared_as_numbers(root):
    expected = load(root, 3, 28)
    folder = recording(root, 1).parent
    folder.rename(folder.parent / "character2")
    data = load(root, 3, 28)
    assert data.classes == expected.classes and data.names == expected.names


# Protocols


def split_of(data, protocol):
    options, _ = resolve(parse(["--target-dataset", "N-OMNIGLOT", "--protocol", protocol]))
    return make_split(data, options, seed=42)


def test_clean_pools_are_the_training_images_of_the_class(tree):
    data = load(tree, 3, 28)
    split = split_of(data, "clean")
    for c, pool in enumerate(split.pools):
        assert pool.tolist() == list(range(20 * c, 20 * c + 15))
    assert "Audit: 0 static twins" in split.audit and "another class" not in split.audit
    assert split.train.tolist() == data.train.tolist() and split.test.tolist() == data.test.tolist()


def test_fault_9_images_are_those_of_the_character_at_the_same_place_of_the_directory(tree):
    data = load(tree, 3, 28)
    split = split_of(data, "he2024")
    assert split.train.tolist() == data.train.tolist() and split.test.tolist() == data.test.tolist()
    wrong = 0
    for alphabet in ("Background_00", "Background_01", "Evaluation_00"):
        members = [c for c, name in enumerate(CLASSES) if name.startswith(alphabet)]
        order = directory_order([CLASSES[c].split("/")[1] for c in members])
        for c, i in zip(members, order, strict=True):
            assert split.pools[c].tolist() == list(range(20 * members[i], 20 * members[i] + 15))
            wrong += 15 * (members[i] != c)
    assert wrong > 0
    assert f"{wrong} of 105 images that can be drawn are of another class" in split.audit
    assert "Audit: 0 static twins" in split.audit


def test_fault_9_at_full_size():
    from tmkt_braincog.data.nomniglot import Character

    characters = [
        Character("background", f"{a:02d}", n, Path())
        for a in range(30)
        for n in range(1, 21 + a % 24)
    ]
    pools = published_pools(characters)
    assert sorted(np.concatenate(pools).tolist()) == [
        i for i in range(20 * len(characters)) if i % 20 < 15
    ]  # every training image of somebody
    right = sum(int(pool[0]) == 20 * c for c, pool in enumerate(pools))
    assert right < len(characters) / 10
    alphabets = [characters[pool[0] // 20].alphabet for pool in pools]
    assert alphabets == [c.alphabet for c in characters]


# Faults


@pytest.mark.parametrize("portion", [0.5, 0.75])
def test_portion_is_refused(tree, portion):
    with pytest.raises(UserError, match="N-OMNIGLOT, which has its own split"):
        load(tree, train_portion=portion)


def test_unknown_mode_is_refused(tree):
    with pytest.raises(UserError, match=r"Unknown mode of frames 'events'. Did you mean 'event'"):
        load(tree, mode="events")


def test_missing_parts_print_the_expected_tree(tmp_path, tree):
    expected = (
        r"Expected:.*NOmniglot/dvs_background/<alphabet>.*omniglot-py/images_.*figshare.*16821427"
    )
    for given in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=f"(?s){expected}"):
            load(given)
    for part in ("NOmniglot/dvs_background", "omniglot-py/images_evaluation"):
        target = tmp_path / part.replace("/", "_")
        shutil.copytree(
            tree, target, ignore=lambda folder, names: [n for n in names if n.endswith(".png")]
        )
        shutil.rmtree(target / part)
        with pytest.raises(UserError, match=f"(?s)There is no folder .*{part}\\.\n{expected}"):
            load(target)


def remove(folder):
    return lambda root: shutil.rmtree(root / folder)


def rename(old, new):
    return lambda root: (root / old).rename(root / new)


def both(*changes):
    return lambda root: [change(root) for change in changes]


BACKGROUND, SHOWN = DVS.format("background"), PNG.format("background")


@pytest.mark.parametrize(
    "change, said",
    [
        (
            remove(f"{BACKGROUND}/{CLASSES[1]}"),
            r"NOmniglot: 6 of 7 characters \(background 3 of 4, in 2 of 30 alphabets; evaluation 3 of 3, in 1 of "
            r"20 alphabets\), 90 training and 30 test drawings\n.*omniglot-py: 7 of 7 .*, 105 training and 35 test"
            r".*in omniglot-py but not in NOmniglot: background/Background_00/character02\n",
        ),
        (
            both(remove(f"{BACKGROUND}/{CLASSES[1]}"), remove(f"{SHOWN}/{CLASSES[1]}")),
            r"NOmniglot: 6 of 7 .*omniglot-py: 6 of 7 characters \(background 3 of 4, .*test drawings\nUnpack",
        ),
        (
            rename(f"{BACKGROUND}/Background_01", f"{BACKGROUND}/Greek"),
            r"in omniglot-py but not in NOmniglot: background/Background_01/character01, background/Background_01/"
            r"character02\n.*in NOmniglot but not in omniglot-py: background/Greek/character01, background/Greek",
        ),
        (
            rename(f"{SHOWN}/{CLASSES[1]}", f"{SHOWN}/Background_00/character7"),
            r"but not in NOmniglot: background/Background_00/character07",
        ),
        (
            rename(f"{BACKGROUND}/{CLASSES[1]}", f"{BACKGROUND}/Background_00/character1"),
            r"Both .*character0?1 and .*character0?1 have number 1",
        ),
        (
            rename(f"{BACKGROUND}/{CLASSES[1]}", f"{BACKGROUND}/Background_00/letter02"),
            r"Found .*letter02; a name like character01 was expected",
        ),
        (
            lambda root: recording(root).unlink(),
            r"Background_00/character01 must hold one recording like 0123\.aedat4; found none",
        ),
        (
            lambda root: shutil.copy(recording(root), recording(root).with_stem("1234")),
            r"must hold one recording like 0123\.aedat4; found 0001\.aedat4, 1234\.aedat4",
        ),
        (
            lambda root: recording(root).with_suffix(".csv").unlink(),
            r"There is no .*0001\.csv, which says when the drawings",
        ),
        (
            lambda root: images(root)[4].unlink(),
            r"character01 must hold one image .* drawings 1 to 20; found 19 images, with the drawings 1, 2, 3, 4, 6",
        ),
        (
            lambda root: images(root)[4].rename(images(root)[4].with_stem("0001_21")),
            r"found 20 images, with the drawings 1, .*, 20, 21",
        ),
        (
            lambda root: shutil.copy(images(root)[4], images(root)[4].with_stem("a")),
            r"found 21 images",
        ),
        (lambda root: images(root)[4].write_bytes(b"x"), r"Cannot read .*_05\.png"),
        (lambda root: recording(root).write_bytes(b"x"), r"0001\.aedat4 is no AEDAT4 file"),
        (
            lambda root: recording(root).with_suffix(".csv").write_text("a,b,c\n0,1,2\n"),
            r"0001\.csv has 1 rows after its header; 20 were expected",
        ),
    ],
)  # fmt: skip
def test_faults_are_named(root, change, said):
    change(root)
    with pytest.raises(UserError, match=f"(?s){said}"):
        load(root, 3, 28)


def test_many_missing_characters_are_counted(root, monkeypatch):
    monkeypatch.setattr(nomniglot, "NAMED", 2)
    shutil.rmtree(root / BACKGROUND)
    (root / BACKGROUND).mkdir()
    with pytest.raises(UserError, match=r"background/Background_00/character02 and 2 more\n"):
        load(root)


def cell(row, column, text):
    """The table with one field replaced; row 1 is the first drawing."""
    rows = [line.split(",") for line in times_table(drawing_times(EVENTS)).splitlines()]
    rows[row][column] = text
    return "\n".join(",".join(row) for row in rows).encode()


def lines(*keep):
    rows = times_table(drawing_times(EVENTS)).splitlines()
    return "\n".join(rows[k] for k in keep).encode()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "has 0 rows after its header; 20 were"),
        (lines(*range(20)), "has 19 rows after its header"),
        (lines(*range(1, 21)), "has 19 rows after its header"),
        (lines(*range(21), 20), "has 21 rows after its header"),
        (lines(0, 2, 1, *range(3, 21)), "row 2: the drawing begins at [0-9]+ us, before the drawing above"),
        (lines(0, 1, 1, *range(3, 21)), "row 2: .* before the drawing above it ends"),
        (cell(3, 1, "early"), "row 3: seen 'early' in column 2; a time in whole microseconds"),
        (cell(3, 2, "nan"), "row 3: seen 'nan' in column 3"),
        (cell(4, 2, ""), "row 4: seen '' in column 3"),
        (cell(5, 1, "-7"), "row 5: seen '-7'"),
        (cell(5, 1, "1.5"), "row 5: seen '1.5'"),
        (cell(5, 1, "1e6"), "row 5: seen '1e6'"),
        (cell(5, 1, "9" * 30), "row 5: seen '9{30}'"),
        (cell(6, 2, "0"), "row 6: the drawing begins at [0-9]+ us, but ends at 0 us"),
        (b"a,b\n" + b"1,2\n" * 20, "row 1: seen '' in column 3"),
        (bytes(range(256)) * 9, "Cannot read .*utf-8"),
        (b"\0" * 400, "has 0 rows|Cannot read"),
        (b"1,2,3\n" * (1 << 14), "Cannot read .*more than 65536 bytes"),
        (b'a,b,c\n"' + b"1" * 65000, "has 1 rows|Cannot read"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_named(tmp_path, content, said):
    path = tmp_path / "0001.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_times(path)
    assert str(path) in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Cannot read .*0001\.csv"):
        read_times(tmp_path / "0001.csv")


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: "\ufeff" + text,
    lambda text: text + "\n\n",
    lambda text: text.replace(",", ", "),
    lambda text: text.replace("\n", ".0\n").replace("timestamp.0", "timestamp"),
    lambda text: "\n".join(f"{line},more" for line in text.splitlines()),
])  # fmt: skip
def test_tables_as_other_programs_write_them(tmp_path, change):
    path = tmp_path / "0001.csv"
    path.write_bytes(change(times_table(drawing_times(EVENTS))).encode())
    np.testing.assert_array_equal(read_times(path), drawing_times(EVENTS))


@pytest.mark.parametrize(
    "times, said",
    [
        (
            lambda t: t - 2000,
            r"row 1: the drawing from -?\d+ to \d+ us is not all in the recording",
        ),
        (
            lambda t: t + 2000,
            r"row 20: .* is not all in the recording 0001\.aedat4, which has events from",
        ),
        (lambda t: np.where(t == t[3, 1], t[3, 0] + 1, t), None),
    ],
)
def test_drawings_outside_the_recording_are_named(tmp_path, times, said):
    events = EVENTS.copy()
    events["t"] += 1_000_000
    path = write_aedat4(tmp_path / "0001.aedat4", events)
    path.with_suffix(".csv").write_text(times_table(times(drawing_times(events))))
    if said is None:
        assert len(read_drawings(path)) == 20
    else:
        with pytest.raises(UserError, match=rf"0001\.csv, {said}"):
            read_drawings(path)


def test_a_drawing_without_events_is_named(tmp_path):
    times = drawing_times(EVENTS)
    t = EVENTS["t"]
    gap = int(np.argmax(np.diff(t[700:890])) + 700)
    times[2] = times[1, 1], t[gap] + 1
    times[3] = t[gap] + 1, t[gap + 1]
    path = write_aedat4(tmp_path / "0001.aedat4", EVENTS)
    path.with_suffix(".csv").write_text(times_table(times))
    with pytest.raises(
        UserError, match=r"0001\.csv, row 4: the drawing from \d+ to \d+ us has no event"
    ):
        read_drawings(path)


def test_another_sensor_is_named(tmp_path):
    path = write_aedat4(tmp_path / "0001.aedat4", EVENTS, (640, 480))
    path.with_suffix(".csv").write_text(times_table(drawing_times(EVENTS)))
    with pytest.raises(
        UserError, match=r"0001\.aedat4 is of a sensor of 640 x 480 pixels; expected 346 x 260"
    ):
        read_drawings(path)


def test_an_event_outside_the_sensor_is_named(root):
    events = EVENTS.copy()
    events["x"][3] = 346
    write_aedat4(recording(root), events)
    with pytest.raises(
        UserError, match=r"0001\.aedat4: 1 of \d+ events lie outside the 346 x 260 sensor"
    ):
        load(root, 3, 28)


# Fetching and settings


def test_fetch_gets_omniglot_and_says_what_to_fetch_by_hand(root, tmp_path, monkeypatch):
    expected = load(root, 3, 28)
    archives, asked = tmp_path / "archives", []
    for part in ("background", "evaluation"):
        shutil.make_archive(
            str(archives / f"images_{part}"), "zip", root / "omniglot-py", f"images_{part}"
        )
        shutil.rmtree(root / PNG.format(part))
    (root / "NOmniglot").rename(tmp_path / "aside")

    def fetch(archive, folder):
        asked.append((archive.urls, archive.md5, folder))
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(archives / archive.name, folder / archive.name))

    monkeypatch.setattr(install, "fetch", fetch)
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"(?s)no folder .*dvs_background, and no direct.*16821427"
        ):
            nomniglot.fetch(root)
    prefix = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
    assert asked == [
        (
            (f"{prefix}/images_background.zip",),
            "68d2efa1b9178cc56df9314c21c6e718",
            root / "omniglot-py",
        ),
        (
            (f"{prefix}/images_evaluation.zip",),
            "6b91aef0f799c5bb55b94e3f2daec811",
            root / "omniglot-py",
        ),
    ]
    (tmp_path / "aside").rename(root / "NOmniglot")
    nomniglot.fetch(root)
    assert torch.equal(load(root, 3, 28).images, expected.images)


PUBLISHED = {
    "source_dataset": "OMNIGLOT",
    "model": "Transfer_SCNN",
    "node_type": "LIFNode",
    "act_fun": "BackEIGateGrad",
    "threshold": 0.5,
    "tau": 2.0,
    "step": 12,
    "event_size": 28,
    "batch_size": 16,
    "epochs": 50,
    "lr": 1.2,
    "opt": "adamw",
    "weight_decay": 0.01,
    "clip_grad": None,
    "sched": "step",
    "decay_epochs": 40,
    "warmup_epochs": 5,
    "augment": "none",
    "sampling": "shuffle",
    "protocol": "clean",
    "train_portion": None,
    "smoothing": 0.0,
    "TET_loss": False,
    "regularization": False,
    "domain_loss": True,
    "domain_loss_coefficient": 0.5,
    "mixup_ratio": 0.95,
}


def test_recipe_is_the_published_one():
    options, _ = resolve(parse(["--target-dataset", "N-OMNIGLOT"]))
    assert {name: getattr(options, name) for name in PUBLISHED} == PUBLISHED
    assert options.lr * options.batch_size / 1024 == pytest.approx(1.875e-2)
    line, _ = resolve(parse(["--target-dataset", "N-OMNIGLOT", "--domain-loss"]))
    assert line.method == ["baseline"]
    assert {name: getattr(line, name) for name in PUBLISHED} == PUBLISHED


@pytest.mark.realdata
def test_real_recording_of_the_camera_and_real_drawings(real_data, tmp_path, monkeypatch):
    """A stand-in yet: a scene of the same camera cut into 20 windows, under Omniglot's characters."""
    film, drawn = (
        real_data / "aedat4" / "davis346_a.aedat4",
        real_data / "omniglot-py" / "images_background_small1.zip",
    )
    if not (film.is_file() and drawn.is_file()):
        pytest.skip(f"no real {film} or {drawn}")
    monkeypatch.setattr(nomniglot, "CHARACTERS", {"background": 2, "evaluation": 1})
    events = tonic_read_aedat4(str(film))
    places = (
        ("background", "Greek", "character01"),
        ("background", "Greek", "character10"),
        ("evaluation", "Latin", "character03"),
    )
    archive = zipfile.ZipFile(drawn)
    for part, alphabet, character in places:
        names = sorted(
            n for n in archive.namelist() if f"/{alphabet}/{character}/" in n and n.endswith("png")
        )
        folder = tmp_path / PNG.format(part) / alphabet / character
        folder.mkdir(parents=True)
        for name in names:
            (folder / Path(name).name).write_bytes(archive.read(name))
        folder = tmp_path / DVS.format(part) / alphabet / character
        folder.mkdir(parents=True)
        stem = Path(names[0]).stem[:4]
        (folder / f"{stem}.aedat4").symlink_to(film)
        (folder / f"{stem}.csv").write_text(times_table(drawing_times(events)))
    data = load(tmp_path)
    assert data.classes == ("Greek/character01", "Greek/character10", "Latin/character03")
    assert data.frames.shape == (60, 12, 2, 28, 28) and data.images.shape == (60, 28, 28)
    assert data.statistics["n_events"][:20].sum() == 117_666
    frames = data.frames[:20]
    assert frames.max() <= 1 and (frames.amax((-1, -2)) > 0.1).float().mean() > 0.9
    assert torch.equal(data.frames[20:40], frames)
    drawing = slow_drawings(tmp_path / DVS.format("background") / "Greek" / "character01" / f"{data.names[0].split('/')[-1][:4]}.aedat4")[4]  # fmt: skip
    structured = drawing.astype([("t", int), ("x", int), ("y", int), ("p", int)])
    counts = ToFrame(sensor_size=(*SENSOR, 2), n_time_bins=12)(structured).astype(np.float64)
    counts = torch.tensor(counts / np.maximum(counts.max((-1, -2), keepdims=True), 1))[
        ..., 4:254, 54:304
    ]
    expected = F.interpolate(counts.float(), size=[28, 28], mode="bilinear", align_corners=True)
    torch.testing.assert_close(frames[4], expected, rtol=1e-6, atol=1e-6)
    assert data.images.float().mean() > 200 and data.images.min() < 100


def test_the_recipe_trains_to_the_table(root, tmp_path, capsys):
    words = f"-c nomniglot --data-root {root} --epochs 1 --warmup-epochs 0 --batch-size 4 --epoch-size 8 --output {tmp_path / 'out'}"
    assert run_train([*words.split(), "--no-tensorboard"]) == 0
    said = capsys.readouterr().out
    assert (
        "140 recordings, 140 images, 7 classes" in said
        and "105 training, 0 validation and 35 test" in said
    )
    assert "35 of them excluded" in said and "Audit: 0 static twins" in said
    row = pd.read_csv(tmp_path / "out" / "comparison.csv").iloc[0]
    assert row["method"] == "tmkt" and 0 <= row["top1_last"] <= 100


@pytest.mark.slow
def test_full_tree_is_found(tmp_path, monkeypatch):
    monkeypatch.undo()
    write_tree(tmp_path, EVENTS)
    characters = nomniglot.find_characters(tmp_path, nomniglot.recordings_folder)
    shown = nomniglot.find_characters(tmp_path, nomniglot.images_folder)
    nomniglot._check_complete(characters, shown, tmp_path)
    assert len(characters) == 1623
    assert len({c.alphabet for c in characters}) == 50
