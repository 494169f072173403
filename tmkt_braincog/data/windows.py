"""Long recordings to consecutive windows of one length."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .events import MAX_SPAN_US, Events


class Cut(NamedTuple):
    """Windows of one recording.

    ``marks``: of each its start after the first event, such as ``@100ms``, or nothing if it is the
    whole recording; ``rows``: of the events in each, in the file's order; ``empty``: windows
    without event, which are left out; ``shortened``: so is the recording's end.
    """

    marks: list[str]
    rows: list[np.ndarray]
    empty: int = 0
    shortened: bool = False


def check_span(events: Events, name: str) -> None:
    """A UserError if recording ``name`` is of more than an hour, as in another unit it would be."""
    if (span := int(np.ptp(events["t"]))) > MAX_SPAN_US:
        raise UserError(
            f"{name} is {span / 1e6:,.0f} s long; at most an hour was expected. Check the unit of "
            "its times (--time-unit), or cut it into files."
        )


def cut(events: Events, window_us: int) -> Cut:
    """Windows of ``window_us`` each, from the first event on, those without event left out.

    The rest is one, too, if it is half as long; what is no longer than a window stays whole.
    """
    t = events["t"]
    order = np.argsort(t, kind="stable")
    first, span = int(t[order[0]]), int(t[order[-1]]) - int(t[order[0]])
    if span <= window_us:
        return Cut([""], [np.arange(len(t))])
    n, rest = divmod(span, window_us)
    n += 2 * rest >= window_us
    edges = np.searchsorted(t, first + window_us * np.arange(n + 1), sorter=order)
    rows = [np.sort(order[a:b]) for a, b in pairwise(edges)]
    step, unit = (window_us // 1000, "ms") if window_us % 1000 == 0 else (window_us, "us")
    marks = [f"@{k * step}{unit}" for k in range(n) if len(rows[k])]
    return Cut(marks, [r for r in rows if len(r)], n - len(marks), bool(edges[-1] < len(t)))


def pieces(events: Events, window_us: int) -> dict[str, Events]:
    """The events of each window of :func:`cut`, by its mark."""
    found = cut(events, window_us)
    pairs = zip(found.marks, found.rows, strict=True)
    return {mark: {c: events[c][rows] for c in "xytp"} for mark, rows in pairs}
