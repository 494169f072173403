"""The figures that can be drawn from finished runs, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.train import Trainer
from ..registry import FIGURES

__all__ = ["FIGURES", "Request"]


@dataclass(frozen=True)
class Request:
    """What a figure is drawn from.

    Attributes:
        runs: opened runs of one setting (:func:`~tmkt_braincog.runs.reopen`), usually one per method, with one seed.
        folder: where the pictures and the numbers behind them go.
        samples: most recordings to use, for figures whose cost grows with them.
        seed: of every random choice that is not the run's own.
    """

    runs: Sequence[Trainer]
    folder: Path
    samples: int = 500
    seed: int = 0
