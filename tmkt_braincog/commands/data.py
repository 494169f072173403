"""``tmkt data``: list data sets, get one ready, look at it."""

from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path

from ..argument_types import duration, fraction, positive_int
from ..arguments import Parser
from ..registry import DATASETS

# Command -> what it does, as a function of a module that is imported for it, and in words.
COMMANDS = {
    "list": ("inspect.list_known", "print the known data sets and what each needs"),
    "prepare": ("inspect.prepare", "download what is missing, decode, check, write the frame "
                "cache"),
    "emulate": ("emulate.emulate_folder", "record photographs with an emulated event camera: .bin "
                "files in N-Caltech101's layout, and a picture of some"),
    "inspect": ("inspect.inspect", "print what a data set holds, draw some images and frames"),
}  # fmt: skip
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
      Sizes, event counts, split, leakage audit, and a figure; needs no data root.
  tmkt data inspect folder --data-root DIR --window 100ms
      Recordings and images of your own (docs/data.md); long recordings are cut."""


def run(argv: list[str]) -> int:
    args = parse_words(argv)
    module, _, work = args.work.partition(".")
    getattr(import_module(f"..{module}", __package__), work)(args)
    return 0


def parse_words(argv: list[str]) -> Namespace:
    """The command line, or a UserError; ``work`` names the function to call."""
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
        if name == "emulate":
            _emulator_options(command)
        elif name != "list":
            add("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
            add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
            add("--step", metavar="T", type=positive_int, help=f"time-steps T {own}")
            size = f"side of the frames after resizing {own}"
            add("--event-size", metavar="PIXELS", type=positive_int, help=size)
            share = f"share of every class that trains {own}"
            add("--train-portion", metavar="P", type=fraction, help=share)
            window = "folder: cut recordings into windows of this length, such as 100ms"
            add("--window", metavar="LENGTH", type=duration, help=window)
            unit = "folder: of times in files that do not say it"
            add("--time-unit", choices=["ns", "us", "ms", "s"], help=unit)
        if name == "prepare":
            add("--no-download", action="store_true", help="use only what is there")
        if name == "inspect":
            file = "picture, .png, .pdf or .svg (default: <NAME>.png)"
            add("--output", metavar="FILE", type=Path, help=file)
            rows = "rows of the picture (default: 5)"
            add("--classes", metavar="N", type=positive_int, default=5, help=rows)
            add("--force", action="store_true", help="replace a picture that exists")
    return parser


def _emulator_options(command: ArgumentParser) -> None:
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
