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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tmkt_braincog.data import install as module
from tmkt_braincog.data.install import Archive, install
from tmkt_braincog.errors import UserError

FILES = {"Test/0/a.bin": b"12345", "Test/1/b.bin": os.urandom(300_000)}


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; breaks off as often, and after as many bytes, as it says."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path[1:], asked))
        data = server.files.get(self.path[1:])
        start = int(asked[6:-1]) if asked and server.ranges else 0
        if data is None or start >= len(data):
            return self.send_error(404 if data is None else 416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        breaks, server.breaks = server.breaks > 0, server.breaks - 1
        self.wfile.write(data[start : start + 100_000] if breaks else data[start:])
        self.wfile.flush()
        if breaks:
            server.go_on.wait(20)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def reset(self):
        self.files, self.asked, self.breaks, self.ranges = {}, [], 0, True
        self.go_on = threading.Event()
        self.go_on.set()

    def archive(self, name="data.zip", data=None, md5=None, urls=()):
        """An archive that this server has."""
        if data is not None:
            self.files[name] = data
        urls = tuple(f"http://127.0.0.1:{self.server_port}/{url}" for url in urls or [name])
        return Archive(name, urls, md5 or hashlib.md5(self.files[name]).hexdigest())

    def handle_error(self, request, client_address):
        pass


@pytest.fixture(scope="module")
def running():
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(running, monkeypatch):
    running.reset()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))
    yield running
    running.go_on.set()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "root" / "Test"


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
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


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
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
        time.sleep(0.01)
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
    both = [
        context.Process(target=_install_and_log, args=(archive, target, tmp_path / f"{i}"))
        for i in "ab"
    ]
    both[0].start()
    deadline = time.monotonic() + 60
    while not server.asked:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    both[1].start()
    while not (tmp_path / "b").exists() or "waiting" not in (tmp_path / "b").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.go_on.set()
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0]
    assert "Another program installs data.zip; waiting for it" in (tmp_path / "b").read_text()
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
    refused(
        wrong, target, rf"Cannot download data\.zip.*{'0' * 32}.*{archive.md5}.*put it at .*data"
    )
    gone = server.archive("gone.zip", md5="0" * 32)
    refused(gone, target, r"Cannot download gone\.zip. Tried http.*404 .*Run again")
    nobody = Archive("a.zip", ("http://127.0.0.1:9/a.zip",), "0" * 32)
    refused(nobody, target, r"Cannot download a\.zip.*refused")
    (target.parent / "a.zip").write_bytes(b"mine")
    refused(nobody, target, rf"there already, but its MD5 is {hashlib.md5(b'mine').hexdigest()}")
    assert (target.parent / "a.zip").read_bytes() == b"mine"


def _tar(tmp_path, change):
    info = tarfile.TarInfo("Test/x")
    change(info)
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
        ("outside.tar.gz", _tar(tmp_path, lambda info: setattr(info, "name", "../x"))),
        ("device.tar.gz", _tar(tmp_path, lambda info: setattr(info, "type", tarfile.CHRTYPE))),
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
