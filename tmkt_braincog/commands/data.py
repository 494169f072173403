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
    "emulate": (
        "emulate_folder",
        "record photographs with an emulated event camera: ATIS .bin files in N-Caltech101's "
        "layout, and a picture of some",
    ),
    "inspect": (
        "inspect",
        "print what a data set holds and draw images and event frames of some classes",
    ),
}
DESCRIPTION = """\
Data sets of tmkt_braincog: event recordings and the static images that go with them.

The usual way: `prepare` once, look at the result with `inspect`, then train with tmkt train."""
CAMERA = """\
numbers of the camera (--camera here, and of tmkt train for --source-encoding saccade):
  threshold=0.36     contrast threshold, in log intensity   mismatch=0.04  its spread over pixels
  dark=0.1           intensity of black, white being 1      noise_hz=0.5   of a pixel
  refractory_us=2500 dead time of a pixel after an event    step_us=2500   simulation step
  corners=[[-3.5,-2],[0,5],[3.5,-2],[-3.5,-2]]              path of the image in pixels (default:
                     this one, N-MNIST's, scaled with the sensor)
  saccade_us=105000  for a side of the path                 moving=1.0     share of it in motion
  border=edge        around the image, or dark              flip=false     true: polarity 1 is OFF
  vary=0             up to 1: parameters drawn anew for every recording (domain randomisation)
  seed=2015          of all that is drawn

examples:
  tmkt data emulate --images PHOTOS --output EMULATED
  tmkt data emulate --images PHOTOS --output EMULATED --size 128 --camera threshold=0.25 vary=0.5
  tmkt data emulate --images PHOTOS --output EMULATED --camera "corners=[[-4,0],[4,0]]"
"""
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
    from .. import emulate, inspect  # import torch

    module = emulate if args.command == "emulate" else inspect
    getattr(module, args.work)(args)
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
        if name == "emulate":
            _emulator_options(command)
        elif name != "list":
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


def _emulator_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    command.epilog = CAMERA
    images = "folder with a folder of images (.jpg, .png, .bmp, .webp) for every class"
    add("--images", metavar="DIR", type=Path, required=True, help=images)
    output = "gets NCALTECH101/Caltech101/<class>/<name>.bin, which tonic reads, and recordings.png"
    add("--output", metavar="DIR", type=Path, required=True, help=output)
    size = "side of the sensor, and of the images after resizing (default: 64)"
    add("--size", metavar="PIXELS", type=positive_int, default=64, help=size)
    camera = "numbers of the camera to change, see below"
    add("--camera", metavar="NAME=VALUE", nargs="+", help=camera)
    add("--force", action="store_true", help="replace recordings that exist")


def _shared_options(add: Callable[..., Any]) -> None:
    add("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
    add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
    steps = "time-steps T (default: the data set's recipe)"
    add("--step", metavar="T", type=positive_int, help=steps)
    size = "side of the frames after resizing (default: the data set's recipe)"
    add("--event-size", metavar="PIXELS", type=positive_int, help=size)
    share = "share of every class that trains (default: the data set's own split)"
    add("--train-portion", metavar="P", type=fraction, help=share)
