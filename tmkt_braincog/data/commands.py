"""``python -m tmkt_braincog.data``: get a data set ready, look at it, list those that are known."""

import argparse
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from copy import copy
from pathlib import Path

from ..arguments import Parser, fraction, positive_int
from ..errors import UserError
from ..options import parse, resolve
from ..terminal import guarded
from . import picture, report
from .base import DATASETS, DataSet, TransferData, cache_root
from .splits import Split, make_split

PROGRAM = "python -m tmkt_braincog.data"
PROTOCOLS = ("clean", "he2024")

LIST_HELP = "print the known data sets and what each needs"
PREPARE_HELP = "download what is missing, decode, check, and write the cache that training reads"
INSPECT_HELP = "print what a data set holds and draw images and event frames of some classes"

DESCRIPTION = """\
Data sets of tmkt_braincog: event recordings and the static images that go with them.

The usual way: `prepare` once, look at the result with `inspect`, then train with main_transfer.py."""
EXAMPLES = f"""\
examples:
  {PROGRAM} list
  {PROGRAM} prepare nmnist --data-root DATA
      Downloads what DATA lacks, decodes every recording once, checks, says whether all is there.
  {PROGRAM} prepare NCALTECH101 --data-root DATA --no-download
      The same with the files that are there; a part of the data set is enough.
  {PROGRAM} inspect ndigits --output digits.pdf
      Sizes, event counts, split, leakage audit, and a figure; needs no data root."""


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status: 0 where the data can be used, 2 where not, 130 after Ctrl-C."""
    return guarded(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> int:
    try:
        args = parse_words(argv)
    except SystemExit as stop:  # --help
        return stop.code or 0
    args.run(args)
    return 0


def parse_words(argv: list[str]) -> Namespace:
    """The command line, ``run`` being the function to call.

    Raises:
        UserError: unknown words, or a data set that is not known.
    """
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:  # the command's own parser knows the near misses
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if "name" in args:
        args.name = DATASETS.canonical(args.name)
        args.data_set = DATASETS[args.name]
    return args


def build_parser() -> argparse.ArgumentParser:
    needs = "data sets and what they need:\n" + report.fields([(n, DATASETS[n].needs) for n in DATASETS])
    looks = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser(prog=PROGRAM, description=DESCRIPTION, epilog=f"{EXAMPLES}\n\n{needs}", **looks)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, run, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=needs, **looks
        )
        command.set_defaults(run=run, parser=command)
        return command

    add("list", list_known, LIST_HELP)
    _prepare_options(add("prepare", prepare, PREPARE_HELP))
    _inspect_options(add("inspect", inspect, INSPECT_HELP))
    return parser


def _prepare_options(parser: argparse.ArgumentParser) -> None:
    _shared_options(parser)
    parser.add_argument("--no-download", action="store_true", help="use only what is there")


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    _shared_options(parser)
    add = parser.add_argument
    add("--output", metavar="FILE", type=Path, help="picture, .png, .pdf or .svg (default: <NAME>.png)")
    add("--classes", metavar="N", type=positive_int, default=5, help="rows of the picture (default: 5)")
    add("--force", action="store_true", help="replace a picture that exists")


def _shared_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", metavar="NAME", help=f"one of: {', '.join(DATASETS)}")
    add("--data-root", metavar="DIR", help="folder that holds the data sets' own folders")
    add("--step", metavar="T", type=positive_int, help="time-steps T (default: the data set's recipe)")
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


def list_known(args: Namespace) -> None:
    """The table of data sets, and what each needs."""
    header = ("name", "static images", "get", "T", "pixels", "classes", "recordings")
    rows = [_known(name, DATASETS[name]) for name in DATASETS]
    print(report.aligned(header, rows, n_left=3))
    print("\nWhat each needs:")
    print(report.fields([(name, DATASETS[name].needs) for name in DATASETS]))
    print(f"\nNext: {PROGRAM} prepare NAME --data-root DIR")


def _known(name: str, data_set: DataSet) -> tuple[str | int, ...]:
    options, _ = resolve(parse(["--target-dataset", name]))
    size, counts = options.event_size, data_set.counts
    published = (len(counts), sum(counts)) if counts else ("-", "-")
    return name, data_set.sources[0], data_set.get, options.step, f"{size} x {size}", *published


def prepare(args: Namespace) -> None:
    """Fetch, load, check, and say whether the data set is ready.

    Raises:
        UserError: the data set cannot be used; nothing else of it is wrong than the message says.
    """
    options, words = training_options(args)
    if args.data_set.fetch is not None and args.data_root is not None and not args.no_download:
        _fetch(args.data_set, Path(args.data_root))
    data, splits = load(options)
    found = report.checks(data, args.data_set.counts)
    audit = [report.Check(True, splits["clean"].audit)]
    print(report.headline(data))
    print(report.fields([*report.size_rows(data), ("frames", report.frames_text(data))]))
    print("\nChecks:")
    print(report.check_lines([*found, *audit]))
    print(f"\n{_cache_text(args.name)}")
    complete = report.completeness(data, args.data_set.counts).ok
    print(
        f"Ready: {data.target}." if complete else f"Ready, but not the published set: {_share(args, data)}."
    )
    print(f"Next: python main_transfer.py {shlex.join(words)}")


def training_options(args: Namespace) -> tuple[Namespace, list[str]]:
    """What training with the data set's own recipe resolves to, and its words on the command line."""
    words = ["--target-dataset", args.name]
    for option in ("data_root", "step", "event_size", "train_portion"):
        value = getattr(args, option)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    return resolve(parse(words))[0], words


def _fetch(data_set: DataSet, root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"Cannot make the data root {root}: {error.strerror}. Give a --data-root that can be written."
        ) from error
    data_set.fetch(root)


def load(options: Namespace) -> tuple[TransferData, dict[str, Split]]:
    """The data exactly as training loads them, and their split under each protocol.

    Raises:
        UserError: the data cannot be loaded or cannot be trained on.
    """
    from ..engine.compare import load_data  # the engine imports this package

    data = load_data(options)
    return data, {p: make_split(data, _with(options, protocol=p), options.seed[0]) for p in PROTOCOLS}


def _with(options: Namespace, **changes) -> Namespace:
    options = copy(options)
    vars(options).update(changes)
    return options


def _share(args: Namespace, data: TransferData) -> str:
    return f"{len(data.labels):,} of {sum(args.data_set.counts):,} recordings"


def _cache_text(name: str) -> str:
    folders = list(_cache_folders(name))
    if not folders:
        return f"Cache: nothing could be kept in {cache_root()}; every run decodes the files again."
    n_bytes = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    return f"Cache: {cache_root()}/{name}-*, {report.bytes_text(n_bytes)} for all settings used so far"


def _cache_folders(name: str) -> Iterator[Path]:
    """All folders of this data set, whatever T, size and data root they were made for."""
    for folder in sorted(cache_root().glob("*")):
        if re.fullmatch(f"{re.escape(name)}-[a-z]+-[0-9a-f]{{40}}", folder.name):
            yield folder


def inspect(args: Namespace) -> None:
    """Print the tables and write the picture.

    Raises:
        UserError: the data cannot be loaded, or the picture exists.
    """
    path = args.output or Path(f"{args.name}.png")
    picture.check_path(path, args.force)
    data, splits = load(training_options(args)[0])
    print(report.overview(data, splits))
    print("\nPer class:")
    print(report.class_table(data, args.data_set.counts, splits["clean"]))
    picture.save(data, path, args.classes)
    print(f"\nWritten: {path}")
