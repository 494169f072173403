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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tmkt_braincog.data import install as module
from tmkt_braincog.data.install import Archive, install
from tmkt_braincog.errors import UserError

FILES = {"Test/0/a.bin": b"12345", "Test/1/b.bin": os.urandom(300_000)}
FORK = multiprocessing.get_context("fork")


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; breaks off after 100,000 bytes as often as ``server.breaks``."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append((self.path[1:], asked))
        data = server.files.get(self.path[1:])
        start = int(asked[6:-1]) if asked else 0
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

    def __init__(self, *args):
        super().__init__(*args)
        self.files, self.asked, self.breaks, self.go_on = {}, [], 0, threading.Event()
        self.go_on.set()

    def archive(self, name="data.zip", data=b"", urls=()):
        """An archive that this server has."""
        self.files.setdefault(name, data)
        urls = tuple(f"http://127.0.0.1:{self.server_port}/{url}" for url in urls or [name])
        return Archive(name, urls, hashlib.md5(self.files[name]).hexdigest())

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
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
    files = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def assert_installed(target):
    assert contents(target) == {n.removeprefix("Test/"): d for n, d in FILES.items()}


@pytest.mark.parametrize("kind, name", [("zip", "data.zip"), ("gztar", "data.tar.gz")])
def test_the_folder_and_the_archive_are_left(server, tmp_path, target, kind, name):
    archive = server.archive(name, packed(tmp_path, FILES, kind))
    for _ in range(2):
        install(archive, {target: None}, "tree")
    assert_installed(target)
    assert sorted(os.listdir(target.parent)) == [f".{name}.lock", "Test", name]
    shutil.rmtree(target)
    install(archive, {target: None}, "tree")  # from the archive that is there
    assert server.asked == [(name, None)]
    assert_installed(target)


def test_archives_in_an_archive_and_only_those_whose_folder_is_missing(server, tmp_path):
    parts = {f"in/{n}.zip": packed(tmp_path, {f"{n}/x.bin": n.encode()}) for n in ("cat", "dog")}
    parts["in/Test.tar.gz"] = packed(tmp_path, FILES, "gztar")
    archive = server.archive("Set.zip", packed(tmp_path, parts))
    folder = tmp_path / "root" / "Set"
    targets = {folder / "cat": "cat.zip", folder / "dog": "dog.zip", folder / "Test": "Test.tar.gz"}
    install(archive, targets, "tree")
    shutil.rmtree(folder / "dog")
    (folder / "Set.zip").rename(folder.parent / "Set.zip")  # by hand, beside the folder
    (folder / "cat" / "x.bin").write_bytes(b"changed")
    install(archive, targets, "tree")
    assert_installed(folder / "Test")
    assert contents(folder / "cat") == {"x.bin": b"changed"}
    assert contents(folder / "dog") == {"x.bin": b"dog"}
    assert (folder.parent / "Set.zip").is_file() and len(server.asked) == 1


@pytest.mark.parametrize("link", [False, True])
def test_hidden_files_do_not_count_and_stay_and_a_link_stays(archive, target, link):
    real = target.parent.parent / "disk" / "real" if link else target
    real.mkdir(parents=True)
    if link:
        target.parent.mkdir()
        target.symlink_to(real)
    (real / ".DS_Store").write_bytes(b"mine")
    (real.parent / f".{real.name}.tmp" / "half").mkdir(parents=True)  # of a killed program
    install(archive, {target: None}, "tree")
    assert target.is_symlink() == link and (real / ".DS_Store").read_bytes() == b"mine"
    assert_installed(real)
    assert not (real.parent / f".{real.name}.tmp").exists()


def test_a_broken_connection_is_tried_again_from_there_and_then_the_next_address(
    server, archive, target
):
    server.breaks = 2
    install(server.archive(urls=("gone", "data.zip")), {target: None}, "tree")
    assert_installed(target)
    asked = [asked for name, asked in server.asked if name != "gone"]
    assert server.asked[0] == ("gone", None) and asked[0] is None
    starts = [int(range_[6:-1]) for range_ in asked[1:]]
    assert len(starts) == 2 and 0 < starts[0] < starts[1]


def test_a_killed_download_is_carried_on(server, archive, target):
    server.breaks = 1
    server.go_on.clear()
    process = FORK.Process(target=install, args=(archive, {target: None}, "tree"))
    process.start()
    part = target.parent / ".data.zip.part"
    wait_until(lambda: part.exists() and part.stat().st_size)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    size = part.stat().st_size
    install(archive, {target: None}, "tree")
    assert_installed(target)
    assert server.asked == [("data.zip", None), ("data.zip", f"bytes={size}-")]
    assert sorted(os.listdir(target.parent)) == [".data.zip.lock", "Test", "data.zip"]


def _install_and_log(archive, target, log):
    logging.basicConfig(filename=log, level=logging.INFO, force=True)
    install(archive, {target: None}, "tree")


def test_several_programs_download_once_and_say_so(server, archive, target, tmp_path):
    server.breaks = 1
    server.go_on.clear()
    both = [
        FORK.Process(target=_install_and_log, args=(archive, target, tmp_path / i)) for i in "ab"
    ]
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


def refused(archive, target, said, inner=None):
    with pytest.raises(UserError, match=f"(?s){said}.*the expected tree"):
        install(archive, {target: inner}, "the expected tree")
    assert not target.is_dir() and not (target.parent / f".{target.name}.tmp").exists()


def test_faults_of_the_download_are_named(server, archive, target):
    wrong = Archive(archive.name, archive.urls, "0" * 32)
    refused(wrong, target, rf"data\.zip.*{archive.md5}; expected {'0' * 32}.*put it at ")
    assert len(server.asked) == 1  # a wrong file is fetched once
    nobody = Archive("a.zip", ("http://127.0.0.1:9/a.zip",), "0" * 32)
    refused(nobody, target, r"Cannot .*a\.zip.*refused")
    (target.parent / "a.zip").write_bytes(b"mine")
    refused(nobody, target, rf"there already, but its MD5 is {hashlib.md5(b'mine').hexdigest()}")
    assert (target.parent / "a.zip").read_bytes() == b"mine"


def test_archives_that_cannot_be_unpacked_or_hold_something_else(server, tmp_path, target):
    whole, tar = packed(tmp_path, FILES), packed(tmp_path, FILES, "gztar")
    with tarfile.open(tmp_path / "outside.tar.gz", "w:gz") as file:
        file.addfile(tarfile.TarInfo("../x"))
    for name, data in [
        ("cut.zip", whole[: len(whole) // 2]),
        ("flipped.zip", whole[:-200_000] + bytes([whole[-200_000] ^ 1]) + whole[-199_999:]),
        ("page.zip", b"<!DOCTYPE html><title>404</title>"),
        ("cut.tar.gz", tar[:-1000]),
        ("outside.tar.gz", (tmp_path / "outside.tar.gz").read_bytes()),
    ]:
        refused(server.archive(name, data), target, f"{name} is damaged: .*Remove it")
    good = server.archive("good.zip", whole)
    refused(good, target.with_name("Other"), r"good\.zip holds no Other")
    refused(good, target, r"good\.zip holds no x\.zip", "x.zip")


def test_a_full_disk_and_a_folder_that_cannot_be_made(archive, target, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "unpack_archive", full)
        refused(archive, target, "Cannot install data.zip in .*: .*No space left on device")
    (target.parent.parent / "file").write_text("in the way")
    refused(archive, target.parent.parent / "file" / "Test", "file")
