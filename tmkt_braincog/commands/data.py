"""``tmkt data``: list data sets, get one ready, look at it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..arguments import Parser, fraction, positive_int
from ..registry import DATASETS

# Command -> what it does, as a function of :mod:`tmkt_braincog.inspect` and in words.
COMMANDS = {
    "list": ("list_known", "print the known data sets and what each needs"),
    "prepare": ("prepare", "download what is missing, decode, check, and write the frame cache"),
    "inspect": ("inspect", "print what a data set holds, draw images and frames of some classes"),
}
DESCRIPTION = """\
Data sets of tmkt_braincog: event recordings and the static images that go with them.

The usual way: `prepare` once, look at the result with `inspect`, then train with tmkt train."""
EXAMPLES = """\
examples:
  tmkt data list
  tmkt data prepare nmnist --data-root DATA
      Downloads what DATA lacks, decodes every recording once, checks, says whether all is there.
  tmkt data prepare NCALTECH101 --data-root DATA --no-download
      The same with the files that are there; a part of the data set is enough.
  tmkt data inspect ndigits --output digits.pdf
      Sizes, event counts, split, leakage audit, and a figure; needs no data root."""


def run(argv: list[str]) -> int:
    args = parse_words(argv)
    from .. import inspect  # imports torch

    getattr(inspect, args.work)(args)
    return 0


def parse_words(argv: list[str]) -> Namespace:
    """The command line, or a UserError; ``work`` names the function of ``inspect`` to call."""
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:  # the command's own parser knows the near misses
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if "name" in args:
        args.name = DATASETS.canonical(args.name)
    return args


def build_parser() -> ArgumentParser:
    parser = Parser(prog="tmkt data", description=DESCRIPTION, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (work, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about, epilog=EXAMPLES)
        command.set_defaults(work=work, parser=command)
        add, own = command.add_argument, "(default: the data set's own)"
        if name != "list":
            add("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
            add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
            add("--step", metavar="T", type=positive_int, help=f"time-steps T {own}")
            size = f"side of the frames after resizing {own}"
            add("--event-size", metavar="PIXELS", type=positive_int, help=size)
            share = f"share of every class that trains {own}"
            add("--train-portion", metavar="P", type=fraction, help=share)
        if name == "prepare":
            add("--no-download", action="store_true", help="use only what is there")
        if name == "inspect":
            file = "picture, .png, .pdf or .svg (default: <NAME>.png)"
            add("--output", metavar="FILE", type=Path, help=file)
            rows = "rows of the picture (default: 5)"
            add("--classes", metavar="N", type=positive_int, default=5, help=rows)
            add("--force", action="store_true", help="replace a picture that exists")
    return parser
