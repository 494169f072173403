"""Readers of .bin, .mat and .aedat4 files against what was written and against other readers."""

import io
import struct

import lz4.frame
import numpy as np
import pytest
import scipy.sparse
import zstd
from aedat4_writer import description, event_packet, header, packet, prefixed, vector, write_aedat4
from dv import AedatFile
from scipy.io import savemat
from standins import mat_bytes, mat_columns
from tonic.io import read_aedat4 as tonic_read_aedat4
from tonic.io import read_mnist_file
from writers import TIMER_MARK, random_events, real_recordings, structured, write_bin

from tmkt_braincog.data.events import (
    check_events,
    make_events,
    read_aedat4,
    read_bin,
    read_mat,
    shift_to_origin,
)  # fmt: skip
from tmkt_braincog.errors import UserError

TYPES = {"x": np.int16, "y": np.int16, "t": np.int64, "p": np.uint8}
SENSOR, DAVIS = (34, 34), (346, 260)
EVENTS = random_events(700, seed=3, sensor_size=DAVIS, end_us=400_000)


def assert_events(found, expected):
    assert {name: found[name].dtype for name in TYPES} == TYPES
    for name in TYPES:
        np.testing.assert_array_equal(found[name], expected[name])


def refused(read, path, said):
    with pytest.raises(UserError, match=f"(?s){said}") as caught:
        read(path)
    assert str(path) in str(caught.value)


# .bin


def by_tonic(path):
    return read_mnist_file(str(path), np.dtype([(name, int) for name in "xytp"]))


@pytest.mark.parametrize("marks", [(), (3,), (0, 10, 10, 499)])
def test_bin_is_what_was_written_and_what_tonic_reads(tmp_path, marks):
    events = random_events(500)
    events["t"] += 2**13 * 4
    path = write_bin(tmp_path / "a.bin", events, marks)
    assert_events(read_bin(path), events)
    assert_events(read_bin(path), by_tonic(path))
    events = make_events(np.array([255]), np.array([239]), np.array([2**23 - 1]), np.array([1]))
    assert_events(read_bin(write_bin(path, events)), events)


@pytest.mark.realdata
def test_real_bin_recordings_are_those_of_tonic_and_survive_in_mat_files(real_data, tmp_path):
    for path in real_recordings(real_data):
        assert_events(read_bin(path), by_tonic(path))
        (tmp_path / "a.mat").write_bytes(mat_bytes(structured(read_bin(path))))
        assert_events(read_mat(tmp_path / "a.mat"), read_bin(path))


@pytest.mark.parametrize(
    "content, said",
    [(b"", "empty"), (b"1234567", "truncated: 7 bytes"), (TIMER_MARK * 2, "only timer marks")],
)
def test_faults_of_bin_files_are_named(tmp_path, content, said):
    (tmp_path / "a.bin").write_bytes(content)
    refused(read_bin, tmp_path / "a.bin", said)
    refused(read_bin, tmp_path, "cannot be read")
    refused(read_bin, tmp_path / "gone.bin", "No recording at")


# Any events


def test_events_outside_the_sensor_absurd_times_and_no_events_are_refused():
    events = make_events(np.array([150]), np.array([5]), np.array([0]), np.array([1]))
    check_events(events, (160, 10), "ok")
    far = make_events(np.array([0, 30_000]), np.array([0, 20_000]), np.array([0, 9]), [1, 1])
    late, early = random_events(3), random_events(3)
    late["t"], early["t"] = [0, 1, 3_600_000_001], [-(2**62), 0, 2**62]
    for found, sensor, said in (
        (events, (10, 160), "1 of 1 events lie outside the 10 x 160 sensor.* x=150, y=5, p=1"),
        (random_events(0), SENSOR, "holds no event"),
        (late, SENSOR, "has times from .*microseconds"),
        (early, SENSOR, "has times from .*microseconds"),
        (*shift_to_origin(far), "is of a sensor of 30001 x 20001.*far from the"),
    ):
        refused(lambda name, e=found, s=sensor: check_events(e, s, name), "a.bin", said)
    late["t"] = [5, 6, 5 + 3_600_000_000]
    assert check_events(late, SENSOR, "a.bin")[1] == 0


def test_sorting_is_stable_and_counted_and_leaves_what_is_sorted():
    events = make_events(np.arange(5), np.zeros(5), np.array([10, 30, 20, 20, 5]), np.zeros(5))
    ordered, n = check_events(events, SENSOR, "a")
    assert n == 2 and ordered["x"].tolist() == [4, 0, 2, 3, 1]
    events = random_events(50)
    ordered, n = check_events(events, SENSOR, "a")
    assert n == 0 and ordered is events


# .mat


def mat(variables=None, **changes):
    options = {k: changes.pop(k) for k in ("do_compression", "oned_as") if k in changes}
    file = io.BytesIO()
    savemat(file, mat_columns(EVENTS) | changes if variables is None else variables, **options)
    return file.getvalue()


