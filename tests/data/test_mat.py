import io
import random
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.sparse
from scipy.io import loadmat, savemat
from standin_cepdvs import columns, mat_bytes
from writers import random_events, structured

from tmkt_braincog.data import mat
from tmkt_braincog.data.events import read_bin
from tmkt_braincog.data.mat import MAX_EVENTS, read_mat
from tmkt_braincog.errors import UserError

N = 200
EVENTS = random_events(N, seed=3, sensor_size=(346, 260))
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
TYPES = {
    "narrow": {"x": np.uint16, "y": np.int16, "ts": np.uint32, "p": np.int8},
    "double": dict.fromkeys(mat.VARIABLES, np.float64),
    "single": {"x": np.float32, "y": np.float32, "ts": np.float32, "p": np.float32},
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
    with pytest.raises(UserError, match=said) as error:
        read_bytes(path, content)
    assert str(error.value).count(str(path)) == 1
    return error


def assert_equal(found, events):
    assert {c: found[c].dtype for c in "xytp"} == {
        "x": np.int16,
        "y": np.int16,
        "t": np.int64,
        "p": np.uint8,
    }
    for c in "xytp":
        np.testing.assert_array_equal(found[c], events[c])


@pytest.mark.parametrize("oned_as", ["row", "column"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("types", TYPES)
def test_types_shapes_and_compression(path, types, compress, oned_as):
    variables = {name: c[:, 0].astype(TYPES[types][name]) for name, c in columns(EVENTS).items()}
    content = packed(variables, do_compression=compress, oned_as=oned_as)
    assert_equal(read_bytes(path, content), EVENTS)
    for name, column in loadmat(io.BytesIO(content), variable_names=mat.VARIABLES).items():
        if name in mat.VARIABLES:
            assert column.shape == ((1, N) if oned_as == "row" else (N, 1))


@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize("dtype", [np.int8, np.float64, bool])
def test_polarity_codes(path, low, dtype):
    if low < 0 and dtype is bool:
        return
    p = np.where(EVENTS["p"], 1, low).astype(dtype)
    assert_equal(read_bytes(path, packed(plain(p=p))), EVENTS)


@pytest.mark.parametrize("code, expected", [(1, 1), (0, 0), (-1, 0)])
def test_one_polarity_is_enough(path, code, expected):
    assert set(read_bytes(path, packed(plain(p=np.full(N, code))))["p"].tolist()) == {expected}


def test_numbers_stored_in_a_smaller_type_and_in_the_other_byte_order(path):
    """As MATLAB does with its doubles, and as it wrote files on other machines."""
    for order in "<>":
        content = HEADER if order == "<" else HEADER[:124] + struct.pack(">H", 0x0100) + b"MI"
        for name, dtype in (("x", "u2"), ("y", "i2"), ("ts", "u4"), ("p", "i1")):
            content += element(name, columns(EVENTS)[name].astype(order + dtype), order)
        path.write_bytes(content)
        for name, column in columns(EVENTS).items():
            np.testing.assert_array_equal(loadmat(path)[name], column)
        assert_equal(read_mat(path), EVENTS)


def element(name, array, order="<", kind=6, claims=None, number_type=None, shape=None):
    """One variable that is not packed, double unless told otherwise."""
    types = {"u1": 2, "i1": 1, "u2": 4, "i2": 3, "u4": 6, "f8": 9}
    data = array.tobytes()
    number_type = number_type or types[array.dtype.str[1:]]
    claims = len(data) if claims is None else claims
    shape = shape or (array.size, 1)
    body = struct.pack(f"{order}IIII", 6, 8, kind, 0)
    body += struct.pack(f"{order}II{len(shape)}i", 5, 4 * len(shape), *shape) + bytes(
        -4 * len(shape) % 8
    )
    if len(name) <= 4:  # the short form
        first = struct.pack(f"{order}I", len(name) << 16 | 1)
        body += first + name.encode().ljust(4, b"\0")
    else:
        body += struct.pack(f"{order}II", 1, len(name)) + name.encode() + bytes(-len(name) % 8)
    body += struct.pack(f"{order}II", number_type, claims) + data + bytes(-len(data) % 8)
    return struct.pack(f"{order}II", 14, len(body)) + body


def test_single_event(path):
    one = random_events(1, seed=1)
    for compress in (False, True):  # uncompressed, the numbers stand in their own tags
        assert_equal(read_bytes(path, mat_bytes(one, compress)), one)


def test_other_variables_are_passed_over(path):
    others = {
        "a": "text", "b": np.array([[1, "x"]], object), "c": {"x": 1}, "d": np.eye(9), "e": np.eye(3) * 1j,
        "f": scipy.sparse.eye(4).tocsc(), "g": np.zeros((0, 0)), "long_name_of_a_variable": 1,
    }  # fmt: skip
    for compress in (False, True):
        content = packed({**others, **plain(), "z": np.nan}, do_compression=compress)
        assert_equal(read_bytes(path, content), EVENTS)


def test_order_of_the_file_is_kept(path):
    shuffled = EVENTS[np.random.default_rng(0).permutation(N)]
    assert_equal(read_bytes(path, mat_bytes(shuffled)), shuffled)


def test_times_need_not_begin_at_zero(path):
    ts = EVENTS["t"] + 1_700_000_000_000_000
    np.testing.assert_array_equal(read_bytes(path, packed(plain(ts=ts)))["t"], ts)
    np.testing.assert_array_equal(
        read_bytes(path, packed(plain(ts=EVENTS["t"] - 10**6)))["t"], EVENTS["t"] - 10**6
    )


def changed(name, at, value, dtype=np.float64):
    column = columns(EVENTS)[name].astype(dtype)
    column[at] = value
    return packed(plain(**{name: column}))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", r"17\.mat is empty \(0 bytes\)"),
        (HEADER, r"holds no variable; x, y, ts, p"),
        (HEADER[:100], r"is not a MATLAB file of version 5 to 7"),
        (b"number,x,y\n" * 50, r"is not a MATLAB file of version 5 to 7"),
        (packed(plain(), format="4"), r"is not a MATLAB file of version 5 to 7.*'-v7'"),
        (b"MATLAB 7.3 MAT-file".ljust(512), r"version 7\.3 \(HDF5\).*save\(FILE, .*'-v7'\)"),
        (b"\x89HDF\r\n\x1a\n".ljust(512), r"version 7\.3 \(HDF5\)"),
        (packed({"x": 1, "t": 2}), r"holds x, t; x, y, ts, p, once each, were expected"),
        (packed(plain()) + element("x", np.zeros(N)), r"holds x, y, ts, p, x; .*once each"),
        (packed(plain(x=np.zeros(N - 1))), rf"holds {N - 1} x, {N} y, {N} ts, {N} p; one of each"),
        (packed({name: np.zeros((0, 1)) for name in mat.VARIABLES}), r"holds 0 events"),
        (packed(plain(y=np.zeros((N // 2, 2)))), rf"holds y as numbers, {N // 2} x 2; one column or row"),
        (packed(plain(y=np.zeros((2, N // 2, 1)))), rf"holds y as numbers, 2 x {N // 2} x 1"),
        (packed(plain(ts=np.array([["a"]], object))), r"holds ts as a cell array"),
        (packed(plain(ts={"a": 1})), r"holds ts as a struct"),
        (packed(plain(ts="abc")), r"holds ts as text"),
        (packed(plain(ts=scipy.sparse.eye(4).tocsc())), r"holds ts as a sparse matrix"),
        (packed(plain(x=np.zeros(N) * 1j)), r"holds x as complex numbers"),
        (changed("x", 7, np.nan), r"has x = nan at event 7 \(and 0 more such\); whole numbers"),
        (changed("ts", slice(5, 8), np.inf), r"has ts = inf at event 5 \(and 2 more such\)"),
        (changed("y", 3, 1.5), r"has y = 1\.5 at event 3"),
        (changed("x", 0, -1), r"has x = -1 at event 0 .*pixels in 0\.\.32767"),
        (changed("y", 9, 32768), r"has y = 32768 at event 9"),
        (changed("ts", 1, 2.0**63), r"has ts = 9\.2\d+e\+18 at event 1"),
        (changed("ts", 1, 2**64 - 1, np.uint64), r"has ts = 18446744073709551615 at event 1"),
        (changed("ts", 1, -(2**63), np.int64), r"has ts = -9223372036854775808 at event 1"),
        (changed("ts", 0, -3.6e9), r"has ts from -3600000000 to .*at most an hour.*microseconds"),
        (changed("p", 2, 2), r"has the polarities -1, 1, 2; 0 and 1 or -1 and 1"),
        (changed("p", 2, 0), r"has the polarities -1, 0, 1;"),
        (packed(plain(p=np.arange(N))), r"has the polarities 0, 1, 2, 3, 4 and 195 more;"),
    ],
)  # fmt: skip
def test_faults_are_named(path, content, said):
    refused(path, content, said)


def test_missing_file_and_folder(path):
    with pytest.raises(UserError, match=r"No recording at .*17\.mat"):
        read_mat(path)
    with pytest.raises(UserError, match=r"Cannot read .*: .*[Dd]irectory"):
        read_mat(path.parent)


@pytest.mark.parametrize("compress", [False, True])
def test_any_truncation_is_noticed(path, compress):
    content = mat_bytes(EVENTS, compress)
    for n in sorted({*range(1, 400, 7), *range(400, len(content), 97), len(content) - 1}):
        refused(
            path, content[:n], "truncated|damaged|not a MATLAB file|holds no variable|once each"
        )


def test_any_flipped_bit_of_packed_data_is_noticed(path):
    content = bytearray(mat_bytes(EVENTS))
    rng = random.Random(0)
    for at in rng.sample(range(136, len(content)), 150):
        flipped = bytearray(content)
        flipped[at] ^= 1 << rng.randrange(8)
        try:
            found = read_bytes(path, bytes(flipped))
        except UserError:
            continue
        assert_equal(found, EVENTS)  # a bit that zlib does not use


def as_packed(content, end=b""):
    data = zlib.compress(content + end)
    return struct.pack("<II", 15, len(data)) + data


@pytest.mark.parametrize(
    "bad, said",
    [
        (element("x", np.zeros(N), shape=(2**31 - 1, 1)), rf"holds {2**31 - 1} events; 1 to {MAX_EVENTS}"),
        (element("x", np.zeros(N), shape=(2**31 - 1,) * 3), r"holds x as numbers"),
        (element("x", np.zeros(N), shape=(-5, 1)), r"holds -5 events"),
        (element("x", np.zeros(N), claims=2**32 - 1), r"a part claims 4294967295 bytes, 1600 or less"),
        (element("x", np.zeros(N), claims=800), r"x has 800 bytes of type 9 for 200 numbers"),
        (element("x", np.zeros(N), number_type=15), r"x has 1600 bytes of type 15"),
        (element("x" * 1000, np.zeros(N)), r"a part claims 1000 bytes, 256 or less"),
        (struct.pack("<II", 14, 2**32 - 1), r"truncated"),
        (struct.pack("<II", 15, 8) + b"12345678", r"damaged"),
        (struct.pack("<II", 9, 8) + bytes(8), r"an element of type 9"),
        (as_packed(element("x", np.zeros(N)), end=bytes(10**7)), r"does not end where it should"),
        (as_packed(element("x", np.zeros(N)))[:-4] + b"sum?", r"damaged"),
    ],
)  # fmt: skip
def test_lies_of_the_container_are_noticed(path, bad, said):
    refused(path, HEADER + bad, said)
    refused(path, packed(plain()) + bad, said)


@pytest.mark.parametrize("where, most_mib", [("name", 1), ("numbers", 400), ("other", 1)])
def test_memory_is_bounded_for_files_that_unpack_to_gigabytes(path, where, most_mib):
    start = element("x", np.zeros(0), shape=(MAX_EVENTS, 1), claims=8 * MAX_EVENTS, number_type=9)
    if where == "name":
        start = start[:40] + struct.pack("<II", 1, 2**31)
    if where == "other":
        start = start.replace(b"x", b"q")
    stream = zlib.compressobj()
    head = stream.compress(start) + stream.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block stands for itself, so one MiB of zeros can be repeated.
    content = head + (stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)) * (4 << 10)
    path.write_bytes(HEADER + struct.pack("<II", 15, len(content)) + content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"damaged|once each"):
            read_mat(path)
        assert tracemalloc.get_traced_memory()[1] < most_mib << 20
    finally:
        tracemalloc.stop()


def mutated(rng, content):
    """One of: a bit, some bytes, a cut, an absurd word, repeated or new bytes."""
    data, at = bytearray(content), rng.randrange(len(content))
    match rng.randrange(6):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            for _ in range(rng.randrange(2, 30)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        case 2:
            del data[at:]
        case 3:
            # Mostly where the tags are: behind the header.
            at = at // 4 * 4 if rng.random() < 0.3 else 128 + 4 * rng.randrange(20)
            word = rng.choice(
                [0, 1, 9, 14, 15, 2**30, 2**31, 2**32 - 1, MAX_EVENTS, rng.randrange(2**32)]
            )
            data[at : at + 4] = struct.pack("<I", word)
        case 4:
            data[at:at] = data[at : at + rng.randrange(1, 200)]
        case 5:
            data[at:at] = rng.randbytes(rng.randrange(1, 50))
    return bytes(data)


def repacked(rng, content):
    """The first variable mutated before it is packed, so that the checksum is right."""
    size = struct.unpack("<I", content[132:136])[0]
    inner = HEADER + content[128 : 136 + size]
    return HEADER + as_packed(mutated(rng, inner)[128:]) + content[136 + size :]


def test_mutated_files_give_events_or_one_message_fast(path):
    rng = random.Random(7)
    seeds = [mat_bytes(EVENTS, False), mat_bytes(EVENTS), packed(plain(a={"b": 1}), oned_as="row")]
    outcomes = {"read": 0, "refused": 0}
    for i in range(600):
        content = repacked(rng, seeds[0]) if i % 3 == 0 else mutated(rng, rng.choice(seeds))
        path.write_bytes(content)
        begin = time.process_time()
        try:
            events = read_mat(path)
        except UserError as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
        else:
            assert len({len(events[c]) for c in "xytp"}) == 1 and set(events["p"].tolist()) <= {
                0,
                1,
            }
            assert events["x"].min() >= 0 and events["y"].min() >= 0
            outcomes["read"] += 1
        assert time.process_time() - begin < 1
    assert min(outcomes.values()) > 20, outcomes


@pytest.mark.realdata
def test_real_events_in_this_schema(real_data, path):
    """Real N-MNIST recordings; no real file of CEP-DVS could be had."""
    for source in sorted((real_data / "NMNIST" / "Train").glob("*/*.bin"))[::100]:
        events = structured(read_bin(source))
        assert_equal(read_bytes(path, mat_bytes(events)), events)
