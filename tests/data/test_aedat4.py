import aedat
import lz4.frame
import numpy as np
import pytest
import zstd
from aedat4_writer import (
    RECORD,
    description,
    event_packet,
    header,
    packet,
    prefixed,
    vector,
    write_aedat4,
)  # fmt: skip
from dv import AedatFile
from tonic.io import read_aedat4 as tonic_read_aedat4
from writers import random_events

from tmkt_braincog.data.aedat4 import read_aedat4
from tmkt_braincog.errors import UserError

SENSOR = (346, 260)
EVENTS = random_events(700, seed=3, sensor_size=SENSOR, end_us=400_000)
WHOLE, TRIGGER = (0, event_packet(EVENTS)), (0, prefixed(b"TRIG", vector(0)))
PACK = {0: bytes, 1: lz4.frame.compress, 2: lz4.frame.compress, 3: zstd.compress, 4: zstd.compress}


def write(path, packets, compression=0, text=None, further=0):
    """A file of (stream, unpacked payload) whose packets end so many bytes further than they do."""
    text = description(SENSOR, ((0, "EVTS"),)) if text is None else text
    packets = b"".join(packet(stream, PACK[compression](payload)) for stream, payload in packets)
    end = len(header(text, 0)) + len(packets) + further
    path.write_bytes(header(text, end, compression) + packets)
    return path


def assert_events(path, events, sensor=SENSOR):
    read, size = read_aedat4(path)
    assert size == sensor
    types = {"x": np.int16, "y": np.int16, "t": np.int64, "p": np.uint8}
    assert {name: column.dtype for name, column in read.items()} == types
    for name, column in read.items():
        np.testing.assert_array_equal(column, events[name])


def of_dv(path):
    """The same events by the recorder's own package."""
    with AedatFile(str(path)) as file:
        packets = [p for p in file["events"].numpy()]  # list() would ask for a length
        size = file["events"].size[::-1]
    names = {"x": "x", "y": "y", "t": "timestamp", "p": "polarity"}
    return {name: np.concatenate([p[of] for p in packets]) for name, of in names.items()}, size


@pytest.mark.parametrize("per_packet", [1000, 700, 699, 64, 1])
@pytest.mark.parametrize("table", [True, False])
def test_events_come_back_in_the_order_of_the_file(tmp_path, per_packet, table):
    events = EVENTS.copy()
    events[[10, 400]] = events[[400, 10]]
    path = write_aedat4(tmp_path / "a.aedat4", events, (400, 300), per_packet, table)
    assert_events(path, events, (400, 300))
    assert_events(path, *of_dv(path))


@pytest.mark.parametrize("compression", PACK)
def test_every_compression(tmp_path, compression):
    payloads = [(0, event_packet(EVENTS[i : i + 100])) for i in range(0, 700, 100)]
    assert_events(write(tmp_path / "a.aedat4", payloads, compression), EVENTS)


def test_extreme_values(tmp_path):
    events = np.zeros(3, EVENTS.dtype)
    events["t"], events["x"], events["y"] = [0, 2**62, 16_339_536_909], [0, 32767, -1], [1, 2, 3]
    assert_events(write_aedat4(tmp_path / "a.aedat4", events), events)
    assert RECORD.itemsize == 16


def test_lowest_numbered_stream_of_events_is_read_among_others(tmp_path):
    text = description(SENSOR, ((7, "EVTS"), (4, "EVTS"), (2, "TRIG"), (12, "EVTS")))
    half = EVENTS[:350], EVENTS[350:]
    packets = [(7, half[0]), (4, half[1]), (12, half[0]), (4, half[1][:0]), (4, half[0])]
    payloads = [(stream, event_packet(part)) for stream, part in packets]
    payloads.insert(1, (2, prefixed(b"TRIG", vector(0))))
    assert_events(write(tmp_path / "a.aedat4", payloads, 1, text), np.concatenate(half[::-1]))


