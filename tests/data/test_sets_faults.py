"""Damaged, missing and misplaced files of the recorded data sets: one message that names them."""

import shutil

import numpy as np
import pytest
from aedat4_writer import write_aedat4
from sets import CASES, CEP_LABELS, FEW, STROKES, nomniglot
from standin_cepdvs import write_table
from standin_nomniglot import drawing_times, times_table
from writers import random_events

from tmkt_braincog.data.nomniglot import read_drawings, read_times
from tmkt_braincog.errors import UserError

pytestmark = pytest.mark.usefixtures("few")
BIN, JPG = "NCALTECH101/Caltech101", "caltech101/101_ObjectCategories"
MAT, IMG = "CEP-DVS/data/MAT/img", "CEP-DVS/data/img"
DVS, PNG = "NOmniglot/dvs_background/Background_00", "omniglot-py/images_background/Background_00"
CAT, BATCHES = "CIFAR10DVS/cat", "cifar-10-batches-py"


def write(path, content):
    return lambda root: (root / path).write_bytes(content)


def cut(path, n):
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:n])


def move(old, new):
    def change(root):
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return change


def remove(*paths):
    def change(root):
        for path in map(root.joinpath, paths):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def copy(old, new):
    return lambda root: shutil.copy(root / old, root / new)


def row(k, text):
    def change(root):
        table = root / "CEP-DVS/pathFile.csv"
        rows = table.read_text().split("\n")
        rows[k + 1] = text
        table.write_text("\n".join(rows))

    return change


def outside(path, sensor):
    events = random_events(6000, sensor_size=sensor, end_us=2_000_000)
    events["x"][5] = sensor[0]
    return lambda root: write_aedat4(root / path, events, (346, 260))


