import shutil
from pathlib import Path

import pytest

from tmkt_braincog.data import install as module
from tmkt_braincog.data.download import Archive
from tmkt_braincog.data.install import install
from tmkt_braincog.errors import UserError

ARCHIVE = Archive("data.zip", ("https://nowhere.invalid/data.zip",), None)


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """What ``fetch`` finds: an archive with the folder Test (one file) two levels down."""
    source = tmp_path / "source" / "outer" / "Test"
    source.mkdir(parents=True)
    (source / "a.bin").write_bytes(b"12345")
    path = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "source"))
    calls = []

    def fetch(archive, folder):
        calls.append(archive.name)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(path, folder / archive.name))

    monkeypatch.setattr(module, "fetch", fetch)
    return calls


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_the_folder_alone_is_left(tmp_path, packed):
    target = tmp_path / "root" / "Test"
    for _ in range(2):
        install(ARCHIVE, target, expected="tree")
    assert packed == ["data.zip"]
    assert names(tmp_path / "root") == ["Test", "Test/a.bin"]


def test_leftovers_of_a_killed_call_are_cleared(tmp_path, packed):
    target = tmp_path / "root" / "Test"
    (tmp_path / "root" / "Test.unpacked" / "half").mkdir(parents=True)
    target.mkdir()
    install(ARCHIVE, target, expected="tree")
    assert names(tmp_path / "root") == ["Test", "Test/a.bin"]


@pytest.mark.parametrize(
    "wanted, said", [({}, "holds no folder Other"), ({"inner": "x.zip"}, r"holds no x\.zip")]
)
def test_an_archive_with_other_contents(tmp_path, packed, wanted, said):
    with pytest.raises(UserError, match=f"(?s){said}.*the expected tree"):
        install(ARCHIVE, tmp_path / "root" / "Other", expected="the expected tree", **wanted)
    assert names(tmp_path / "root") == ["data.zip"]  # kept: it was fetched and is whole


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "root").write_text("in the way")
    with pytest.raises(UserError, match=r"(?s)root.*the expected tree"):
        install(ARCHIVE, tmp_path / "root" / "Test", expected="the expected tree")
