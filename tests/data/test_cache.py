import json
import logging
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from tmkt_braincog.data import cache
from tmkt_braincog.data.cache import ARRAYS_FILE, MANIFEST_FILE, cache_folder, cached

KEY = {"steps": 3, "files": "abc"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_unwritable", set())


class Build:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.arange(1000, dtype=np.int16).reshape(10, 100), "b": np.array([True, False])}


def assert_right(arrays):
    assert set(arrays) == {"a", "b"}
    for name, expected in Build()().items():
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


def test_second_call_does_not_build():
    build = Build()
    assert_right(cached("x", KEY, build))
    assert_right(cached("x", dict(reversed(KEY.items())), build))
    assert build.calls == 1


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
    assert manifest["arrays"] == {"a": "int16 [10, 100]", "b": "bool [2]"}


def truncate(data):
    return data[: len(data) // 2]


def flip(data):
    middle = data.index(np.arange(500, 510, dtype=np.int16).tobytes())
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip, lambda d: b"", lambda d: b"no zip file"])
def test_damaged_file_is_rebuilt_with_one_warning(damage, caplog):
    build = Build()
    cached("x", KEY, build)
    path = cache_folder("x", KEY) / ARRAYS_FILE
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        assert_right(cached("x", KEY, build))
    assert build.calls == 2
    assert len(caplog.records) == 1
    assert "damaged" in caplog.text


def test_unwritable_cache_warns_once_and_goes_on(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("in the way of the folder")
    monkeypatch.setenv("TMKT_CACHE", str(tmp_path / "file"))
    for steps in (1, 2):
        assert_right(cached("x", {"steps": steps}, Build()))
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "Cannot write the cache" in caplog.text


def test_full_disk_leaves_nothing(monkeypatch, caplog):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_right(cached("x", KEY, Build()))
    assert "No space left" in caplog.text
    assert [p.name for p in cache_folder("x", KEY).iterdir()] == [MANIFEST_FILE]


def test_error_of_the_builder_passes_and_leaves_nothing():
    def fail():
        raise ValueError("bad data")

    with pytest.raises(ValueError, match="bad data"):
        cached("x", KEY, fail)
    assert not cache_folder("x", KEY).exists()


def _write_slowly(started):
    real = np.savez

    def slow(file, **arrays):
        real(file, **arrays)
        file.flush()
        started.set()
        time.sleep(60)

    np.savez = slow
    cached("x", KEY, Build())


def test_killed_build_leaves_nothing_valid():
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=_write_slowly, args=(started,))
    process.start()
    assert started.wait(20)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (cache_folder("x", KEY) / ARRAYS_FILE).exists()
    build = Build()
    assert_right(cached("x", KEY, build))
    assert build.calls == 1


def test_only_old_leftovers_are_removed():
    folder = cache_folder("x", KEY)
    folder.mkdir(parents=True)
    old, young = folder / "old.tmp", folder / "young.tmp"
    old.touch()
    young.touch()
    os.utime(old, (0, 0))
    cached("x", KEY, Build())
    assert young.exists()
    assert not old.exists()
