"""``tmkt figure``: what finished runs look at, how they align the modalities, how they err, what they cost."""

import argparse
from collections.abc import Callable
from pathlib import Path

from ..arguments import Parser, positive_int
from ..experiments import MEASUREMENTS
from ..registry import FIGURES, caption

CHECKPOINTS = ("last.pt", "best.pt")
EXAMPLES = """\
examples:
  tmkt figure all results/quickstart --output results/quickstart/figures
      All figures of the first seed, the methods beside each other.
  tmkt figure gradcam,landscape results/a/runs/baseline-seed1 results/b/runs/tmkt-seed1
      Two figures, two runs of one setting.
  tmkt figure energy results/quickstart
      Tables and a picture of what one inference costs."""
VARIANCE_EXAMPLES = """\
examples:
  tmkt figure gradient-variance results/quickstart --ratio 0.4 --output results/quickstart/gradient_variance
      gradient_variance.csv (every run, weights, ratio and strategy), .md (over seeds), .png and .pdf.
  tmkt figure gradient-variance results/quickstart/runs/tmkt-seed42 --batches 16
      One run, quickly.
  tmkt figure gradient-variance results/quickstart/runs/tmkt-seed* --ratio 0.4
      Over seeds, with intervals."""
ENERGY_EXAMPLES = """\
examples:
  tmkt figure energy results/quickstart --output results/quickstart/energy
      energy.csv (every run and layer), energy.md (mean and std over seeds), energy.png and energy.pdf.
  tmkt figure energy results/quickstart --samples 50
      From fewer recordings, in less time.
  tmkt figure energy results/quickstart --checkpoint best.pt
      The weights of the best epoch."""


def run(argv: list[str]) -> int:
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if name == "gradient-variance":
        options = variance_parser().parse_args(words)
        from ..experiments import gradient_variance

        print(gradient_variance.report(options))
    elif name == "energy":
        options = energy_parser().parse_args(words)
        from ..experiments import energy

        print(energy.report(options))
    else:
        # None: all that the runs allow.
        chosen = None if name == "all" else [FIGURES.canonical(one) for one in name.split(",")]
        options = figures_parser(name).parse_args(words)
        options.figures = chosen
        from ..experiments import figures

        print(figures.draw(options))
    return 0


def _help() -> str:
    lines = [f"  {name:20}{caption(name)}" for name in sorted(FIGURES)]
    more = [f"  {name:20}{what}" for name, what in MEASUREMENTS.items()]
    usage = "usage: tmkt figure NAME[,NAME ...] RUN [RUN ...] [options]   (tmkt figure NAME --help for its options)"
    return "\n".join(
        [usage, "", "figures, or all:", *lines, "", "measurements:", *more, "", EXAMPLES]
    )


def _parser(name: str, about: str, examples: str) -> Parser:
    parser = Parser(
        prog=f"tmkt figure {name}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="output folder of a comparison, or run folders in it (DIR/runs/METHOD-seedN)",
    )
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="where it goes (default: a folder of that name in the first one)",
    )
    add("--data-root", metavar="DIR", help="where the data are, if they moved since the run")
    add("--device", default="auto", help="as for tmkt train")
    return parser


def _add_samples(add: Callable) -> None:
    add("--checkpoint", choices=CHECKPOINTS, default="last.pt", help="(default: %(default)s)")
    add(
        "--samples",
        type=positive_int,
        default=500,
        metavar="N",
        help="most recordings (default: %(default)s)",
    )


def figures_parser(name: str) -> argparse.ArgumentParser:
    what = (
        "All figures that the runs allow."
        if name == "all"
        else " ".join(map(caption, name.split(",")))
    )
    parser = _parser(name, what, EXAMPLES)
    add = parser.add_argument
    add(
        "--seed", type=int, metavar="N", help="which seed of an output folder (default: its lowest)"
    )
    _add_samples(add)
    return parser


def variance_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "gradient-variance", f"Measures {MEASUREMENTS['gradient-variance']}.", VARIANCE_EXAMPLES
    )
    add = parser.add_argument
    add(
        "--batches",
        type=positive_int,
        default=64,
        metavar="N",
        help="batches (default: %(default)s)",
    )
    add(
        "--ratio",
        type=float,
        nargs="+",
        default=[0.2, 0.4, 0.6, 0.8],
        metavar="R_M",
        help="expected shares of event frames to compare at (default: 0.2 0.4 0.6 0.8)",
    )
    return parser


def energy_parser() -> argparse.ArgumentParser:
    parser = _parser("energy", f"Measures {MEASUREMENTS['energy']}.", ENERGY_EXAMPLES)
    _add_samples(parser.add_argument)
    return parser