def read_mat_bytes(path, content):
    path.write_bytes(content)
    return read_mat(path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    "types",
    [
        (np.uint16, np.int16, np.uint32, np.int8), (np.float64,) * 4, (np.float32,) * 4,
        (np.int64, np.uint64, np.int64, np.int32),
    ],
)  # fmt: skip
def test_mat_types_shapes_compression_and_polarity_codes(tmp_path, types, compress):
    path = tmp_path / "17.mat"
    pairs = zip(mat_columns(EVENTS).items(), types, strict=True)
    found = {name: column[:, 0].astype(kind) for (name, column), kind in pairs}
    others = {"a": "text", "b": np.array([[1, "x"]], object), "d": np.eye(9), "z": np.nan}
    for oned_as in ("row", "column"):
        content = mat(others | found, do_compression=compress, oned_as=oned_as)
        assert_events(read_mat_bytes(path, content), EVENTS)
    assert_events(read_mat_bytes(path, mat(p=EVENTS["p"].astype(types[3]))), EVENTS)
    assert not read_mat_bytes(path, mat(p=np.full(700, -1.0)))["p"].any()
    assert_events(read_mat_bytes(path, mat_bytes(EVENTS[::-1], compress)), EVENTS[::-1])
    ts = EVENTS["t"] + 1_700_000_000_000_000
    assert read_mat_bytes(path, mat(ts=ts))["t"].tolist() == ts.tolist()


HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def changed(name, at, value, dtype=np.float64):
    column = mat_columns(EVENTS)[name].astype(dtype)
    column[at] = value
    return mat(**{name: column})


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "Cannot read .*MATLAB file of version 4 to 7"),
        (HEADER, "holds no numbers called x; x, y, ts, p expected"),
        (b"number,x,y\n" * 50, "Cannot read .*MATLAB file of version 4 to 7"),
        (HEADER.replace(b"\1IM", b"\2IM") + bytes(400), r"7\.3 save with save\(FILE, .*'-v7'\)"),
        (mat(x=np.zeros(699)), r"holds \[699, 700, 700, 700\] x, y, ts and p"),
        (mat(dict.fromkeys(("x", "y", "ts", "p"), np.zeros((0, 1)))), r"x of shape \(0, 1\)"),
        (mat(y=np.zeros((350, 2))), r"holds y of shape \(350, 2\).*a column"),
        (mat(ts=np.array([["a"]], object)), "holds no numbers called ts"),
        (mat(ts="abc"), "holds no numbers called ts"),
        (mat(ts=scipy.sparse.eye(4).tocsc()), "holds no numbers called ts"),
        (mat(x=np.zeros(700) * 1j), "holds no numbers called x"),
        (changed("x", 7, np.nan), r"holds x .* with 1 values such as \[nan\]; a column of whole"),
        (changed("ts", slice(5, 8), np.inf), r"holds ts .* with 3 values such as \[inf\]"),
        (changed("y", 3, 1.5), r"with 1 values such as \[1\.5\]"),
        (changed("x", 0, -1), r"such as \[-1\.\]; .* in 0\.\.32767"),
        (changed("ts", 1, 2**64 - 1, np.uint64), r"such as \[18446744073709551615\]"),
        (changed("p", 2, 2), r"holds p .* such as \[2\.\]; .* in -1\.\.1"),
        (changed("p", 2, 0), r"of the polarities \[-1\.0, 0\.0, 1\.0\]"),
    ],
)
def test_faults_of_mat_files_are_named(tmp_path, content, said):
    path = tmp_path / "17.mat"
    path.write_bytes(content)
    refused(read_mat, path, said)
    refused(read_mat, tmp_path / "gone.mat", "Cannot read")


@pytest.mark.parametrize("compress", [False, True])
def test_any_truncation_of_a_mat_file_is_noticed(tmp_path, compress):
    content, path = mat_bytes(EVENTS, compress), tmp_path / "17.mat"
    for n in sorted({*range(1, 400, 7), *range(400, len(content), 397), len(content) - 8}):
        path.write_bytes(content[:n])
        refused(read_mat, path, "Cannot read|holds no numbers")


# .aedat4

PACK = {0: bytes, 1: lz4.frame.compress, 2: lz4.frame.compress, 3: zstd.compress, 4: zstd.compress}
WHOLE, TRIGGER = (0, event_packet(EVENTS)), prefixed(b"TRIG", vector(0))


def write(path, packets, compression=0, streams=((0, "EVTS"),), further=0, text=None):
    """A file of (stream, unpacked payload) whose packets end so many bytes further than they do."""
    text = text or description(DAVIS, streams)
    packets = b"".join(packet(stream, PACK[compression](payload)) for stream, payload in packets)
    end = len(header(text, 0)) + len(packets) + further
    path.write_bytes(header(text, end, compression) + packets)
    return path


