"""The cache: what is read again, what is made again, and several or killed programs at once."""

import json
import logging
import multiprocessing
import os
import signal
import time
import zlib

import numpy as np
import pytest

from tmkt_braincog.data import cache
from tmkt_braincog.data.cache import MANIFEST_FILE, cache_folder, cached
from tmkt_braincog.errors import UserError

KEY = {"steps": 3, "files": "abc"}
FORK = multiprocessing.get_context("fork")
EXPECTED = {
    "a": np.arange(1000, dtype=np.int16).reshape(10, 100),
    "b": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "cache"))


class Build:
    def __init__(self):
        self.calls = 0

    def __call__(self, out):
        self.calls += 1
        out.add(b=EXPECTED["b"], empty=EXPECTED["empty"])
        array = out.create("a", (10, 100), np.int16)
        assert not array.any()
        array[:] = EXPECTED["a"]


def assert_right(arrays):
    assert set(arrays) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


def folders():
    """All but the lock files."""
    return sorted(p.name for p in cache.cache_root().iterdir() if p.is_dir())


def test_made_once_until_name_key_or_code_change(monkeypatch):
    build = Build()
    for _ in range(2):
        assert_right(cached("x", KEY, build))
    cached("x", dict(reversed(KEY.items())), build)
    assert build.calls == 1 and folders() == [cache_folder("x", KEY).name]
    cached("y", KEY, build)
    cached("x", {**KEY, "steps": 4}, build)
    monkeypatch.setattr(cache, "CODE_VERSION", cache.CODE_VERSION + 1)
    cached("x", KEY, build)
    assert build.calls == 4


def test_arrays_are_mapped_and_writing_to_them_does_not_reach_the_file():
    arrays = cached("x", KEY, Build())
    manifest = json.loads((cache_folder("x", KEY) / MANIFEST_FILE).read_text())
    content = (cache_folder("x", KEY) / "a.npy").read_bytes()
    assert manifest["key"] == KEY and manifest["arrays"]["a"] == zlib.crc32(content)
    assert isinstance(arrays["a"].base, np.memmap)
    arrays["a"][:] = 7
    assert_right(cached("x", KEY, Build()))


def test_replacing_an_array_keeps_what_was_read_of_the_first():
    def build(out):
        first = out.create("a", (3,), np.uint8)
        first[:] = (1, 2, 3)
        second = out.create("a", (3,), np.int16)
        second[:] = first
        second[2] = 300

    assert cached("x", KEY, build)["a"].tolist() == [1, 2, 300]


def flip(data):
    return data[:-50] + bytes([data[-50] ^ 1]) + data[-49:]


@pytest.mark.parametrize("file", ["a.npy", MANIFEST_FILE])
@pytest.mark.parametrize(
    "damage", [flip, lambda d: d[: len(d) // 2], lambda d: b"", lambda d: b"[1]", None]
)
def test_damaged_file_is_rebuilt_with_one_warning(file, damage, caplog):
    build = Build()
    cached("x", KEY, build)
    path = cache_folder("x", KEY) / file
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        assert_right(cached("x", KEY, build))
    assert build.calls == 2 and folders() == [cache_folder("x", KEY).name]
    assert [r.getMessage() for r in caplog.records if "damaged" in r.getMessage()]
    assert len(caplog.records) == 1


def test_a_cache_that_cannot_be_written_or_is_full_is_an_error(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(UserError, match=r"Cannot write the cache in .*cache.*No space.*Make"):
            cached("x", KEY, Build())
    assert folders() == []
    (tmp_path / "file").write_text("in the way of the folder")
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"Cannot write the cache in .*file.*set TMKT_CACHE"):
        cached("x", KEY, Build())


def test_error_of_the_builder_passes_and_leaves_nothing(caplog):
    def fail(out):
        out.add(a=np.ones(3))
        raise ValueError("bad data")

    with pytest.raises(ValueError, match="bad data"):
        cached("x", KEY, fail)
    assert folders() == [] and not caplog.records


def _said(folder):
    return "".join(path.read_text() for path in folder.glob("*.log"))


def _log_and_build(log, calls):
    """Builds when the others have said that they wait."""
    logging.basicConfig(filename=log, level=logging.INFO, force=True)

    def build(out):
        calls.put(1)
        end = time.monotonic() + 60
        while _said(log.parent).count("Another program makes x-") < 3 and time.monotonic() < end:
            time.sleep(0.01)
        Build()(out)

    assert_right(cached("x", KEY, build))


def test_of_four_cold_processes_one_builds_and_three_wait_and_say_so(tmp_path):
    calls = FORK.SimpleQueue()
    logs = [tmp_path / f"{i}.log" for i in range(4)]
    four = [FORK.Process(target=_log_and_build, args=(log, calls)) for log in logs]
    for process in four:
        process.start()
    for process in four:
        process.join()
    assert [p.exitcode for p in four] == [0] * 4
    assert calls.get() == 1 and calls.empty()
    assert _said(tmp_path).count("Another program makes x-") == 3
    assert folders() == [cache_folder("x", KEY).name]


def _build_slowly(key, started, go_on):
    def slow(out):
        Build()(out)
        started.set()
        go_on.wait(60)

    cached("x", key, slow)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_build_removes_what_killed_ones_left_and_nothing_of_others(kind):
    theirs = [cache.cache_root() / name for name in ("work.tmp", f"x-{'0' * 39}g.tmp")]
    for folder in theirs:
        folder.mkdir(parents=True)
    started, go_on = ([FORK.Event() for _ in range(2)] for _ in range(2))
    killed, living = (
        FORK.Process(target=_build_slowly, args=({"i": i}, started[i], go_on[i])) for i in range(2)
    )
    for process, event in ((killed, started[0]), (living, started[1])):
        process.start()
        assert event.wait(60)
    os.kill(killed.pid, kind)
    killed.join()
    names = [cache_folder("x", {"i": i}).name for i in range(2)]
    kept = [folder.name for folder in theirs]
    assert folders() == sorted([*kept, *(f"{name}.tmp" for name in names)])
    build = Build()
    assert_right(cached("x", KEY, build))
    assert folders() == sorted([*kept, cache_folder("x", KEY).name, f"{names[1]}.tmp"])
    go_on[1].set()
    living.join()
    assert living.exitcode == 0
    assert_right(cached("x", {"i": 1}, build))
    assert build.calls == 1
