"""Figures from finished runs: what the networks look at, how they align the modalities, how they err."""

import argparse
import inspect
import sys
from pathlib import Path

from ..analysis import confusion, features, gradcam, heads, landscape, time_steps  # noqa: F401  (they register)
from ..analysis.figures import FIGURES, Request
from ..arguments import Parser, positive_int
from ..engine.reopen import CHECKPOINTS, reopen
from ..errors import UserError
from .jobs import program

PROGRAM = "python -m tmkt_braincog.experiments figures"
EPILOG = """\
examples:
  {program} results/quickstart --output results/quickstart/figures
      All figures of the first seed, the methods beside each other.
  {program} results/a/runs/baseline-seed1 results/b/runs/tmkt-seed1 --only gradcam landscape
      Two runs of one setting.

figures:
{figures}"""


def main(argv: list[str] | None = None) -> int:
    """Draw; returns the exit status."""
    options = parse(argv)
    return program(lambda: draw(options))


def parse(argv: list[str] | None) -> argparse.Namespace:
    listed = "\n".join(f"  {name:20}{_first_line(FIGURES[name])}" for name in FIGURES)
    parser = Parser(
        prog=PROGRAM,
        description=__doc__,
        epilog=EPILOG.format(program=PROGRAM, figures=listed),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="output folder of a comparison, or run folders in it",
    )
    add("--output", type=Path, metavar="DIR", help="where they go (default: figures/ in the first folder)")
    add("--only", nargs="+", metavar="FIGURE", help="which figures (default: all)")
    add("--seed", type=int, metavar="N", help="which seed of an output folder (default: its lowest)")
    add("--checkpoint", choices=CHECKPOINTS, default="last.pt", help="(default: %(default)s)")
    add(
        "--samples",
        type=positive_int,
        default=500,
        metavar="N",
        help="most recordings (default: %(default)s)",
    )
    add("--data-root", metavar="DIR", help="where the data are, if they moved since the run")
    add("--device", default="auto", help="as for main_transfer.py")
    return parser.parse_args(argv)


def draw(options: argparse.Namespace) -> str:
    """Draw the figures asked for; returns what was written."""
    names = [FIGURES.canonical(name) for name in options.only or FIGURES]
    folders = [run for given in options.runs for run in run_folders(given, options.seed)]
    runs = reopen(folders, options.checkpoint, options.device, options.data_root)
    request = Request(runs, options.output or options.runs[0] / "figures", options.samples)
    written, refused = [], []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        try:
            written += FIGURES[name](request)
        except UserError as error:
            if options.only:
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
            f"(seeds there: {', '.join(map(str, seeds)) or 'none'}). Give the --output of main_transfer.py."
        )
    wanted = seeds[0] if seed is None else seed
    return [p for p in found if p.name.endswith(f"-seed{wanted}")]


def _first_line(figure) -> str:
    return inspect.getdoc(figure).splitlines()[0]
