import random
import resource
import struct

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
)
from dv import AedatFile
from tonic.io import read_aedat4 as tonic_read_aedat4
from writers import random_events

from tmkt_braincog.data import aedat4
from tmkt_braincog.data.aedat4 import read_aedat4, unpacked_bound
from tmkt_braincog.errors import UserError

SENSOR = (346, 260)
EVENTS = random_events(700, seed=3, sensor_size=SENSOR, end_us=400_000)
PACK = {0: bytes, 1: lz4.frame.compress, 2: lz4.frame.compress, 3: zstd.compress, 4: zstd.compress}
UNPACK = {1: lz4.frame.decompress, 3: zstd.decompress}


def write(path, packets, compression=0, text=None, position=None):
    """A file of (stream, unpacked payload)."""
    text = description(SENSOR, ((0, "EVTS"),)) if text is None else text
    packets = b"".join(packet(stream, PACK[compression](payload)) for stream, payload in packets)
    end = len(header(text, 0)) + len(packets)
    path.write_bytes(
        header(text, end if position is None else position(end), compression) + packets
    )
    return path


def assert_events(path, events, sensor=SENSOR):
    read, size = read_aedat4(path)
    assert size == sensor
    assert {name: column.dtype for name, column in read.items()} == {
        "x": np.int16,
        "y": np.int16,
        "t": np.int64,
        "p": np.uint8,
    }
    for name, column in read.items():
        np.testing.assert_array_equal(column, events[name])


def of_dv(path):
    """The same events by the recorder's own package."""
    with AedatFile(str(path)) as file:
        packets = [p for p in file["events"].numpy()]  # list() would ask for a length
        size = file["events"].size
    names = {"x": "x", "y": "y", "t": "timestamp", "p": "polarity"}
    return {name: np.concatenate([p[of] for p in packets]) for name, of in names.items()}, size[
        ::-1
    ]


@pytest.mark.parametrize("per_packet", [1000, 700, 699, 64, 1])
@pytest.mark.parametrize("table", [True, False])
def test_events_come_back_in_the_order_of_the_file(tmp_path, per_packet, table):
    events = EVENTS.copy()
    events[[10, 400]] = events[[400, 10]]
    path = write_aedat4(tmp_path / "a.aedat4", events, (400, 300), per_packet, table)
    assert_events(path, events, (400, 300))
    theirs, size = of_dv(path)
    assert size == (400, 300)
    for name in "xytp":
        np.testing.assert_array_equal(theirs[name], events[name])


@pytest.mark.parametrize("compression", PACK)
def test_every_compression(tmp_path, compression):
    payloads = [(0, event_packet(EVENTS[i : i + 100])) for i in range(0, 700, 100)]
    assert_events(write(tmp_path / "a.aedat4", payloads, compression), EVENTS)


def test_extreme_values(tmp_path):
    events = np.zeros(3, EVENTS.dtype)
    events["t"], events["x"], events["y"] = (
        [0, 2**62, 1_633_953_690_975_950],
        [0, 32767, -1],
        [1, 2, 3],
    )
    assert_events(write_aedat4(tmp_path / "a.aedat4", events), events)


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
    text = header(description(SENSOR, ((0, "EVTS"),)), 0)
    ends = [len(text) + (8 + 32 + 300 * 16) * n for n in range(3)]
    end = len(whole) - 32 * table
    cuts = {
        *range(0, len(whole), 97),
        *range(len(text) + 12),
        *(e + i for e in ends for i in range(-5, 20)),
    }
    for cut in sorted(c for c in cuts if c < end):
        path = tmp_path / "cut.aedat4"
        path.write_bytes(whole[:cut])
        if not table and cut in ends[1:]:
            assert len(read_aedat4(path)[0]["t"]) == 300 * ends.index(cut)  # nothing tells
            continue
        with pytest.raises(UserError, match=r"cut\.aedat4"):
            read_aedat4(path)
    path.write_bytes(whole[:end])
    assert_events(path, EVENTS)  # only the table is gone


