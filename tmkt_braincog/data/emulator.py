"""An emulated event camera: a still image moved along N-MNIST's three saccades. Not real events.

The set-up is that of Orchard et al. 2015: a 34 x 34 sensor, three movements of 105 ms along the
sides of an isosceles triangle. The pixel is the usual model of an event camera (ESIM, Rebecq et al.
2018; v2e, Hu et al. 2021): an event when the log intensity has moved by a threshold from the level
remembered at the last event, times interpolated linearly within a simulation step, thresholds that
differ from pixel to pixel, a refractory time, and background noise. Left out: the pixel's low-pass
filter, leak events, the display's refresh, and the arbiter's delays. The leading edge of a bright
stroke gives ON events here; in the files of N-MNIST it carries polarity 0.

The logarithm is rounded and everything after it is basic arithmetic in a fixed order, so the same
image and seed give the same events on every machine.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .events import make_events

SENSOR_SIZE = (34, 34)  # W, H
SACCADE_US = 105_000
# Corners of the triangle, (x, y) in pixels from the sensor's centre: steps of (3.5, 7), (3.5, -7)
# and (-7, 0). The vertical offset is where the digits of real N-MNIST recordings start.
CORNERS = ((-3.5, -2.0), (0.0, 5.0), (3.5, -2.0), (-3.5, -2.0))
DURATION_US = SACCADE_US * (len(CORNERS) - 1)

_PAD = 6  # pixels of background around the scene, more than the largest shift
_LOG_QUANTUM = 1e-6


@dataclass(frozen=True)
class SensorModel:
    """Constants of the emulated sensor; the defaults are tuned to N-MNIST's number of events."""

    threshold: float = 0.36  # mean contrast threshold, in units of log intensity
    mismatch: float = 0.04  # standard deviation of a pixel's threshold, relative to the mean
    dark: float = 0.1  # intensity of black relative to white; bounds the contrast
    # Dead time after an event, in which the remembered level follows the light; at least a step.
    refractory_us: int = 2_500
    step_us: int = 2_500  # simulation step; divides the duration of a saccade
    noise_hz: float = 0.5  # background events per pixel and second, both polarities together
    seed: int = 2015  # of the pixels' thresholds, which all recordings share, and of all else

    def key(self) -> dict[str, Any]:
        """All numbers that the recordings depend on, for a cache."""
        scene = [SENSOR_SIZE, SACCADE_US, CORNERS, _PAD, _LOG_QUANTUM]
        return {"scene": scene, **asdict(self)}


def emulate(
    images: np.ndarray, first_id: int = 0, model: SensorModel | None = None
) -> list[np.ndarray]:
    """Record each image with the emulated camera.

    Args:
        images: ``[B, 28, 28]`` uint8 (any h x w up to the sensor's), 0 dark .. 255 bright.
        first_id: number of the first image; recording k depends on the image and on ``first_id +
            k`` only, not on the others in the batch.
        model: the sensor; default :class:`SensorModel`.

    Returns:
        B arrays ``[E_b]`` of :data:`~tmkt_braincog.data.events.EVENT_DTYPE`, sorted by time, t in
        us from 0 to 315000.
    """
    model = model or SensorModel()
    scene = log_scene(images, model.dark)
    generators = [np.random.default_rng([model.seed, 1, first_id + b]) for b in range(len(images))]
    thresholds = _thresholds(model)
    views = (view(scene, position(t)) for t in range(0, DURATION_US + 1, model.step_us))
    # Where between its two thresholds a pixel stands at the start depends on its past: uniform.
    width, height = SENSOR_SIZE
    past = np.stack([rng.random((height, width), np.float32) for rng in generators]) * 2 - 1
    level = view(scene, position(0)) - past * thresholds.min(axis=0)
    steps = fire(views, level, thresholds, model)
    recording, p, y, x, t = (np.concatenate(column) for column in zip(*steps, strict=True))
    order = np.argsort(recording, kind="stable")
    bounds = np.searchsorted(recording[order], np.arange(1, len(images)))
    parts = np.split(make_events(x, y, t, p)[order], bounds)
    return [
        _with_noise(part, rng, model.noise_hz) for part, rng in zip(parts, generators, strict=True)
    ]


