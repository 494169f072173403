"""What one recorded set has and the others have not: draws, tables, archives, real files."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import standins
import torch
from PIL import Image
from sets import CASES, CEP_LABELS, STROKES, offset_events, reference
from tonic.datasets import CIFAR10DVS
from tonic.io import read_mnist_file
from torchvision.datasets import CIFAR10
from writers import random_events, structured, write_bin

from tests.program import run_train
from tmkt_braincog.data import NO_TWIN, LoadSpec, install, recordings
from tmkt_braincog.data.events import read_aedat4
from tmkt_braincog.data.frames import apply_mode, to_frames
from tmkt_braincog.data.splits import directory_order, portion_split
from tmkt_braincog.errors import UserError

pytestmark = pytest.mark.usefixtures("few")
NMNIST, NCALTECH, CEPDVS, CIFAR, NOMNIGLOT = CASES.values()
nmnist, ncaltech101, cepdvs, cifar10dvs, nomniglot = (case.module for case in CASES.values())


# Tables


def test_classes_and_counts_of_n_caltech101_are_those_of_braincog(tmp_path):
    from braincog.datasets.ncaltech101 import NCALTECH101

    for name in ncaltech101.CLASSES:
        path = tmp_path / ncaltech101.RECORDINGS / name / "image_0001.bin"
        path.parent.mkdir(parents=True)
        path.touch()
    theirs = NCALTECH101(str(tmp_path))
    labels = {Path(p).parent.name: c for p, c in zip(theirs.data, theirs.targets, strict=True)}
    assert labels == {name: label for label, name in enumerate(ncaltech101.CLASSES)}
    assert tuple(NCALTECH101.cls_count) == ncaltech101.COUNTS
    assert len(ncaltech101.CLASSES) == 101 and sum(ncaltech101.COUNTS) == NCALTECH101.length


def test_tables_of_the_other_sets():
    names = {name: label for label, name in enumerate(cifar10dvs.CLASSES)}
    assert names == CIFAR10DVS.classes
    assert CIFAR10DVS.sensor_size == (*cifar10dvs.SENSOR_SIZE, 2)
    assert CIFAR10DVS.data_filename == [f"{name}.zip" for name in cifar10dvs.CLASSES]
    assert sum(nmnist.COUNTS) == sum(nmnist.FULL_COUNTS.values()) and len(nmnist.COUNTS) == 10
    assert len(cepdvs.CLASSES) == 20 and cepdvs.COUNTS == (500,) * 20
    assert nomniglot.COUNTS == (20,) * 1623


@pytest.mark.parametrize(
    "counts, n_train, n_test", [(ncaltech101.COUNTS, 7839, 870), (cifar10dvs.COUNTS, 9000, 1000)]
)
def test_portion_splits_of_the_full_data_sets_have_the_published_counts(counts, n_train, n_test):
    labels = np.repeat(np.arange(len(counts)), counts)
    train, test = portion_split(labels, 0.9, 0.9)
    assert (len(train), len(test)) == (n_train, n_test)
    assert set(labels[train]) == set(labels[test]) == set(range(len(counts)))


def test_split_of_the_full_cep_dvs():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 500))
    train, test = cepdvs.split(labels, 0.5)
    for c in range(20):
        members = np.flatnonzero(labels == c)
        np.testing.assert_array_equal(train[labels[train] == c], members[:250])
        np.testing.assert_array_equal(test[labels[test] == c], members[250:350])


# The draws of the reference


def test_faults_1_and_2_n_caltech101(tmp_path):
    """The first test image is drawn, and recordings are split as the directory lists them."""
    events = [random_events(20, seed=k, sensor_size=(20, 20)) for k in range(5)]
    standins.write_ncaltech101(tmp_path, events, {"Faces_easy": 10, "dolphin": 40})
    data = NCALTECH.load(tmp_path)
    published, clean = NCALTECH.split(data, "he2024"), NCALTECH.split(data)
    drawn = [pool.tolist() for pool in published.pools if len(pool)]
    assert drawn == [list(range(10)), list(range(10, 47))]  # 90 % and one more
    assert clean.test.tolist() == [9, *range(46, 50)]
    assert len(published.test) == 5 and published.test.tolist() != clean.test.tolist()
    order = [i for i in directory_order([Path(name).name for name in data.names]) if i >= 10]
    assert sorted(order[36:]) == published.test[published.test >= 10].tolist()
    twins = set(data.twins[published.test].tolist())
    n_leaked = len(twins & set(published.static.tolist()))
    assert n_leaked and f"Audit: {n_leaked} images" in published.audit
    assert not set(data.twins[clean.test].tolist()) & set(clean.static.tolist())


def test_faults_3_and_4_cep_dvs(tmp_path):
    """Positions inside the training set index all images. 20 classes of 10 in a row."""
    events = [random_events(50, seed=s) for s in range(3)]
    standins.write_cepdvs(tmp_path, events, np.repeat(np.arange(20), 10))
    data = CEPDVS.load(tmp_path)
    made = CEPDVS.split(data, "he2024")
    np.testing.assert_array_equal(made.train, data.train)
    np.testing.assert_array_equal(made.test, data.test)
    for c, pool in enumerate(made.pools):
        assert pool.tolist() == list(range(5 * c, 5 * c + 5))
    drawn, of_class = np.concatenate(made.pools), np.repeat(np.arange(20), 5)
    shown = data.image_labels.numpy()[drawn]
    np.testing.assert_array_equal(shown, of_class // 2)
    assert np.isin(drawn, data.twins[data.test]).mean() == 0.2
    assert "20 images of validation or test recordings can be trained on" in made.audit
    assert "95 of 100 images that can be drawn are of another class" in made.audit


def test_fault_9_n_omniglot_draws_the_character_at_the_same_place_of_the_directory(trees):
    data = NOMNIGLOT.load(trees("N-OMNIGLOT"))
    split, wrong = NOMNIGLOT.split(data, "he2024"), 0
    assert split.train.tolist() == data.train.tolist() and split.test.tolist() == data.test.tolist()
    for alphabet in ("Background_00", "Background_01", "Evaluation_00"):
        members = [c for c, name in enumerate(data.classes) if name.startswith(alphabet)]
        order = directory_order([data.classes[c].split("/")[1] for c in members])
        for c, i in zip(members, order, strict=True):
            assert split.pools[c].tolist() == list(range(20 * members[i], 20 * members[i] + 15))
            wrong += 15 * (members[i] != c)
    assert wrong > 0
    assert f"{wrong} of 105 images that can be drawn are of another class" in split.audit
    assert "Audit: 0 images" in split.audit


def test_fault_9_at_full_size():
    sizes = [(a, n) for a in range(30) for n in range(1, 21 + a % 24)]
    characters = [f"background/{a:02d}/character{n:02d}" for a, n in sizes]
    pools = nomniglot.published_pools(characters)
    training = [i for i in range(20 * len(characters)) if i % 20 < 15]
    assert sorted(np.concatenate(pools).tolist()) == training
    assert sum(int(pool[0]) == 20 * c for c, pool in enumerate(pools)) < len(characters) / 10
    assert [characters[pool[0] // 20][:13] for pool in pools] == [c[:13] for c in characters]


def test_cifar10_dvs_pairs_class_c_with_the_airplane_c(trees):
    data = CIFAR.load(trees("CIFAR10-DVS"))
    made = CIFAR.split(data, "he2024")
    airplanes = np.flatnonzero(data.image_labels == 0).tolist()
    assert [pool.tolist() for pool in made.pools] == [[i] for i in airplanes[:10]]
    np.testing.assert_array_equal(made.train, data.train)
    np.testing.assert_array_equal(made.test, data.test)
    assert "9 of 10 images that can be drawn are of another class" in made.audit


# N-MNIST and N-Caltech101


def test_numbers_are_compared_as_numbers(copy_of):
    for case, old, new in (
        (NCALTECH, "NCALTECH101/Caltech101/dolphin/image_0002.bin", "image_2.bin"),
        (CEPDVS, "CEP-DVS/data/MAT/img/2.mat", "0002.mat"),
        (CIFAR, "CIFAR10DVS/cat/cifar10_cat_3.aedat4", "cat_0003.aedat4"),
        (NOMNIGLOT, "NOmniglot/dvs_background/Background_00/character02", "character2"),
    ):
        root = copy_of(case.name)
        expected = case.load(root)
        (root / old).rename((root / old).with_name(new))
        data = case.load(root)
        assert data.file_ids.tolist() == expected.file_ids.tolist()
        assert data.classes == expected.classes and torch.equal(data.frames, expected.frames)
        shutil.rmtree(root)


def test_images_of_stock_torchvision_leave_the_background_out_and_say_so(copy_of):
    root = copy_of("NCALTECH101")
    expected = NCALTECH.load(root)
    for number in (1, 2, 3):
        path = root / ncaltech101.RECORDINGS / "BACKGROUND_Google" / f"image_{number:04d}.bin"
        write_bin(path, offset_events(number))
    data = NCALTECH.load(root)
    assert data.names == expected.names and torch.equal(data.labels, expected.labels)
    (remark,) = data.remarks
    assert remark.startswith("3 recordings of BACKGROUND_Google are left out") and "9,144" in remark
    images = root / ncaltech101.IMAGES
    for picture in ("BACKGROUND_Google/image_0002.jpg", "Faces/image_0001.jpg"):
        (images / picture).parent.mkdir(exist_ok=True)
        shutil.copy(images / "dolphin" / "image_0001.jpg", images / picture)
    whole = NCALTECH.load(root)  # without Faces, which does not count
    assert whole.remarks == [] and len(whole.names) == len(expected.names) + 3
    assert whole.twins[:3].tolist() == [NO_TWIN, 0, NO_TWIN]


def test_half_of_n_caltech101(trees):
    data = NCALTECH.load(trees("NCALTECH101"), portion=0.5)
    dolphins = [f"dolphin/image_{n:04d}.bin" for n in range(6, 11)]
    expected = ["Faces_easy/image_0002.bin", "accordion/image_0002.bin", *dolphins]
    assert [data.names[r] for r in data.test] == expected and len(data.images) == 13


# CEP-DVS


def test_the_portion_and_what_is_not_used(trees):
    data = CEPDVS.load(trees("CEP-DVS"))
    assert data.test.tolist() == [9, 10, 11, 14]
    (said,) = data.remarks
    assert said.startswith("6 of 19 recordings neither train nor test; the published split leaves")
    data = CEPDVS.load(trees("CEP-DVS"), portion=0.8)
    assert (len(data.train), len(data.test), data.remarks) == (8 + 4 + 3, 2 + 1 + 1, [])


def test_a_recording_without_image_an_image_without_recording_and_other_kinds(copy_of):
    root = copy_of("CEP-DVS")
    images = root / "CEP-DVS/data/img"
    for path in (images / "6.png", images / "12.png", root / "CEP-DVS/data/MAT/img/1.mat"):
        path.unlink()
    (images / "4.png").rename(images / "4.PNG")
    Image.open(images / "5.png").save(images / "5.jpg", quality=100)
    (images / "5.png").unlink()
    data = CEPDVS.load(root, 2, 32)
    assert data.file_ids.tolist() == [0, *range(2, 19)]
    assert data.labels.tolist() == [CEP_LABELS[k] for k in data.file_ids]
    shown = [k for k in range(19) if k not in (6, 12)]
    assert data.image_labels.tolist() == [CEP_LABELS[k] for k in shown]
    expected = [shown.index(k) if k in shown else NO_TWIN for k in data.file_ids]
    assert data.twins.tolist() == expected
    trains = [t for t in data.twins[data.train] if t != NO_TWIN]
    assert data.static_train.tolist() == trains
    assert len(data.images) == 17
    original = torch.from_numpy(standins.cep_picture(5, 0).max(-1)).int()
    assert (data.images[5].int() - original).abs().float().mean() < 20


def test_rows_may_have_more_words_other_spaces_and_a_byte_order_mark(copy_of):
    root = copy_of("CEP-DVS")
    rows = [f"{k}\ta b  {cepdvs.CLASSES[label]} and fish" for k, label in enumerate(CEP_LABELS)]
    rows[3] = f"   w 1 2 3 {cepdvs.CLASSES[CEP_LABELS[3]]}"
    # Two spaces are two ends of words: the fifth word is the class only because an empty one
    # counts.
    text = "\ufeff" + "\r\n".join(["number folder file source class", *rows, "", ""])
    (root / "CEP-DVS/pathFile.csv").write_bytes(text.encode())
    assert CEPDVS.load(root).labels.tolist() == CEP_LABELS
    # A corrected table changes labels, not what was decoded.
    standins.write_cep_table(root, [1] * 10 + [2] * 9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "decode_files", None)
        assert CEPDVS.load(root).labels.tolist() == [1] * 10 + [2] * 9


# CIFAR10-DVS


def test_pictures_with_other_checksums_are_read_again_or_refused(copy_of):
    root = copy_of("CIFAR10-DVS")
    before = CIFAR.load(root).images
    standins.write_cifar10(root, 20, seed=1)
    assert not torch.equal(CIFAR.load(root).images, before)
    lists = {"train_list": [["data_batch_1", "0" * 32]], "test_list": [["test_batch", "0" * 32]]}
    with pytest.MonkeyPatch.context() as patch:  # torchvision takes none but the real files
        for name, value in lists.items():
            patch.setattr(CIFAR10, name, value)
        with pytest.raises(UserError, match=r"(?s)Cannot read CIFAR-10 in .*corrupted.*Expected:"):
            CIFAR.load(root, 3, 13)


# N-Omniglot


def test_frames_are_those_of_the_publishers_code_but_for_the_last_events(trees):
    from braincog.datasets.NOmniglot.utils import integrate_events_to_frames

    path = next(trees("N-OMNIGLOT").rglob("0002.aedat4"))
    for d, (events, sensor) in enumerate(nomniglot.read_drawings(path)[:5], 1):
        assert sensor == (346, 260) and len(events["t"]) == len(NOMNIGLOT.events(2, d)) > 290
        ours = apply_mode(to_frames(events, 12, sensor), "frequency")
        columns = {name: column.astype(np.int64) for name, column in events.items()}
        theirs = integrate_events_to_frames(columns, 260, 346, 12, "frequency")
        np.testing.assert_allclose(ours[:-1], theirs[:-1], atol=2e-3)  # theirs are float16


def test_a_table_that_changes_is_read_again(copy_of):
    root = copy_of("N-OMNIGLOT")
    before = NOMNIGLOT.load(root)
    times = standins.drawing_times(STROKES)
    times[7, 1] = times[7].mean()
    next(root.rglob("0005.csv")).write_text(standins.times_table(times))
    same = (NOMNIGLOT.load(root).frames == before.frames).flatten(1).all(1)
    assert same.tolist() == [r != 4 * 20 + 7 for r in range(140)]


# Archives


def zipped(folder: Path, archive: Path, kind="zip") -> Path:
    """The folder in an archive; the folder is gone."""
    made = shutil.make_archive(str(archive), kind, folder.parent, folder.name)
    shutil.rmtree(folder)
    return Path(made)


def pack(name: str, root: Path, archives: Path) -> dict[str, Path]:
    """A stand-in as it is distributed: archives by name."""
    archives.mkdir()
    if name == "NCALTECH101":
        parts = [
            (ncaltech101.RECORDINGS, "N-Caltech101-archive", "Caltech101.zip", "zip"),
            (ncaltech101.IMAGES, "caltech-101", "101_ObjectCategories.tar.gz", "gztar"),
        ]
        for folder, archive, inner, kind in parts:
            outer = archives / archive
            outer.mkdir()
            zipped(root / folder, archives / "inner", kind).rename(outer / inner)
            zipped(outer, outer)
    elif name == "CIFAR10-DVS":
        for inner in cifar10dvs.CLASSES:
            zipped(root / "CIFAR10DVS" / inner, root / "CIFAR10DVS" / inner)
        zipped(root / "CIFAR10DVS", archives / "CIFAR10DVS")
        zipped(root / "cifar-10-batches-py", archives / "cifar-10-python", "gztar")
    else:
        for part in ("images_background", "images_evaluation"):
            zipped(root / "omniglot-py" / part, archives / part)
    return {path.name: path for path in archives.iterdir()}


@pytest.mark.parametrize("case", [NCALTECH, CIFAR, NOMNIGLOT], ids=lambda case: case.name)
def test_fetch_unpacks_what_is_missing_once(case, copy_of, tmp_path, monkeypatch):
    root, asked = copy_of(case.name), []
    expected = case.load(root)
    made = pack(case.name, root, tmp_path / "archives")

    def fetch(archive, folder):
        asked.append(archive.name)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(made[archive.name], folder / archive.name))

    monkeypatch.setattr(install, "fetch", fetch)
    for _ in range(2):
        case.module.fetch(root)
    assert sorted(asked) == sorted(name for name, path in made.items() if path.is_file())
    data = case.load(root)
    assert data.names == expected.names and torch.equal(data.images, expected.images)


def test_fetch_says_what_failed_and_what_to_get_by_hand(copy_of, tmp_path, monkeypatch):
    def fail(archive, folder):
        raise UserError(f"no route to {archive.name}")

    monkeypatch.setattr(install, "fetch", fail)
    with pytest.raises(UserError, match=r"(?s)no route to N-Caltech101-archive\.zip.*Expected:"):
        ncaltech101.fetch(tmp_path)
    root = copy_of("N-OMNIGLOT")
    nomniglot.fetch(root)
    shutil.rmtree(root / "NOmniglot")
    with pytest.raises(UserError, match=r"(?s)no folder .*dvs_background.*16821427"):
        NOMNIGLOT.load(root)
    with pytest.raises(UserError, match="DVS/issues/2"):
        CEPDVS.load(root)


def test_fetch_of_n_mnist_leaves_alone_what_is_there_and_asks_for_the_rest(copy_of, monkeypatch):
    import torchvision.datasets

    root, asked = copy_of("nmnist"), []
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda root, download: asked.append(root))
    nmnist.fetch(root)
    assert asked == [str(root)]
    shutil.rmtree(root / "NMNIST" / "Test")
    monkeypatch.setattr(nmnist, "install", lambda a, folders, _: asked.extend(folders))
    nmnist.fetch(root)
    assert asked[1:] == [root / "NMNIST" / "Train", root / "NMNIST" / "Test", str(root)]


# Real files


@pytest.mark.realdata
def test_real_n_mnist(real_data):
    data = nmnist.load(LoadSpec(real_data))
    assert torch.equal(data.image_labels[data.twins], data.labels)
    assert data.images.shape == (70_000, 28, 28)
    assert data.static_train.tolist() == list(range(60_000))
    counts = data.frames.sum((1, 2, 3, 4))
    assert counts.min() > 1000 and counts.max() < 10_000
    assert tuple(np.bincount(data.image_labels, minlength=10)) == nmnist.COUNTS


@pytest.mark.realdata
@pytest.mark.slow
def test_few_shots_of_real_nmnist(real_data, tmp_path, capsys):
    """Counts of the split and the audit; learning is well above chance (10 %) after 60 steps."""
    words = "--shots 10 --leftover parity --batch-size 32 --lr 0.1 --epoch-size 640 --epochs 3 "
    words += f"--warmup-epochs 1 --method baseline --seed 1 --output {tmp_path}/o"
    assert run_train(f"--target-dataset nmnist --data-root {real_data} {words}".split()) == 0
    out = capsys.readouterr().out
    assert "740 recordings, 70000 images, 10 classes" in out
    # 600 of the 700 recordings of Train are left over; only their twins go.
    assert "100 training, " in out and "; 59400 static images. 640 of all 70000" in out
    assert "Audit: 0 images" in out
    assert pd.read_csv(tmp_path / "o/comparison.csv").top1_last.item() > 40


@pytest.mark.realdata
def test_real_n_caltech101_recording_and_photographs(real_data, tmp_path):
    real = real_data / ncaltech101.RECORDINGS / "Faces_easy" / "image_0001.bin"
    shown = ["Faces_easy/image_0001", "airplanes/image_0001"]
    shown += [f"chair/image_000{k}" for k in (1, 2, 3)]
    links = {f"{ncaltech101.RECORDINGS}/{shown[i]}.bin": real for i in (0, 2, 3)}
    images = [f"{ncaltech101.IMAGES}/{name}.jpg" for name in shown]
    for path, file in (links | {path: real_data / path for path in images}).items():
        if not file.is_file():
            pytest.skip(f"no real N-Caltech101 recording or Caltech-101 photograph at {file}")
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(file)
    data = NCALTECH.load(tmp_path, 10, 48, portion=0.6)
    assert [data.names[r] for r in data.test] == ["chair/image_0002.bin"]
    assert len(data.images) == len(shown) and data.images.float().std() > 30
    events = read_mnist_file(str(real), np.dtype([(c, int) for c in "xytp"]))
    assert len(events) == 67_445
    assert (events["x"].max(), events["y"].max()) == (150, 172)
    expected = reference(events, NCALTECH, 10, 48)
    for frames in data.frames:
        torch.testing.assert_close(frames, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.realdata
def test_real_recording_of_n_omniglots_camera_and_real_drawings(real_data, tmp_path, monkeypatch):
    """A stand-in yet: a scene of the same camera in 20 windows, under Omniglot's characters."""
    film = real_data / "aedat4" / "davis346_a.aedat4"
    drawn = real_data / "omniglot-py" / "images_background_small1.zip"
    if not (film.is_file() and drawn.is_file()):
        pytest.skip(f"no real {film} or {drawn}")
    monkeypatch.setattr(nomniglot, "CHARACTERS", {"background": 2, "evaluation": 1})
    events, _ = read_aedat4(film)
    times, archive = standins.drawing_times(events), zipfile.ZipFile(drawn)
    classes = ("Greek/character01", "Greek/character10", "Latin/character03")
    for part, name in zip(("background", "background", "evaluation"), classes, strict=True):
        alphabet, character = name.split("/character")
        folder, images = standins.character_folders(tmp_path, part, alphabet, int(character))
        files = [n for n in archive.namelist() if f"/{name}/" in n and n.endswith("png")]
        for file in files:
            standins.write(images / Path(file).name, archive.read(file))
        stem = Path(files[0]).stem[:4]
        standins.write(folder / f"{stem}.csv", standins.times_table(times).encode())
        (folder / f"{stem}.aedat4").symlink_to(film)
    data = NOMNIGLOT.load(tmp_path, 12, 28)
    assert data.classes == classes
    assert data.frames.shape == (60, 12, 2, 28, 28) and data.images.shape == (60, 28, 28)
    assert data.statistics["n_events"][:20].sum() == 117_666
    assert data.frames.max() <= 1 and torch.equal(data.frames[20:40], data.frames[:20])
    start, end = times[4]
    within = (start <= events["t"]) & (events["t"] < end)
    expected = reference(structured(events)[within], NOMNIGLOT, 12, 28)
    torch.testing.assert_close(data.frames[4], expected, rtol=1e-6, atol=1e-6)
    assert data.images.float().mean() > 200 and data.images.min() < 100
