"""Finished runs that all figure tests share, opened once, and figures drawn from them."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tmkt_braincog.figures.base import FIGURES, Request
from tmkt_braincog.registry import caption
from tmkt_braincog.runs import reopen


@pytest.fixture(scope="session")
def folders(comparison):
    return [comparison / "runs" / f"{name}-seed1" for name in ("event-only", "baseline", "tmkt")]


@pytest.fixture(scope="session")
def runs(folders):
    """event-only, baseline and tmkt; whoever changes one puts it back."""
    return reopen(folders, device="cpu")


@pytest.fixture
def draw(tmp_path):
    """Draws a figure, checks its files and facts; gives its CSVs by their names."""

    def drawn(name, runs, pictures=(), **options):
        folder = tmp_path / name
        paths = FIGURES[name](Request(runs, folder, **options))
        assert {p.name for p in paths} == {p.name for p in folder.iterdir()}
        fact = json.loads((folder / f"{name}.json").read_text())
        assert fact["pictures"] == [f"{picture}.png" for picture in pictures or [name]]
        assert (fact["kind"], fact["name"], fact["emulated"]) == ("figure", name, True)
        assert fact["title"] == "ndigits, Transfer_SCNN, T\u00a0=\u00a04"
        assert fact["caption"].startswith(caption(name))
        for picture in fact["pictures"]:
            with Image.open(folder / picture) as image:
                pixels = np.asarray(image.convert("L"))
            assert min(pixels.shape) > 400 and 0.3 < (pixels == 255).mean() < 0.99
            content = (folder / picture).with_suffix(".pdf").read_bytes()
            assert content.startswith(b"%PDF-") and b"/Type3" not in content
        text = {"true": str, "predicted": str, "class": str} if name != "mrp" else {}
        return {p.stem: pd.read_csv(p, dtype=text) for p in paths if p.suffix == ".csv"}

    return drawn