def log_scene(images: np.ndarray, dark: float) -> np.ndarray:
    """``[B, h, w]`` uint8 images centred in ``[B, H + 2 pad, W + 2 pad]`` float32 log intensity."""
    levels = np.log(dark + (1 - dark) * np.arange(256) / 255)
    # Logarithms may differ in the last bit between machines; rounding removes that.
    levels = (np.round(levels / _LOG_QUANTUM) * _LOG_QUANTUM).astype(np.float32)
    width, height = SENSOR_SIZE
    scene = np.full((len(images), height + 2 * _PAD, width + 2 * _PAD), levels[0], np.float32)
    h, w = images.shape[1:]
    top, left = _PAD + (height - h) // 2, _PAD + (width - w) // 2
    scene[:, top : top + h, left : left + w] = levels[images]
    return scene


def position(time_us: float) -> tuple[float, float]:
    """Shift (x, y) of the scene in pixels at a time in us; a saccade starts and stops smoothly."""
    side = min(int(time_us // SACCADE_US), len(CORNERS) - 2)
    u = time_us / SACCADE_US - side
    # Quintic smooth step: the event rate swells and fades within a saccade as in real recordings.
    way = u * u * u * (10 - 15 * u + 6 * u * u)
    (x0, y0), (x1, y1) = CORNERS[side], CORNERS[side + 1]
    return x0 + way * (x1 - x0), y0 + way * (y1 - y0)


def view(scene: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """``[B, H, W]``: what the sensor sees of the padded scene moved by (x, y), bilinear."""
    width, height = SENSOR_SIZE
    left, fx = divmod(_PAD - shift[0], 1)
    top, fy = divmod(_PAD - shift[1], 1)
    rows = scene[:, int(top) : int(top) + height + 1, int(left) : int(left) + width + 1]
    wx, wy = np.float32(fx), np.float32(fy)
    across = rows[:, :, :-1] * (1 - wx) + rows[:, :, 1:] * wx
    return across[:, :-1] * (1 - wy) + across[:, 1:] * wy


def _thresholds(model: SensorModel) -> np.ndarray:
    """``[2, H, W]`` float32 thresholds > 0 of the sensor's pixels, OFF and ON."""
    width, height = SENSOR_SIZE
    spread = np.random.default_rng([model.seed, 0]).standard_normal((2, height, width))
    # Rounded for the same reason as the logarithm; clipped so that no pixel is a hot one.
    spread = np.clip(np.round(spread, 6), -3, 3)
    return (model.threshold * (1 + model.mismatch * spread)).astype(np.float32)


def fire(
    views: Iterable[np.ndarray], level: np.ndarray, thresholds: np.ndarray, model: SensorModel
) -> Iterator[tuple[np.ndarray, ...]]:
    """The events of every simulation step: recording, p, y, x and t, in no order.

    Args:
        views: ``[B, H, W]`` float32 log intensity at the start and after each step, linear between.
        level: ``[B, H, W]`` that the pixels remember at the start.
        thresholds: ``[2, H, W]``, OFF and ON.
    """
    if model.refractory_us < model.step_us:
        raise ValueError("refractory_us must not be below step_us: one event per pixel and step")
    off, on = thresholds
    step = np.float32(model.step_us)
    views = iter(views)
    light = next(views)
    # End of the dead time in us from the start of the present step, negative when past.
    awake_at = np.full_like(light, -1)
    for k, after in enumerate(views):
        slope = (after - light) / step
        # A pixel coming back from its dead time remembers the light of that moment.
        woken = light + slope * np.minimum(awake_at, step)
        level = np.where(awake_at >= 0, woken, level)
        change = after - level
        where = np.nonzero(((change >= on) | (change <= -off)) & (awake_at < step))
        is_on = change[where] > 0
        reached = level[where] + np.where(is_on, on[where[1:]], -off[where[1:]])
        within = np.clip((reached - light[where]) / slope[where], 0, step)
        level[where] = reached
        awake_at[where] = within + np.float32(model.refractory_us)
        awake_at -= step
        light = after
        yield where[0], is_on, where[1], where[2], k * model.step_us + within.astype(np.int64)


def _with_noise(events: np.ndarray, rng: np.random.Generator, noise_hz: float) -> np.ndarray:
    """Add background events: Poisson in number, uniform in place, time and polarity."""
    width, height = SENSOR_SIZE
    n = rng.poisson(noise_hz * width * height * DURATION_US / 1e6)
    noise = make_events(*(rng.integers(0, limit, n) for limit in (width, height, DURATION_US, 2)))
    events = np.concatenate([events, noise])
    return events[np.argsort(events["t"], kind="stable")]
