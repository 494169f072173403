import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import random
import signal
import socket
import struct
import threading
import time
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tmkt_braincog.data import download
from tmkt_braincog.data.download import Archive, fetch
from tmkt_braincog.errors import UserError

DATA = random.Random(0).randbytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()
HALF = len(DATA) // 2
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.data`` as the switches of :meth:`Server.reset` say."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked, self.headers.get("If-Range")))
        if server.redirect and self.path == "/moved":
            return self._head(302, {"Location": server.redirect})
        status = server.status if self.path in server.failing else 200
        if server.sick:
            status = server.sick.pop(0)
        if status != 200:
            return self._head(status, {"Content-Length": "0"})
        start = (
            int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        )
        same = not server.if_range or self.headers.get("If-Range") in (
            None,
            server.etag,
            server.date,
        )
        if start >= len(server.data):
            return self._head(416, {"Content-Length": "0"})
        if start and same:
            last = len(server.data) - 1
            shown = server.content_range or f"bytes {start}-{last}/{len(server.data)}"
            self._send(206, server.data[start:], {"Content-Range": shown})
        else:
            self._send(200, server.data, {})

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, status, body, headers):
        server = self.server
        breaks = server.breaks > 0  # decided before the client can see, and change, anything
        server.breaks -= breaks
        for name, value in (("ETag", server.etag), ("Last-Modified", server.date)):
            if value:
                headers[name] = value
        if server.sends_length:
            headers["Content-Length"] = str(len(body))
        self._head(status, headers)
        if breaks:
            self._break(body[: server.break_after])
        else:
            self.wfile.write(body)

    def _break(self, body):
        self.wfile.write(body)
        self.wfile.flush()
        if self.server.how == "stall":
            self.server.go_on.wait(20)
        if self.server.how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.go_on = threading.Event()
        self.reset()

    def reset(self):
        self.data = DATA
        self.requests = []
        self.etag, self.date = '"one"', DATE
        self.ranges = self.if_range = self.sends_length = True
        self.content_range = self.redirect = None
        self.breaks, self.break_after, self.how = 0, HALF, "close"
        self.failing, self.status = (), 404
        self.sick = []  # statuses to answer with before anything else
        self.go_on.clear()

    def url(self, path="/a.zip"):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges_asked(self):
        return [asked for _, asked, _ in self.requests]

    def handle_error(self, request, client_address):
        pass


@pytest.fixture(scope="module")
def running():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(running, monkeypatch):
    running.reset()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", 0)
    yield running
    running.go_on.set()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def an_archive(server, *paths, md5=MD5, size=None):
    return Archive("a.zip", tuple(server.url(path) for path in paths or ("/a.zip",)), md5, size)


def get(archive, folder):
    return fetch(archive, folder, progress=False)


def assert_fetched(folder):
    assert (folder / "a.zip").read_bytes() == DATA
    assert os.listdir(folder) == ["a.zip"]


def break_off(server, folder, after=HALF, **archive):
    """Leave a part of ``after`` bytes, as a server that goes away leaves it; forget the requests."""
    server.breaks, server.break_after, tries = 1, after, download.TRIES
    download.TRIES = 1
    try:
        with pytest.raises(UserError, match=r"run again to carry on"):
            get(an_archive(server, **archive), folder)
    finally:
        download.TRIES = tries
    assert (folder / "a.zip.part").read_bytes() == server.data[:after]
    server.requests.clear()


def test_whole_file_in_one_request(server, folder):
    archive = an_archive(server, md5=MD5.upper(), size=len(DATA))
    assert get(archive, folder) == folder / "a.zip"
    assert_fetched(folder)
    assert server.requests == [("/a.zip", None, None)]


def test_file_that_is_there_is_not_asked_for(server, folder):
    folder.mkdir()
    (folder / "a.zip").write_bytes(DATA)
    assert get(an_archive(server), folder) == folder / "a.zip"
    assert server.requests == []


@pytest.mark.parametrize("expected", [{}, {"md5": None, "size": len(DATA)}])
def test_wrong_file_that_is_there_is_kept(server, folder, expected):
    folder.mkdir()
    (folder / "a.zip").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"there already.*not overwritten\. Remove it") as error:
        get(an_archive(server, **expected), folder)
    assert (folder / "a.zip").read_bytes() == b"mine"
    assert server.requests == []
    for shown in [str(len(DATA))] if expected else [MD5, hashlib.md5(b"mine").hexdigest()]:
        assert shown in str(error.value)


def test_folder_in_the_way_is_refused(server, folder):
    (folder / "a.zip").mkdir(parents=True)
    with pytest.raises(UserError, match="not a file"):
        get(an_archive(server), folder)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_broken_connection_resumes_within_one_call(server, folder, how):
    server.breaks, server.how, server.break_after = 2, how, 100_000
    get(an_archive(server), folder)
    assert_fetched(folder)
    starts = [int(asked[6:-1]) for asked in server.ranges_asked() if asked]
    assert len(server.requests) == 3
    assert starts == sorted(starts)
    if how == "close":  # a reset may throw away what was sent before it
        assert server.requests[1] == ("/a.zip", "bytes=100000-", '"one"')
        assert server.requests[2] == ("/a.zip", "bytes=200000-", '"one"')


