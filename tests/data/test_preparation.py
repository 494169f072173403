"""A recording by itself becomes the frames that it had among those of its data set."""

import numpy as np
import pytest
from sets import CASES
from writers import write_bin

from tests.data.test_folder import picture, recording
from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.data.frames import resize_frames
from tmkt_braincog.errors import UserError


def check(data, path, r):
    how = data.preparation
    found = how.frames(*how.read(path), 16, str(path))
    np.testing.assert_array_equal(found, resize_frames(data.frames[r], 16).numpy())


@pytest.mark.parametrize("name", sorted({*CASES} - {"N-OMNIGLOT"}))  # there a file holds twenty
def test_a_file_by_itself(name, tmp_path, few):
    case = CASES[name]
    case.write(tmp_path)
    data = case.load(tmp_path)
    for r in (0, len(data.names) - 1):
        check(data, next(tmp_path.rglob(data.names[r])), r)


@pytest.mark.realdata
def test_every_real_recording_by_itself(real_data):
    data = DATASETS["nmnist"].load(LoadSpec(real_data, 5))
    for r, name in enumerate(data.names):
        check(data, real_data / "NMNIST" / name, r)


def test_windows_of_a_file_by_itself(tmp_path):
    for c, name in enumerate(("cup", "key")):
        (tmp_path / "events" / name).mkdir(parents=True)
        for k in range(3):
            write_bin(tmp_path / "events" / name / f"a{k}.bin", recording(10 * c + k))
        picture(tmp_path / "images" / name / "b.png", 0)
    span = int(np.ptp(recording(0)["t"]))
    data = DATASETS["folder"].load(LoadSpec(tmp_path, 3, 16, window=f"{span // 4}us"))
    how = data.preparation
    events, sensor = how.read(tmp_path / "events/cup/a0.bin")
    parts = how.windows(events)
    assert len(parts) == 4 and [f"events/cup/a0.bin{mark}" for mark in parts] == data.names[:4]
    for r, part in enumerate(parts.values()):
        np.testing.assert_array_equal(how.frames(part, sensor, 16, "it"), data.frames[r].numpy())


def test_of_n_omniglot_no_file_is_read_and_no_other_sensor_taken(tmp_path, few):
    case = CASES["N-OMNIGLOT"]
    case.write(tmp_path)
    how = case.load(tmp_path).preparation
    with pytest.raises(UserError, match="in a way of its own"):
        how.read(next(tmp_path.rglob("*.aedat4")))
    with pytest.raises(UserError, match="a part of 346 x 260, and takes no other"):
        how.frames(recording(0), (128, 128), 16, "it")