def by_dv(path):
    """The same events by the recorder's own package."""
    with AedatFile(str(path)) as file:
        packets = [p for p in file["events"].numpy()]  # list() would ask for a length
    names = {"x": "x", "y": "y", "t": "timestamp", "p": "polarity"}
    return {name: np.concatenate([p[of] for p in packets]) for name, of in names.items()}


@pytest.mark.parametrize("per_packet", [1000, 699, 64])
@pytest.mark.parametrize("table", [True, False])
def test_aedat4_events_come_back_in_the_order_of_the_file(tmp_path, per_packet, table):
    events = EVENTS.copy()
    events[[10, 400]] = events[[400, 10]]
    path = write_aedat4(tmp_path / "a.aedat4", events, (400, 300), per_packet, table)
    found, size = read_aedat4(path)
    assert size == (400, 300)
    assert_events(found, events)
    assert_events(found, by_dv(path))


@pytest.mark.parametrize("compression", PACK)
def test_every_compression_and_the_lowest_numbered_stream_of_events(tmp_path, compression):
    parts, streams = (EVENTS[:350], EVENTS[350:]), ((7, "EVTS"), (4, "EVTS"), (2, "TRIG"))
    packets = [(7, parts[1]), (4, parts[0]), (7, parts[0]), (4, parts[0][:0]), (4, parts[1])]
    payloads = [(2, TRIGGER), *((stream, event_packet(part)) for stream, part in packets)]
    path = write(tmp_path / "a.aedat4", payloads, compression, streams)
    assert_events(read_aedat4(path)[0], EVENTS)


@pytest.mark.parametrize("table", [True, False])
def test_an_aedat4_file_that_ends_early_is_never_read(tmp_path, table):
    whole = write_aedat4(tmp_path / "a.aedat4", EVENTS, per_packet=300, table=table).read_bytes()
    start = len(header(description(DAVIS, ((0, "EVTS"),)), 0))
    ends = [start + (8 + 32 + 300 * 16) * n for n in range(3)]
    end, path = len(whole) - 32 * table, tmp_path / "cut.aedat4"
    for cut in sorted({*range(0, end, 397), *(e + i for e in ends for i in range(-5, 20))}):
        path.write_bytes(whole[:cut])
        done = [n for n, e in enumerate(ends) if e <= cut < e + 4]
        if not table and done and done[0]:  # before or in a packet's first number
            assert len(read_aedat4(path)[0]["t"]) == 300 * done[0]  # nothing tells
        else:
            refused(read_aedat4, path, "")
    path.write_bytes(whole[:end])
    assert_events(read_aedat4(path)[0], EVENTS)  # only the table is gone


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: None, "Cannot read .*missing"),
        (lambda p: p.mkdir(), "Cannot read .*Is a directory"),
        (lambda p: p.write_bytes(b"#!AER-DAT3.1\r\n" * 9), "does not contain AEDAT4 data"),
        (lambda p: write(p, [WHOLE], text="<dv>"), "Cannot read .*never closed"),
        (lambda p: write(p, [(0, TRIGGER)], streams=((0, "TRIG"),)), "holds no event"),
        (lambda p: write(p, [(0, event_packet(EVENTS[:0]))]), "holds no event"),
        (lambda p: write(p, [WHOLE], further=1), "Cannot read .*truncated"),
        (lambda p: write(p, [(5, WHOLE[1])]), "unknown stream id"),
        (lambda p: write(p, [(0, prefixed(b"EVTS", vector(1 << 31) + bytes(99)))]), "Cannot read"),
        (lambda p: write(p, [(0, b"short")]), "Cannot read .*assertion failed"),
    ],
)
def test_faults_of_aedat4_files_are_named(tmp_path, make, said, capfd):
    make(tmp_path / "a.aedat4")
    refused(read_aedat4, tmp_path / "a.aedat4", said)


@pytest.mark.realdata
def test_real_aedat4_is_that_of_tonic_and_of_dv_and_its_parts_are_refused(real_data, tmp_path):
    path = real_data / "aedat4" / "davis346_a.aedat4"
    if not path.is_file():
        pytest.skip(f"no real AEDAT4 recording at {path}")
    theirs = tonic_read_aedat4(str(path))
    found, size = read_aedat4(path)
    assert len(theirs) == 117_667 and size == DAVIS
    assert_events(found, {"x": theirs["x"], "y": theirs["y"], "t": theirs["t"], "p": theirs["on"]})
    assert_events(found, by_dv(path))
    whole = path.read_bytes()
    for cut in (10, 3000, 3126, 80_228, 600_000, 1_189_500, 1_190_062):
        (tmp_path / "a.aedat4").write_bytes(whole[:cut])
        refused(read_aedat4, tmp_path / "a.aedat4", "")