def test_next_call_asks_for_the_missing_bytes_only(server, folder):
    break_off(server, folder)
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.requests == [("/a.zip", f"bytes={HALF}-", '"one"')]


@pytest.mark.parametrize(
    "etag, date, validator",
    [(None, DATE, DATE), ('W/"weak"', DATE, DATE), ('W/"weak"', None, None)],
)
def test_date_stands_in_for_a_strong_etag(server, folder, etag, date, validator):
    server.etag, server.date = etag, date
    break_off(server, folder)
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.requests == [("/a.zip", f"bytes={HALF}-", validator)]


def test_without_validator_and_checksum_it_starts_over(server, folder):
    server.etag = server.date = None
    break_off(server, folder, md5=None)
    get(an_archive(server, md5=None), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [None]


def test_killed_process_leaves_a_part_that_is_carried_on(server, folder):
    server.breaks, server.how = 1, "stall"
    process = multiprocessing.get_context("fork").Process(
        target=get, args=(an_archive(server), folder)
    )
    process.start()
    part = folder / "a.zip.part"
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 2**15):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    size = part.stat().st_size
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.requests[1:] == [("/a.zip", f"bytes={size}-", '"one"')]


def test_killed_before_the_final_name_needs_no_request(server, folder):
    break_off(server, folder)
    (folder / "a.zip.part").write_bytes(DATA)
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.requests == []


def test_server_that_ignores_range_sends_all(server, folder):
    break_off(server, folder)
    server.ranges = False
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [f"bytes={HALF}-"]


@pytest.mark.parametrize(
    "content_range",
    [f"bytes 0-{len(DATA) - 1}/{len(DATA)}", f"bytes {HALF + 1}-{len(DATA) - 1}/{len(DATA)}",
     f"bytes {HALF}-{len(DATA)}/{len(DATA) + 1}", "nonsense"],
)  # fmt: skip
def test_wrong_range_in_the_answer_starts_over(server, folder, content_range):
    break_off(server, folder)
    server.content_range = content_range
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [f"bytes={HALF}-", None]


