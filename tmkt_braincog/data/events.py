"""Read and check address events: (x, y, t, p), time in microseconds, polarity 1 = ON.

Events are four columns of equal length E: a dict of arrays as the readers here return it, or any structured
array with these field names, such as tonic's.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import UserError

log = logging.getLogger(__name__)

Events = Mapping[str, np.ndarray]  # or a structured array: indexed by the same names

EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])

BYTES_PER_EVENT = 5
TIMER_MARK_Y = 240  # a record with this y is no event: the sensor's 13-bit timer wrapped
TIMER_PERIOD_US = 2**13
MAX_SPAN_US = 3_600_000_000  # recordings of these data sets last seconds
MAX_SIDE = 2048  # pixels of a sensor; frames of a larger one take gigabytes


def make_events(x: np.ndarray, y: np.ndarray, t: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Join four ``[E]`` integer columns into one ``[E]`` array of :data:`EVENT_DTYPE`."""
    events = np.empty(len(t), EVENT_DTYPE)
    events["x"], events["y"], events["t"], events["p"] = x, y, t, p
    return events


def read_bin(path: str | Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read one ATIS ``.bin`` recording, the format of N-MNIST and N-Caltech101.

    Five bytes per event: x, y, then one bit of polarity and 23 bits of time, most significant byte
    first (Orchard et al. 2015, "Converting static image datasets to spiking neuromorphic datasets
    using saccades"). A record with y = 240 marks a timer overflow and adds 2**13 us to every later
    event. Values equal those of ``tonic.io.read_mnist_file``.

    Args:
        path: the file.
        sensor_size: (W, H) in pixels; checked where given.

    Returns:
        Columns x, y (int16, pixels), t (int64, us), p (uint8, 0 OFF, 1 ON) of length E >= 1, in the
        file's order; :func:`sort_by_time` puts them into the order of time.

    Raises:
        UserError: missing, unreadable, empty or truncated file; event outside the sensor.
    """
    try:
        raw = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise UserError(
            f"No recording at {path}. Check the data folder, or download it again."
        ) from None
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error}. A readable .bin file was expected."
        ) from error
    if not raw.size or raw.size % BYTES_PER_EVENT:
        raise UserError(
            f"{path} is {'truncated' if raw.size else 'empty'}: {raw.size} bytes; {BYTES_PER_EVENT} per "
            "event were expected. Download or copy it again."
        )
    records = raw.reshape(-1, BYTES_PER_EVENT)
    t = (records[:, 2] & 127).astype(np.int64)
    for byte in (3, 4):
        t <<= 8
        t |= records[:, byte]
    is_mark = records[:, 1] == TIMER_MARK_Y
    if is_mark.any():
        t += TIMER_PERIOD_US * np.cumsum(is_mark)
        records, t = records[~is_mark], t[~is_mark]
    if not len(t):
        raise UserError(f"{path} holds no event, only timer marks. Download the recording again.")
    x, y = (records[:, column].astype(np.int16) for column in (0, 1))
    events = {"x": x, "y": y, "t": t, "p": records[:, 2] >> 7}
    if sensor_size is not None:
        check_range(events, sensor_size, str(path))
    return events


def check_range(events: Events, sensor_size: tuple[int, int], name: str) -> None:
    """Raise a :class:`UserError` for events outside the (W, H) sensor, p other than 0, 1, a huge sensor."""
    width, height = sensor_size
    if max(sensor_size) > MAX_SIDE:
        raise UserError(
            f"{name} is of a sensor of {width} x {height} pixels, or has an event far from the others; "
            f"at most {MAX_SIDE} pixels a side were expected. Get the recording again."
        )
    x, y, p = events["x"], events["y"], events["p"]
    outside = (x < 0) | (x >= width) | (y < 0) | (y >= height) | (p < 0) | (p > 1)
    if outside.any():
        first = int(np.argmax(outside))
        raise UserError(
            f"{name}: {int(outside.sum())} of {len(p)} events lie outside the {width} x {height} "
            f"sensor; the first is event {first} with x={x[first]}, y={y[first]}, p={p[first]}. "
            f"Expected x in 0..{width - 1}, y in 0..{height - 1}, p in 0..1. "
            "Check that the file belongs to this data set."
        )


def shift_to_origin(events: Events) -> tuple[Events, tuple[int, int]]:
    """The events (E >= 1) moved to x, y >= 0, and the (W, H) that they then span.

    Recordings that are of the sizes of their images are each their own sensor, as in BrainCog.
    """
    x, y = (events[axis] - events[axis].min() for axis in ("x", "y"))
    return {"x": x, "y": y, "t": events["t"], "p": events["p"]}, (
        int(x.max()) + 1,
        int(y.max()) + 1,
    )


def sort_by_time(events: Events) -> tuple[Events, int]:
    """The events stably sorted by time, and how many of them came before their predecessor."""
    t = events["t"]
    n_unsorted = int(np.count_nonzero(t[1:] < t[:-1]))
    if n_unsorted:
        order = np.argsort(t, kind="stable")
        events = {column: events[column][order] for column in ("x", "y", "t", "p")}
    return events, n_unsorted


def check_events(events: Events, sensor_size: tuple[int, int], name: str) -> tuple[Events, int]:
    """Make events from any reader fit for :func:`~tmkt_braincog.data.frames.to_frames`.

    Args:
        events: columns or structured array x, y, t (us), p.
        sensor_size: (W, H) in pixels.
        name: the recording, for messages.

    Returns:
        The events in the order of time, and the number that were out of order (see
        :func:`warn_unsorted`).

    Raises:
        UserError: no events, an event outside the sensor, or times more than an hour apart.
    """
    if not len(events["t"]):
        raise UserError(
            f"{name} holds no event; at least one was expected. Remove or replace the recording."
        )
    check_range(events, sensor_size, name)
    events, n_unsorted = sort_by_time(events)
    first, last = int(events["t"][0]), int(events["t"][-1])
    if last - first > MAX_SPAN_US:
        raise UserError(
            f"{name} has times from {first} to {last} us; at most an hour ({MAX_SPAN_US} us) was expected. Check that "
            "they are in microseconds, or get the recording again."
        )
    return events, n_unsorted


def warn_unsorted(n_events: int, n_recordings: int, name: str) -> None:
    """One warning per data set for timestamps that ran backwards; silent for none."""
    if n_events:
        log.warning(
            "%s: %d events in %d recordings were out of order in time; they were sorted.",
            name, n_events, n_recordings,
        )  # fmt: skip
