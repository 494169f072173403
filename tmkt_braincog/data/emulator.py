"""An emulated event camera: a still image moved past it along a path. Not real events.

The set-up is that of Orchard et al. 2015: movements of 105 ms along the sides of a triangle. The
pixel is the usual model of an event camera (ESIM, Rebecq et al. 2018; v2e, Hu et al. 2021): an
event when the log intensity has moved by a threshold from the level remembered at the last event,
times interpolated linearly within a simulation step, thresholds that differ from pixel to pixel, a
refractory time, and background noise. Left out: the pixel's low-pass filter, leak events, the
display's refresh, and the arbiter's delays.

The logarithm is rounded and everything after it is basic arithmetic in a fixed order, so the same
image and seed give the same events on every machine.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import UserError
from .camera import EventCamera, draw
from .events import make_events

LOG_QUANTUM = 1e-6  # in units of log intensity


def emulate(
    images: np.ndarray, ids: Sequence[int] | None = None, camera: EventCamera | None = None
) -> list[np.ndarray]:
    """Record each image with the emulated camera.

    Args:
        images: ``[B, h, w]`` uint8, at most as large as the sensor, 0 dark .. 255 bright.
        ids: numbers of the recordings, 0, 1, ... where None; a recording depends on its image and
            its number only, not on the others in the batch.
        camera: default :class:`EventCamera`.

    Returns:
        B arrays ``[E_b]`` of :data:`~tmkt_braincog.data.events.EVENT_DTYPE`, sorted by time, t in
        us from 0 to ``duration_us``.

    Raises:
        UserError: an image that is larger than the sensor, or smaller than the path's shift.
    """
    camera = camera or EventCamera()
    (width, height), B = camera.sensor, len(images)
    ids = range(B) if ids is None else ids
    generators = [np.random.default_rng([camera.seed, 1, i]) for i in ids]
    drawn = draw(camera, ids)
    scene = log_scene(images, camera, drawn["dark"])
    if camera.vary:
        scene = zoomed(zoomed(scene, drawn["zoom"][:, 0], 2), drawn["zoom"][:, 1], 1)
    thresholds = _thresholds(camera)
    off, on = (thresholds[i] * _column(drawn["threshold"] * f) for i, f in
               enumerate((2 - drawn["balance"], drawn["balance"])))  # fmt: skip
    views = walk(scene, camera, drawn)
    # Where between its two thresholds a pixel stands at the start depends on its past: uniform.
    past = np.stack([rng.random((height, width), np.float32) for rng in generators]) * 2 - 1
    start = next(views)
    level = start - past * np.minimum(off, on)
    dead = camera.refractory_us * drawn["dead"]
    at, p, t = fire(start, views, level, off, on, camera.step_us, dead)
    recording, place = np.divmod(at, width * height)
    order = np.argsort(recording, kind="stable")
    bounds = np.searchsorted(recording[order], np.arange(1, B))
    y, x = np.divmod(place, width)
    parts = np.split(make_events(x, y, t, p ^ camera.flip)[order], bounds)
    together = zip(parts, generators, camera.noise_hz * drawn["noise"], strict=True)
    return [_with_noise(part, rng, float(hz), camera) for part, rng, hz in together]


def _column(x: np.ndarray) -> np.ndarray:
    return x[:, None, None]


def log_scene(images: np.ndarray, camera: EventCamera, dark: np.ndarray) -> np.ndarray:
    """``[B, h, w]`` uint8 images centred in ``[B, H + 2 pad, W + 2 pad]`` float32 log intensity."""
    (width, height), (h, w) = camera.sensor, images.shape[1:]
    spans = [max(c) - min(c) for c in zip(*camera.corners, strict=True)]
    if h > height or w > width or w <= spans[0] or h <= spans[1]:
        raise UserError(
            f"Images of {w} x {h} pixels do not fit a sensor of {width} x {height} with a path of "
            f"{spans[0]:g} x {spans[1]:g} pixels: larger than the path and at most as large as the "
            "sensor was expected. Choose another size or path."
        )
    black = camera.dark * dark.astype(float)
    levels = np.log(black[:, None] + (1 - black[:, None]) * np.arange(256) / 255)
    # Logarithms may differ in the last bit between machines; rounding removes that.
    levels = (np.round(levels / LOG_QUANTUM) * LOG_QUANTUM).astype(np.float32)
    top, left = camera.pad + (height - h) // 2, camera.pad + (width - w) // 2
    sides = ((top, height + 2 * camera.pad - h - top), (left, width + 2 * camera.pad - w - left))
    how: Any = "edge" if camera.border == "edge" else "constant"
    return levels[np.arange(len(images))[:, None, None], np.pad(images, ((0, 0), *sides), how)]


def zoomed(scene: np.ndarray, factors: np.ndarray, axis: int) -> np.ndarray:
    """``[B, H, W]`` larger by ``[B]`` factors along an axis around its centre, bilinear."""
    n = scene.shape[axis]
    at = (np.arange(n) - (n - 1) / 2) / factors.astype(float)[:, None] + (n - 1) / 2
    low = np.clip(np.floor(at).astype(int), 0, n - 2)
    weight = np.clip(at - low, 0, 1).astype(np.float32)
    low, weight = (np.expand_dims(x, 3 - axis) for x in (low, weight))
    below, above = (np.take_along_axis(scene, i, axis) for i in (low, low + 1))
    return below * (1 - weight) + above * weight


def position(
    time_us: float, camera: EventCamera, rest: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Shift x, y of the scene in pixels at a time in us; a movement starts and stops smoothly."""
    side = min(int(time_us // camera.saccade_us), len(camera.corners) - 2)
    u = np.minimum(1.0, (time_us / camera.saccade_us - side) / (camera.moving * (1 - rest)))
    # Quintic smooth step: the event rate swells and fades within a saccade as in real recordings.
    way = u * u * u * (10 - 15 * u + 6 * u * u)
    (x0, y0), (x1, y1) = camera.corners[side], camera.corners[side + 1]
    return x0 + way * (x1 - x0), y0 + way * (y1 - y0)


def walk(
    scene: np.ndarray, camera: EventCamera, drawn: dict[str, np.ndarray]
) -> Iterator[np.ndarray]:
    """``[B, H, W]``: what the sensor sees at the start and after every simulation step."""
    path, rest = (drawn[name].astype(float) for name in ("path", "rest"))
    dx, dy = drawn["offset"].T
    windows = sliding_window_view(scene, [side + 1 for side in camera.sensor[::-1]], (1, 2))
    before, seen = np.empty(0), scene
    for t in range(0, camera.duration_us + 1, camera.step_us):
        x, y = position(t, camera, rest)
        shift = np.stack([path * x + dx, path * y + dy])
        if not np.array_equal(shift, before):
            before, seen = shift, view(windows, *(camera.pad - shift))
        yield seen


def view(windows: np.ndarray, left: np.ndarray, top: np.ndarray) -> np.ndarray:
    """``[B, H, W]``: the windows (one pixel larger) at places ``[B]`` between pixels, bilinear."""
    (column, fx), (row, fy) = np.divmod(left, 1), np.divmod(top, 1)
    wx, wy = _column(fx.astype(np.float32)), _column(fy.astype(np.float32))
    rows = windows[np.arange(len(windows)), row.astype(int), column.astype(int)]
    across = rows[:, :, :-1] * (1 - wx)
    across += rows[:, :, 1:] * wx
    seen = across[:, :-1] * (1 - wy)
    seen += across[:, 1:] * wy
    return seen


def _thresholds(camera: EventCamera) -> np.ndarray:
    """``[2, 1, H, W]`` float32 thresholds > 0 of the sensor's pixels, OFF and ON."""
    width, height = camera.sensor
    spread = np.random.default_rng([camera.seed, 0]).standard_normal((2, 1, height, width))
    # Rounded for the same reason as the logarithm; clipped so that no pixel is a hot one.
    spread = np.clip(np.round(spread, 6), -3, 3)
    return (camera.threshold * (1 + camera.mismatch * spread)).astype(np.float32)


def fire(
    light: np.ndarray,
    views: Iterable[np.ndarray],
    level: np.ndarray,
    off: np.ndarray,
    on: np.ndarray,
    step_us: int,
    dead_us: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of B recordings, step by step, those of a step in the order of their pixels.

    Args:
        light: ``[B, H, W]`` float32 log intensity at the start.
        views: the same after each step, linear between.
        level: ``[B, H, W]`` that the pixels remember at the start.
        off, on: thresholds, ``[B, H, W]``.
        dead_us: ``[B]`` dead time, at least a step: a pixel fires once in a step at most.

    Returns:
        Of E events the pixel (its flat index in ``[B, H, W]``), whether it is ON, and t in us.
    """
    step, pixels = np.float32(step_us), light[0].size
    light, level = light.reshape(-1), level.reshape(-1)
    off, on = off.reshape(-1), on.reshape(-1)
    below = -off
    change, (rises, falls) = np.empty_like(light), np.empty((2, len(light)), bool)
    # Pixels in their dead time, and when it ends, in us from the start of the present step.
    asleep, awake_at = np.empty(0, np.int64), np.empty(0, np.float32)
    found = []
    for k, after in enumerate(views):
        after = after.reshape(-1)
        # A pixel coming back from its dead time remembers the light of that moment.
        slope = (after[asleep] - light[asleep]) / step
        level[asleep] = light[asleep] + slope * np.minimum(awake_at, step)
        np.subtract(after, level, out=change)
        np.greater_equal(change, on, out=rises)
        rises |= np.less_equal(change, below, out=falls)
        rises[asleep[awake_at >= step]] = False
        at = np.flatnonzero(rises)
        is_on = change[at] > 0
        reached = level[at] + np.where(is_on, on[at], below[at])
        speed = (after[at] - light[at]) / step
        # A pixel may stand at its threshold before anything moves.
        within = np.divide(reached - light[at], speed, out=np.zeros_like(speed), where=speed != 0)
        within = np.clip(within, 0, step)
        level[at] = reached
        found.append((at, is_on, k * step_us + within.astype(np.int64)))
        rest = ~rises[asleep]
        asleep = np.concatenate([asleep[rest], at])
        ends = within + dead_us[at // pixels]
        awake_at = np.concatenate([awake_at[rest], ends]) - step
        asleep, awake_at = asleep[awake_at >= 0], awake_at[awake_at >= 0]
        light = after
    pixel, is_on, t = (np.concatenate(column) for column in zip(*found, strict=True))
    return pixel, is_on, t


def _with_noise(
    events: np.ndarray, rng: np.random.Generator, noise_hz: float, camera: EventCamera
) -> np.ndarray:
    """Add background events: Poisson in number, uniform in place, time and polarity."""
    (width, height), end = camera.sensor, camera.duration_us
    n = rng.poisson(noise_hz * width * height * end / 1e6)
    noise = make_events(*(rng.integers(0, limit, n) for limit in (width, height, end, 2)))
    events = np.concatenate([events, noise])
    return events[np.argsort(events["t"], kind="stable")]
