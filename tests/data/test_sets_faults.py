"""Damaged, missing and misplaced files of the recorded data sets: one message that names them."""

import shutil

import numpy as np
import pytest
from aedat4_writer import write_aedat4
from sets import CASES, CEP_LABELS, STROKES
from standins import drawing_times, times_table, write_cep_table
from writers import random_events

from tmkt_braincog.data.nomniglot import read_drawings, read_times
from tmkt_braincog.errors import UserError

pytestmark = pytest.mark.usefixtures("few")
NMNIST, MNIST = "NMNIST/Train/1/00004.bin", "MNIST/raw/train-images-idx3-ubyte"
BIN, JPG = "NCALTECH101/Caltech101/dolphin", "caltech101/101_ObjectCategories/dolphin"
MAT, IMG, TABLE = "CEP-DVS/data/MAT/img", "CEP-DVS/data/img", "CEP-DVS/pathFile.csv"
DVS, PNG = "NOmniglot/dvs_background/Background_00", "omniglot-py/images_background/Background_00"
CAT, BATCHES = "CIFAR10DVS/cat", "cifar-10-batches-py"
ONE, TIMES = f"{DVS}/character01/0001.aedat4", f"{DVS}/character01/0001.csv"


def write(path, content):
    return lambda root: (root / path).write_bytes(content)


def cut(path, n):
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:n])


def move(old, new):
    def change(root):
        target = (root / old).with_name(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(target)

    return change


def remove(*paths):
    def change(root):
        for path in map(root.joinpath, paths):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def copy(old, new):
    return lambda root: shutil.copy(root / old, (root / old).with_name(new))


def row(k, text):
    def change(root):
        rows = (root / TABLE).read_text().split("\n")
        rows[k + 1] = text
        (root / TABLE).write_text("\n".join(rows))

    return change


def outside(path, sensor):
    events = random_events(6000, sensor_size=sensor, end_us=2_000_000)
    events["x"][5] = sensor[0]
    return lambda root: write_aedat4(root / path, events, (346, 260))


FAULTS = {
    "nmnist": [
        (write(NMNIST, b"1234567"), r"00004\.bin is truncated: 7 bytes"),
        (write(NMNIST, bytes([34, 0, 0, 0, 1])), r"00004\.bin: 1 of 1 .* outside the 34 x 34"),
        (move("NMNIST/Train/5", "ten"), r"folders ten, which are none of the 10 classes"),
        (move(NMNIST, "four.bin"), r"four\.bin; a name like 00011\.bin was"),
        (move(NMNIST, "00003.bin"), r"class 1, but image 3 \(of 1\.\.7\) of MNIST.* is 4"),
        (move(NMNIST, "00008.bin"), r"image 8 \(of 1\.\.7\) .* is not there"),
        (move(NMNIST, "00000.bin"), r"image 0 \(of 1\.\.7\) .* is not there"),
        (move(NMNIST, "2.bin"), r"class 1, but image 2 .* is 0\."),
        (copy(NMNIST, "7.bin"), "Both .* and .* have number 7"),
        (remove("NMNIST/Test"), r"There is no folder .*Test.*\n.*Expected:"),
        (remove("NMNIST/Test/0/00004.bin", "NMNIST/Test/1/00003.bin"), "Found 0 files like 00011"),
        (cut(MNIST, 900), "Cannot read MNIST .*Expected:"),
    ],
    "NCALTECH101": [
        (write(f"{BIN}/image_0003.bin", b"1234567"), r"image_0003\.bin is truncated: 7 bytes"),
        (write(f"{JPG}/image_0003.jpg", b"no image"), r"Cannot read .*image_0003\.jpg"),
        (move(BIN, "Dolphin"), r"folders Dolphin, which are none of .*101 classes"),
        (move(JPG, "shark"), "101_ObjectCategories holds the folders shark"),
        (move(f"{JPG}/image_0003.jpg", "a.jpg"), r"a name like image_0001\.jpg"),
        (copy(f"{JPG}/image_0003.jpg", "image_3.JPG"), "Both .*dolphin.* have number 3"),
        (remove(JPG), r"recordings in .*no image in .*101_ObjectCategories: dolphin\. Add"),
    ],
    "CEP-DVS": [
        (cut(f"{MAT}/7.mat", -30), r"MAT/img/7\.mat"),
        (cut(f"{IMG}/7.png", 300), r"Cannot read .*data/img/7\.png"),
        (remove(TABLE), r"Cannot read .*pathFile\.csv.*\nExpected:"),
        (write(TABLE, b"\xff\xfe\x00\x9f" * 9), r"Cannot read .*pathFile\.csv"),
        (lambda root: write_cep_table(root, CEP_LABELS[:18]), r"row 18 of 18 .*not there"),
        (row(5, "5 img 5.png cifar100 whales"),
         r"row 5 of 19 .*'5 img 5\.png cifar100 whales', fifth word 'whales'; there, for .*5\.mat, "
         "one of aquatic_mammals, fish, .*vehicles_2 was expected"),
        (row(5, "5,img,5.png,cifar100,fish"), "row 5 .*fifth word ''"),
        (move(f"{MAT}/3.mat", "a3.mat"), r"Found .*a3\.mat; a name like 0\.mat"),
        (move(f"{IMG}/3.png", "4.jpg"), "Both .* have number 4"),
    ],
    "CIFAR10-DVS": [
        (cut(f"{CAT}/cifar10_cat_3.aedat4", -300), r"cat/cifar10_cat_3\.aedat4"),
        (outside(f"{CAT}/cifar10_cat_3.aedat4", (128, 128)),
         r"cat_3\.aedat4: 1 of 6000 events lie outside the 128 x 128"),
        (move(CAT, "Cat"), "the folders Cat, which are none of the 10 classes.*Expected:"),
        (copy(f"{CAT}/cifar10_cat_3.aedat4", "b_04.aedat4"), "Both .* and .* have number 4"),
        (remove(f"{BATCHES}/data_batch_3"), r"Found no data_batch_3 .*-batches-py\.\nExpected:"),
        (write(f"{BATCHES}/data_batch_3", b"\x80\x04no"), "Cannot read CIFAR-10 in .*Expected:"),
    ],
    "N-OMNIGLOT": [
        (remove(f"{DVS}/character02"), "must be complete.*Found 6 in NOmniglot and 7 in omniglot-py"
         "; .* one of them: background/Background_00/character02. Unpack"),
        (remove(f"{DVS}/character02", f"{PNG}/character02"), "Found 6 .* and 6 .* them: none. Unp"),
        (move(DVS, "Greek"), "Found 7 .* and 7 .*Background_00/character02, background/Greek/char"),
        (move(f"{DVS}/character02", "character1"), "Both .*character0?1 and .* have number 1"),
        (move(f"{DVS}/character02", "letter02"), "Found .*letter02; a name like character01 was"),
        (remove(ONE), r"character01 must hold 1 of 0123\.aedat4.*found the numbers \[\]"),
        (copy(ONE, "1234.aedat4"), r"character01 must hold 1 .*found the numbers \[1, 1234\]"),
        (remove(TIMES), r"Cannot find .*0001\.csv"),
        (remove(f"{PNG}/character01/0001_05.png"), r"must hold 20 of \*_01\.png.*\[1, 2, 3, 4, 6,"),
        (move(f"{PNG}/character01/0001_05.png", "0001_21.png"), r"found .*, 20, 21\]"),
        (write(f"{PNG}/character01/0001_05.png", b"x"), r"Cannot read .*_05\.png"),
        (write(ONE, b"x"), r"0001\.aedat4"),
        (write(TIMES, b"a,b,c\n0,1,2\n"), r"Cannot use .*0001\.csv: it has 1 rows"),
        (outside(ONE, (346, 260)), r"0001\.aedat4: 1 of \d+ events lie outside the 346 x 260"),
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


# Tables of times of N-Omniglot

GOOD = times_table(drawing_times(STROKES))


def cell(row, column, text):
    """The table with one field replaced; row 1 is the first drawing."""
    rows = [line.split(",") for line in GOOD.splitlines()]
    rows[row][column] = text
    return "\n".join(",".join(row) for row in rows).encode()


def lines(*keep):
    return "\n".join(GOOD.splitlines()[k] for k in keep).encode()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "it has 0 rows, .*A header and 20 rows were expected"),
        (lines(*range(20)), "it has 19 rows"),
        (lines(*range(1, 21)), "it has 19 rows"),
        (lines(*range(21), 20), "it has 21 rows, of them 20 in order"),
        (lines(0, 2, 1, *range(3, 21)), "20 rows, of them 19 in order"),
        (lines(0, 1, 1, *range(3, 21)), "20 rows, of them 19 in order"),
        (cell(3, 1, "early"), "'early'"),
        (cell(3, 2, "nan"), "of them 18 in order"),
        (cell(4, 2, ""), "convert string ''"),
        (cell(5, 1, "-7"), "of them 19 in order"),
        (cell(5, 1, "1.5"), "of them 19 in order"),
        (cell(20, 2, "9" * 30), "of them 19 in order"),
        (b"a,b\n" + b"1,2\n" * 20, "column"),
        (bytes(range(256)) * 9, "utf-8"),
        (b'a,b,c\n"' + b"1" * 65000, "column"),
    ],
)
def test_tables_that_cannot_be_used_are_named(tmp_path, content, said):
    path = tmp_path / "0001.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s)Cannot use {path}.*{said}"):
        read_times(path)


