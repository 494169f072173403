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

KEY = {"steps": 3, "files": "abc"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "cache"))


EXPECTED = {
    "a": np.arange(1000, dtype=np.int16).reshape(10, 100),
    "b": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}


class Build:
    def __init__(self):
        self.calls = 0

    def __call__(self, out):
        self.calls += 1
        out.add(b=EXPECTED["b"], empty=EXPECTED["empty"])
        array = out.create("a", (10, 100), np.int16)
        assert not array.any()
        for i in range(10):
            array[i] = EXPECTED["a"][i]


def assert_right(arrays):
    assert set(arrays) == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


def folders():
    """All but the lock files."""
    return sorted(p.name for p in cache_folder("x", KEY).parent.iterdir() if p.is_dir())


def test_second_call_does_not_build():
    build = Build()
    assert_right(cached("x", KEY, build))
    assert_right(cached("x", dict(reversed(KEY.items())), build))
    assert build.calls == 1
    assert folders() == [cache_folder("x", KEY).name]


@pytest.mark.parametrize("name, key", [("y", KEY), ("x", {**KEY, "steps": 4})])
def test_other_name_or_key_builds(name, key):
    build = Build()
    cached("x", KEY, build)
    cached(name, key, build)
    assert build.calls == 2


def test_new_code_version_builds(monkeypatch):
    build = Build()
    cached("x", KEY, build)
    monkeypatch.setattr(cache, "CODE_VERSION", cache.CODE_VERSION + 1)
    cached("x", KEY, build)
    assert build.calls == 2


def test_manifest_says_what_is_stored():
    cached("x", KEY, Build())
    manifest = json.loads((cache_folder("x", KEY) / MANIFEST_FILE).read_text())
    assert manifest["key"] == KEY
    content = (cache_folder("x", KEY) / "a.npy").read_bytes()
    assert manifest["arrays"]["a"] == zlib.crc32(content)


def test_arrays_are_mapped_and_writing_to_them_does_not_reach_the_file():
    arrays = cached("x", KEY, Build())
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
    assert sorted(p.name for p in cache_folder("x", KEY).iterdir()) == ["a.npy", MANIFEST_FILE]


def test_folders_of_other_programs_are_left_alone():
    theirs = [cache.cache_root() / name for name in ("work.tmp", f"x-{'0' * 39}g.tmp")]
    for folder in theirs:
        folder.mkdir(parents=True)
    cached("x", KEY, Build())
    assert all(folder.is_dir() for folder in theirs)


def truncate(data):
    return data[: len(data) // 2]


def flip(data):
    middle = data.index(np.arange(500, 510, dtype=np.int16).tobytes())
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "file, damage",
    [
        ("a.npy", flip),
        *(
            (f, d)
            for f in ("a.npy", MANIFEST_FILE)
            for d in (truncate, lambda d: b"", lambda d: b"[1]", None)
        ),
    ],
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
    assert build.calls == 2
    assert len(caplog.records) == 1
    assert "damaged" in caplog.text
    assert folders() == [cache_folder("x", KEY).name]


def test_unwritable_cache_warns_and_goes_on(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way of the folder")
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "file"))
    assert_right(cached("x", KEY, Build()))
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "Cannot write the cache" in caplog.text


@pytest.mark.parametrize("broken", ["posix_fallocate", "rename"])
def test_a_full_disk_costs_the_caching_only(broken, monkeypatch, caplog):
    """Nothing is built twice, and what was written stays usable."""
    real, calls = getattr(os, broken), []

    def full(*args):
        calls.append(args)
        if len(calls) == 2 or broken == "rename":
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(os, broken, full)
    build = Build()
    assert_right(cached("x", KEY, build))
    assert build.calls == 1
    assert caplog.text.count("No space left") == 1
    assert folders() == []


@pytest.mark.parametrize("error", [ValueError("bad data"), PermissionError(13, "bad data")])
def test_error_of_the_builder_passes_at_once_and_leaves_nothing(error, caplog):
    calls = []

    def fail(out):
        calls.append(out)
        out.add(a=np.ones(3))
        raise error

    with pytest.raises(type(error), match="bad data"):
        cached("x", KEY, fail)
    assert len(calls) == 1 and not caplog.records
    assert folders() == []


def _start(function, *args):
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    return process


def _build_slowly(key, started, go_on):
    def slow(out):
        Build()(out)
        started.set()
        go_on.wait(60)

    cached("x", key, slow)


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
    calls = multiprocessing.get_context("fork").SimpleQueue()
    four = [_start(_log_and_build, tmp_path / f"{i}.log", calls) for i in range(4)]
    for process in four:
        process.join()
    assert [p.exitcode for p in four] == [0] * 4
    assert calls.get() == 1 and calls.empty()
    assert _said(tmp_path).count("Another program makes x-") == 3
    build = Build()
    assert_right(cached("x", KEY, build))
    assert build.calls == 0
    assert folders() == [cache_folder("x", KEY).name]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_build_removes_what_killed_ones_left_and_nothing_of_a_living_one(kind):
    context = multiprocessing.get_context("fork")
    events = [context.Event() for _ in range(4)]
    killed = _start(_build_slowly, {"i": 1}, events[0], events[3])
    living = _start(_build_slowly, {"i": 2}, events[1], events[2])
    assert events[0].wait(60) and events[1].wait(60)
    os.kill(killed.pid, kind)
    killed.join()
    names = [cache_folder("x", {"i": i}).name for i in (1, 2)]
    assert folders() == sorted(f"{name}.tmp" for name in names)
    build = Build()
    assert_right(cached("x", KEY, build))
    assert folders() == sorted([cache_folder("x", KEY).name, f"{names[1]}.tmp"])
    events[2].set()
    living.join()
    assert living.exitcode == 0
    assert_right(cached("x", {"i": 2}, build))
    assert_right(cached("x", {"i": 1}, build))
    assert build.calls == 2
