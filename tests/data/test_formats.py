"""Recordings of every format, told apart by content: what was written is what is read."""

import re
import sys

import numpy as np
import pytest
from scipy.io import savemat
from writers import random_events, structured, write_bin

from tmkt_braincog.data.columns import Told, unit_of
from tmkt_braincog.data.formats import read_any
from tmkt_braincog.errors import UserError

h5py = pytest.importorskip("h5py")  # tonic brings it
EVENTS = structured(random_events(400, seed=3, sensor_size=(40, 30)))
EVENTS = EVENTS[np.argsort(EVENTS["t"], kind="stable")]


def refused(path, said):
    with pytest.raises(UserError, match=said) as error:
        read_any(path)
    assert path.name in str(error.value)


def table(order="xytp", t=1.0):
    columns = {name: EVENTS[name].astype(np.float64) for name in "xytp"}
    columns["t"] *= t
    return np.stack([columns[name] for name in order], 1)


def write_h5(path, compound=False):
    with h5py.File(path, "w") as file:
        if compound:
            file["events"] = EVENTS
        else:
            for name, column in zip(("xs", "ys", "ts", "ps"), "xytp", strict=True):
                file[f"events/{name}"] = EVENTS[column]


def columns(p=0):
    x, y, ts = (EVENTS[name] for name in "xyt")
    return {"x": x, "y": y, "ts": ts, "p": EVENTS["p"] * (1 + p) - p}


