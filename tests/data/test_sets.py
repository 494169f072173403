"""What all five recorded data sets have in common, on stand-ins in their file formats."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms as T
from PIL import Image
from sets import CASES, CEP_LABELS, CIFAR, MNIST_PIXELS, SIZE, STEPS, Case, reference
from standins import cep_picture, write_cifar10

from tmkt_braincog.data import DATASETS, LoadSpec, images, recordings
from tmkt_braincog.errors import UserError
from tmkt_braincog.options import parse, resolve

INDICES = ("file_ids", "twins", "train", "test", "static_train")
pytestmark = pytest.mark.usefixtures("few")


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request) -> Case:
    return request.param


def assert_same(data, other):
    assert data.names == other.names and data.classes == other.classes
    for name in ("frames", "labels", "images", "image_labels"):
        assert torch.equal(getattr(data, name), getattr(other, name)), name
    for name in INDICES:
        np.testing.assert_array_equal(getattr(data, name), getattr(other, name))


def decodings(monkeypatch):
    """The files that are decoded from now on, whichever process reads them."""
    decoded = []
    for module in (recordings, images):
        real = module.decode_files

        def decode_files(decode, files, what, real=real):
            decoded.extend(files)
            return real(decode, files, what)

        monkeypatch.setattr(module, "decode_files", decode_files)
    return decoded


def test_contract(case, trees, caplog):
    with caplog.at_level(logging.INFO):
        data = case.load(trees(case.name))
    n = len(case.files)
    assert data.target == case.name and data.source == DATASETS[case.name].sources[0]
    assert data.names == case.names and len(set(data.names)) == n and not data.emulated
    assert list(zip(data.labels.tolist(), data.file_ids.tolist(), strict=True)) == case.files
    assert data.image_labels.tolist() == case.image_labels and data.twins.tolist() == case.twins
    assert data.train.tolist() == case.train and data.static_train.tolist() == case.static_train
    assert not set(data.train) & set(data.test)
    side = (34, 28) if case.name == "nmnist" else (SIZE, SIZE)
    kind = torch.uint8 if case.name == "nmnist" else torch.float32
    assert data.frames.shape == (n, STEPS, 2, side[0], side[0]) and data.frames.dtype == kind
    assert data.images.shape[1:] == (side[1], side[1]) and data.images.dtype == torch.uint8
    assert data.labels.dtype == data.image_labels.dtype == torch.int64
    assert all(getattr(data, name).dtype == np.int64 for name in INDICES)
    known = data.twins >= 0
    assert torch.equal(data.image_labels[data.twins[known]], data.labels[known])
    if case.sensor:
        sides = set(zip(data.statistics["width"], data.statistics["height"], strict=True))
        assert sides == {case.sensor}
    assert DATASETS[case.name].counts == case.module.COUNTS
    if case.name != "N-OMNIGLOT":  # it must be complete
        split = {"nmnist": " Train"}.get(case.name, "")
        assert f"{case.name}{split}: {len(case.train) if split else n} of " in caplog.text


@pytest.mark.parametrize("size", [SIZE, 30])
def test_frames_are_those_of_tonic_interpolated_by_torch(case, trees, size):
    data = case.load(trees(case.name), STEPS, size)
    size = None if case.name == "nmnist" else size
    for r, (c, k) in list(enumerate(case.files))[:: 7 if case.name == "N-OMNIGLOT" else 1]:
        expected = reference(case.events(c, k), case, STEPS, size)
        torch.testing.assert_close(data.frames[r].float(), expected, rtol=1e-6, atol=1e-6)
    assert data.frames.sum() > 10


def expected_images(case, root):
    """By index, the images as the reference makes them: resized in colour, then V."""

    def channel(image):
        return image.convert("HSV").getchannel("V")

    resize = T.Resize((SIZE, SIZE))
    if case.name == "nmnist":
        return dict(enumerate(np.concatenate(MNIST_PIXELS)))
    if case.name == "CEP-DVS":  # V first
        pictures = (Image.fromarray(cep_picture(k, c)) for k, c in enumerate(CEP_LABELS))
        return dict(enumerate(resize(channel(image)) for image in pictures))
    if case.name == "CIFAR10-DVS":
        pixels = write_cifar10(root.parent / "again", 20)
        return {i: channel(resize(Image.fromarray(pixels[i]))) for i in range(0, 120, 7)}
    folder = root / case.folders[1]
    if case.name == "N-OMNIGLOT":
        files = sorted((folder / "Background_01" / "character02").iterdir())
        return {60 + i: resize(Image.open(p).convert("L")) for i, p in enumerate(files)}
    files = sorted((folder / "dolphin").iterdir())
    return {4 + i: channel(resize(Image.open(p))) for i, p in enumerate(files)}


def test_images_are_the_v_channel(case, copy_of):
    root = copy_of(case.name)
    data = case.load(root)
    for i, image in expected_images(case, root).items():
        np.testing.assert_array_equal(data.images[i].numpy(), np.asarray(image))


def test_the_order_is_that_of_classes_and_numbers_in_any_directory_order(
    case, trees, monkeypatch, tmp_path
):
    expected = case.load(trees(case.name))
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "cache"))
    for owner, name in ((Path, "iterdir"), (Path, "glob"), (os, "listdir")):

        def shuffled(*args, real=getattr(owner, name)):
            found = sorted(real(*args), key=str)
            return iter([found[i] for i in np.random.default_rng(1).permutation(len(found))])

        monkeypatch.setattr(owner, name, shuffled)
    assert_same(case.load(trees(case.name)), expected)


def test_decoded_once_until_steps_or_a_file_change(case, copy_of, monkeypatch):
    root = copy_of(case.name)
    before = case.load(root)
    calls = decodings(monkeypatch)
    assert_same(case.load(root), before)
    assert not calls
    case.load(root, STEPS + 1)
    n_files = len(case.files) // (20 if case.name == "N-OMNIGLOT" else 1)
    assert len(calls) == n_files
    kinds = (".bin", ".mat", ".aedat4")
    files = [p for p in sorted((root / case.folders[0]).rglob("*")) if p.suffix in kinds]
    shutil.copyfile(files[1], files[0])
    changed = case.load(root)
    assert len(calls) == 2 * n_files and changed.names == before.names
    assert not torch.equal(changed.frames, before.frames)


def test_hidden_files_other_kinds_and_capitals_in_extensions_change_nothing(case, copy_of):
    root = copy_of(case.name)
    expected = case.load(root)
    for folder in map(root.joinpath, case.folders):
        if folder.name not in ("img", "raw", "cifar-10-batches-py"):
            (folder / ".cache").mkdir()
        for path in [p for p in folder.rglob("*") if p.is_file()][:3]:
            path.with_name(f"._{path.name}").write_bytes(b"x")
            for name in (".DS_Store", "readme.txt", "Thumbs.db"):
                path.with_name(name).write_bytes(b"x")
    for folder in case.folders[: 1 if case.name in ("nmnist", "CIFAR10-DVS") else 2]:
        kinds = (".bin", ".jpg", ".mat", ".aedat4", ".png")
        files = [p for p in sorted((root / folder).rglob("*")) if p.suffix in kinds]
        files = [p for p in files if p.name[0] != "."]
        files[1].rename(files[1].with_suffix(files[1].suffix.upper()))
    data = case.load(root)
    assert [n.lower() for n in data.names] == [n.lower() for n in expected.names]
    data.names = expected.names
    assert_same(data, expected)


def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(case, trees, monkeypatch):
    root = trees(case.name)
    for part in set(case.folders) - {"MNIST/raw", "cifar-10-batches-py"}:  # torchvision's
        closed = next((p for p in sorted((root / part).iterdir()) if p.is_dir()), root / part)

        def iterdir(self, closed=closed, real=Path.iterdir):
            if self == closed:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "iterdir", iterdir)
            with pytest.raises(UserError, match=f"Cannot read the folder {closed}: Permission de"):
                case.load(root)


@pytest.mark.parametrize("portion", [0.0, 0.01, 1.0])
def test_a_portion_that_leaves_a_side_empty_or_none_where_the_split_is_fixed(case, trees, portion):
    fixed = case.name in ("nmnist", "N-OMNIGLOT")
    said = "has its own split" if fixed else "leaves none to train"
    with pytest.raises(UserError, match=f"Got a training portion of {portion} for .*{said}"):
        case.load(trees(case.name), portion=portion)


def test_a_mode_that_is_not_known():
    with pytest.raises(UserError, match=r"Unknown mode of frames 'events'. Did you mean 'event'"):
        LoadSpec(mode="events")


def test_missing_parts_print_the_expected_tree(case, copy_of, tmp_path):
    tree = f"(?s)Expected.*{case.folders[0].split('/')[0]}/.*{case.folders[1].split('/')[0]}/"
    for given in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=tree):
            case.load(given)
    for i, folder in enumerate(case.folders):
        root = shutil.copytree(tmp_path / "data" if i else copy_of(case.name), tmp_path / str(i))
        shutil.rmtree(root / folder)
        with pytest.raises(UserError, match=f"(?s)(no folder|Found no|Cannot read) .*{tree[4:]}"):
            case.load(root)


def test_no_twin_of_a_test_recording_is_drawn_under_clean(case, trees):
    data = case.load(trees(case.name))
    split = case.split(data)
    assert "Audit: 0 images" in split.audit and "another class" not in split.audit
    assert split.train.tolist() == case.train and split.test.tolist() == data.test.tolist()
    assert split.static.tolist() == case.static_train
    if case is CIFAR:
        assert "10 of these recordings have no known image" in split.audit
        assert len(data.remarks) == 1


def test_the_source_is_the_published_name(case):
    source, *others = DATASETS[case.name].sources
    for given in (source, *others):
        words = ["--target-dataset", case.name, "--source-dataset", given]
        assert resolve(parse(words))[0].source_dataset == source
    with pytest.raises(UserError, match=f"expected {source}"):
        resolve(parse(["--target-dataset", case.name, "--source-dataset", "photos"]))
