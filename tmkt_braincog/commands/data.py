"""``tmkt data``: list data sets, get one ready, look at it."""

import argparse
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..arguments import Parser, fraction, positive_int
from ..registry import DATASETS

# Command -> what it does, as a function of :mod:`tmkt_braincog.inspect` and in words.
COMMANDS = {
    "list": ("list_known", "print the known data sets and what each needs"),
    "prepare": (
        "prepare",
        "download what is missing, decode, check, and write the cache that training reads",
    ),
    "inspect": (
        "inspect",
        "print what a data set holds and draw images and event frames of some classes",
    ),
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
    """The command line; ``work`` is the function of :mod:`tmkt_braincog.inspect` to call.

    Raises:
        UserError: unknown words, or a data set that is not known.
    """
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:  # the command's own parser knows the near misses
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if "name" in args:
        args.name = DATASETS.canonical(args.name)
    return args


def build_parser() -> argparse.ArgumentParser:
    looks: dict[str, Any] = {
        "formatter_class": argparse.RawDescriptionHelpFormatter,
        "allow_abbrev": False,
    }
    parser = Parser(prog="tmkt data", description=DESCRIPTION, epilog=EXAMPLES, **looks)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (work, about) in COMMANDS.items():
        description = f"{about[0].upper()}{about[1:]}."
        command = commands.add_parser(
            name, help=about, description=description, epilog=EXAMPLES, **looks
        )
        command.set_defaults(work=work, parser=command)
        add = command.add_argument
        if name != "list":
            _shared_options(add)
        if name == "prepare":
            add("--no-download", action="store_true", help="use only what is there")
        if name == "inspect":
            file = "picture, .png, .pdf or .svg (default: <NAME>.png)"
            add("--output", metavar="FILE", type=Path, help=file)
            rows = "rows of the picture (default: 5)"
            add("--classes", metavar="N", type=positive_int, default=5, help=rows)
            add("--force", action="store_true", help="replace a picture that exists")
    return parser


def _shared_options(add: Callable[..., Any]) -> None:
    add("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
    add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
    steps = "time-steps T (default: the data set's recipe)"
    add("--step", metavar="T", type=positive_int, help=steps)
    size = "side of the frames after resizing (default: the data set's recipe)"
    add("--event-size", metavar="PIXELS", type=positive_int, help=size)
    share = "share of every class that trains (default: the data set's own split)"
    add("--train-portion", metavar="P", type=fraction, help=share)
