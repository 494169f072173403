"""Figures from finished runs: what the networks look at, how they align the modalities, how they err."""

import argparse
import sys
from pathlib import Path

from ..errors import UserError
from ..figures.figures import FIGURES, Request
from ..runs import reopen


def draw(options: argparse.Namespace) -> str:
    """Draw the figures asked for; returns what was written."""
    folders = [run for given in options.runs for run in run_folders(given, options.seed)]
    runs = reopen(folders, options.checkpoint, options.device, options.data_root)
    request = Request(runs, options.output or options.runs[0] / "figures", options.samples)
    written, refused = [], []
    for name in options.figures or FIGURES:
        print(f"{name} ...", file=sys.stderr)
        try:
            written += FIGURES[name](request)
        except UserError as error:
            if options.figures:
                raise
            refused.append(f"not drawn: {name}: {error}")
    return "\n".join([*map(str, written), *refused])


def run_folders(given: Path, seed: int | None) -> list[Path]:
    """The run folders of one seed in an output folder; a run folder is itself.

    Raises:
        UserError: there are none.
    """
    if given.parent.name == "runs":
        return [given]
    found = [p for p in sorted(given.glob("runs/*-seed*")) if (p / "result.json").exists()]
    seeds = sorted({int(p.name.rpartition("-seed")[2]) for p in found})
    if not seeds or seed not in (None, *seeds):
        raise UserError(
            f"{given} holds no finished run{'' if seed is None else f' of seed {seed}'} "
            f"(seeds there: {', '.join(map(str, seeds)) or 'none'}). Give the --output of tmkt train."
        )
    wanted = seeds[0] if seed is None else seed
    return [p for p in found if p.name.endswith(f"-seed{wanted}")]