def deep_xml(levels):
    return description(SENSOR, ((0, "EVTS"),)).replace(
        "</dv>", "<a>" * levels + "</a>" * levels + "</dv>"
    )


WHOLE = (0, event_packet(EVENTS))


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda p: None, "No recording at"),
        (lambda p: p.mkdir(), "Cannot read .*Is a directory"),
        (lambda p: p.write_bytes(b""), "is no AEDAT4 file: it begins with b''"),
        (lambda p: p.write_bytes(b"#!AER-DAT3.1\r\n" * 9), "is no AEDAT4 file: it begins with b'#!AER-DAT3.1"),
        (lambda p: p.write_bytes(b"#!AER-DAT4.0\r\n"), "its header cannot be read"),
        (lambda p: p.write_bytes(b"#!AER-DAT4.0\r\n" + b"\xff" * 99), "its header has 4294967295 bytes"),
        (lambda p: write(p, [WHOLE], text=deep_xml(9000)), "its header has 63[0-9]* bytes, more than 32768"),
        (lambda p: write(p, [WHOLE], text="<dv>"), "Cannot read .*never closed"),
        (lambda p: write(p, [WHOLE], text=description(SENSOR, ())), "no stream found"),
        (lambda p: write(p, [WHOLE], text=description(SENSOR, ((0, "TRIG"),))), "has no stream of events"),
        (lambda p: write(p, [WHOLE], text=description((1 << 16, 260), ((0, "EVTS"),))), "number too large"),
        (lambda p: write(p, []), "holds no event"),
        (lambda p: write(p, [(0, event_packet(EVENTS[:0]))]), "holds no event"),
        (lambda p: write(p, [WHOLE], position=lambda end: end + 1), r"it ends after \d+ bytes, of \d+ or more"),
        (lambda p: write(p, [WHOLE], position=lambda end: end - 1), r"packet at byte \d+ does not end"),
        (lambda p: write(p, [WHOLE], position=lambda end: 90), r"packets begin at byte \d+, but should end at 90"),
        (lambda p: write(p, [WHOLE], position=lambda end: -2), "should end at -2"),
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


@pytest.mark.parametrize("kind", [MemoryError, OSError, OverflowError])
def test_whatever_the_decoder_raises_is_a_user_error(tmp_path, monkeypatch, kind):
    def fail(path):
        raise kind("no more")

    path = write_aedat4(tmp_path / "a.aedat4", EVENTS)
    monkeypatch.setattr(aedat, "Decoder", fail)
    with pytest.raises(UserError, match=r"Cannot read .*a\.aedat4: no more"):
        read_aedat4(path)


