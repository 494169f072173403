"""What a data set holds and whether that is sound, as text for a terminal of 100 columns."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .data import NO_TWIN, Split, TransferData
from .data.tree import listed

ALL_CLASSES, SHOWN = 20, 5  # a table of more classes shows the smallest and the largest few only
MOST_DIFFERING = 110  # more than N-Caltech101 has classes, far fewer than N-Omniglot
OUTLIER = 100  # times fewer or more events than the median recording

Check = tuple[bool, str]  # False where a look at the files is worth it, and what was found


def checks(data: TransferData, counts: Sequence[int]) -> list[Check]:
    """Findings about recordings and images.

    Args:
        counts: recordings per class as published; empty where there is no such table.
    """
    images = per_class(data.image_labels, data)
    held, n_twins = images[images > 0], int((data.twins != NO_TWIN).sum())
    without = [name for name, n in zip(data.classes, images, strict=True) if not n]
    text = (
        f"{len(data.image_labels):,} images, {_range(held)} per class{_without(without, 'image')}"
    )
    known = f"{n_twins:,} of {len(data.twins):,} recordings have the image that they show"
    return [
        completeness(data, counts),
        *_recording_checks(data),
        (not without, text),
        (n_twins == len(data.twins), f"{known} (static twin)"),
        *((False, remark) for remark in data.remarks),
    ]


def completeness(data: TransferData, counts: Sequence[int]) -> Check:
    """Recordings per class against the published ``counts``; every class that differs is named."""
    found, n = per_class(data.labels, data), len(data.labels)
    present = np.count_nonzero(found)
    if not counts:
        return True, f"{n:,} recordings in {present} classes; no published table to compare with"
    if found.tolist() == list(counts):
        return True, f"all {n:,} recordings in {len(counts)} classes, as published"
    rows = list(zip(data.classes, found.tolist(), counts, strict=True))
    differing = [f"{name}: {n:,} of {full:,}" for name, n, full in rows if n and n != full]
    absent = [name for name, n, full in rows if full and not n]
    text = f"{n:,} of {sum(counts):,} recordings, in {present} of {len(counts)} classes"
    if differing:
        text += "; these classes differ from the published table: "
        text += listed(differing, MOST_DIFFERING)
    return False, text + _without(absent, "recording")


def _without(names: Sequence[str], what: str) -> str:
    have = _plural(len(names), "class has", "classes have")
    return f"; {have} no {what}: {listed(names, 10)}" if names else ""


def _recording_checks(data: TransferData) -> list[Check]:
    steps, n_events = data.frames.shape[1], data.statistics["n_events"]
    unsorted, median = data.statistics["n_unsorted"], np.median(n_events)
    off = ((n_events > 0) & (n_events * OUTLIER < median)) | (n_events > median * OUTLIER)
    short = f"less than {steps} us, too short for {steps} frames"
    far = f"less than 1/{OUTLIER} or more than {OUTLIER} times the median's events"
    late = f"had timestamps out of order ({unsorted.sum():,} events; sorted)"
    found = []
    for at_fault, one, many in (
        (n_events == 0, "is empty", "are empty"),
        (data.statistics["duration_us"] < steps, f"lasts {short}", f"last {short}"),
        (off, f"has {far}", f"have {far}"),
        (unsorted > 0, late, late),
    ):
        names = [data.names[r] for r in np.flatnonzero(at_fault)]
        said = _plural(len(names), f"recording {one}", f"recordings {many}")
        sound = f"no recording {one.partition(' (')[0]}"
        found.append((False, f"{said}: {listed(names)}") if names else (True, sound))
    return found


def headline(data: TransferData) -> str:
    kind = ", events EMULATED from the images" if data.emulated else ""
    return f"{data.source} -> {data.target}{kind}"


def sizes(data: TransferData) -> list[tuple[str, str]]:
    """How much there is, and the spread over recordings."""
    height, width = data.images.shape[1:]
    kind = str(data.frames.dtype).removeprefix("torch.")
    return [
        ("recordings", f"{len(data.labels):,}"),
        ("images", f"{len(data.image_labels):,} of {width} x {height} pixels"),
        ("events", _spread(data.statistics["n_events"], "")),
        ("duration", _spread(data.statistics["duration_us"] / 1000, " ms", 1)),
        ("sensor", _sensor(data)),
        ("frames", f"{list(data.frames.shape)} {kind}, {bytes_text(data.frames.nbytes)}"),
    ]


def overview(data: TransferData, splits: Mapping[str, Split]) -> list[tuple[str, str]]:
    """Sizes, spreads, split and audits.

    Args:
        splits: by protocol; ``clean`` is one of them.
    """
    found = per_class(data.labels, data)
    names = [name for name, n in zip(data.classes, found, strict=True) if n]
    unused = len(data.labels) - len(data.train) - len(data.test)
    drawn = np.array([len(pool) for pool in splits["clean"].pools])
    pool = f"{drawn.sum():,} of {len(data.image_labels):,} images, {_range(drawn[drawn > 0])}"
    return [
        ("classes", f"{len(names):,} of {len(data.classes):,} have recordings: {listed(names)}"),
        *sizes(data),
        ("split", f"{len(data.train):,} train, {len(data.test):,} test, {unused:,} unused"),
        ("static pool", f"{pool} per class"),
        ("static twins", f"known for {int((data.twins != NO_TWIN).sum()):,} recordings"),
        *((f"audit, {name}", split.audit) for name, split in splits.items()),
        *(("remark", remark) for remark in data.remarks),
    ]


def class_table(data: TransferData, counts: Sequence[int], clean: Split) -> str:
    """Recordings and images per class, of many classes the smallest and the largest five."""
    recordings, images = per_class(data.labels, data), per_class(data.image_labels, data)
    columns = {
        "class": list(data.classes),
        "recordings": recordings,
        **({"published": list(counts)} if counts else {}),
        "train": per_class(data.labels[data.train], data),
        "test": per_class(data.labels[data.test], data),
        "images": images,
        "static pool": [len(pool) for pool in clean.pools],
    }
    rows = list(zip(*columns.values(), strict=True))
    shown = [row for row, n in zip(rows, recordings + images, strict=True) if n]
    none = len(rows) - len(shown)
    if len(shown) > ALL_CLASSES:
        shown.sort(key=lambda row: row[1])
        gap = ("...", *[""] * (len(columns) - 1))
        shown = [*shown[:SHOWN], gap, *shown[-SHOWN:]]
    said = f"\n  {_plural(none, 'class has', 'classes have')} neither recordings nor images"
    return table(list(columns), shown) + (said if none else "")


def table(header: Sequence[str], rows: Iterable[Sequence], n_left: int = 1) -> str:
    """Columns under their names, the first ones to the left, the others, numbers, to the right."""
    cells = [[c if isinstance(c, str) else f"{c:,}" for c in row] for row in rows]
    columns = [[str(name), *column] for name, *column in zip(header, *cells, strict=True)]
    for i, column in enumerate(columns):
        width, side = max(map(len, column)), str.ljust if i < n_left else str.rjust
        column[:] = [side(cell, width) for cell in column]
    return "\n".join("  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True))


def fields(rows: Iterable[tuple[str, str]]) -> str:
    """Labels and texts in two columns, the texts wrapped; paths and names stay whole."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows)
    wrapper = textwrap.TextWrapper(100, break_long_words=False, break_on_hyphens=False)
    wrapper.subsequent_indent = " " * (width + 4)
    lines = []
    for label, text in rows:
        wrapper.initial_indent = f"  {label:<{width}}  "
        lines += wrapper.wrap(text)
    return "\n".join(lines)


