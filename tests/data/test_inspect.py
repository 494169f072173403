"""``tmkt data``: what it says about data sets that are known, and what bad input gets."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from sets import offset_events
from standin_ncaltech101 import write_tree
from writers import random_events, write_bin, write_mnist_idx, write_nmnist_tree

from tests.program import run_data
from tmkt_braincog import inspect_picture as picture
from tmkt_braincog import inspect_text as report
from tmkt_braincog.data import (
    DATASETS,
    NO_TWIN,
    LoadSpec,
    TransferData,
    make_split,
    ncaltech101,
    nmnist,
    recordings,
)
from tmkt_braincog.engine import compare
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

LABELS = [0, 1, 3, 0, 1, 3, 0]  # of both MNIST sets
N_EVENTS = {
    ("Train", 0, 1): 120,
    ("Train", 0, 4): 90,
    ("Train", 1, 2): 200,
    ("Train", 1, 5): 310,
    ("Train", 3, 3): 77,
    ("Test", 0, 7): 150,
    ("Test", 3, 6): 101,
}
EVENTS = {file: random_events(n, seed=n) for file, n in N_EVENTS.items()}


@pytest.fixture
def root(tmp_path):
    """Seven recordings of three digits."""
    folder = tmp_path / "data"
    write_nmnist_tree(folder, dict(reversed(EVENTS.items())))
    for split, seed in (("train", 0), ("t10k", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (7, 28, 28))
        write_mnist_idx(folder, split, pixels, LABELS)
    return folder


@pytest.fixture
def photographs(tmp_path):
    """Ten dolphins, ten accordions and four yin_yangs; one dolphin has no image of its own."""
    counts = {"dolphin": 10, "accordion": 10, "yin_yang": 4}
    write_tree(
        tmp_path,
        [offset_events(k) for k in range(10)],
        [counts.get(name, 0) for name in ncaltech101.CLASSES],
    )
    (tmp_path / ncaltech101.IMAGES / "dolphin" / "image_0003.jpg").unlink()
    return tmp_path


@pytest.fixture
def registered(monkeypatch):
    """Change the entry of a registered data set."""

    def change(name, **fields):
        monkeypatch.setitem(DATASETS._entries, name, replace(DATASETS[name], **fields))

    return change


def run(capsys, *words: str | Path) -> tuple[int, str, str]:
    """Exit status, output and errors, the output no wider than the terminal."""
    status = run_data(list(map(str, words)))
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    for line in out.splitlines():
        assert len(line) <= 100 or line.startswith(("Next:", "Cache:", "Written:")), line
    return status, out, err


def flat(text: str) -> str:
    """Without the wrapping."""
    return " ".join(text.split())


def numbers(values: Iterable[float], digits=0) -> list[str]:
    return [f"{of(values):,.{digits}f}" for of in (np.min, np.median, np.mean, np.max)]


def four(out: str, label: str) -> list[str]:
    """The numbers of one row of the table."""
    (line,) = (line for line in out.splitlines() if line.split()[:1] == [label])
    return [word for word in line.split()[1:] if word[0].isdigit()]


def small_data(n_classes=2, steps=3, **changes) -> TransferData:
    """Two recordings of every class, the second without twin; one image of every class."""
    labels = torch.arange(n_classes).repeat_interleave(2)
    n = len(labels)
    rng = np.random.default_rng(0)
    every = np.arange(n)
    values = dict(
        source="photos",
        target="small",
        classes=tuple(f"class_{c}" for c in range(n_classes)),
        frames=torch.from_numpy(rng.poisson(0.4, (n, steps, 2, 6, 5)).astype(np.uint8)),
        labels=labels,
        names=[f"r{i}.bin" for i in every],
        file_ids=every,
        images=torch.from_numpy(rng.integers(0, 256, (n_classes, 4, 4)).astype(np.uint8)),
        image_labels=torch.arange(n_classes),
        twins=np.where(every % 2 == 0, every // 2, NO_TWIN),
        train=every[::2],
        test=every[1::2],
        static_train=np.arange(n_classes),
        statistics={
            "n_events": np.full(n, 1000),
            "duration_us": np.full(n, 5000),
            "width": np.full(n, 5),
            "height": np.full(n, 6),
            "n_unsorted": np.zeros(n, np.int64),
        },
    )
    return TransferData(**(values | changes))


# prepare


def test_prepare_says_what_is_there_and_what_is_missing(root, capsys):
    events = EVENTS["Train", 1, 2].copy()
    at = int(np.argmax(np.diff(events["t"]) > 0))
    events[[at, at + 1]] = events[[at + 1, at]]
    write_bin(root / "NMNIST/Train/1/00002.bin", events)
    status, out, err = run(capsys, "prepare", "nmnist", "--data-root", root, "--no-download")
    assert status == 0 and "error" not in err
    assert "  recordings  7\n" in out and "  images      14 of 28 x 28 pixels\n" in out
    assert four(out, "events") == numbers(list(N_EVENTS.values()))
    durations = [int(e["t"][-1] - e["t"][0]) / 1000 for e in EVENTS.values()]
    assert four(out, "duration") == numbers(durations, 1)
    said = flat(out)
    for words in (
        "look 7 of 70,000 recordings, in 3 of 10 classes; these classes differ from the published "
        "table: "
        "0: 3 of 6,903, 1: 2 of 7,877, 3: 2 of 7,141; 7 classes have no recording: 2, 4, 5, 6, 7, "
        "8, 9 ok",
        "ok no recording is empty",
        "look 1 recording had timestamps out of order (1 events; sorted): Train/1/00002.bin",
        "look 14 images, 4 to 6 per class; 7 classes have no image: 2, 4, 5, 6, 7, 8, 9 ok",
        "ok 7 of 7 recordings have the image that they show",
        "Audit: 0 static twins of validation or test recordings can be trained on.",
    ):
        assert words in said
    last = out.splitlines()[-3:]
    assert last[0].startswith("Cache: ") and last[0].split(",")[0].endswith("nmnist-*")
    assert last[1] == "Ready, but not the published set: 7 of 70,000 recordings."
    assert last[2] == f"Next: tmkt train --target-dataset nmnist --data-root {root}"


def test_the_next_command_reads_the_cache_that_prepare_wrote(root, capsys, monkeypatch, registered):
    registered("nmnist", counts=(3, 2, 0, 2, 0, 0, 0, 0, 0, 0))
    words = ("--data-root", root, "--step", 4, "--no-download")
    status, out, _ = run(capsys, "prepare", "nmnist", *words)
    assert status == 0 and "\nReady: nmnist.\n" in out
    assert " all 7 recordings in 10 classes, as published\n" in out
    monkeypatch.setattr(recordings, "decode", None)
    next_words = out.splitlines()[-1].removeprefix("Next: tmkt train ").split()
    data = compare.load_data(resolve(parse(next_words))[0])
    assert data.frames.shape == (7, 4, 2, 34, 34)
    assert data.names[0] == "Train/0/00001.bin"


def test_of_the_differing_classes_every_one_is_named(photographs, capsys):
    words = ("--data-root", photographs, "--event-size", 12, "--step", 2, "--train-portion", 0.5)
    status, out, _ = run(capsys, "prepare", "NCALTECH101", *words, "--no-download")
    assert status == 0 and "24 of 8,709 recordings, in 3 of 101 classes" in out
    differing = (
        "table: accordion: 10 of 55, dolphin: 10 of 65, yin_yang: 4 of 60; 98 classes have no"
    )
    assert differing in flat(out)
    assert "BACKGROUND_Google, Faces_easy, Leopards" in flat(out) and "and 88 more" in flat(out)
    assert "look 23 of 24 recordings have the image that they show" in flat(out)
    assert out.endswith("--step 2 --event-size 12 --train-portion 0.5\n")


def test_completeness():
    data = small_data()
    assert report.completeness(data, (2, 3)) == (
        False,
        "4 of 5 recordings, in 2 of 2 classes; these classes differ from the published table: "
        "class_1: 2 of 3",
    )
    whole = (True, "all 4 recordings in 2 classes, as published")
    assert report.completeness(data, (2, 2)) == whole
    assert report.completeness(data, ())[0]


FAR = "1 recording has less than 1/100 or more than 100 times the median's events: r"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("n_events", [1000, 0, 0, 1000], "2 recordings are empty: r1.bin, r2.bin"),
        ("duration_us", [3, 3, 2, 9], "1 recording lasts less than 3 us, too short for 3 frames: "
         "r2.bin"),
        ("n_events", [1000, 9, 1000, 1000], f"{FAR}1.bin"),
        ("n_events", [1000, 1000, 1000, 100_001], f"{FAR}3.bin"),
        ("n_events", [1000, 10, 1000, 100_000], None),
        ("n_unsorted", [7, 0, 0, 5], "2 recordings had timestamps out of order (12 events; "
         "sorted): r0.bin, r3.bin"),
    ],
)  # fmt: skip
def test_odd_recordings_are_named(name, values, said):
    data = small_data()
    sound = [c for c in report.checks(data, ()) if not c[0]]
    assert len(sound) == 1 and "static twin" in sound[0][1]
    data.statistics[name] = np.array(values)
    odd = [c[1] for c in report.checks(data, ()) if not c[0] and c not in sound]
    assert odd == ([said] if said else [])


def test_classes_without_images_and_remarks_are_told():
    data = small_data(image_labels=torch.tensor([1, 1]), remarks=["Half of it is left out."])
    texts = [text for ok, text in report.checks(data, ()) if not ok]
    assert "2 images, 2 per class; 1 class has no image: class_0" in texts
    assert "Half of it is left out." in texts


def test_fetch_runs_first_in_a_folder_that_is_made(tmp_path, root, capsys, registered):
    seen = []

    def fetch(folder):
        seen.append((folder, folder.is_dir()))
        (folder / "NMNIST").symlink_to(root / "NMNIST")
        (folder / "MNIST").symlink_to(root / "MNIST")

    registered("nmnist", fetch=fetch)
    new = tmp_path / "a" / "b"
    words = ("prepare", "nmnist", "--data-root", new)
    status, out, err = run(capsys, *words, "--no-download")
    assert status == 2 and not out and not new.exists() and err.count("error: ") == 1
    assert "There is no folder" in err and "NMNIST/Train/<digit" in err
    status, out, _ = run(capsys, *words)
    assert status == 0 and "Ready" in out and seen == [(new, True)]
    status, _, _ = run(capsys, *words, "--no-download")
    assert status == 0 and len(seen) == 1


def test_what_has_to_be_got_by_hand_is_said(tmp_path, capsys, registered):
    def fetch(folder):
        raise UserError("Get it from its owners.\nExpected:\n  a tree")

    registered("nmnist", fetch=fetch)
    said = run(capsys, "prepare", "nmnist", "--data-root", tmp_path)
    assert said == (2, "", "error: Get it from its owners.\nExpected:\n  a tree\n")
    (tmp_path / "file").write_text("x")
    status, _, err = run(capsys, "prepare", "nmnist", "--data-root", tmp_path / "file" / "data")
    assert status == 2 and err.startswith("error: Cannot make the data root")


def test_what_cannot_be_used_is_not_ready(root, capsys):
    words = ("prepare", "nmnist", "--data-root", root, "--no-download")
    one, other = (root / "NMNIST" / name for name in ("Train/0/00004.bin", "Test/3/00006.bin"))
    one.write_bytes(b"1234567")
    other.write_bytes(b"")
    status, out, err = run(capsys, *words)
    lines = err[err.index("error:") :].splitlines()
    assert (status, out) == (2, "") and len(lines) == 3
    assert lines[0] == "error: 2 of 7 files cannot be used:"
    assert lines[1].startswith(f"  {one} is truncated: 7 bytes")
    assert lines[2].startswith(f"  {other} is empty")
    for file in (one, other):
        write_bin(file, EVENTS["Train", 0, 4])
    (root / "NMNIST/Train/3/00003.bin").unlink()
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "") and "error: No training recording is left for: 3." in err


# inspect


def test_inspect_prints_the_sizes_and_both_audits(root, tmp_path, capsys):
    path = tmp_path / "new" / "picture.png"
    words = ("inspect", "nmnist", "--data-root", root, "--step", 4, "--output")
    status, out, _ = run(capsys, *words, path)
    table = flat(out)
    assert status == 0 and out.startswith("mnist -> nmnist\n")
    assert four(out, "events") == numbers(list(N_EVENTS.values()))
    classes = "classes 3 of 10 have recordings: 0, 1, 3 recordings 7 images 14 of 28 x 28 pixels"
    split = "split 5 train, 2 test, 0 unused static pool 7 of 14 images, 2 to 3 per class"
    assert classes in table and split in table
    assert "sensor 34 x 34 pixels frames [7, 4, 2, 34, 34] uint8, 64.7 kB" in table
    data = nmnist.load(LoadSpec(root, 4))
    for protocol in ("clean", "he2024"):
        options, _ = resolve(parse(["--target-dataset", "nmnist", "--protocol", protocol]))
        assert f"audit, {protocol} {make_split(data, options, 42).audit} " in f"{table} "
    rows = [line.split() for line in out.splitlines()]
    assert ["0", "3", "6,903", "2", "1", "6", "3"] in rows
    assert ["1", "2", "7,877", "2", "0", "4", "2"] in rows
    assert ["3", "2", "7,141", "1", "1", "4", "2"] in rows
    assert "  7 classes have neither recordings nor images\n" in out
    assert out.endswith(f"\nWritten: {path}\n")
    width, height = picture.draw(data).get_size_inches() * 200
    with Image.open(path) as image:
        assert image.size == pytest.approx((width, height), abs=1)
    path = tmp_path / "x.svg"
    path.write_text("mine")
    assert run(capsys, *words, path, "--force")[0] == 0 and "<svg" in path.read_text()


def test_inspect_the_built_in_set(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "inspect", "ndigits", "--classes", 2)
    assert status == 0 and (tmp_path / "ndigits.png").stat().st_size > 10_000
    data = DATASETS["ndigits"].load(LoadSpec())
    assert out.startswith("digits -> ndigits, events EMULATED from the images\n")
    assert "frames [1797, 10, 2, 34, 34] uint8, 41.5 MB" in flat(out)
    assert f"split {len(data.train)} train, {len(data.test)} test, 448 unused" in flat(out)
    n_events = data.statistics["n_events"]
    assert f"{np.median(n_events):,.0f}" in out and f"{n_events.max():,}" in out
    lost = n_events - data.frames.sum((1, 2, 3, 4)).numpy()
    assert lost.min() >= 0 and lost.max() < 20  # those of the last T - 1 us
    for c in range(10):
        here = data.labels == c
        assert [str(c), str(int(here.sum()))] in [line.split()[:2] for line in out.splitlines()]
    status, out, _ = run(capsys, "prepare", "ndigits")
    assert status == 0 and "no published table to compare with" in flat(out)
    assert out.splitlines()[-2:] == ["Ready: ndigits.", "Next: tmkt train --target-dataset ndigits"]


def test_inspect_a_set_of_several_sensor_sizes(photographs, tmp_path, capsys):
    path = tmp_path / "out.pdf"
    words = ("--data-root", photographs, "--event-size", 12, "--step", 2, "--train-portion", 0.5)
    status, out, _ = run(capsys, "inspect", "NCALTECH101", *words, "--output", path)
    assert status == 0 and path.read_bytes().startswith(b"%PDF")
    data = ncaltech101.load(LoadSpec(photographs, 2, 12, 0.5))
    width, height = data.statistics["width"], data.statistics["height"]
    assert len(set(zip(width.tolist(), height.tolist(), strict=True))) == 10
    ranges = f"{width.min()} to {width.max()} x {height.min()} to {height.max()}"
    assert f"sensor 10 sizes, {ranges} pixels" in flat(out)
    assert "[24, 2, 2, 12, 12] float32, 55.3 kB" in out
    assert "static twins known for 23 recordings" in flat(out)
    rows = [line.split() for line in out.splitlines()]
    assert ["dolphin", "10", "65", "5", "5", "9", "4"] in rows
    assert ["yin_yang", "4", "60", "2", "2", "4", "2"] in rows


def test_of_many_classes_the_smallest_and_largest_are_shown():
    n = 25
    labels = torch.repeat_interleave(torch.arange(n), torch.tensor([30 - c for c in range(n)]))
    every = np.arange(len(labels))
    changes = dict(labels=labels, names=[str(i) for i in every], train=every, test=every[:0])
    data = small_data(n, **changes, twins=every * 0 + NO_TWIN)
    split = make_split(data, resolve(parse([]))[0], 0)
    rows = [line.split() for line in report.class_table(data, (), split).splitlines()]
    assert rows[0] == ["class", "recordings", "train", "test", "images", "static", "pool"]
    smallest, largest = (
        [f"class_{c}" for c in some] for some in (range(24, 19, -1), range(4, -1, -1))
    )
    assert [row[0] for row in rows[1:]] == [*smallest, "...", *largest]
    assert rows[1][1:] == ["6", "6", "0", "1", "1"]


def test_bytes_are_readable():
    said = [report.bytes_text(n) for n in (0, 999, 57_800_000, 1_600_000_000_000)]
    assert said == ["0 bytes", "999 bytes", "57.8 MB", "1,600.0 GB"]


def test_a_picture_is_never_overwritten(tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.png"
    path.write_text("mine")
    monkeypatch.setattr(compare, "load_data", None)  # refused before anything is loaded
    status, out, err = run(capsys, "inspect", "ndigits", "--output", path)
    assert (status, out, path.read_text()) == (2, "", "mine")
    assert (
        err == f"error: {path} exists. Give --force to replace it, or another name with --output.\n"
    )
    for name in (tmp_path / "x.jpg", tmp_path):
        status, _, err = run(capsys, "inspect", "ndigits", "--output", name)
        assert status == 2 and "expected a name in .png, .pdf, .svg" in err


# the picture


def slow_colours(frames):
    """One pixel at a time: each polarity takes its share of the light away."""
    full = np.percentile([v for v in frames.flat if v > 0], 99)
    rgb = np.ones((*frames.shape[:1], *frames.shape[2:], 3))
    for t, y, x in np.ndindex(rgb.shape[:3]):
        for p, colour in ((0, picture.OFF), (1, picture.ON)):
            share = min(frames[t, p, y, x] / full, 1)
            rgb[t, y, x] *= [1 - share * (1 - light) for light in to_rgb(colour)]
    return rgb


def test_the_picture_shows_twin_and_frames():
    data = small_data(3)
    figure = picture.draw(data)
    assert len(figure.axes) == 3 * (1 + 3)
    assert [axes.get_title() for axes in figure.axes[:4]] == ["static", "t = 1", "t = 2", "t = 3"]
    for row in range(3):
        static, *frames = figure.axes[4 * row : 4 * row + 4]
        np.testing.assert_array_equal(static.images[0].get_array(), data.images[row])
        assert static.get_ylabel() == f"class {row}"
        expected = slow_colours(data.frames[2 * row].numpy().astype(float))
        shown = np.stack([axes.images[0].get_array() for axes in frames])
        np.testing.assert_allclose(shown, expected, atol=1e-6)
    assert figure.get_suptitle() == "small, T = 3"
    emulated = picture.draw(small_data(emulated=True))
    assert emulated.get_suptitle() == "small, T = 3, events emulated"


def test_without_twin_the_first_image_of_the_class_stands_in():
    data = small_data(3, twins=np.full(6, NO_TWIN), image_labels=torch.tensor([2, 0, 0]))
    cells = picture.draw(data).axes[::4]
    np.testing.assert_array_equal(cells[0].images[0].get_array(), data.images[1])
    assert not cells[1].images and cells[1].texts[0].get_text() == "none"
    np.testing.assert_array_equal(cells[2].images[0].get_array(), data.images[0])


def test_classes_and_steps_are_spread():
    assert picture.spread(np.arange(10), 5).tolist() == [0, 2, 4, 7, 9]
    assert picture.spread(np.arange(3), 5).tolist() == [0, 1, 2]
    assert picture.spread(np.arange(3), 1).tolist() == [0]
    figure = picture.draw(small_data(4, steps=40), 2)
    headings = [axes.get_title() for axes in figure.axes[:17]]
    assert len(figure.axes) == 2 * 17 and (headings[1], headings[16]) == ("t = 1", "t = 40")
    assert figure.get_suptitle() == "small, T = 40, 16 of 40 frames"


def test_one_very_active_pixel_does_not_bleach_the_rest():
    frames = np.ones((1, 2, 20, 20), np.uint8)
    frames[:, 0] = 0
    frames[0, 1, 0, 0] = 255
    np.testing.assert_allclose(picture.colours(frames)[0, 5, 5], to_rgb(picture.ON), atol=1e-2)
    assert (picture.colours(np.zeros((2, 2, 3, 3), np.uint8)) == 1).all()


@pytest.mark.parametrize("steps", [2, 16])
def test_no_text_is_cut_off_or_overlaps(steps):
    names = ("a", "BACKGROUND_Google", "windsor_chair", "a_name_of_many_short_words")
    figure = picture.draw(small_data(4, steps, classes=names, emulated=True))
    figure.draw_without_rendering()
    titles = [axes.title for axes in figure.axes if axes.get_title()]
    labels = [axes.yaxis.label for axes in figure.axes if axes.get_ylabel()]
    texts = [figure._suptitle, *titles, *labels, *figure.legends]
    assert len(texts) == 1 + (1 + steps) + 4 + 1
    boxes, page = [text.get_window_extent() for text in texts], figure.bbox
    for i, box in enumerate(boxes):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


# words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("prepare nmnits", "Unknown target data set 'nmnits'. Did you mean 'nmnist'"),
        ("inspect nothing", "Known: "),
        ("prepare nmnist", "nmnist needs a data root (--data-root); none was given.\nExpected:"),
        ("inspect NCALTECH101", "NCALTECH101 needs a data root"),
        (
            "inspect ndigits --outputt x.png",
            "unrecognized arguments: --outputt x.png. Did you mean --output",
        ),
        ("prepare ndigits --step 0", "expected an integer of at least 1, seen 0"),
        ("prepare ndigits --train-portion 2", "expected a number from 0 to 1, seen 2"),
        ("prepare nmnist --train-portion 0.5 --data-root x --no-download", "has its own split"),
        ("prepared ndigits", "prepared"),
        ("prepare", "NAME"),
        ("", "COMMAND"),
    ],
)
def test_bad_words_get_one_message(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *words.split())
    assert (status, out) == (2, "") and err.startswith("error: ") and said in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (
            PermissionError(13, "Permission denied", "f"),
            2,
            "error: a file could not be read or written: ",
        ),
    ],
)
def test_what_interrupts(error, status, said, capsys, monkeypatch):
    def fail(options):
        raise error

    monkeypatch.setattr(compare, "load_data", fail)
    found, out, err = run(capsys, "prepare", "ndigits")
    assert (found, out) == (status, "") and err.startswith(said)


@pytest.mark.parametrize("words", ["--help", "prepare --help", "inspect -h", "list -h"])
def test_help_teaches(words, capsys):
    status, out, _ = run(capsys, *words.split())
    assert status == 0
    assert all(f"\n  tmkt data {c}" in out for c in ("list", "prepare nmnist", "inspect"))


def test_every_set_says_how_it_is_had():
    for name in DATASETS:
        assert (
            DATASETS[name].get in ("built in", "download", "by hand")
            and DATASETS[name].needs != "see prepare"
        )


def test_list(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["nmnist", "mnist", "download", "10", "28", "x", "28", "10", "70,000"] in rows
    assert ["NCALTECH101", "CALTECH101", "download", "10", "48", "x", "48", "101", "8,709"] in rows
    assert ["ndigits", "digits", "built", "in", "10", "28", "x", "28", "-", "-"] in rows
