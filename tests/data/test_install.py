"""Archives over a real connection to folders: what is downloaded, kept, unpacked, refused."""

import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from archive_server import Handler, Server

from tmkt_braincog.data import install as module
from tmkt_braincog.data.install import Archive, install
from tmkt_braincog.errors import UserError

FILES = {"Test/0/a.bin": b"12345", "Test/1/b.bin": os.urandom(300_000)}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: None))
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "root" / "Test"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def packed(tmp_path, files, kind="zip"):
    """The bytes of an archive of these files."""
    source = tmp_path / "source"
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    made = Path(shutil.make_archive(str(tmp_path / "made"), kind, source))
    shutil.rmtree(source)
    return made.read_bytes()


@pytest.fixture
def archive(server, tmp_path):
    """The folder Test, two levels down."""
    return server.archive(data=packed(tmp_path, {f"outer/{n}": d for n, d in FILES.items()}))


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def assert_installed(target):
    assert contents(target) == {n.removeprefix("Test/"): d for n, d in FILES.items()}


@pytest.mark.parametrize("kind, name", [("zip", "data.zip"), ("gztar", "data.tar.gz")])
def test_the_folder_and_the_archive_are_left(server, tmp_path, target, kind, name):
    archive = server.archive(name, packed(tmp_path, FILES, kind))
    for _ in range(2):
        install(archive, target, expected="tree")
    assert server.asked == [(name, None)]
    assert_installed(target)
    assert sorted(os.listdir(target.parent)) == [f".{name}.lock", "Test", name]
    shutil.rmtree(target)
    install(archive, target, expected="tree")  # from the archive that is there
    assert len(server.asked) == 1
    assert_installed(target)


def test_an_archive_in_an_archive(server, tmp_path, target):
    inner = packed(tmp_path, FILES, "gztar")
    archive = server.archive(data=packed(tmp_path, {"deep/inner.tar.gz": inner}))
    install(archive, target, inner="inner.tar.gz", expected="tree")
    assert_installed(target)


def test_the_archive_outlives_a_failure_at_the_end(server, tmp_path, monkeypatch):
    parts = {"cat.zip": packed(tmp_path, {"cat/x.bin": b"cat"})}
    archive = server.archive("Set.zip", packed(tmp_path, parts))
    target, rename = tmp_path / "root" / "Set", Path.rename

    def fail(path, to):
        if path.name == "joined":
            raise OSError(5, "broken disk")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="broken disk"):
        install(archive, target, parts=list(parts), expected="tree")
    assert contents(target) == {"Set.zip": server.files["Set.zip"]}


def test_a_wrong_file_is_fetched_once(server, target):
    archive = server.archive(data=b"what was asked for")
    server.files[archive.name] = b"something else"
    with pytest.raises(UserError, match="Cannot download"):
        install(archive, target, expected="tree")
    assert len(server.asked) == 1


@pytest.mark.parametrize("by_hand", [None, "root", "root/Set"])
def test_a_folder_of_inner_archives_keeps_the_archive_where_tonic_looks(server, tmp_path, by_hand):
    parts = {f"{n}.zip": packed(tmp_path, {f"{n}/x.bin": n.encode()}) for n in ("cat", "dog")}
    archive = server.archive("Set.zip", packed(tmp_path, parts))
    target = tmp_path / "root" / "Set"
    if by_hand:
        (tmp_path / by_hand).mkdir(parents=True)
        (tmp_path / by_hand / "Set.zip").write_bytes(server.files["Set.zip"])
    for _ in range(2):
        install(archive, target, parts=list(parts), expected="tree")
    assert len(server.asked) == (not by_hand)
    found = contents(target)
    assert (found.pop("Set.zip", None) is None) == (by_hand == "root")
    assert found == {"cat/x.bin": b"cat", "dog/x.bin": b"dog"}


def test_hidden_files_do_not_count_and_stay(archive, target):
    target.mkdir(parents=True)
    (target / ".DS_Store").write_bytes(b"mine")
    (target.parent / ".Test.tmp" / "half").mkdir(parents=True)  # of a program that was killed
    install(archive, target, expected="tree")
    assert (target / ".DS_Store").read_bytes() == b"mine"
    (target / ".DS_Store").unlink()
    assert_installed(target)
    assert not (target.parent / ".Test.tmp").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_to_a_folder(server, archive, target, tmp_path, exists):
    (tmp_path / "disk").mkdir()
    if exists:
        (tmp_path / "disk" / "real").mkdir()
    target.parent.mkdir()
    target.symlink_to(tmp_path / "disk" / "real")
    install(archive, target, expected="tree")
    assert target.is_symlink()
    assert_installed(tmp_path / "disk" / "real")
    parts = {"cat.zip": packed(tmp_path, {"cat/x.bin": b"cat"})}
    archive = server.archive("Set.zip", packed(tmp_path, parts))
    (tmp_path / "Set").symlink_to(tmp_path / "disk" / "new")
    install(archive, tmp_path / "Set", parts=list(parts), expected="tree")
    assert (tmp_path / "disk" / "new" / "cat" / "x.bin").read_bytes() == b"cat"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_tried_again_from_there(server, archive, target, ranges):
    server.breaks, server.ranges = 2, ranges
    install(archive, target, expected="tree")
    assert_installed(target)
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in server.asked]
    assert len(starts) == 3 and starts[0] == 0 < starts[1]
    assert (starts[2] > 100_000) == ranges