@pytest.mark.parametrize("if_range, requests", [(True, 1), (False, 2)])
@pytest.mark.parametrize("name", ["etag", "date"])
def test_file_changed_in_between_starts_over(server, folder, name, if_range, requests):
    """Without MD5, so that nothing but the validator can tell; also where the server ignores If-Range."""
    server.if_range = if_range
    server.data = bytes(len(DATA))
    if name == "date":
        server.etag = None
    break_off(server, folder, md5=None)
    server.data = DATA
    setattr(server, name, '"two"' if name == "etag" else "Thu, 22 Oct 2015 07:28:00 GMT")
    get(an_archive(server, md5=None), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [f"bytes={HALF}-", None][:requests]


def test_no_such_bytes_starts_over(server, folder):
    server.data = DATA + bytes(100_000)
    break_off(server, folder, after=len(DATA) + 50_000)
    server.data = DATA
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [f"bytes={len(DATA) + 50_000}-", None]


@pytest.mark.parametrize("sidecar", [b"", b"{", b"[]", b'{"url": 1}', None])
def test_part_of_unknown_origin_starts_over(server, folder, sidecar):
    break_off(server, folder)
    origin = folder / "a.zip.part.json"
    assert json.loads(origin.read_text())["validator"] == '"one"'
    origin.unlink() if sidecar is None else origin.write_bytes(sidecar)
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [None]


def test_gives_up_with_all_that_helps(server, folder, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 3)
    server.breaks, server.break_after = 99, 1000
    archive = an_archive(server, "/a.zip", "/b.zip")
    with pytest.raises(UserError) as error:
        get(archive, folder)
    assert [path for path, _, _ in server.requests] == ["/a.zip"] * 3 + ["/b.zip"] * 3
    assert (folder / "a.zip.part").read_bytes() == DATA[:6000]
    for shown in [*archive.urls, "ended after 6000 of 300000 bytes", str(folder / "a.zip.part"),
                  "run again to carry on", f"put it at {folder / 'a.zip'}"]:  # fmt: skip
        assert shown in str(error.value)


def test_progress_earns_new_tries(server, folder, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    monkeypatch.setattr(download, "PROGRESS_BYTES", 10_000)
    server.breaks, server.break_after = 99, 25_000
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert len(server.requests) == 12


def test_pause_doubles(server, folder, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", 1.0)
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    server.sick = [503, 429, 500]
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert pauses == [1, 2, 4]


def test_stalled_server_counts_as_broken(server, folder, monkeypatch, caplog):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    server.breaks, server.how = 1, "stall"
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [None, f"bytes={HALF}-"]
    assert "timed out" in caplog.text


def test_missing_file_goes_to_the_next_url_at_once(server, folder):
    server.failing = ("/a.zip",)
    get(an_archive(server, "/a.zip", "/b.zip"), folder)
    assert_fetched(folder)
    assert [path for path, _, _ in server.requests] == ["/a.zip", "/b.zip"]


def test_next_url_carries_on_where_a_checksum_will_tell(server, folder):
    break_off(server, folder)
    server.failing = ("/a.zip",)
    get(an_archive(server, "/a.zip", "/b.zip"), folder)
    assert_fetched(folder)
    assert server.requests[1:] == [("/b.zip", f"bytes={HALF}-", None)]


def test_nothing_listens(folder, monkeypatch):
    monkeypatch.setattr(download, "BACK_OFF_SECONDS", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.zip"
        with pytest.raises(UserError, match=r"broke 5 times: .*refused.*Run again to start anew"):
            get(Archive("a.zip", (url,), MD5), folder)


def test_wrong_checksum_deletes_and_tells(server, folder):
    wrong = "0" * 32
    with pytest.raises(UserError, match=rf"MD5 is {MD5}; expected {wrong}; it was deleted"):
        get(an_archive(server, md5=wrong), folder)
    assert os.listdir(folder) == []


def test_other_size_than_expected_is_not_even_begun(server, folder):
    break_off(server, folder)
    server.data = b"<html>The file has moved.</html>"
    with pytest.raises(UserError, match=f"offers 32 bytes; expected {len(DATA)}"):
        get(an_archive(server, size=len(DATA)), folder)
    assert (folder / "a.zip.part").read_bytes() == DATA[:HALF]


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_answer_without_length(server, folder, size):
    server.sends_length = False
    get(an_archive(server, size=size), folder)
    assert_fetched(folder)


def test_short_answer_without_length_is_noticed_by_size(server, folder):
    server.sends_length, server.breaks = False, 1
    get(an_archive(server, md5=None, size=len(DATA)), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [None, f"bytes={HALF}-"]


def test_redirection_is_followed(server, folder):
    server.redirect = "/elsewhere"
    get(an_archive(server, "/moved"), folder)
    assert_fetched(folder)
    assert [path for path, _, _ in server.requests] == ["/moved", "/elsewhere"]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/a.zip"])
def test_redirection_to_another_kind_of_url_is_refused(server, folder, target):
    server.redirect = target
    with pytest.raises(UserError, match=r"not allowed|unknown url type"):
        get(an_archive(server, "/moved", md5=None), folder)
    assert os.listdir(folder) == []


def test_file_url(tmp_path, folder):
    (tmp_path / "source").write_bytes(DATA)
    missing, there = (tmp_path / "missing").as_uri(), (tmp_path / "source").as_uri()
    get(Archive("a.zip", (missing, there), MD5, len(DATA)), folder)
    assert_fetched(folder)


@pytest.mark.parametrize("urls", [("ftp://host/a.zip",), ("/a.zip",), ()])
def test_other_urls_are_refused(folder, urls):
    with pytest.raises(UserError, match="Give a url that begins with https://"):
        get(Archive("a.zip", urls, MD5), folder)
    assert not folder.exists()


@pytest.fixture
def room_for_half(monkeypatch):
    usage = namedtuple("usage", "total used free")(10**6, 0, HALF)
    return lambda: monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_too_little_space_is_told_before_the_download(server, folder, room_for_half, size):
    room_for_half()
    with pytest.raises(UserError, match=r"Too little space.*150kB are free.*300kB more"):
        get(an_archive(server, size=size), folder)
    assert len(server.requests) == (size is None)
    assert not (folder / "a.zip").exists()


@pytest.mark.parametrize("size", [None, len(DATA)])
def test_only_the_rest_needs_space(server, folder, room_for_half, size):
    break_off(server, folder)
    room_for_half()
    get(an_archive(server, size=size), folder)
    assert_fetched(folder)


class FullFile:
    """A file on a disk with room for ``room`` more bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, block):
        self.file.write(block[: self.room])
        self.room -= len(block)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_keeps_the_part(server, folder, monkeypatch):
    def full(path, mode):
        return FullFile(open(path, mode), HALF)

    with monkeypatch.context() as patch:
        patch.setattr(download, "open", full, raising=False)
        with pytest.raises(UserError, match=r"disk is full.*150kB are kept in.*Free some space"):
            get(an_archive(server), folder)
    assert (folder / "a.zip.part").read_bytes() == DATA[:HALF]
    get(an_archive(server), folder)
    assert_fetched(folder)
    assert server.ranges_asked() == [None, f"bytes={HALF}-"]


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="Cannot read or write"):
        get(an_archive(server), tmp_path / "file" / "data")


def test_interrupt_keeps_the_part(server, folder, monkeypatch):
    read, blocks = download._read, []

    def interrupted(response, size):
        if blocks:
            raise KeyboardInterrupt
        blocks.append(read(response, size))
        return blocks[0]

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(download, "_read", interrupted)
        get(an_archive(server), folder)
    assert (folder / "a.zip.part").read_bytes() == blocks[0]
    get(an_archive(server), folder)
    assert_fetched(folder)


def test_bar_starts_where_the_part_ends(server, folder, capsys):
    break_off(server, folder)
    fetch(an_archive(server), folder)
    shown = capsys.readouterr().err
    assert "a.zip:  50%" in shown
    assert "300k/300k" in shown
