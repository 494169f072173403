import numpy as np
import pytest
from tonic.io import read_mnist_file
from writers import TIMER_MARK, random_events, real_recordings, write_bin

from tmkt_braincog.data.events import check_events, make_events, read_bin, shift_to_origin
from tmkt_braincog.errors import UserError

TONIC_DTYPE = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
SENSOR = (34, 34)


def assert_same(ours, theirs):
    for name, kind in (("x", "int16"), ("y", "int16"), ("t", "int64"), ("p", "uint8")):
        assert ours[name].dtype == kind
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("marks", [(), (3,), (0, 10, 10, 499)])
def test_reader_gives_what_was_written_and_what_tonic_reads(tmp_path, marks):
    events = random_events(500)
    events["t"] += 2**13 * 4
    path = write_bin(tmp_path / "a.bin", events, marks)
    assert_same(read_bin(path, SENSOR), events)
    assert_same(read_bin(path), read_mnist_file(str(path), TONIC_DTYPE))


def test_largest_values(tmp_path):
    events = make_events(np.array([255]), np.array([239]), np.array([2**23 - 1]), np.array([1]))
    assert_same(read_bin(write_bin(tmp_path / "a.bin", events)), events)


@pytest.mark.realdata
def test_real_recordings_read_as_by_tonic(real_data):
    for path in real_recordings(real_data):
        assert_same(read_bin(path), read_mnist_file(str(path), TONIC_DTYPE))


@pytest.mark.parametrize(
    "content, said",
    [
        (None, r"No recording at .*a\.bin"),
        (b"", r"a\.bin is empty: 0 bytes"),
        (TIMER_MARK * 2, r"a\.bin holds no event"),
        (TIMER_MARK * 10 + b"123", r"a\.bin is truncated: 53 bytes; 5 per event"),
        (bytes([34, 0, 0, 0, 0] * 2), r"a\.bin: 2 of 2 events .* 34 x 34 .* event 0 with x=34"),
    ],
)  # fmt: skip
def test_faults_of_files_are_named(tmp_path, content, said):
    if content is not None:
        (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_bin(tmp_path / "a.bin", SENSOR)
    with pytest.raises(UserError, match=r"cannot be read: .*directory"):
        read_bin(tmp_path)


def test_width_and_height_are_not_swapped():
    events = make_events(np.array([150]), np.array([5]), np.array([0]), np.array([1]))
    check_events(events, (160, 10), "ok")
    with pytest.raises(UserError, match="outside"):
        check_events(events, (10, 160), "swapped")


def test_a_sensor_of_which_frames_would_take_gigabytes_is_refused():
    events = make_events(np.array([0, 30_000]), np.array([0, 20_000]), np.array([0, 9]), [1, 1])
    with pytest.raises(UserError, match=r"a\.mat is of a sensor of 30001 x 20001.*far from the"):
        check_events(*shift_to_origin(events), "a.mat")


def test_sorting_is_stable_and_counted_and_leaves_what_is_sorted():
    events = make_events(np.arange(5), np.zeros(5), np.array([10, 30, 20, 20, 5]), np.zeros(5))
    ordered, n = check_events(events, SENSOR, "a")
    assert n == 2
    assert ordered["x"].tolist() == [4, 0, 2, 3, 1]
    events = random_events(50)
    ordered, n = check_events(events, SENSOR, "a")
    assert n == 0
    assert ordered is events


def test_no_events_and_absurd_times():
    with pytest.raises(UserError, match=r"a\.bin holds no event"):
        check_events(random_events(0), SENSOR, "a.bin")
    events = random_events(3)
    for times in ([0, 1, 3_600_000_001], [-(2**62), 0, 2**62]):
        events["t"] = times
        with pytest.raises(UserError, match=r"a\.bin has times from .*microseconds"):
            check_events(events, SENSOR, "a.bin")
    events["t"] = [5, 6, 5 + 3_600_000_000]
    assert check_events(events, SENSOR, "a.bin")[1] == 0
