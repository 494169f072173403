import json
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tmkt_braincog.data import cache
from tmkt_braincog.data.cache import MANIFEST_FILE, cache_folder, cached

KEY = {"steps": 3, "files": "abc"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_unwritable", set())


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
    return sorted(p.name for p in cache_folder("x", KEY).parent.iterdir())


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
    entry = manifest["arrays"]["a"]
    assert (entry["dtype"], entry["shape"], entry["file"]) == ("int16", [10, 100], "a.npy")


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


def test_unwritable_cache_warns_once_and_goes_on(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way of the folder")
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "file"))
    for steps in (1, 2):
        assert_right(cached("x", {"steps": steps}, Build()))
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "Cannot write the cache" in caplog.text


def test_full_disk_leaves_nothing_and_the_arrays_are_made_in_memory(monkeypatch, caplog):
    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    assert_right(cached("x", KEY, Build()))
    assert "No space left" in caplog.text
    assert folders() == []


def test_error_of_the_builder_passes_and_leaves_nothing():
    def fail(out):
        out.add(a=np.ones(3))
        raise ValueError("bad data")

    with pytest.raises(ValueError, match="bad data"):
        cached("x", KEY, fail)
    assert folders() == []


def _build_slowly(started):
    def slow(out):
        Build()(out)
        started.set()
        time.sleep(60)

    cached("x", KEY, slow)


def test_killed_build_leaves_nothing_valid():
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=_build_slowly, args=(started,))
    process.start()
    assert started.wait(20)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not cache_folder("x", KEY).exists()
    build = Build()
    assert_right(cached("x", KEY, build))
    assert build.calls == 1


def test_builds_at_the_same_time_agree():
    def other_was_faster(out):
        Build()(out)
        cached("x", KEY, Build())

    assert_right(cached("x", KEY, other_was_faster))
    build = Build()
    assert_right(cached("x", KEY, build))
    assert build.calls == 0
    assert folders() == [cache_folder("x", KEY).name]


def _build(n, barrier):
    def build(out):
        barrier.wait(20)
        Build()(out)

    for i in range(n):
        assert_right(cached("x", {"i": i}, build))


def test_two_processes_build_the_same_things():
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=_build, args=(20, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [p.exitcode for p in both] == [0, 0]
    for i in range(20):
        build = Build()
        assert_right(cached("x", {"i": i}, build))
        assert build.calls == 0


def test_leftovers_of_killed_builds_go_after_a_day():
    root = cache_folder("x", KEY).parent
    old, young = root / "old.tmp", root / "young.tmp"
    for folder in (old, young):
        folder.mkdir(parents=True)
        Path(folder, "a.npy").write_bytes(b"x")
    os.utime(old, (0, 0))
    cached("x", KEY, Build())
    assert young.exists()
    assert not old.exists()
