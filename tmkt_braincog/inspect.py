"""The work of ``tmkt data``: get a data set ready, look at it, list those that are known."""

import re
import shlex
from argparse import Namespace
from copy import copy
from pathlib import Path

from . import inspect_text as text
from .data import DATASETS, Split, TransferData, make_split
from .data.base import cache_root
from .errors import UserError
from .options import parse, resolve

PROTOCOLS = ("clean", "he2024")


def list_known(args: Namespace) -> None:
    """The table of data sets, and what each needs."""
    header = ("name", "static images", "get", "T", "pixels", "classes", "recordings")
    rows = []
    for name in DATASETS:
        options, data_set = resolve(parse(["--target-dataset", name]))[0], DATASETS[name]
        counts = data_set.counts
        published = (len(counts), sum(counts)) if counts else ("-", "-")
        size = f"{options.event_size} x {options.event_size}"
        rows.append((name, data_set.sources[0], data_set.get, options.step, size, *published))
    print(text.table(header, rows, n_left=3))
    print("\nWhat each needs:")
    print(text.fields((name, DATASETS[name].needs) for name in DATASETS))
    print("\nNext: tmkt data prepare NAME --data-root DIR")


def prepare(args: Namespace) -> None:
    """Fetch, load, check, and say whether the data set is ready.

    Raises:
        UserError: the data set cannot be used.
    """
    options, words = _options(args)
    data_set = DATASETS[args.name]
    if data_set.fetch is not None and args.data_root is not None and not args.no_download:
        root = Path(args.data_root)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"Cannot make the data root {root}: {error.strerror}. Give a --data-root that can "
                "be written."
            ) from error
        data_set.fetch(root)
    data, splits = load(options)
    print(text.headline(data))
    print(text.fields(text.sizes(data)))
    print("\nChecks:")
    found = [*text.checks(data, data_set.counts), (True, splits["clean"].audit)]
    print(text.fields(("ok" if ok else "look", said) for ok, said in found))
    print(f"\n{_cache_text(args.name)}")
    complete, _ = text.completeness(data, data_set.counts)
    share = f"{len(data.labels):,} of {sum(data_set.counts):,} recordings"
    print(f"Ready: {data.target}." if complete else f"Ready, but not the published set: {share}.")
    print(f"Next: tmkt train {shlex.join(words)}")


def inspect(args: Namespace) -> None:
    """Print the tables and write the picture.

    Raises:
        UserError: the data cannot be loaded, or the picture exists.
    """
    from . import inspect_picture as picture  # matplotlib

    path = args.output or Path(f"{args.name}.png")
    picture.check_path(path, args.force)
    data, splits = load(_options(args)[0])
    print(text.headline(data))
    print(text.fields(text.overview(data, splits)))
    print("\nPer class:")
    print(text.class_table(data, DATASETS[args.name].counts, splits["clean"]))
    picture.save_picture(data, path, args.classes)
    print(f"\nWritten: {path}")


def _options(args: Namespace) -> tuple[Namespace, list[str]]:
    """What training with the data set's own recipe resolves to, and its words."""
    words = ["--target-dataset", args.name]
    for option in ("data_root", "step", "event_size", "train_portion"):
        value = getattr(args, option)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    return resolve(parse(words))[0], words


def load(options: Namespace) -> tuple[TransferData, dict[str, Split]]:
    """The data exactly as training loads them, and their split under each protocol."""
    from .engine.compare import load_data  # the models' libraries

    data, splits = load_data(options), {}
    for protocol in PROTOCOLS:
        options = copy(options)
        options.protocol = protocol
        splits[protocol] = make_split(data, options, options.seed[0])
    return data, splits


def _cache_text(name: str) -> str:
    """How much is kept of this data set, whatever T, size and data root it was made for."""
    root, pattern = cache_root(), re.compile(f"{re.escape(name)}-[a-z]+-[0-9a-f]{{40}}")
    folders = [folder for folder in root.glob("*") if pattern.fullmatch(folder.name)]
    if not folders:
        return f"Cache: nothing could be kept in {root}; every run decodes the files again."
    n_bytes = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    return f"Cache: {root}/{name}-*, {text.bytes_text(n_bytes)} for all settings used so far"