@pytest.mark.parametrize("table", [True, False])
def test_a_file_that_ends_early_is_never_read(tmp_path, table):
    whole = write_aedat4(tmp_path / "a.aedat4", EVENTS, per_packet=300, table=table).read_bytes()
    start = len(header(description(SENSOR, ((0, "EVTS"),)), 0))
    ends = [start + (8 + 32 + 300 * 16) * n for n in range(3)]
    end, path = len(whole) - 32 * table, tmp_path / "cut.aedat4"
    cuts = {*range(0, end, 397), *range(20), *(e + i for e in ends for i in range(-5, 20))}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        done = [n for n, e in enumerate(ends) if e <= cut < e + 4]
        if not table and done and done[0]:  # before or in a packet's first number
            assert len(read_aedat4(path)[0]["t"]) == 300 * done[0]  # nothing tells
            continue
        with pytest.raises(UserError, match=r"cut\.aedat4"):
            read_aedat4(path)
    path.write_bytes(whole[:end])
    assert_events(path, EVENTS)  # only the table is gone


def other(*streams, size=SENSOR):
    return {"text": description(size, streams)}


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: None, "No recording at"),
        (lambda p: p.mkdir(), "Cannot read .*Is a directory"),
        (lambda p: p.write_bytes(b""), "Cannot read"),
        (lambda p: p.write_bytes(b"#!AER-DAT3.1\r\n" * 9), "does not contain AEDAT4 data"),
        (lambda p: p.write_bytes(b"#!AER-DAT4.0\r\n"), "Cannot read"),
        (lambda p: write(p, [WHOLE], text="<dv>"), "Cannot read .*never closed"),
        (lambda p: write(p, [WHOLE], **other()), "no stream found"),
        (lambda p: write(p, [TRIGGER], **other((0, "TRIG"))), "holds no stream of events"),
        (lambda p: write(p, [WHOLE], **other((0, "EVTS"), size=(1 << 16, 9))), "number too large"),
        (lambda p: write(p, []), "holds no event"),
        (lambda p: write(p, [(0, event_packet(EVENTS[:0]))]), "holds no event"),
        (lambda p: write(p, [WHOLE], further=1), "Cannot read .*truncated"),
        (lambda p: write(p, [(5, WHOLE[1])]), "unknown stream id"),
        (lambda p: write(p, [(0, prefixed(b"IMUS", vector(0)))]), "identifier do not match"),
        (lambda p: write(p, [(0, prefixed(b"EVTS", vector(1 << 31) + bytes(99)))]), "Cannot read"),
        (lambda p: write(p, [(0, b"short")]), "Cannot read .*assertion failed"),
    ],
)  # fmt: skip
def test_faults_are_named(tmp_path, make, said, capfd):
    path = tmp_path / "a.aedat4"
    make(path)
    with pytest.raises(UserError, match=f"(?s){said}") as caught:
        read_aedat4(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", [MemoryError, OverflowError, KeyboardInterrupt])
def test_whatever_the_decoder_raises_but_an_interrupt_is_a_user_error(tmp_path, monkeypatch, kind):
    def fail(path):
        raise kind("no more")

    path = write_aedat4(tmp_path / "a.aedat4", EVENTS)
    monkeypatch.setattr(aedat, "Decoder", fail)
    with pytest.raises(kind if kind is KeyboardInterrupt else UserError, match="no more"):
        read_aedat4(path)


@pytest.mark.realdata
def test_real_recording_is_that_of_tonic_and_of_dv_and_its_parts_are_refused(real_data, tmp_path):
    path = real_data / "aedat4" / "davis346_a.aedat4"
    if not path.is_file():
        pytest.skip(f"no real AEDAT4 recording at {path}")
    theirs = tonic_read_aedat4(str(path))
    assert len(theirs) == 117_667
    assert_events(path, {"x": theirs["x"], "y": theirs["y"], "t": theirs["t"], "p": theirs["on"]})
    assert_events(path, of_dv(path)[0])
    whole = path.read_bytes()
    for cut in (10, 18, 3000, 3126, 3226, 80_228, 600_000, 1_189_500, 1_190_062):
        (tmp_path / "a.aedat4").write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"a\.aedat4"):
            read_aedat4(tmp_path / "a.aedat4")
