"""Shared fixtures: real data where it is present, a cache folder of the test session's own."""

import os
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

import tmkt_braincog  # noqa: F401  (first: it keeps BrainCog's import warnings out of the report)
from tests.program import run_train

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_make_parametrize_id(val):
    """Raw bytes, such as a compressor's, may differ between machines: no test's name holds them."""
    return "bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items):
    """Files with many slow tests first: no process is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Every test, and every process it starts, caches into a temporary folder."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["TMKT_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data, or a skip that says what is missing."""
    root = Path(os.environ.get("TMKT_TEST_DATA") or REPOSITORY.parent / "shared" / "data").resolve()
    if not (root / "NMNIST").is_dir():
        pytest.skip(f"no real data: TMKT_TEST_DATA names no folder with NMNIST/ ({root})")
    return root


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


COMPARISON = (
    "--method event-only baseline tmkt --seed 1 2 --model Transfer_SCNN --step 4 --event-size 28 "
    "--shots 4 --batch-size 20 --epoch-size 40 --epochs 3 --warmup-epochs 1 --lr 0.1 "
    "--no-tensorboard"
)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory) -> Path:
    """Output folder of a tiny finished comparison, only to be read; ``printed.txt`` beside it."""
    folder = tmp_path_factory.mktemp("comparison") / "runs-of-three"
    with (folder.parent / "printed.txt").open("w") as printed, redirect_stdout(printed):
        assert run_train([*COMPARISON.split(), "--output", str(folder)]) == 0
    return folder