def test_a_killed_download_is_carried_on(server, archive, target):
    server.breaks = 1
    server.go_on.clear()
    process = multiprocessing.get_context("fork").Process(
        target=install, args=(archive, target), kwargs={"expected": "tree"}
    )
    process.start()
    part = target.parent / ".data.zip.part" / "part"
    wait_until(lambda: part.exists() and part.stat().st_size)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    size = part.stat().st_size
    install(archive, target, expected="tree")
    assert_installed(target)
    assert server.asked == [("data.zip", None), ("data.zip", f"bytes={size}-")]
    assert sorted(os.listdir(target.parent)) == [".data.zip.lock", "Test", "data.zip"]


def test_the_next_address_is_tried(server, archive, target):
    archive = server.archive(urls=("gone", "data.zip"))
    install(archive, target, expected="tree")
    assert_installed(target)
    assert server.asked[-1] == ("data.zip", None) != server.asked[0]


def test_several_programs_download_once_and_say_so(server, archive, target, tmp_path):
    server.breaks = 1
    server.go_on.clear()
    context = multiprocessing.get_context("fork")
    options = {"target": _install_and_log}
    both = [context.Process(args=(archive, target, tmp_path / i), **options) for i in "ab"]
    both[0].start()
    wait_until(lambda: server.asked)
    both[1].start()
    said = "Another program installs data.zip; waiting for it"
    wait_until(lambda: (tmp_path / "b").exists() and said in (tmp_path / "b").read_text())
    server.go_on.set()
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert [asked for _, asked in server.asked].count(None) == 1
    assert_installed(target)


def _install_and_log(archive, target, log):
    logging.basicConfig(filename=log, level=logging.INFO, force=True)
    install(archive, target, expected="tree")


def refused(archive, target, said, **options):
    with pytest.raises(UserError, match=f"(?s){said}.*the expected tree"):
        install(archive, target, expected="the expected tree", **options)
    assert not target.is_dir() or not any(p.is_dir() for p in target.iterdir())
    assert not (target.parent / f".{target.name}.tmp").exists()


def test_faults_of_the_download_are_named(server, archive, target):
    wrong = Archive(archive.name, archive.urls, "0" * 32)
    refused(wrong, target, rf"Cannot download data\.zip.*{'0' * 32}.*{archive.md5}.*put it at ")
    gone = server.archive("gone.zip", md5="0" * 32)
    refused(gone, target, r"Cannot download gone\.zip. Tried http.*404 .*Run again")
    nobody = Archive("a.zip", ("http://127.0.0.1:9/a.zip",), "0" * 32)
    refused(nobody, target, r"Cannot download a\.zip.*refused")
    (target.parent / "a.zip").write_bytes(b"mine")
    refused(nobody, target, rf"there already, but its MD5 is {hashlib.md5(b'mine').hexdigest()}")
    assert (target.parent / "a.zip").read_bytes() == b"mine"


def tar_of(tmp_path, name, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.type = kind
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as tar:
        tar.addfile(info)
    return (tmp_path / "made.tar.gz").read_bytes()


def test_archives_that_cannot_be_unpacked(server, tmp_path, target):
    whole = packed(tmp_path, FILES)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for name, data in [
        ("cut.zip", whole[: len(whole) // 2]),
        ("flipped.zip", bytes(flipped)),
        ("page.zip", b"<!DOCTYPE html><title>404</title>"),
        ("page.tar.gz", b"<!DOCTYPE html><title>404</title>"),
        ("cut.tar.gz", packed(tmp_path, FILES, "gztar")[:-1000]),
        ("outside.tar.gz", tar_of(tmp_path, "../x")),
        ("device.tar.gz", tar_of(tmp_path, "Test/x", tarfile.CHRTYPE)),
    ]:
        refused(server.archive(name, data), target, f"{name} is damaged: .*Remove it")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as file:
        file.writestr("../../x", b"1")
        file.writestr("Test/a.bin", b"2")
    install(server.archive("out.zip", (tmp_path / "out.zip").read_bytes()), target, expected="")
    assert contents(target) == {"a.bin": b"2"} and not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "options, said",
    [({}, "no Other"), ({"inner": "x.zip"}, r"no x\.zip"), ({"parts": ["y.zip"]}, r"no y\.zip")],
)
def test_an_archive_with_other_contents(archive, target, options, said):
    refused(archive, target.with_name("Other"), said, **options)


def test_a_full_disk_and_a_folder_that_cannot_be_made(archive, target, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "unpack_archive", full)
        refused(archive, target, "Cannot install data.zip as .*Test: .*No space left on device")
    install(archive, target, expected="tree")
    assert_installed(target)
    (target.parent.parent / "file").write_text("in the way")
    refused(archive, target.parent.parent / "file" / "Test", "file")
