"""Read and check address events: x, y in pixels, t in microseconds, p = 1 for ON.

Readers give columns of equal length E >= 1 in the file's order: x, y (int16), t (int64), p (uint8);
all else takes any structured array with these field names as well, such as tonic's. For a file that
is missing, damaged or of another format they raise a :class:`UserError` that names it.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import aedat
import numpy as np

from ..errors import UserError

Events = Mapping[str, np.ndarray] | np.ndarray  # a structured array: indexed by the same names

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])
COLUMNS = {"x": np.int16, "y": np.int16, "t": np.int64, "p": np.uint8}

MAX_SPAN_US = 3_600_000_000  # recordings of these data sets last seconds
MAX_SIDE = 2048  # pixels of a sensor; frames of a larger one take gigabytes

MARK_Y = 240  # of a .bin file: a record with this y is no event, the 13-bit timer wrapped


def make_events(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Join four ``[E]`` integer columns into one ``[E]`` array of :data:`EVENT_DTYPE`."""
    events = np.empty(len(t), EVENT_DTYPE)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def read_bin(path: str | Path) -> Events:
    """One ATIS ``.bin`` recording, the format of N-MNIST and N-Caltech101.

    Five bytes per event: x, y, one bit of polarity and 23 bits of time, most significant byte first
    (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets using
    saccades"). A record with y = 240 marks a timer overflow and adds 2**13 us to every later event.
    Values equal those of ``tonic.io.read_mnist_file``.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"No recording at {path}, or one that cannot be read: {error}.") from error
    if raw.size % 5:
        raise UserError(f"{path} is truncated: {raw.size} bytes, not 5 per event. Get it again.")
    x, y, high, middle, low = raw.reshape(-1, 5).T
    word = high.astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    columns = {"x": x, "y": y, "t": word & 2**23 - 1, "p": word >> 23}
    is_mark = y == MARK_Y
    if is_mark.any():
        columns["t"] += 2**13 * np.cumsum(is_mark)
        columns = {name: column[~is_mark] for name, column in columns.items()}
    if not len(columns["t"]):
        raise UserError(f"{path} is empty, or holds only timer marks. Get it again.")
    return {name: columns[name].astype(dtype) for name, dtype in COLUMNS.items()}


def to_bin(events: Events) -> bytes:
    """Events (x, y to 239, t to 8.3 s) as the bytes of a file that :func:`read_bin` reads."""
    x, y, t, p = (np.asarray(events[column]).astype(np.int64) for column in "xytp")
    if len(t) and (max(x.max(), y.max()) >= MARK_Y or t.max() >= 2**23 or t.min() < 0):
        raise UserError(
            f"Events with x to {x.max()}, y to {y.max()}, t from {t.min()} to {t.max()} us do not "
            f"fit a .bin file: x, y below {MARK_Y} and t from 0 to {2**23 - 1} are expected."
        )
    parts = (x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255)
    return np.stack(parts, 1).astype(np.uint8).tobytes()


def read_aedat4(path: str | Path) -> tuple[Events, tuple[int, int]]:
    """The lowest-numbered stream of events of an AEDAT4 file, and the sensor's (W, H) by the file.

    Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html.
    Nothing tells that a file that was not closed, and so has no table, was cut after a packet.
    """
    try:
        decoder = aedat.Decoder(str(path))
        streams = {i: s for i, s in decoder.id_to_stream().items() if s["type"] == "events"}
        first = min(streams, default=None)
        parts = [p["events"] for p in decoder if p["stream_id"] == first and len(p["events"])]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the decoder is not an Exception
        raise UserError(
            f"Cannot read {path}: {error}. It is missing, truncated or damaged; get it again."
        ) from None
    if first is None or not parts:
        raise UserError(f"{path} holds no event. Check that it belongs to this data set.")
    names = zip(COLUMNS.items(), ("x", "y", "t", "on"), strict=True)
    events = {n: np.concatenate([p[of].astype(dtype) for p in parts]) for (n, dtype), of in names}
    return events, (streams[first]["width"], streams[first]["height"])


def shift_to_origin(events: Events) -> tuple[Events, tuple[int, int]]:
    """The events (E >= 1) moved to x, y >= 0, and the (W, H) that they then span.

    Recordings that are of the sizes of their images are each their own sensor, as in BrainCog.
    """
    x, y = (events[axis] - events[axis].min() for axis in ("x", "y"))
    moved = {"x": x, "y": y, "t": events["t"], "p": events["p"]}
    return moved, extent(moved)


def extent(events: Events) -> tuple[int, int]:
    """(W, H) of the smallest sensor that has these events."""
    return int(events["x"].max(initial=0)) + 1, int(events["y"].max(initial=0)) + 1


def windows(events: Events, length_us: int | None) -> dict[str, Events]:
    """The events of consecutive windows, from the first event on, by their starts (``@100ms``).

    Windows without event are left out; the rest is one if it is half as long. Of what is no longer
    than a window, or where there is no length, all by ``""``.
    """
    t = events["t"]
    if length_us is None or np.ptp(t) <= length_us:
        return {"": events}
    order = np.argsort(t, kind="stable")
    ends = length_us * np.arange(n_windows(np.ptp(t), length_us) + 1)
    edges = np.searchsorted(t, t[order[0]] + ends, sorter=order)
    step, unit = (length_us // 1000, "ms") if length_us % 1000 == 0 else (length_us, "us")
    found: dict[str, Events] = {}
    for k, (start, end) in enumerate(pairwise(edges)):
        if end > start:
            rows = np.sort(order[start:end])
            found[f"@{k * step}{unit}"] = {c: events[c][rows] for c in "xytp"}
    return found


def n_windows(span_us: Any, length_us: int) -> Any:
    """How many windows, empty ones too, a longer recording or an array of such is cut into."""
    return span_us // length_us + (2 * (span_us % length_us) >= length_us)


def check_span(events: Events, name: str) -> None:
    """A UserError if recording ``name`` is of more than an hour, as in another unit it would be."""
    first, last = int(events["t"].min()), int(events["t"].max())
    if last - first > MAX_SPAN_US:
        raise UserError(
            f"{name} has times from {first} to {last} us and is {(last - first) / 1e6:,.0f} s "
            "long; at most an hour was expected. Check the unit of its times (--time-unit, for "
            "recordings of your own), get it again, or cut it into files."
        )


def check_events(events: Events, sensor_size: tuple[int, int], name: str) -> tuple[Events, int]:
    """Events of any reader (sensor of (W, H) pixels), stably sorted by time, and how many were not.

    Raises:
        UserError: no events in recording ``name``, one outside the sensor, or more than an hour.
    """
    x, y, t, p = (events[column] for column in "xytp")
    width, height = sensor_size
    if not len(t):
        raise UserError(f"{name} holds no event. Replace the recording.")
    if max(sensor_size) > MAX_SIDE:
        raise UserError(
            f"{name} is of a sensor of {width} x {height} pixels, or has an event far from the "
            f"others; at most {MAX_SIDE} a side were expected. Get the recording again."
        )
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p > 1)
    if outside.any():
        i = int(np.argmax(outside))
        raise UserError(
            f"{name}: {int(outside.sum())} of {len(p)} events lie outside the {width} x {height} "
            f"sensor: seen were x from {x.min()} to {x.max()} and y from {y.min()} to {y.max()}, "
            f"expected 0 to {width - 1} and 0 to {height - 1}; the first is event {i} with "
            f"x={x[i]}, y={y[i]}, p={p[i]} (0 or 1 was expected). Check that the file belongs to "
            "this data set, or give the (W, H) of the sensor that recorded it."
        )
    n_unsorted = int(np.count_nonzero(t[1:] < t[:-1]))
    if n_unsorted:
        order = np.argsort(t, kind="stable")
        events = {column: events[column][order] for column in "xytp"}
    check_span(events, name)
    return events, n_unsorted
