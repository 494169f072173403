"""``tmkt figure``: what finished runs look at, how they align the modalities, how they err, what
they cost."""

import argparse
import shlex
import sys
from pathlib import Path

from ..arguments import Parser, positive_int
from ..errors import UserError
from ..registry import FIGURES, caption

CHECKPOINTS = ("last.pt", "best.pt")
MEASURES = ("energy", "gradient-variance")  # of all seeds; given alone
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
        print(_help())
        return 0 if argv else 2
    # all: what the runs allow
    every = [one for one in FIGURES if one not in MEASURES]
    chosen = every if name == "all" else [FIGURES.canonical(one) for one in name.split(",")]
    if len(chosen) > 1 and (alone := set(chosen).intersection(MEASURES)):
        raise UserError(f"{name}: {alone.pop()} takes options of its own: give it alone.")
    options = figures_parser(name).parse_args(words)
    print(_draw(chosen, options, words, forgiving=name == "all"))
    return 0


def _help() -> str:
    lines = [f"  {name:20}{caption(name)}" for name in sorted(FIGURES)]
    usage = "usage: tmkt figure NAME[,NAME ...] RUN [RUN ...] [options]"
    usage += "   (tmkt figure NAME --help for its options)"
    more = "all: those that the runs allow, but energy and gradient-variance: give those alone."
    return "\n".join([usage, "", "figures:", *lines, "", more, "", EXAMPLES])


def figures_parser(name: str) -> argparse.ArgumentParser:
    what = "All figures that the runs allow." if name == "all" else None
    parser = Parser(
        prog=f"tmkt figure {name}",
        description=what or " ".join(map(caption, name.split(","))),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    runs = "output folder of a comparison, or run folders in it (DIR/runs/METHOD-seedN)"
    add("runs", nargs="+", type=Path, metavar="RUN", help=runs)
    where = "where it goes (default: a folder of that name in the first one)"
    add("--output", type=Path, metavar="DIR", help=where)
    add("--data-root", metavar="DIR", help="where the data are, if they moved since the run")
    add("--device", default="auto", help="as for tmkt train")
    given = "(default: %(default)s)"
    if name not in MEASURES:
        seed = "which seed of an output folder (default: its lowest)"
        add("--seed", type=int, metavar="N", help=seed)
    if name == "gradient-variance":
        add("--batches", type=positive_int, default=64, metavar="N", help=f"batches {given}")
        shares = "expected shares of event frames to compare at (default: 0.2 0.4 0.6 0.8)"
        four = [0.2, 0.4, 0.6, 0.8]
        add("--ratio", type=float, nargs="+", default=four, metavar="R_M", help=shares)
    else:
        add("--checkpoint", choices=CHECKPOINTS, default="last.pt", help=given)
        most = f"most recordings {given}"
        add("--samples", type=positive_int, default=500, metavar="N", help=most)
    return parser


def _draw(names: list[str], options: argparse.Namespace, words: list[str], forgiving: bool) -> str:
    """Draw them; returns the tables of words and what was written. ``forgiving``: what cannot be
    drawn is said."""
    from ..figures.base import Request, check_distinct
    from ..runs import all_seeds, reopen, run_folders

    given = vars(options)
    measures, seed = names[0] == "energy", given.get("seed")
    folders = [
        folder
        for path in options.runs
        for folder in (all_seeds(path) if measures else run_folders(path, seed))
    ]
    runs = reopen(folders, given.get("checkpoint", "last.pt"), options.device, options.data_root)
    if names[0] in MEASURES:
        check_distinct(runs)
    default = names[0].replace("-", "_") if names[0] in MEASURES else "figures"
    more = {"samples": "samples", "batches": "batches", "ratio": "ratios"}
    request = Request(
        runs,
        options.output or options.runs[0] / default,
        command=f"tmkt figure {{}} {shlex.join(words)}",
        **{field: given[option] for option, field in more.items() if option in given},
    )
    texts, refused = [], []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        try:
            written = FIGURES[name](request)
        except UserError as error:
            if not forgiving:
                raise
            refused.append(f"not drawn: {name}: {error}")
        else:
            texts += [p.read_text() for p in written if p.suffix == ".md"] + list(map(str, written))
    return "\n".join([*texts, *refused])