def _spread(values: np.ndarray, unit: str, digits: int = 0) -> str:
    """Four numbers in columns, so that two such rows stand under each other."""
    numbers = {name: getattr(np, name)(values) for name in ("min", "median", "mean", "max")}
    shown = {name: f"{value:,.{digits}f}{unit}" for name, value in numbers.items()}
    return "   ".join(f"{name} {value:<10}" for name, value in shown.items()).rstrip()


def _sensor(data: TransferData) -> str:
    """Width x height in pixels, or their ranges where each recording has its own."""
    width, height = data.statistics["width"], data.statistics["height"]
    n = len(np.unique(np.stack([width, height]), axis=1).T)
    return f"{f'{n:,} sizes, ' if n > 1 else ''}{_range(width)} x {_range(height)} pixels"


def per_class(labels, data: TransferData) -> np.ndarray:
    """How often each class occurs, ``[classes]`` int64."""
    return np.bincount(np.asarray(labels), minlength=len(data.classes))


def bytes_text(n: float) -> str:
    """A size in decimal units, such as 1.6 GB."""
    if n < 1000:
        return f"{n:,} bytes"
    power = min(int(np.log10(n) // 3), 3)
    return f"{n / 1000**power:,.1f} {('kB', 'MB', 'GB')[power - 1]}"


def _range(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _plural(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
