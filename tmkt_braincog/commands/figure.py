"""``tmkt figure``: what finished runs look at, how they align the modalities, what they cost."""

import argparse
import shlex
import sys
from itertools import chain, combinations
from pathlib import Path

from ..argument_types import positive_int
from ..arguments import Parser
from ..errors import UserError
from ..registry import FIGURES, caption

MEASURES = ("energy", "gradient-variance")  # of all seeds; given alone
USAGE = """\
usage: tmkt figure NAME[,NAME ...] RUN [RUN ...] [options]   (tmkt figure NAME --help for its \
options)

figures:
{figures}

all: those that the runs allow, but energy and gradient-variance: give those alone.

"""
EXAMPLES = """\
examples:
  tmkt figure all results/quickstart --output results/quickstart/figures
      All figures of the first seed, the methods beside each other.
  tmkt figure gradcam,landscape results/a/runs/baseline-seed1 results/b/runs/tmkt-seed1
      Two figures, two runs of one setting.
  tmkt figure energy results/quickstart --checkpoint best.pt --samples 50
      Tables and a picture of what one inference costs, over seeds, from fewer recordings.
  tmkt figure gradient-variance results/quickstart/runs/tmkt-seed* --ratio 0.4 --batches 16
      Tables and a picture over seeds, with intervals."""


def run(argv: list[str]) -> int:
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        figures = "\n".join(f"  {name:20}{caption(name)}" for name in sorted(FIGURES))
        print(USAGE.format(figures=figures) + EXAMPLES)
        return 0 if argv else 2
    every = [one for one in FIGURES if one not in MEASURES]
    chosen = every if name == "all" else [FIGURES.canonical(one) for one in name.split(",")]
    if len(chosen) > 1 and (alone := set(chosen).intersection(MEASURES)):
        raise UserError(f"{name}: {alone.pop()} takes options of its own: give it alone.")
    options = figures_parser(name).parse_args(words)
    command = f"tmkt figure {{}} {shlex.join(words)}"
    print(_draw(chosen, options, command, forgiving=name == "all"))
    return 0


def figures_parser(name: str) -> argparse.ArgumentParser:
    """Of one name, several joined by commas, or ``all``."""
    every = "All figures that the runs allow."
    what = every if name == "all" else " ".join(map(caption, name.split(",")))
    parser = Parser(prog=f"tmkt figure {name}", description=what, epilog=EXAMPLES)
    add, given = parser.add_argument, "(default: %(default)s)"
    runs = "output folder of a comparison, or run folders in it (DIR/runs/METHOD-seedN)"
    add("runs", nargs="+", type=Path, metavar="RUN", help=runs)
    where = "where it goes (default: a folder of that name in the first one)"
    add("--output", type=Path, metavar="DIR", help=where)
    add("--data-root", metavar="DIR", help="where the data are, if they moved since the run")
    add("--device", default="auto", help="as for tmkt train")
    if name not in MEASURES:
        seed = "which seed of an output folder (default: its lowest)"
        add("--seed", type=int, metavar="N", help=seed)
    if name == "gradient-variance":
        add("--batches", type=positive_int, default=64, metavar="N", help=f"batches {given}")
        shares, four = f"expected shares of event frames {given}", [0.2, 0.4, 0.6, 0.8]
        add("--ratio", dest="ratios", type=float, nargs="+", default=four, metavar="R", help=shares)
    else:
        files, most = ("last.pt", "best.pt"), f"most recordings {given}"
        add("--checkpoint", choices=files, default=files[0], help=given)
        add("--samples", type=positive_int, default=500, metavar="N", help=most)
    return parser


def _draw(names: list[str], options: argparse.Namespace, command: str, forgiving: bool) -> str:
    """Draw them; returns what was written. ``forgiving``: what cannot be drawn is said."""
    from ..figures.base import Request
    from ..runs import all_seeds, reopen, run_folders

    given, first = vars(options), names[0]
    folders = (
        all_seeds(path) if first == "energy" else run_folders(path, given.get("seed"))
        for path in options.runs
    )
    checkpoint = given.get("checkpoint", "last.pt")
    runs = reopen([*chain(*folders)], checkpoint, options.device, options.data_root)
    for one, other in combinations(runs if first in MEASURES else (), 2):
        if (one.name, one.seed) == (other.name, other.seed):
            what = f"{one.folder} and {other.folder} are both {one.name}, seed {one.seed}"
            raise UserError(f"{what}: give one of them.")
    default = first.replace("-", "_") if first in MEASURES else "figures"
    more = {name: given[name] for name in ("samples", "batches", "ratios") if name in given}
    folder = options.output or options.runs[0] / default
    request, said, refused = Request(runs, folder, command=command, **more), [], []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        try:
            written = FIGURES[name](request)
            said += [path.read_text() for path in written if path.suffix == ".md"]
            said += map(str, written)
        except UserError as error:
            if not forgiving:
                raise
            refused.append(f"not drawn: {name}: {error}")
    return "\n".join([*said, *refused])