def test_an_interrupt_is_none(tmp_path, monkeypatch):
    def interrupt(path):
        raise KeyboardInterrupt

    path = write_aedat4(tmp_path / "a.aedat4", EVENTS)
    monkeypatch.setattr(aedat, "Decoder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_aedat4(path)


@pytest.mark.parametrize("compression", UNPACK)
def test_bound_is_above_the_unpacked_size_and_not_far(compression):
    rng = np.random.default_rng(0)
    for n in (0, 1, 1000, 70_000, 700_000):
        for payload in (bytes(n), rng.bytes(n)):
            packed = PACK[compression](payload)
            bound = unpacked_bound(packed, compression)
            assert len(UNPACK[compression](packed)) == n <= bound <= 2 * n + (1 << 18)


def test_bound_with_optional_fields_and_many_frames():
    data = bytes(300_000)
    for size in (lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX4MB):
        for flag in (True, False):
            packed = lz4.frame.compress(
                data, block_size=size, content_checksum=flag, block_checksum=flag, store_size=flag
            )
            assert 300_000 <= unpacked_bound(packed, 1) <= 1 << 22
    assert unpacked_bound(zstd.compress(data) * 3, 3) >= 900_000


@pytest.mark.parametrize("compression", UNPACK)
@pytest.mark.parametrize("payload", [b"", b"x", b"no frame, no frame", bytes(100)])
def test_what_is_no_frame_is_refused(tmp_path, compression, payload, capfd):
    text = description(SENSOR, ((0, "EVTS"),))
    path = tmp_path / "a.aedat4"
    start = len(header(text, 0))
    path.write_bytes(header(text, start + 8 + len(payload), compression) + packet(0, payload))
    with pytest.raises(UserError, match=r"a\.aedat4"):
        read_aedat4(path)


@pytest.mark.parametrize("compression", UNPACK)
def test_a_packet_that_unpacks_to_too_much_is_not_unpacked(tmp_path, compression, monkeypatch):
    bomb = PACK[compression](bytes(400 << 20))
    assert len(bomb) < 2 << 20
    path = write(tmp_path / "a.aedat4", [WHOLE], compression)
    monkeypatch.setitem(PACK, compression, lambda payload: bomb)
    monkeypatch.setattr(aedat, "Decoder", None)
    with pytest.raises(UserError, match="a packet unpacks to more than 256 MiB"):
        read_aedat4(write(path, [WHOLE], compression))


def test_more_events_than_a_recording_can_have_are_refused(tmp_path, monkeypatch):
    path = write_aedat4(tmp_path / "a.aedat4", EVENTS, per_packet=100)
    monkeypatch.setattr(aedat4, "MAX_EVENTS", 700)
    assert_events(path, EVENTS)
    monkeypatch.setattr(aedat4, "MAX_EVENTS", 699)
    with pytest.raises(UserError, match="has more than 699 events"):
        read_aedat4(path)


def mutated(whole, rng):
    """One damage: flipped bits, a wrong number near the start of header or packet, or bytes lost or added."""
    data = bytearray(whole)
    first = 18 + struct.unpack_from("<I", data, 14)[0]
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.randint(1, 9)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind < 3:
        at = rng.choice([14, first])
        number = rng.choice(
            [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, rng.randrange(1 << 32)]
        )
        struct.pack_into("<I", data, at + rng.randrange(48), number)
    elif kind == 3:
        at = rng.randrange(14, len(data))
        del data[at : at + rng.randint(1, 300)]
    else:
        at = rng.randrange(14, len(data))
        data[at:at] = rng.randbytes(rng.randint(1, 40))
    return bytes(data)


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_damage_is_a_user_error_or_other_events_and_never_costs_memory(
    tmp_path, compression, capfd
):
    whole = write(tmp_path / "a", [(0, event_packet(EVENTS[:50]))] * 4, compression).read_bytes()
    rng, path, refused = random.Random(compression), tmp_path / "b.aedat4", 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        path.write_bytes(mutated(whole, rng))
        try:
            events, _ = read_aedat4(path)
        except UserError as error:
            assert "b.aedat4" in str(error)
            refused += 1
        else:
            assert 0 < len(events["t"]) <= 200
    assert refused > 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB


@pytest.mark.realdata
def test_real_recording_is_that_of_tonic_and_of_dv(real_data):
    path = real_data / "aedat4" / "davis346_a.aedat4"
    if not path.is_file():
        pytest.skip(f"no real AEDAT4 recording at {path}")
    theirs = tonic_read_aedat4(str(path))
    assert len(theirs) == 117_667
    assert_events(path, {"x": theirs["x"], "y": theirs["y"], "t": theirs["t"], "p": theirs["on"]})
    assert_events(path, of_dv(path)[0])


@pytest.mark.realdata
def test_real_recording_that_ends_early_is_refused(real_data, tmp_path):
    path = real_data / "aedat4" / "davis346_a.aedat4"
    if not path.is_file():
        pytest.skip(f"no real AEDAT4 recording at {path}")
    whole = path.read_bytes()
    for cut in (10, 18, 3000, 3126, 3226, 80_228, 600_000, 1_189_500, 1_190_062):
        (tmp_path / "a.aedat4").write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"a\.aedat4"):
            read_aedat4(tmp_path / "a.aedat4")


def test_record_is_that_of_the_format():
    assert RECORD.itemsize == 16
