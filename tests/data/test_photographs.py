"""Photographs recorded by the emulated camera: E-CALTECH101, and ``tmkt data emulate``."""

import numpy as np
import pytest
import torch
from standins import write_ncaltech101
from tonic.io import read_mnist_file
from writers import random_events

from tmkt_braincog.cli import main
from tmkt_braincog.data import DATASETS, LoadSpec, make_split
from tmkt_braincog.data.camera import EventCamera
from tmkt_braincog.data.emulator import emulate
from tmkt_braincog.data.encodings.saccade import source_camera
from tmkt_braincog.data.events import columns
from tmkt_braincog.data.frames import to_frames
from tmkt_braincog.data.images import read_image
from tmkt_braincog.data.ncaltech101 import CLASSES, IMAGES, RECORDINGS, emulated_camera
from tmkt_braincog.options import parse, resolve
from tmkt_braincog.teacher import teacher_input, views


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("photographs")
    counts = {"dolphin": 10, "ant": 20}
    write_ncaltech101(root, [random_events(50)], counts)
    return root


def test_every_photograph_has_its_own_recording(root):
    data = DATASETS["E-CALTECH101"].load(LoadSpec(root, 4, 32))
    assert data.emulated and data.classes == CLASSES and len(data.labels) == 30
    assert [data.classes[c] for c in data.labels.unique()] == ["ant", "dolphin"]
    assert (len(data.train), len(data.test)) == (27, 3)
    np.testing.assert_array_equal(data.twins, np.arange(30))
    path = root / IMAGES / data.names[29]
    image = read_image(path, 32)
    assert torch.equal(data.images[29], torch.from_numpy(image))
    assert views(data, "events", 40) is data.frames
    large = torch.from_numpy(read_image(path, 40)).expand(3, 40, 40) / 255
    seen = teacher_input(views(data, "static", 40), np.array([29]), 40)
    assert torch.equal(seen[0], large)
    events = emulate(image[None], [29], emulated_camera(32))[0]
    assert data.statistics["n_events"][29] == len(events)
    expected = to_frames(columns(events), 4, (32, 32))
    np.testing.assert_array_equal(data.frames[29].numpy(), expected)


def test_its_splits_hold_out_the_images_of_test_recordings(root):
    data = DATASETS["E-CALTECH101"].load(LoadSpec(root, 4, 32))
    for protocol, leaked in (("clean", 0), ("he2024", 3)):
        words = f"--target-dataset E-CALTECH101 --protocol {protocol}".split()
        split = make_split(data, resolve(parse(words))[0], 1)
        assert len(np.intersect1d(split.static, data.twins[split.test])) <= leaked
    assert not set(data.static_train) & set(data.test)


def test_target_and_source_camera_differ():
    target, source = emulated_camera(48), source_camera(48, 48, ["flip=true"])
    for name in ("corners", "moving", "threshold", "mismatch", "dark", "refractory_us", "noise_hz"):
        assert getattr(target, name) != getattr(source, name)


def test_emulate_writes_what_tonic_reads(root, tmp_path, capsys):
    words = ["data", "emulate", "--images", str(root / IMAGES), "--output", str(tmp_path / "out")]
    words += ["--size", "40", "--camera", "threshold=0.25"]
    assert main(words) == 0
    assert "30 recordings of 101 classes" in capsys.readouterr().out
    assert (tmp_path / "out" / "recordings.png").stat().st_size > 10_000
    written = sorted((tmp_path / "out" / RECORDINGS / "dolphin").iterdir())
    assert [p.name for p in written] == [f"image_{k:04d}.bin" for k in range(1, 11)]
    image = read_image(root / IMAGES / "dolphin" / "image_0003.jpg", 40)
    camera = source_camera(40, 40, ["threshold=0.25"])
    expected = emulate(image[None], [22], camera)[0]
    theirs = read_mnist_file(str(written[2]), expected.dtype)
    for name in "xytp":
        np.testing.assert_array_equal(theirs[name], expected[name])
    assert main(words) == 2 and "--force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0


@pytest.mark.parametrize(
    "more, message",
    [
        (["--camera", "treshold=1"], "Did you mean 'threshold'"),
        (["--camera", "corners=[[0,0],[70,0]]"], "do not fit"),
        (["--camera", "sensor=[30,40]"], "--size gives both"),
        (["--size", "400"], "at most 239"),
        (["--size", "0"], "at least 1"),
    ],
)
def test_impossible_emulations(root, tmp_path, capsys, more, message):
    words = ["data", "emulate", "--images", str(root / IMAGES), "--output", str(tmp_path / "out")]
    assert main([*words, *more]) == 2
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.bin"))


def test_a_damaged_photograph_is_one_error(tmp_path, capsys):
    (tmp_path / "in" / "a").mkdir(parents=True)
    words = ["data", "emulate", "--images", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(words) == 2 and "no image" in capsys.readouterr().err
    (tmp_path / "in" / "a" / "x.png").write_bytes(b"no picture")
    assert main(words) == 2
    assert "x.png" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_defaults_are_those_that_the_help_says(capsys):
    assert main(["data", "emulate", "--help"]) == 0
    text = capsys.readouterr().out
    usual = EventCamera()
    for name in ("threshold", "mismatch", "dark", "noise_hz", "refractory_us", "step_us", "seed"):
        assert f"{name}={getattr(usual, name)}" in text
