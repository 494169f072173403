"""Stand-ins of the recorded data sets, each written once per session."""

import shutil

import pytest


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """``trees(name)``: the data root of a stand-in, never to be changed."""
    from sets import CASES

    written = {}

    def tree(name):
        if name not in written:
            written[name] = tmp_path_factory.mktemp(name)
            CASES[name].write(written[name])
        return written[name]

    return tree


@pytest.fixture
def copy_of(trees, tmp_path):
    """``copy_of(name)``: a copy to change; names and times are the same, so it is cached."""
    return lambda name: shutil.copytree(trees(name), tmp_path / "data")


@pytest.fixture
def few():
    """N-Omniglot of seven characters, and a CIFAR-10 whose checksums are not compared."""
    from sets import FEW, nomniglot
    from standins import unchecked

    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.setattr(nomniglot, "CHARACTERS", FEW)
        yield