FAULTS = {
    "nmnist": [
        (write("NMNIST/Train/1/00004.bin", b""), r"00004\.bin is empty"),
        (write("NMNIST/Train/1/00004.bin", b"1234567"), r"00004\.bin is truncated: 7 bytes"),
        (write("NMNIST/Train/1/00004.bin", bytes([34, 0, 0, 0, 1])),
         r"00004\.bin: 1 of 1 events lie outside the 34 x 34"),
        (move("NMNIST/Train/5", "NMNIST/Train/ten"), r"folders ten, which are none of the 10 "
         r"classes"),
        (move("NMNIST/Train/1/00004.bin", "NMNIST/Train/1/four.bin"),
         r"four\.bin; a name like 00011\.bin was"),
        (move("NMNIST/Train/1/00004.bin", "NMNIST/Train/1/00003.bin"),
         r"class 1, but image 3 of MNIST's Train .* is a 4"),
        (move("NMNIST/Train/1/00004.bin", "NMNIST/Train/1/00008.bin"),
         r"number 8, but MNIST's Train set has .* 1\.\.7"),
        (move("NMNIST/Train/1/00004.bin", "NMNIST/Train/1/00000.bin"), r"number 0, but MNIST's"),
        (move("NMNIST/Train/1/00004.bin", "NMNIST/Train/1/2.bin"), r"Both .* and .* have number 2"),
        (move("NMNIST/Train/1/00004.bin", "NMNIST/Train/3/00004.bin"),
         r"class 3, but image 4 .* is a 1"),
        (remove("NMNIST/Test"), r"There is no folder .*Test.*\n.*Expected:"),
        (remove("NMNIST/Test/0/00004.bin", "NMNIST/Test/1/00003.bin"),
         r"Found 0 files like 00011\.bin"),
        (cut("MNIST/raw/train-images-idx3-ubyte", 900), r"Cannot read MNIST"),
    ],
    "NCALTECH101": [
        (write(f"{BIN}/dolphin/image_0003.bin", b"1234567"),
         r"image_0003\.bin is truncated: 7 bytes"),
        (write(f"{JPG}/dolphin/image_0003.jpg", b"no image"), r"Cannot read .*image_0003\.jpg"),
        (move(f"{BIN}/dolphin", f"{BIN}/Dolphin"), r"folders Dolphin, which are none of .*101 "
         r"classes"),
        (move(f"{JPG}/dolphin", f"{JPG}/shark"), r"101_ObjectCategories holds the folders shark"),
        (move(f"{BIN}/dolphin/image_0003.bin", f"{BIN}/dolphin/3.bin"),
         r"a name like image_0001\.bin"),
        (move(f"{JPG}/dolphin/image_0003.jpg", f"{JPG}/dolphin/a.jpg"),
         r"a name like image_0001\.jpg"),
        (move(f"{BIN}/dolphin/image_0003.bin", f"{BIN}/dolphin/image_4.bin"),
         r"Both .*dolphin.* have number 4"),
        (copy(f"{JPG}/dolphin/image_0003.jpg", f"{JPG}/dolphin/image_0003.JPG"),
         r"Both .*dolphin.* have number 3"),
        (remove(f"{JPG}/dolphin"), r"recordings in .*no image in .*101_ObjectCategories: dolphin\. "
         r"Add"),
    ],
    "CEP-DVS": [
        (cut(f"{MAT}/7.mat", -30), r"MAT/img/7\.mat"),
        (cut(f"{IMG}/7.png", 300), r"Cannot read .*data/img/7\.png"),
        (remove(f"{IMG}/1.png", f"{IMG}/5.png"), r"No training .* image in data/img: "
         r"aquatic_mammals\. Add.*Expected:"),
        (remove("CEP-DVS/pathFile.csv"), r"There is no file .*pathFile\.csv\.\nExpected:"),
        (write("CEP-DVS/pathFile.csv", b"\xff\xfe\x00\x9f" * 9), r"Cannot read .*pathFile\.csv"),
        (lambda root: write_table(root / "CEP-DVS", CEP_LABELS[:18]),
         r"has 18 rows behind .*18\.mat, which needs row 18"),
        (lambda root: ((root / MAT / "18.mat").unlink(), write_table(root / "CEP-DVS",
         CEP_LABELS[:18])),
         r"18 rows behind its header.*data/img/18\.png, which needs row 18"),
        (row(5, "5 img 5.png cifar100 whales"), r"row 5 .*'5 img 5\.png cifar100 whales', the "
         r"fifth word is 'whales'; one "
         r"of aquatic_mammals, fish, .*vehicles_2 was expected there, for .*5\.mat"),
        (row(5, "5,img,5.png,cifar100,fish"), r"row 5 .*the fifth word is ''"),
        (row(5, "5 img 5.png fish"), r"row 5 .*the fifth word is ''"),
        (move(f"{MAT}/3.mat", f"{MAT}/a3.mat"), r"Found .*a3\.mat; a name like 0\.mat"),
        (move(f"{IMG}/3.png", f"{IMG}/x.png"), r"Found .*x\.png; a name like 0\.png"),
        (move(f"{MAT}/3.mat", f"{MAT}/04.mat"), r"Both .*04\.mat and .*4\.mat have number 4"),
        (move(f"{IMG}/3.png", f"{IMG}/4.jpg"), r"Both .* have number 4"),
    ],
    "CIFAR10-DVS": [
        (cut(f"{CAT}/cifar10_cat_3.aedat4", -300), r"cat/cifar10_cat_3\.aedat4"),
        (outside(f"{CAT}/cifar10_cat_3.aedat4", (128, 128)),
         r"cat_3\.aedat4: 1 of 6000 events lie outside the 128 x 128"),
        (move(CAT, "CIFAR10DVS/Cat"), r"the folders Cat, which are none of the 10 "
         r"classes.*Expected:"),
        (move(f"{CAT}/cifar10_cat_3.aedat4", f"{CAT}/a.aedat4"),
         r"Found .*cat/a\.aedat4; a name like \*_0\.aedat4"),
        (copy(f"{CAT}/cifar10_cat_3.aedat4", f"{CAT}/b_04.aedat4"),
         r"Both .* and .* have number 4"),
        (remove(f"{BATCHES}/data_batch_3"), r"Found no data_batch_3 in "
         r".*cifar-10-batches-py\.\nExpected:"),
        (write(f"{BATCHES}/data_batch_3", b"\x80\x04no pickle"),
         r"Cannot read CIFAR-10 in .*Expected:"),
        (write(f"{BATCHES}/batches.meta", b""), r"Cannot read CIFAR-10 in .*Expected:"),
    ],
    "N-OMNIGLOT": [
        (remove(f"{DVS}/character02"), r"NOmniglot: characters of background 3 of 4, evaluation 3 "
         r"of 3; not there: "
         r"background/Background_00/character02\n.*omniglot-py: characters of background 4 of 4, "
         r"evaluation 3 of 3\nUnp"),
        (remove(f"{DVS}/character02", f"{PNG}/character02"),
         r"NOmniglot: .* 3 of 4, .*omniglot-py: .* 3 of 4, .* 3 of 3\nUnp"),
        (move(DVS, "NOmniglot/dvs_background/Greek"), r"NOmniglot: .*; not there: "
         r"background/Background_00/character01, "
         r"background/Background_00/character02\n.*omniglot-py: .*; not there: "
         r"background/Greek/character01, "),
        (move(f"{PNG}/character02", f"{PNG}/character7"), r"NOmniglot: .*; not there: "
         r"background/Background_00/character07"),
        (move(f"{DVS}/character02", f"{DVS}/character1"), r"Both .*character0?1 and .*character0?1 "
         r"have number 1"),
        (move(f"{DVS}/character02", f"{DVS}/letter02"), r"Found .*letter02; a name like "
         r"character01 was expected"),
        (remove(f"{DVS}/character01/0001.aedat4"), r"character01 must hold one recording like "
         r"0123\.aedat4; found none"),
        (copy(f"{DVS}/character01/0001.aedat4", f"{DVS}/character01/1234.aedat4"),
         r"found 0001\.aedat4, 1234\.aedat4"),
        (remove(f"{DVS}/character01/0001.csv"), r"There is no .*0001\.csv, which says when the "
         r"drawings"),
        (remove(f"{PNG}/character01/0001_05.png"), r"one image .* drawings 1 to 20; found the "
         r"drawings 1, 2, 3, 4, 6"),
        (move(f"{PNG}/character01/0001_05.png", f"{PNG}/character01/0001_21.png"),
         r"found the drawings 1, .*, 20, 21"),
        (copy(f"{PNG}/character01/0001_05.png", f"{PNG}/character01/a.png"),
         r"Found .*a\.png; a name like \*_01\.png"),
        (write(f"{PNG}/character01/0001_05.png", b"x"), r"Cannot read .*_05\.png"),
        (write(f"{DVS}/character01/0001.aedat4", b"x"), r"0001\.aedat4"),
        (write(f"{DVS}/character01/0001.csv", b"a,b,c\n0,1,2\n"),
         r"Cannot use .*0001\.csv, which has 1 rows"),
        (outside(f"{DVS}/character01/0001.aedat4", (346, 260)),
         r"0001\.aedat4: 1 of \d+ events lie outside the 346 x 260"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "name, change, said",
    [pytest.param(n, *f, id=f"{n}-{i}") for n, all_ in FAULTS.items() for i, f in enumerate(all_)],
)
def test_faults_are_named(name, change, said, copy_of):
    root = copy_of(name)
    change(root)
    with pytest.raises(UserError, match=f"(?s){said}"):
        CASES[name].load(root)


def test_many_missing_characters_are_counted(copy_of, monkeypatch):
    monkeypatch.setattr(nomniglot, "NAMED", 2)
    root = copy_of("N-OMNIGLOT")
    shutil.rmtree((root / DVS).parent)
    (root / DVS).parent.mkdir()
    with pytest.raises(UserError, match=r"background/Background_00/character02 and 2 more\n"):
        CASES["N-OMNIGLOT"].load(root)
    assert FEW["CHARACTERS"] == nomniglot.CHARACTERS


# Tables of times of N-Omniglot


def cell(row, column, text):
    """The table with one field replaced; row 1 is the first drawing."""
    rows = [line.split(",") for line in times_table(drawing_times(STROKES)).splitlines()]
    rows[row][column] = text
    return "\n".join(",".join(row) for row in rows).encode()


def lines(*keep):
    rows = times_table(drawing_times(STROKES)).splitlines()
    return "\n".join(rows[k] for k in keep).encode()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "which has 0 rows. A header and 20 rows were expected"),
        (lines(*range(20)), "which has 19 rows"),
        (lines(*range(1, 21)), "which has 19 rows"),
        (lines(*range(21), 20), "which has more rows"),
        (lines(0, 2, 1, *range(3, 21)), "row 2: a drawing from [0-9]+ to [0-9]+ us, behind one to "
         "[0-9]+ us"),
        (lines(0, 1, 1, *range(3, 21)), "row 2: a drawing from"),
        (cell(3, 1, "early"), "'early'"),
        (cell(3, 2, "nan"), "row 3: a drawing from [0-9]+ to nan us"),
        (cell(4, 2, ""), "convert string ''"),
        (cell(5, 1, "-7"), "row 5: a drawing from -7 to"),
        (cell(5, 1, "1.5"), "row 5: a drawing from 1.5 to"),
        (cell(20, 2, "9" * 30), r"row 20: .* to 1e\+30 us"),
        (cell(6, 2, "0"), "row 6: a drawing from [0-9]+ to 0 us"),
        (b"a,b\n" + b"1,2\n" * 20, "column"),
        (bytes(range(256)) * 9, "utf-8"),
        (b"\0" * 400, "0 rows"),
        (b'a,b,c\n"' + b"1" * 65000, "column"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_named(tmp_path, content, said):
    path = tmp_path / "0001.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)Cannot use {path}.*{said}"):
        read_times(path)
    with pytest.raises(UserError, match=r"Cannot use .*0002\.csv"):
        read_times(tmp_path / "0002.csv")


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
    path.write_bytes(change(times_table(drawing_times(STROKES))).encode())
    np.testing.assert_array_equal(read_times(path), drawing_times(STROKES))


def with_a_gap(times):
    """The fourth drawing lies between two events."""
    t = STROKES["t"]
    gap = int(np.argmax(np.diff(t[700:890])) + 700)
    times[2] = times[1, 1], t[gap] + 1
    times[3] = t[gap] + 1, t[gap + 1]
    return times


@pytest.mark.parametrize(
    "times, sensor, said",
    [
        (lambda t: t + 2000, (346, 260), r"0001\.csv, row 20: .* is not all in the recording "
         r"0001\.aedat4, which has"),
        (lambda t: np.where(t == t[0, 0], t - 1, t), (346, 260),
         r"row 1: the drawing from -?\d+ to \d+ us is not all in"),
        (with_a_gap, (346, 260), r"row 4: the drawing from \d+ to \d+ us has no event in "
         r"0001\.aedat4"),
        (lambda t: t, (640, 480), r"0001\.aedat4 is of a sensor of 640 x 480 pixels; expected 346 "
         r"x 260"),
        (lambda t: np.where(t == t[3, 1], t[3, 0] + 5000, t), (346, 260), None),
    ],
)  # fmt: skip
def test_drawings_that_are_not_in_the_recording_are_named(tmp_path, times, sensor, said):
    path = write_aedat4(tmp_path / "0001.aedat4", STROKES, sensor)
    path.with_suffix(".csv").write_text(times_table(times(drawing_times(STROKES))))
    if said is None:
        assert len(read_drawings(path)) == 20
    else:
        with pytest.raises(UserError, match=said):
            read_drawings(path)
