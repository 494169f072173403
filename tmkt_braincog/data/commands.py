"""The work of ``tmkt data``: get a data set ready, look at it, list those that are known."""

import re
import shlex
from argparse import Namespace
from collections.abc import Iterator
from copy import copy
from pathlib import Path

from ..errors import UserError
from ..options import parse, resolve
from . import picture, report
from .base import DATASETS, DataSet, TransferData, cache_root
from .splits import Split, make_split

PROTOCOLS = ("clean", "he2024")


def list_known(args: Namespace) -> None:
    """The table of data sets, and what each needs."""
    header = ("name", "static images", "get", "T", "pixels", "classes", "recordings")
    rows = [_known(name, DATASETS[name]) for name in DATASETS]
    print(report.aligned(header, rows, n_left=3))
    print("\nWhat each needs:")
    print(report.fields([(name, DATASETS[name].needs) for name in DATASETS]))
    print("\nNext: tmkt data prepare NAME --data-root DIR")


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
    if (
        DATASETS[args.name].fetch is not None
        and args.data_root is not None
        and not args.no_download
    ):
        _fetch(DATASETS[args.name], Path(args.data_root))
    data, splits = load(options)
    found = report.checks(data, DATASETS[args.name].counts)
    audit = [report.Check(True, splits["clean"].audit)]
    print(report.headline(data))
    print(report.fields([*report.size_rows(data), ("frames", report.frames_text(data))]))
    print("\nChecks:")
    print(report.check_lines([*found, *audit]))
    print(f"\n{_cache_text(args.name)}")
    complete = report.completeness(data, DATASETS[args.name].counts).ok
    print(
        f"Ready: {data.target}."
        if complete
        else f"Ready, but not the published set: {_share(args, data)}."
    )
    print(f"Next: tmkt train {shlex.join(words)}")


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
    return data, {
        p: make_split(data, _with(options, protocol=p), options.seed[0]) for p in PROTOCOLS
    }


def _with(options: Namespace, **changes) -> Namespace:
    options = copy(options)
    vars(options).update(changes)
    return options


def _share(args: Namespace, data: TransferData) -> str:
    return f"{len(data.labels):,} of {sum(DATASETS[args.name].counts):,} recordings"


def _cache_text(name: str) -> str:
    folders = list(_cache_folders(name))
    if not folders:
        return f"Cache: nothing could be kept in {cache_root()}; every run decodes the files again."
    n_bytes = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    return (
        f"Cache: {cache_root()}/{name}-*, {report.bytes_text(n_bytes)} for all settings used so far"
    )


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
    print(report.class_table(data, DATASETS[args.name].counts, splits["clean"]))
    picture.save(data, path, args.classes)
    print(f"\nWritten: {path}")
