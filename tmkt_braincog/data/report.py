"""What a data set holds and whether that is sound, as text for a terminal of 100 columns."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .base import NO_TWIN, TransferData
from .splits import Split

WIDTH = 100
FEW = 5  # names shown of a long list
ALL_CLASSES = 20  # a table of more classes shows the smallest and the largest few only
MOST_DIFFERING = 110  # more than N-Caltech101 has classes, far fewer than N-Omniglot
OUTLIER = 100  # times fewer or more events than the median recording


class Check(NamedTuple):
    """One finding; ``ok`` is False where a look at the files is worth it."""

    ok: bool
    text: str


def checks(data: TransferData, counts: Sequence[int]) -> list[Check]:
    """Findings about recordings and images.

    Args:
        counts: recordings per class as published; empty where there is no such table.
    """
    return [
        completeness(data, counts),
        *_recording_checks(data),
        *_image_checks(data),
        *(Check(False, remark) for remark in data.remarks),
    ]


def completeness(data: TransferData, counts: Sequence[int]) -> Check:
    """Recordings per class against the published ``counts``; every class that differs is named."""
    found, n = per_class(data.labels, data), len(data.labels)
    if not counts:
        return Check(
            True,
            f"{n:,} recordings in {np.count_nonzero(found)} classes; no published table to compare with",
        )
    if found.tolist() == list(counts):
        return Check(True, f"all {n:,} recordings in {len(counts)} classes, as published")
    rows = list(zip(data.classes, found.tolist(), counts, strict=True))
    differing = [
        f"{name}: {here:,} of {full:,}" for name, here, full in rows if here and here != full
    ]
    absent = [name for name, here, full in rows if full and not here]
    text = f"{n:,} of {sum(counts):,} recordings, in {np.count_nonzero(found)} of {len(counts)} classes"
    if differing:
        text += (
            f"; these classes differ from the published table: {listed(differing, MOST_DIFFERING)}"
        )
    if absent:
        text += f"; {_plural(len(absent), 'class has', 'classes have')} no recording: {listed(absent, 2 * FEW)}"
    return Check(False, text)


def _recording_checks(data: TransferData) -> list[Check]:
    steps = data.frames.shape[1]
    n_events, duration = data.statistics["n_events"], data.statistics["duration_us"]
    unsorted, median = data.statistics["n_unsorted"], np.median(n_events)
    few = (n_events > 0) & (n_events * OUTLIER < median)
    return [
        _named(data, n_events == 0, "recording is empty", "recordings are empty"),
        _named(
            data,
            duration < steps,
            f"recording lasts less than {steps} us, too short for {steps} frames",
            f"recordings last less than {steps} us, too short for {steps} frames",
        ),
        _named(
            data,
            few | (n_events > median * OUTLIER),
            f"recording has less than 1/{OUTLIER} or more than {OUTLIER} times the median's events",
            f"recordings have less than 1/{OUTLIER} or more than {OUTLIER} times the median's events",
        ),
        _named(
            data,
            unsorted > 0,
            f"recording had timestamps out of order ({unsorted.sum():,} events; sorted)",
            f"recordings had timestamps out of order ({unsorted.sum():,} events; sorted)",
        ),
    ]


def _named(data: TransferData, at_fault: np.ndarray, one: str, many: str) -> Check:
    names = [data.names[r] for r in np.flatnonzero(at_fault)]
    if not names:
        return Check(True, f"no {one.partition(' (')[0]}")
    return Check(False, f"{_plural(len(names), one, many)}: {listed(names)}")


def _image_checks(data: TransferData) -> list[Check]:
    found, n = per_class(data.image_labels, data), len(data.image_labels)
    without = [name for name, k in zip(data.classes, found, strict=True) if not k]
    held = found[found > 0]
    text = f"{n:,} images, {_range(held)} per class"
    if without:
        text += f"; {_plural(len(without), 'class has', 'classes have')} no image: {listed(without, 2 * FEW)}"
    n_twins = int((data.twins != NO_TWIN).sum())
    return [
        Check(not without, text),
        Check(
            n_twins == len(data.twins),
            f"{n_twins:,} of {len(data.twins):,} recordings have the image that they show (static twin)",
        ),
    ]


def check_lines(found: Iterable[Check]) -> str:
    """One marked paragraph per finding."""
    return "\n".join(_hanging("  ok    " if ok else "  look  ", text) for ok, text in found)


def overview(data: TransferData, splits: Mapping[str, Split]) -> str:
    """Sizes, spreads, split and audits.

    Args:
        splits: by protocol; ``clean`` is one of them.
    """
    present = per_class(data.labels, data) > 0
    names = [name for name, there in zip(data.classes, present, strict=True) if there]
    rows = [
        ("classes", f"{len(names):,} of {len(data.classes):,} have recordings: {listed(names)}"),
        *size_rows(data),
        ("frames", frames_text(data)),
        ("split", _split(data)),
        ("static pool", _pool(splits["clean"], data)),
        ("static twins", f"known for {int((data.twins != NO_TWIN).sum()):,} recordings"),
        *((f"audit, {name}", split.audit) for name, split in splits.items()),
        *(("remark", remark) for remark in data.remarks),
    ]
    return f"{headline(data)}\n{fields(rows)}"


def headline(data: TransferData) -> str:
    kind = ", events EMULATED from the images" if data.emulated else ""
    return f"{data.source} -> {data.target}{kind}"


def size_rows(data: TransferData) -> list[tuple[str, str]]:
    """How much there is, and the spread over recordings."""
    return [
        ("recordings", f"{len(data.labels):,}"),
        ("images", f"{len(data.image_labels):,} of {_by(data.images.shape[1:])} pixels"),
        *_spread_rows(data),
        ("sensor", sensor(data)),
    ]


def _spread_rows(data: TransferData) -> list[tuple[str, str]]:
    """Events and duration per recording: minimum, median, mean and maximum."""
    return [
        ("events", _spread(data.statistics["n_events"], "")),
        ("duration", _spread(data.statistics["duration_us"] / 1000, " ms", 1)),
    ]


def _spread(values: np.ndarray, unit: str, digits: int = 0) -> str:
    """Four numbers in columns, so that two such rows stand under each other."""
    what = (("min", np.min), ("median", np.median), ("mean", np.mean), ("max", np.max))
    return "   ".join(
        f"{name} {f'{of(values):,.{digits}f}{unit}':<10}" for name, of in what
    ).rstrip()


def sensor(data: TransferData) -> str:
    """Width x height in pixels, or their ranges where each recording has its own."""
    width, height = data.statistics["width"], data.statistics["height"]
    n = len(np.unique(np.stack([width, height]), axis=1).T)
    if n == 1:
        return f"{width[0]} x {height[0]} pixels"
    return f"{n:,} sizes, {_range(width)} x {_range(height)} pixels"


def _split(data: TransferData) -> str:
    unused = len(data.labels) - len(data.train) - len(data.test)
    return f"{len(data.train):,} train, {len(data.test):,} test, {unused:,} unused"


def _pool(clean: Split, data: TransferData) -> str:
    sizes = np.array([len(pool) for pool in clean.pools])
    return f"{len(clean.static):,} of {len(data.image_labels):,} images, {_range(sizes[sizes > 0])} per class"


def class_table(data: TransferData, counts: Sequence[int], clean: Split) -> str:
    """Recordings and images per class, of many classes the smallest and the largest five.

    Args:
        counts: as in :func:`checks`.
        clean: the split under ``--protocol clean``, for the last column.
    """
    columns = {"class": list(data.classes), "recordings": per_class(data.labels, data).tolist()}
    if counts:
        columns["published"] = list(counts)
    columns["train"] = per_class(data.labels[data.train], data).tolist()
    columns["test"] = per_class(data.labels[data.test], data).tolist()
    columns["images"] = per_class(data.image_labels, data).tolist()
    columns["static pool"] = [len(pool) for pool in clean.pools]
    rows = list(zip(*columns.values(), strict=True))
    anything = per_class(data.labels, data) + per_class(data.image_labels, data) > 0
    held = [row for row, there in zip(rows, anything, strict=True) if there]
    text = aligned(list(columns), _extremes(held))
    if len(held) < len(rows):
        text += f"\n  {_plural(len(rows) - len(held), 'class has', 'classes have')} neither recordings nor images"
    return text


def _extremes(rows: list[tuple]) -> list[tuple]:
    if len(rows) <= ALL_CLASSES:
        return rows
    ranked = sorted(rows, key=lambda row: row[1])
    return [*ranked[:FEW], ("...", *[""] * (len(rows[0]) - 1)), *ranked[-FEW:]]


def aligned(header: Sequence[str], rows: Iterable[Sequence[str | int]], n_left: int = 1) -> str:
    """A table: the first columns to the left, the others, numbers, to the right."""
    cells = [list(header), *([c if isinstance(c, str) else f"{c:,}" for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    sides = [str.ljust] * n_left + [str.rjust] * (len(widths) - n_left)
    return "\n".join(
        "  "
        + "  ".join(
            side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)
        ).rstrip()
        for row in cells
    )


def fields(rows: Sequence[tuple[str, str]]) -> str:
    """Labels and texts in two columns, the texts wrapped."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(_hanging(f"  {label.ljust(width)}  ", text) for label, text in rows)


def _hanging(label: str, text: str) -> str:
    """Wrapped beside its label; paths and names stay whole."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    )


def per_class(labels, data: TransferData) -> np.ndarray:
    """How often each class occurs, ``[classes]`` int64."""
    return np.bincount(np.asarray(labels), minlength=len(data.classes))


def listed(names: Sequence[str], most: int = FEW) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def frames_text(data: TransferData) -> str:
    """Shape, type and memory."""
    n_bytes = data.frames.numel() * data.frames.element_size()
    dtype = str(data.frames.dtype).removeprefix("torch.")
    return f"{list(data.frames.shape)} {dtype}, {bytes_text(n_bytes)}"


def bytes_text(n: int) -> str:
    """A size in decimal units, such as 1.6 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n < 1000 or unit == "GB":
            return f"{n:,} bytes" if unit == "bytes" else f"{n:,.1f} {unit}"
        n /= 1000


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape[::-1]))


def _range(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _plural(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
