"""The work of ``tmkt data``: list the known data sets, get one ready, say what it holds."""

import shlex
import textwrap
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd

from .data import DATASETS, NO_TWIN, Split, TransferData, make_split
from .data.cache import cache_root
from .data.tree import listed
from .files import PICTURES, check_output
from .options import parse, resolve

PROTOCOLS = ("clean", "he2024")
MANY, SHOWN = 20, 10  # a table of more classes shows as many, the smallest and the largest
MOST_DIFFERING = 110  # more than N-Caltech101 has classes, far fewer than N-Omniglot
OUTLIER = 100  # times fewer or more events than the median recording

Check = tuple[bool, str]  # False where a look at the files is worth it, and what was found


def list_known(args: Namespace) -> None:
    rows = []
    for name in DATASETS:
        options, data_set = resolve(parse(["--target-dataset", name]))[0], DATASETS[name]
        row = {"name": name, "static images": options.source_dataset, "get": data_set.get}
        row |= {"T": options.step, "pixels": options.event_size}
        row |= {"classes": len(data_set.counts) or "-", "recordings": sum(data_set.counts) or "-"}
        rows.append(row)
    needs = fields((name, DATASETS[name].needs) for name in DATASETS)
    print(f"{table(pd.DataFrame(rows))}\n\nWhat each needs:\n{needs}")
    print("\nNext: tmkt data prepare NAME --data-root DIR")


def prepare(args: Namespace) -> None:
    """Fetch, load, check, and say whether the data set is ready; a UserError if it is of no use."""
    options, words = _options(args)
    counts, fetch = DATASETS[args.name].counts, DATASETS[args.name].fetch
    if fetch is not None and args.data_root is not None and not args.no_download:
        Path(args.data_root).mkdir(parents=True, exist_ok=True)
        fetch(Path(args.data_root))
    data, splits = load(options)
    print(overview(data, splits))
    print("\nChecks:")
    print(fields(("ok" if ok else "look", said) for ok, said in checks(data, counts)))
    kept = sum(file.stat().st_size for file in cache_root().glob(f"{args.name}-*/*")) / 1e6
    print(f"\nCache: {cache_root()}/{args.name}-*, {kept:,.1f} MB for all settings used so far")
    share = f"{len(data.labels):,} of {sum(counts):,} recordings"
    whole = completeness(data, counts)[0]
    print(f"Ready: {data.target}." if whole else f"Ready, but not the published set: {share}.")
    print(f"Next: tmkt train {shlex.join(words)}")


def inspect(args: Namespace) -> None:
    """Print the tables and write the picture; a UserError if it exists or data cannot be loaded."""
    from . import inspect_picture as picture  # matplotlib

    path = args.output or Path(f"{args.name}.png")
    check_output(path, PICTURES, args.force)
    data, splits = load(_options(args)[0])
    print(overview(data, splits))
    print("\nPer class:")
    print(class_table(data, DATASETS[args.name].counts, splits["clean"]))
    picture.save(data, path, args.classes)
    print(f"\nWritten: {path}")


def _options(args: Namespace) -> tuple[Namespace, list[str]]:
    """What training with the data set's own recipe resolves to, and its words."""
    words = ["--target-dataset", args.name]
    for option in ("data_root", "step", "event_size", "train_portion", "window", "time_unit"):
        if (value := getattr(args, option)) is not None:
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


def overview(data: TransferData, splits: Mapping[str, Split]) -> str:
    """Sizes, split, the audit under each protocol, ``clean`` among them; spreads of recordings."""
    height, width = data.images.shape[1:]
    kind = str(data.frames.dtype).removeprefix("torch.")
    names = [data.classes[c] for c in np.unique(data.labels)]
    unused = len(data.labels) - len(data.train) - len(data.test)
    drawn = np.array([len(pool) for pool in splits["clean"].pools])
    pool = f"{drawn.sum():,} of {len(data.image_labels):,} images, {_range(drawn[drawn > 0])}"
    rows = [
        ("classes", f"{len(names):,} of {len(data.classes):,} have recordings: {listed(names)}"),
        ("recordings", f"{len(data.labels):,}"),
        ("images", f"{len(data.image_labels):,} of {width} x {height} pixels"),
        ("frames", f"{list(data.frames.shape)} {kind}, {data.frames.nbytes / 1e6:,.1f} MB"),
        ("split", f"{len(data.train):,} train, {len(data.test):,} test, {unused:,} unused"),
        ("static pool", f"{pool} per class"),
        *(("remark", remark) for remark in data.remarks),
        *((f"audit, {name}", split.audit) for name, split in splits.items()),
    ]
    emulated = ", events EMULATED from the images" if data.emulated else ""
    spreads = pd.DataFrame(data.statistics).agg(["min", "median", "mean", "max"]).T
    return (
        f"{data.source} -> {data.target}{emulated}\n{fields(rows)}\n\nOver recordings:\n"
        + spreads.to_string(float_format="{:,.0f}".format)
    )


