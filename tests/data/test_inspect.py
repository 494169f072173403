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
from standins import write_ncaltech101
from writers import random_events, write_bin, write_mnist_idx, write_nmnist_tree

from tests.program import run_data
from tmkt_braincog import inspect as report
from tmkt_braincog import inspect_picture as picture
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
N_EVENTS = {("Train", 0, 1): 120, ("Train", 0, 4): 90, ("Train", 1, 2): 200, ("Train", 1, 5): 310}
N_EVENTS |= {("Train", 3, 3): 77, ("Test", 0, 7): 150, ("Test", 3, 6): 101}
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


def lines_of(text: str) -> list[str]:
    return [flat(line) for line in text.splitlines()]


def four(out: str, label: str) -> list[str]:
    """The numbers of one row of the table."""
    (line,) = (line for line in out.splitlines() if line.split()[:1] == [label])
    return [word for word in line.split()[1:] if word[0].isdigit()]


def numbers(values: Iterable[float]) -> list[str]:
    return [f"{of(values):,.0f}" for of in (np.min, np.median, np.mean, np.max)]


def small_data(n_classes=2, steps=3, **changes) -> TransferData:
    """Two recordings of every class, the second without twin; one image of every class."""
    labels = torch.arange(n_classes).repeat_interleave(2)
    every, rng = np.arange(len(labels)), np.random.default_rng(0)
    frames = rng.poisson(0.4, (len(labels), steps, 2, 6, 5)).astype(np.uint8)
    images = rng.integers(0, 256, (n_classes, 4, 4)).astype(np.uint8)
    same = {"n_events": 1000, "duration_us": 5000, "width": 5, "height": 6, "n_unsorted": 0}
    values = {"source": "photos", "target": "small", "labels": labels, "file_ids": every}
    values |= {"frames": torch.from_numpy(frames), "images": torch.from_numpy(images)}
    values |= {"classes": tuple(f"class_{c}" for c in range(n_classes))}
    values |= {"names": [f"r{i}.bin" for i in every], "image_labels": torch.arange(n_classes)}
    values |= {"twins": np.where(every % 2 == 0, every // 2, NO_TWIN), "train": every[::2]}
    values |= {"test": every[1::2], "static_train": np.arange(n_classes)}
    values |= {"statistics": {name: np.full(len(labels), value) for name, value in same.items()}}
    return TransferData(**(values | changes))


# prepare


def test_prepare_says_what_is_there_and_what_is_missing(root, capsys):
    events = EVENTS["Train", 1, 2].copy()
    at = int(np.argmax(np.diff(events["t"]) > 0))
    events[[at, at + 1]] = events[[at + 1, at]]
    write_bin(root / "NMNIST/Train/1/00002.bin", events)
    status, out, err = run(capsys, "prepare", "nmnist", "--data-root", root, "--no-download")
    assert status == 0 and "error" not in err
    assert four(out, "recordings") == ["7"] and four(out, "images") == ["14", "28", "28"]
    assert four(out, "n_events") == numbers(list(N_EVENTS.values()))
    durations = [int(e["t"][-1] - e["t"][0]) for e in EVENTS.values()]
    assert four(out, "duration_us") == numbers(durations)
    for words in (
        "look 7 of 70,000 recordings, in 3 of 10 classes; these differ from the published table: "
        "0: 3 of 6,903, 1: 2 of 7,877, 2: 0 of 6,990, 3: 2 of 7,141, 4: 0 of 6,824",
        "ok empty recordings: none",
        "look recordings with timestamps out of order (sorted): 1 (Train/1/00002.bin)",
        "look 14 images, 4 to 6 per class; classes without image: 2, 4, 5, 6, 7, 8, 9 ok",
        "ok 7 of 7 recordings have the image that they show",
        "Audit: 0 images of validation or test recordings can be trained on.",
    ):
        assert words in flat(out)
    cache, *last = out.splitlines()[-3:]
    assert cache.startswith("Cache: ") and cache.split(",")[0].endswith("nmnist-*")
    assert last[0] == "Ready, but not the published set: 7 of 70,000 recordings."
    assert last[1] == f"Next: tmkt train --target-dataset nmnist --data-root {root}"


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


FAR = "recordings of 100 times fewer or more events than the median's: 1 (r"
SHORT = "recordings of less than 3 us, too short for 3 frames: 1 (r2.bin)"
UNSORTED = "recordings with timestamps out of order (sorted): 2 (r0.bin, r3.bin)"


@pytest.mark.parametrize(
    "name, values, said",
    [
        ("n_events", [1000, 0, 0, 1000], "empty recordings: 2 (r1.bin, r2.bin)"),
        ("duration_us", [3, 3, 2, 9], SHORT),
        ("n_events", [1000, 9, 1000, 1000], f"{FAR}1.bin)"),
        ("n_events", [1000, 1000, 1000, 100_001], f"{FAR}3.bin)"),
        ("n_events", [1000, 10, 1000, 100_000], None),
        ("n_unsorted", [7, 0, 0, 5], UNSORTED),
    ],
)
def test_odd_recordings_are_named(name, values, said):
    data = small_data()
    sound = [c for c in report.checks(data, ()) if not c[0]]
    assert len(sound) == 1 and "the image that they show" in sound[0][1]
    data.statistics[name] = np.array(values)
    odd = [c[1] for c in report.checks(data, ()) if not c[0] and c not in sound]
    assert odd == ([said] if said else [])


def test_classes_without_images_and_remarks_are_told():
    data = small_data(image_labels=torch.tensor([1, 1]), remarks=["Half of it is left out."])
    texts = [text for ok, text in report.checks(data, ()) if not ok]
    assert "2 images, 2 per class; classes without image: class_0" in texts
    assert "Half of it is left out." in texts


def test_fetch_runs_first_in_a_folder_that_is_made(tmp_path, root, capsys, registered):
    seen = []

    def fetch(folder):
        seen.append(folder.is_dir())
        for name in ("NMNIST", "MNIST"):
            (folder / name).symlink_to(root / name)

    registered("nmnist", fetch=fetch)
    words = ("prepare", "nmnist", "--data-root", tmp_path / "a" / "b")
    status, out, err = run(capsys, *words, "--no-download")
    assert status == 2 and not out and not (tmp_path / "a").exists() and err.count("error: ") == 1
    assert "There is no folder" in err and "NMNIST/Train/<digit" in err
    assert run(capsys, *words)[0] == 0 and run(capsys, *words, "--no-download")[0] == 0
    assert seen == [True]


def test_what_has_to_be_got_by_hand_is_said(tmp_path, capsys, registered):
    def fetch(folder):
        raise UserError("Get it from its owners.\nExpected:\n  a tree")

    registered("nmnist", fetch=fetch)
    said = run(capsys, "prepare", "nmnist", "--data-root", tmp_path)
    assert said == (2, "", "error: Get it from its owners.\nExpected:\n  a tree\n")


# inspect


def test_inspect_prints_the_sizes_and_both_audits(root, tmp_path, capsys):
    path = tmp_path / "new" / "picture.png"
    words = ("inspect", "nmnist", "--data-root", root, "--step", 4, "--output")
    status, out, _ = run(capsys, *words, path)
    said = flat(out)
    assert status == 0 and out.startswith("mnist -> nmnist\n")
    for text in (
        "classes 3 of 10 have recordings: 0, 1, 3 recordings 7 images 14 of 28 x 28 pixels",
        "split 5 train, 2 test, 0 unused static pool 7 of 14 images, 2 to 3 per class",
        "frames [7, 4, 2, 34, 34] uint8, 0.1 MB",
    ):
        assert text in said
    data = nmnist.load(LoadSpec(root, 4))
    for protocol in ("clean", "he2024"):
        options, _ = resolve(parse(["--target-dataset", "nmnist", "--protocol", protocol]))
        assert f"audit, {protocol} {make_split(data, options, 42).audit} " in f"{said} "
    rows = {"0 3 6,903 2 1 6 3", "1 2 7,877 2 0 4 2", "3 2 7,141 1 1 4 2"}
    assert rows <= set(lines_of(out))
    assert "neither recordings nor images: 7 classes\n" in out
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
    assert four(out, "n_events") == numbers(data.statistics["n_events"])
    status, out, _ = run(capsys, "prepare", "ndigits")
    assert status == 0 and "no published table to compare with" in flat(out)
    assert out.splitlines()[-2:] == ["Ready: ndigits.", "Next: tmkt train --target-dataset ndigits"]


def test_a_set_of_several_sensor_sizes_with_a_part_of_its_recordings(tmp_path, capsys):
    """Ten dolphins, ten accordions and four yin_yangs; one dolphin has no image of its own."""
    path, counts = tmp_path / "out.pdf", {"dolphin": 10, "accordion": 10, "yin_yang": 4}
    events = [offset_events(k) for k in range(10)]
    write_ncaltech101(tmp_path, events, counts)
    (tmp_path / "caltech101/101_ObjectCategories/dolphin/image_0003.jpg").unlink()
    words = ("--data-root", tmp_path, "--event-size", 12, "--step", 2, "--train-portion", 0.5)
    status, out, _ = run(capsys, "inspect", "NCALTECH101", *words, "--output", path)
    assert status == 0 and path.read_bytes().startswith(b"%PDF")
    data = ncaltech101.load(LoadSpec(tmp_path, 2, 12, 0.5))
    for side in ("width", "height"):
        assert four(out, side) == numbers(data.statistics[side])
    assert "[24, 2, 2, 12, 12] float32, 0.1 MB" in out
    assert {"dolphin 10 65 5 5 9 4", "yin_yang 4 60 2 2 4 2"} <= set(lines_of(out))
    status, out, _ = run(capsys, "prepare", "NCALTECH101", *words, "--no-download")
    assert status == 0 and "24 of 8,709 recordings, in 3 of 101 classes" in out
    for words in ("accordion: 10 of 55", "dolphin: 10 of 65", "yin_yang: 4 of 60"):
        assert words in flat(out)
    assert "BACKGROUND_Google, Faces_easy, Leopards" in flat(out) and "and 88 more" in flat(out)
    assert "look 23 of 24 recordings have the image that they show" in flat(out)
    assert out.endswith("--step 2 --event-size 12 --train-portion 0.5\n")


def test_of_many_classes_the_smallest_and_largest_are_shown():
    n = 25
    labels = torch.repeat_interleave(torch.arange(n), torch.tensor([30 - c for c in range(n)]))
    every = np.arange(len(labels))
    changes = dict(labels=labels, names=[str(i) for i in every], train=every, test=every[:0])
    data = small_data(n, **changes, twins=every * 0 + NO_TWIN)
    split = make_split(data, resolve(parse([]))[0], 0)
    header, *rows = (line.split() for line in report.class_table(data, (), split).splitlines())
    assert header == ["class", "recordings", "train", "test", "images", "static", "pool"]
    assert rows[0] == ["class_24", "6", "6", "0", "1", "1"] and ".." in rows.pop(5)[0]
    assert [row[0] for row in rows] == [f"class_{c}" for c in (24, 23, 22, 21, 20, 4, 3, 2, 1, 0)]


def test_a_picture_is_never_overwritten(tmp_path, capsys, monkeypatch):
    path = tmp_path / "x.png"
    path.write_text("mine")
    monkeypatch.setattr(compare, "load_data", None)  # refused before anything is loaded
    status, out, err = run(capsys, "inspect", "ndigits", "--output", path)
    assert (status, out, path.read_text()) == (2, "", "mine")
    assert err == f"error: {path} exists. Give --force to replace it, or another --output.\n"
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
    assert (picture.colours(np.zeros((2, 2, 3, 3), np.uint8)) == 1).all()
    assert figure.get_suptitle() == "small, T = 3"
    emulated = picture.draw(small_data(emulated=True))
    assert emulated.get_suptitle() == "small, T = 3, emulated\xa0events"


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


def test_no_text_is_cut_off_or_overlaps(steps=16):
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

BAD = """\
prepare nmnits | Unknown target data set 'nmnits'. Did you mean 'nmnist'
inspect nothing | Known:
prepare nmnist | nmnist needs a data root (--data-root); none was given.
inspect NCALTECH101 | NCALTECH101 needs a data root
inspect ndigits --outputt x.png | unrecognized arguments: --outputt x.png. Did you mean --output
prepare ndigits --step 0 | expected an integer of at least 1, seen 0
prepare ndigits --train-portion 2 | expected a number from 0 to 1, seen 2
prepare nmnist --train-portion 0.5 --data-root x --no-download | has its own split
inspect nmnist --window 50ms | --window cuts recordings, and nmnist has no use for it: it is an
inspect nmnist --time-unit ms | --time-unit is for files that do not say it, and nmnist has no use
inspect folder --window 50 | expected a length with its unit, such as 100ms, 0.5s or 500us
inspect folder --window 0ms | seen 0ms
prepared ndigits | prepared
prepare | NAME
 | COMMAND
"""


@pytest.mark.parametrize("line", BAD.splitlines())
def test_bad_words_get_one_message(line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, said = line.split(" | ")
    status, out, err = run(capsys, *words.split())
    assert (status, out) == (2, "") and err.startswith("error: ") and said in err


def test_an_interruption_is_no_traceback(capsys, monkeypatch):
    def fail(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "load_data", fail)
    assert run(capsys, "prepare", "ndigits") == (130, "", "Interrupted.\n")


def test_list(capsys):
    status, out, _ = run(capsys, "list")
    rows = {"nmnist mnist download 10 28 10 70,000", "ndigits digits built in 10 28 - -"}
    rows |= {"NCALTECH101 CALTECH101 download 10 48 101 8,709"}
    assert status == 0 and rows <= set(lines_of(out))