WRITERS = {
    "ATIS": lambda path: write_bin(path, EVENTS),
    "NumPy": lambda path: np.save(path.open("wb"), EVENTS),
    "NumPy, a table": lambda path: np.save(path.open("wb"), table("txyp")),
    "NumPy, arrays": lambda path: np.savez(path.open("wb"), **columns(1)),
    "HDF5": write_h5,
    "HDF5, a compound": lambda path: write_h5(path, True),
    "MATLAB": lambda path: savemat(path, columns(1), appendmat=False),
    "MATLAB, a struct": lambda path: savemat(path, {"TD": columns()}, appendmat=False),
    "text": lambda path: np.savetxt(path, table(), "%d"),
    "text, named": lambda path: np.savetxt(
        path, table("tpxy"), "%d", ",", header="timestamp,polarity,x,y", comments=""
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_is_read_whatever_the_file_is_called(name, tmp_path):
    WRITERS[name](path := tmp_path / "recording.any")
    found = read_any(path)
    assert found.format == name.split(",")[0] and found.sensor is None
    assert found.unit == (None if name == "ATIS" else "us")
    for column in "xytp":
        np.testing.assert_array_equal(found.events[column], EVENTS[column], err_msg=column)


@pytest.mark.parametrize("unit, us", [("s", 1e-6), ("ms", 1e-3), ("us", 1)])
def test_the_unit_of_time_is_told_or_given(unit, us, tmp_path):
    np.savetxt(path := tmp_path / "a.txt", table("txyp", us), "%.6f %d %d %d")
    found = read_any(path)
    assert found.unit == unit == unit_of(EVENTS["t"] * us)
    np.testing.assert_array_equal(found.events["t"], EVENTS["t"])
    given = read_any(path, Told("ms")).events["t"]
    np.testing.assert_array_equal(given, np.rint(table("txyp", us)[:, 0] * 1000))


def test_whole_numbers_are_microseconds_unless_there_are_too_many_events_for_that():
    times = np.sort(np.random.default_rng(0).integers(0, 400_000, 5000))
    assert [unit_of(times // k) for k in (1, 1000)] == ["us", "ms"]
    assert unit_of(times[:1]) == "us"
    assert unit_of(times[:400] // 1000) == "ms"  # else the whole recording would last 30 us


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (bytes(range(200, 256)) * 5, r"of no format that is known here \(tried: AEDAT 4, .*ATIS\)"),
        (b"hello world, this is no recording\n" * 9, "as text: .*the columns hello, world"),
        (b"1 2 3 5\n2 2 1 7\n3 1 1 9\n", "2 columns that could be t .* and 0 that could be p"),
        (b"x,y,t,p\n1,1,5,1\n1,1,nan,1\n", "not finite"),
        (b"x,y,t,p\n1,1,5,1\n1,1,6,2\n", r"polarities \[1.0, 2.0\], 0 and 1 or -1 and 1 expected"),
        (b"\x89HDF\r\n\x1a\n" + b"0" * 90, "Cannot read .* as HDF5"),
        (b"#!AER-DAT4.0\r\n", "missing, truncated or damaged"),
        (b"% evt 2.1\n" + b"0" * 64, "EVT 2.1; DAT, EVT2 and EVT3 can be read"),
        (b"% format EVT21;height=9\n" + b"0" * 64, "EVT 2.1; DAT, EVT2 and EVT3 can be read"),
        (bytes(5000), "of no format that is known"),
        (b"\x93NUMPY\x01\x00", "Cannot read .* as NumPy"),
    ],
)
def test_what_is_no_recording_is_one_clear_error(content, message, tmp_path):
    (tmp_path / "a.bin").write_bytes(content)
    refused(tmp_path / "a.bin", message)


def test_columns_are_named_in_a_comment_too_and_unsigned_numbers_do_not_wrap(tmp_path):
    np.savetxt(path := tmp_path / "a.txt", table("tyxp"), "%d", header="t y x p")
    np.testing.assert_array_equal(read_any(path).events["x"], EVENTS["x"])
    np.save(tmp_path / "a.npy", table("xytp").astype(np.uint32))
    np.testing.assert_array_equal(read_any(tmp_path / "a.npy").events["t"], EVENTS["t"])


@pytest.mark.parametrize("x", [-1, 0.5, 70_000])
def test_coordinates_are_whole_numbers_of_a_sensor(x, tmp_path):
    np.savez(tmp_path / "a.npz", **columns() | {"x": EVENTS["x"].astype(np.float64) + x})
    refused(tmp_path / "a.npz", r"x from .*, whole numbers from 0 to 2047 expected")


def test_of_several_arrays_the_one_is_taken_that_is_called_so(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["EXT_TRIGGER/events"], file["CD/events"] = EVENTS[:9], EVENTS
    assert len(read_any(tmp_path / "a.h5").events["t"]) == 400
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["left/events"], file["right/events"] = EVENTS[:9], EVENTS
    refused(tmp_path / "b.h5", "2 groups or arrays with x, y, t and p")


def test_layouts_of_cameras_in_hdf5_fix_the_unit_and_may_name_the_sensor(tmp_path):
    fast = structured(EVENTS)
    fast["t"] //= 30_000  # 40 million a second, as no other layout would have them in us
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["CD/events"], file["CD/indexes"] = fast, np.zeros(9, [("id", "u8"), ("ts", "i8")])
        file["EXT_TRIGGER/events"] = np.zeros(9, [("p", "i2"), ("t", "i8"), ("id", "i2")])
        file.attrs["geometry"] = "40x30"
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["t_offset"], file["ms_to_idx"] = 49_599_300_523, np.arange(9)
        for name in "xytp":
            file[f"events/{name}"] = fast[name]
    for name, sensor in (("a.hdf5", (40, 30)), ("b.h5", None)):
        found = read_any(tmp_path / name)
        assert (found.sensor, found.unit) == (sensor, None)
        for column in "xytp":
            np.testing.assert_array_equal(found.events[column], fast[column])


@pytest.mark.parametrize("number, what", [(32001, "pip install hdf5plugin"), (0x8ECF, "hdf5_ecf")])
def test_a_filter_that_is_not_there_is_named_with_what_to_install(
    number, what, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        how = {"chunks": (9,), "compression": number, "allow_unknown_filter": True}
        file.create_dataset("CD/events", (9,), EVENTS.dtype, **how).id.write_direct_chunk(
            (0,), b"1"
        )
    refused(tmp_path / "a.h5", f"compressed by the filter {number} .*{what}")


def test_matlab_may_count_from_one(tmp_path):
    td = {"x": EVENTS["x"] + 1, "y": EVENTS["y"] + 1, "ts": EVENTS["t"], "p": EVENTS["p"] + 1}
    savemat(tmp_path / "a.mat", {"TD": td})
    alone, told = (read_any(tmp_path / "a.mat", t) for t in (Told(), Told(None, True, True)))
    assert alone.up_to_two and (alone.events["x"] == EVENTS["x"] + 1).all()
    for column in "xytp":
        np.testing.assert_array_equal(told.events[column], EVENTS[column])
    savemat(tmp_path / "a.mat", {"TD": td | {"p": np.ones(400)}})
    found = [read_any(tmp_path / "a.mat", Told(up_to_two=two)).events["p"] for two in (False, True)]
    assert found[0].all() and not found[1].any()
    savemat(tmp_path / "a.mat", {"TD": td | {"p": np.arange(400) % 3}})
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:  # version 7.3
        for name, column in td.items():
            file[f"TD/{name}"] = column[None]
    with open(tmp_path / "b.mat", "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    found = read_any(tmp_path / "b.mat", Told(None, True))
    assert found.format == "MATLAB 7.3" and found.up_to_two
    np.testing.assert_array_equal(found.events["x"], EVENTS["x"])
    np.testing.assert_array_equal(found.events["p"], EVENTS["p"])
    refused(tmp_path / "a.mat", r"polarities \[0, 1, 2\], 0 and 1 or -1 and 1, or 1 and 2")


def test_lines_of_text_may_be_separated_in_any_way(tmp_path):
    text = "# by hand\n% t, x, y, p\n0.001, 3;4\t1\n\n0.003,5;  6 0 \n1.5e-2 7 8 1"
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    events = read_any(tmp_path / "a.csv").events
    assert {name: events[name].tolist() for name in "xytp"} == {
        **{"x": [3, 5, 7], "y": [4, 6, 8], "t": [1000, 3000, 15000], "p": [1, 0, 1]}
    }
    (tmp_path / "a.csv").write_text(text + "\n9 9 9")
    refused(tmp_path / "a.csv", "the number of columns changed from 4 to 3")


def aedat2(header, address):
    return header + np.stack([address, 100 * np.arange(len(address))], 1).astype(">u4").tobytes()


def test_addresses_of_aedat_2_are_those_of_the_camera_in_its_header(tmp_path):
    x, y, p = (EVENTS[name].astype(np.int64) for name in "xyp")
    head, chip = b"#!AER-DAT2.0\r\n", b"# AEChip: DAVIS240C\r\n"
    davis = (179 - y) << 22 | (239 - x) << 12 | p << 11
    davis[3] |= 1 << 31  # a sample of a frame
    davis[5] |= 1 << 10  # a trigger
    (tmp_path / "a.aedat").write_bytes(aedat2(head + chip, davis))
    found, kept = read_any(tmp_path / "a.aedat"), np.delete(np.arange(400), [3, 5])
    assert found.sensor == (240, 180)
    for name in "xyp":
        np.testing.assert_array_equal(found.events[name], EVENTS[name][kept])
    (tmp_path / "a.aedat").write_bytes(aedat2(head, davis))
    refused(tmp_path / "a.aedat", "addresses of no DVS128")
    dvs = (127 - y) << 8 | (127 - x) << 1 | (1 - p)
    dvs[7] |= 0x8000  # a special event
    (tmp_path / "a.aedat").write_bytes(aedat2(head, dvs))
    found = read_any(tmp_path / "a.aedat")
    np.testing.assert_array_equal(found.events["x"], np.delete(EVENTS["x"], 7))
    (tmp_path / "a.aedat").write_bytes(aedat2(b"#!AER-DAT3.1\r\n", dvs))
    refused(tmp_path / "a.aedat", r"AEDAT 3.1; 2.0 and 4.0 can be read")


def test_arrays_that_are_no_events(tmp_path):
    np.savez(tmp_path / "a.npz", x=EVENTS["x"], y=EVENTS["y"][:9], t=EVENTS["t"], p=EVENTS["p"])
    refused(tmp_path / "a.npz", re.escape("{'x': 400, 'y': 9, 't': 400, 'p': 400}"))
    np.savez(tmp_path / "a.npz", frames=np.zeros((3, 4, 5)))
    refused(tmp_path / "a.npz", "0 groups or arrays with x, y, t and p")
    refused(tmp_path / "nothing.npy", "Cannot read")


REAL = {
    "sample_nmnist.bin": ("ATIS", None, 4325, (33, 33)),
    "sample_ncars.dat": ("Prophesee", None, 2009, (77, 41)),
    "evt3_sample.raw": ("Prophesee", None, 219596, (1279, 719)),
    "dvs128_scissors.aedat": ("AEDAT 2", (128, 128), 143655, (127, 127)),
    "sample.aedat4": ("AEDAT 4", (320, 240), 111954, (319, 239)),
    "sample_stmnist.mat": ("MATLAB", (10, 10), 2346, (9, 8)),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", REAL)
def test_real_files_whatever_they_are_called(name, real_data, tmp_path):
    (tmp_path / "a.BIN").symlink_to(real_data / "formats" / name)
    found = read_any(tmp_path / "a.BIN")
    events, extent = found.events, tuple(int(found.events[axis].max()) for axis in "xy")
    assert (found.format, found.sensor, len(events["t"]), extent) == REAL[name]
    assert (np.diff(events["t"]) >= 0).all() and set(np.unique(events["p"])) == {0, 1}
    assert 4e4 < np.ptp(events["t"]) < 2e7  # 50 ms to 20 s
