import io
import struct

import numpy as np
import pytest
import scipy.sparse
from scipy.io import savemat
from standin_cepdvs import columns, mat_bytes
from writers import random_events, structured

from tmkt_braincog.data.events import read_bin
from tmkt_braincog.data.mat import VARIABLES, read_mat
from tmkt_braincog.errors import UserError

N = 200
EVENTS = random_events(N, seed=3, sensor_size=(346, 260))
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
TYPES = {
    "narrow": {"x": np.uint16, "y": np.int16, "ts": np.uint32, "p": np.int8},
    "double": dict.fromkeys(VARIABLES, np.float64),
    "single": dict.fromkeys(VARIABLES, np.float32),
    "wide": {"x": np.int64, "y": np.uint64, "ts": np.int64, "p": np.int32},
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "17.mat"


def packed(variables, **options):
    file = io.BytesIO()
    savemat(file, variables, **options)
    return file.getvalue()


def plain(**changes):
    """The four columns of the events, some of them changed."""
    return {**columns(EVENTS), **changes}


def read_bytes(path, content):
    path.write_bytes(content)
    return read_mat(path)


def refused(path, content, said):
    with pytest.raises(UserError, match=f"(?s){said}") as error:
        read_bytes(path, content)
    assert str(path) in str(error.value)


def assert_equal(found, events):
    types = {"x": np.int16, "y": np.int16, "t": np.int64, "p": np.uint8}
    assert {c: found[c].dtype for c in "xytp"} == types
    for c in "xytp":
        np.testing.assert_array_equal(found[c], events[c])


@pytest.mark.parametrize("oned_as", ["row", "column"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("types", TYPES)
def test_types_shapes_and_compression(path, types, compress, oned_as):
    variables = {name: c[:, 0].astype(TYPES[types][name]) for name, c in columns(EVENTS).items()}
    content = packed(variables, do_compression=compress, oned_as=oned_as)
    assert_equal(read_bytes(path, content), EVENTS)


@pytest.mark.parametrize("dtype", [np.int8, np.float64, bool])
def test_polarity_codes(path, dtype):
    for low in (0,) if dtype is bool else (-1, 0):
        p = np.where(EVENTS["p"], 1, low).astype(dtype)
        assert_equal(read_bytes(path, packed(plain(p=p))), EVENTS)
        only = np.full(N, low, dtype)
        assert set(read_bytes(path, packed(plain(p=only)))["p"].tolist()) == {0}


def test_one_event_the_order_of_the_file_and_other_variables(path):
    one = random_events(1, seed=1)
    for compress in (False, True):
        assert_equal(read_bytes(path, mat_bytes(one, compress)), one)
    shuffled = EVENTS[np.random.default_rng(0).permutation(N)]
    assert_equal(read_bytes(path, mat_bytes(shuffled)), shuffled)
    others = {
        "a": "text", "b": np.array([[1, "x"]], object), "c": {"x": 1}, "d": np.eye(9),
        "f": scipy.sparse.eye(4).tocsc(), "g": np.zeros((0, 0)), "long_name_of_a_variable": 1,
    }  # fmt: skip
    assert_equal(read_bytes(path, packed({**others, **plain(), "z": np.nan})), EVENTS)


@pytest.mark.parametrize("shift", [1_700_000_000_000_000, -(10**6)])
def test_times_need_not_begin_at_zero(path, shift):
    ts = EVENTS["t"] + shift
    np.testing.assert_array_equal(read_bytes(path, packed(plain(ts=ts)))["t"], ts)


def changed(name, at, value, dtype=np.float64):
    column = columns(EVENTS)[name].astype(dtype)
    column[at] = value
    return packed(plain(**{name: column}))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", r"Cannot read .*17\.mat.*MATLAB file of version 4 to 7"),
        (HEADER, r"holds no numbers called x; x, y, ts, p expected"),
        (b"number,x,y\n" * 50, r"Cannot read .*MATLAB file of version 4 to 7"),
        (HEADER.replace(b"\1IM", b"\2IM") + bytes(400), r"7\.3 save with save\(FILE, .*'-v7'\)"),
        (packed({"x": 1, "t": 2}), r"holds no numbers called y"),
        (packed(plain(x=np.zeros(N - 1))), rf"holds {N - 1} x, {N} y, {N} ts and {N} p"),
        (packed(dict.fromkeys(VARIABLES, np.zeros((0, 1)))), r"holds x of shape \(0, 1\)"),
        (packed(plain(y=np.zeros((N // 2, 2)))), rf"holds y of shape \({N // 2}, 2\).*a column"),
        (packed(plain(ts=np.array([["a"]], object))), r"holds no numbers called ts"),
        (packed(plain(ts={"a": 1})), r"holds no numbers called ts"),
        (packed(plain(ts="abc")), r"holds no numbers called ts"),
        (packed(plain(ts=scipy.sparse.eye(4).tocsc())), r"holds no numbers called ts"),
        (packed(plain(x=np.zeros(N) * 1j)), r"holds no numbers called x"),
        (changed("x", 7, np.nan), r"holds x .* with 1 values such as \[nan\]; a column of whole"),
        (changed("ts", slice(5, 8), np.inf), r"holds ts .* with 3 values such as \[inf\]"),
        (changed("y", 3, 1.5), r"with 1 values such as \[1\.5\]"),
        (changed("x", 0, -1), r"such as \[-1\.\]; .* in 0\.\.32767"),
        (changed("y", 9, 32768), r"such as \[32768\.\]"),
        (changed("ts", 1, 2.0**63), r"such as \[9\.2\d+e\+18\]"),
        (changed("ts", 1, 2**64 - 1, np.uint64), r"such as \[18446744073709551615\]"),
        (changed("ts", 1, -(2**63), np.int64), r"such as \[-9223372036854775808\]"),
        (changed("p", 2, 2), r"holds p .* such as \[2\.\]; .* in -1\.\.1"),
        (changed("p", 2, 0), r"of the polarities \[-1\.0, 0\.0, 1\.0\]"),
    ],
)  # fmt: skip
def test_faults_are_named(path, content, said):
    refused(path, content, said)


def test_missing_file_and_folder(path):
    with pytest.raises(UserError, match=r"No recording at .*17\.mat"):
        read_mat(path)
    with pytest.raises(UserError, match=r"Cannot read .*[Dd]irectory"):
        read_mat(path.parent)


@pytest.mark.parametrize("compress", [False, True])
def test_any_truncation_is_noticed(path, compress):
    content = mat_bytes(EVENTS, compress)
    for n in sorted({*range(1, 400, 7), *range(400, len(content), 97), len(content) - 1}):
        refused(path, content[:n], "Cannot read|holds no numbers")


def test_flipped_bits_of_packed_data_are_noticed(path):
    content, rng = mat_bytes(EVENTS), np.random.default_rng(0)
    for at in rng.choice(np.arange(136, len(content)), 150, replace=False):
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        try:
            found = read_bytes(path, bytes(flipped))
        except UserError:
            continue
        assert_equal(found, EVENTS)  # a bit that zlib does not use


@pytest.mark.realdata
def test_real_events_in_this_schema(real_data, path):
    """Real N-MNIST recordings; no real file of CEP-DVS could be had."""
    for source in sorted((real_data / "NMNIST" / "Train").glob("*/*.bin"))[::100]:
        events = structured(read_bin(source))
        assert_equal(read_bytes(path, mat_bytes(events)), events)