def test_tables_as_other_programs_write_them(tmp_path):
    for text in (
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace(",", ", ") + "\n\n",
        GOOD.replace("\n", ".0\n").replace("timestamp.0", "timestamp"),
        "\n".join(f"{line},more" for line in GOOD.splitlines()),
    ):
        (tmp_path / "0001.csv").write_bytes(text.encode())
        np.testing.assert_array_equal(read_times(tmp_path / "0001.csv"), drawing_times(STROKES))


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
        (lambda t: t + 2000, (346, 260), r"0001\.csv, row 20: .* is not all in 0001\.aedat4"),
        (lambda t: np.where(t == t[0, 0], t - 1, t), (346, 260), r"row 1: .* is not all in"),
        (with_a_gap, (346, 260), r"row 4: the drawing from \d+ to \d+ us .* has no event there"),
        (lambda t: t, (640, 480), r"0001\.aedat4 is of a sensor of \(640, 480\) pixels, not \(346"),
        (lambda t: np.where(t == t[3, 1], t[3, 0] + 5000, t), (346, 260), None),
    ],
)
def test_drawings_that_are_not_in_the_recording_are_named(tmp_path, times, sensor, said):
    path = write_aedat4(tmp_path / "0001.aedat4", STROKES, sensor)
    path.with_suffix(".csv").write_text(times_table(times(drawing_times(STROKES))))
    if said is None:
        assert len(read_drawings(path)) == 20
    else:
        with pytest.raises(UserError, match=said):
            read_drawings(path)
