"""A recording by itself becomes the frames that it had among those of its data set."""

import numpy as np
import pytest
from sets import CASES

from tmkt_braincog.data import DATASETS, LoadSpec
from tmkt_braincog.data.frames import resize_frames


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
