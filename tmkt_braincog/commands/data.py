"""``tmkt data``: list data sets, get one ready, look at it."""

import argparse
from argparse import Namespace
from pathlib import Path

from ..arguments import Parser, fraction, positive_int
from ..registry import DATASETS

LIST_HELP = "print the known data sets and what each needs"
PREPARE_HELP = "download what is missing, decode, check, and write the cache that training reads"
INSPECT_HELP = "print what a data set holds and draw images and event frames of some classes"

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
    from ..data import commands  # imports torch

    getattr(commands, args.work)(args)
    return 0


def parse_words(argv: list[str]) -> Namespace:
    """The command line; ``work`` is the function of :mod:`~tmkt_braincog.data.commands` to call.

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
    looks = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser(prog="tmkt data", description=DESCRIPTION, epilog=EXAMPLES, **looks)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, work: str, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=EXAMPLES,
            **looks,
        )
        command.set_defaults(work=work, parser=command)
        return command

    add("list", "list_known", LIST_HELP)
    _prepare_options(add("prepare", "prepare", PREPARE_HELP))
    _inspect_options(add("inspect", "inspect", INSPECT_HELP))
    return parser


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    _shared_options(parser)
    parser.add_argument("--no-download", action="store_true", help="use only what is there")


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    _shared_options(parser)
    add = parser.add_argument
    add(
        "--output",
        metavar="FILE",
        type=Path,
        help="picture, .png, .pdf or .svg (default: <NAME>.png)",
    )
    add(
        "--classes",
        metavar="N",
        type=positive_int,
        default=5,
        help="rows of the picture (default: 5)",
    )
    add("--force", action="store_true", help="replace a picture that exists")


def _shared_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
    add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
    add(
        "--step",
        metavar="T",
        type=positive_int,
        help="time-steps T (default: the data set's recipe)",
    )
    add(
        "--event-size",
        metavar="PIXELS",
        type=positive_int,
        help="side of the frames after resizing (default: the data set's recipe)",
    )
    add(
        "--train-portion",
        metavar="P",
        type=fraction,
        help="share of every class that trains (default: the data set's own split)",
    )
