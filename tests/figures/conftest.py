"""Finished runs that all figure tests share, opened once."""

import pytest

from tmkt_braincog.runs import reopen


@pytest.fixture(scope="session")
def folders(comparison):
    return [comparison / "runs" / f"{name}-seed1" for name in ("event-only", "baseline", "tmkt")]


@pytest.fixture(scope="session")
def runs(folders):
    """event-only, baseline and tmkt; whoever changes one puts it back."""
    return reopen(folders, device="cpu")