def checks(data: TransferData, counts: Sequence[int]) -> list[Check]:
    """Findings about recordings and images; ``counts`` as for :func:`completeness`."""
    images, n_twins = per_class(data.image_labels, data), int((data.twins != NO_TWIN).sum())
    without = [name for name, n in zip(data.classes, images, strict=True) if not n]
    held = f"{len(data.image_labels):,} images, {_range(images[images > 0])} per class"
    known = f"{n_twins:,} of {len(data.twins):,} recordings have the image that they show"
    steps, n_events = data.frames.shape[1], data.statistics["n_events"]
    unsorted, median = data.statistics["n_unsorted"], np.median(n_events)
    off = ((n_events > 0) & (n_events * OUTLIER < median)) | (n_events > median * OUTLIER)
    short = f"recordings of less than {steps} us, too short for {steps} frames"
    return [
        completeness(data, counts),
        _none(data, "empty recordings", n_events == 0),
        _none(data, short, data.statistics["duration_us"] < steps),
        _none(data, f"recordings of {OUTLIER} times fewer or more events than the median's", off),
        _none(data, "recordings with timestamps out of order (sorted)", unsorted > 0),
        (not without, f"{held}; classes without image: {listed(without, 10) or 'none'}"),
        (n_twins == len(data.twins), known),
        *((False, remark) for remark in data.remarks),
    ]


def _none(data: TransferData, what: str, at_fault: np.ndarray) -> Check:
    names = [data.names[r] for r in np.flatnonzero(at_fault)]
    return not names, f"{what}: {len(names):,} ({listed(names)})" if names else f"{what}: none"


def completeness(data: TransferData, counts: Sequence[int]) -> Check:
    """Recordings per class against the published ``counts``, if there are any."""
    found, n = per_class(data.labels, data), len(data.labels)
    present = np.count_nonzero(found)
    if not counts:
        return True, f"{n:,} recordings in {present} classes; no published table to compare with"
    if found.tolist() == list(counts):
        return True, f"all {n:,} recordings in {len(counts)} classes, as published"
    rows = zip(data.classes, found, counts, strict=True)
    differing = [f"{name}: {some:,} of {full:,}" for name, some, full in rows if some != full]
    text = f"{n:,} of {sum(counts):,} recordings, in {present} of {len(counts)} classes; these "
    return False, f"{text}differ from the published table: {listed(differing, MOST_DIFFERING)}"


def class_table(data: TransferData, counts: Sequence[int], clean: Split) -> str:
    """Recordings and images per class, of many classes the smallest and the largest."""
    columns = {
        "class": data.classes,
        "recordings": per_class(data.labels, data),
        **({"published": counts} if counts else {}),
        "train": per_class(data.labels[data.train], data),
        "test": per_class(data.labels[data.test], data),
        "images": per_class(data.image_labels, data),
        "static pool": [len(pool) for pool in clean.pools],
    }
    rows = pd.DataFrame(columns)
    shown = rows[rows["recordings"] + rows["images"] > 0]
    if len(shown) > MANY:
        shown = shown.sort_values("recordings", kind="stable")
    none = len(rows) - len(shown)
    return table(shown) + (f"\n\n  neither recordings nor images: {none} classes" if none else "")


def table(rows: pd.DataFrame) -> str:
    """Columns under their names, numbers with commas; of many rows the first and the last."""
    cells = rows.map(lambda cell: cell if isinstance(cell, str) else f"{cell:,}")
    return cells.to_string(index=False, max_rows=SHOWN if len(rows) > MANY else None)


def fields(rows: Iterable[tuple[str, str]]) -> str:
    """Labels and texts in two columns, the texts wrapped; paths and names stay whole."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows)
    wrap = textwrap.TextWrapper(100, "  ", " " * (width + 4), break_on_hyphens=False)
    wrap.break_long_words = False
    return "\n".join(wrap.fill(f"{label:<{width}}  {text}") for label, text in rows)


def per_class(labels, data: TransferData) -> np.ndarray:
    """How often each class occurs, ``[classes]`` int64."""
    return np.bincount(np.asarray(labels), minlength=len(data.classes))


def _range(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
