"""The constants of the emulated event camera, and what of them varies between recordings."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import yaml

from ..errors import UserError, unknown_name

# N-MNIST's triangle, (x, y) in pixels from the sensor's centre: steps of (3.5, 7), (3.5, -7) and
# (-7, 0). The vertical offset is where the digits of real N-MNIST recordings start.
CORNERS = ((-3.5, -2.0), (0.0, 5.0), (3.5, -2.0), (-3.5, -2.0))
BORDERS = ("dark", "edge")
EMULATOR_VERSION = 4  # raise it when the same camera gives other events

# How far a recording's parameters are drawn from the camera's at ``vary`` = 1, each uniformly:
# factors 1 +- this; then the offset of the path (pixels), the zoom of the image across and down (a
# factor 1 +- this), the share of rest (at most), and the longest dead time (a factor 1 + this).
_VARIED = {"threshold": 0.3, "balance": 0.15, "dark": 0.5, "path": 0.3, "noise": 0.9}
_OFFSET, _ZOOM, _REST, _DEAD = 1.5, 0.2, 0.5, 1.0


@dataclass(frozen=True)
class EventCamera:
    """Constants of the emulated camera; the defaults are tuned to N-MNIST's number of events.

    Attributes:
        sensor: (W, H) in pixels.
        corners: the path of the image, (x, y) in pixels from the sensor's centre, two at least.
        saccade_us: duration of each side of the path.
        moving: share of a side's duration in which the image moves, in (0, 1]; then it rests.
        border: what is around the image: ``dark``, or its ``edge`` pixels, repeated.
        threshold: mean contrast threshold, in units of log intensity.
        mismatch: standard deviation of a pixel's threshold, relative to the mean.
        dark: intensity of black relative to white, in (0, 1); bounds the contrast.
        refractory_us: dead time after an event, in which the remembered level follows the light; at
            least ``step_us``.
        step_us: simulation step; divides ``saccade_us``.
        noise_hz: background events per pixel and second, both polarities together.
        flip: True: polarity 1 is OFF, as in the files of N-MNIST: the leading edge of a bright
            stroke is 0 there (N-Caltech101 is of the same camera; not checked there).
        vary: 0 for the same camera in all recordings, up to 1 for parameters (threshold, balance of
            ON and OFF, contrast, path, zoom, rest, noise, dead time) drawn anew for each recording.
        seed: of the pixels' thresholds, which all recordings share, and of all else.

    Raises:
        UserError: a number that no camera has.
    """

    sensor: tuple[int, int] = (34, 34)
    corners: tuple[tuple[float, float], ...] = CORNERS
    saccade_us: int = 105_000
    moving: float = 1.0
    border: str = "dark"
    threshold: float = 0.36
    mismatch: float = 0.04
    dark: float = 0.1
    refractory_us: int = 2_500
    step_us: int = 2_500
    noise_hz: float = 0.5
    flip: bool = False
    vary: float = 0.0
    seed: int = 2015

    def __post_init__(self) -> None:
        rules = {
            "sensor": (min(self.sensor) >= 8 and max(self.sensor) <= 2048, "sides of 8 to 2048"),
            "corners": (len(self.corners) > 1, "two points at least"),
            "border": (self.border in BORDERS, " or ".join(BORDERS)),
            "moving": (0 < self.moving <= 1, "a share above 0, at most 1"),
            "threshold": (0 < self.threshold < math.inf, "a number above 0"),
            "mismatch": (0 <= self.mismatch < 1 / 3, "a number from 0 to 1/3"),
            "dark": (0 < self.dark < 1, "a number between 0 and 1"),
            "step_us": (0 < self.step_us and self.saccade_us % self.step_us == 0,
                        f"a divisor of saccade_us = {self.saccade_us}"),
            "refractory_us": (self.refractory_us >= self.step_us,
                              f"at least step_us = {self.step_us}"),
            "noise_hz": (0 <= self.noise_hz < math.inf, "a number of at least 0"),
            "vary": (0 <= self.vary <= 1, "a number from 0 to 1"),
        }  # fmt: skip
        for name, (good, expected) in rules.items():
            if not good:
                raise UserError(
                    f"The emulated camera cannot have {name} = {getattr(self, name)}: expected "
                    f"{expected}."
                )

    @property
    def duration_us(self) -> int:
        return self.saccade_us * (len(self.corners) - 1)

    @property
    def pad(self) -> int:
        """Pixels around the scene, more than the largest shift."""
        largest = max(abs(v) for corner in self.corners for v in corner)
        return math.ceil(largest * (1 + _VARIED["path"] * self.vary) + _OFFSET * self.vary) + 1

    def key(self) -> dict[str, Any]:
        """All numbers that the recordings depend on, for a cache."""
        constants = [_VARIED, _OFFSET, _ZOOM, _REST, _DEAD]
        return {"version": EMULATOR_VERSION, "constants": constants, **asdict(self)}

    def changed(self, words: Iterable[str]) -> "EventCamera":
        """This camera with other numbers, ``NAME=VALUE`` each, values as in YAML."""
        known = [field.name for field in fields(self)]
        given = {}
        for word in words:
            name, is_there, text = word.partition("=")
            if name not in known:
                raise unknown_name("number of the emulated camera", name, known)
            if not is_there:
                raise UserError(f"Camera {word!r}: expected NAME=VALUE, such as threshold=0.3.")
            given[name] = _as(getattr(self, name), yaml.safe_load(text), word)
        return replace(self, **given)


def _as(like: Any, value: Any, word: str) -> Any:
    """A YAML value as the type of ``like``."""
    try:
        if isinstance(like, tuple):
            return tuple(_as(like[0], v, word) for v in value)
        if isinstance(like, bool) and not isinstance(value, bool):
            raise ValueError
        return type(like)(value)
    except (TypeError, ValueError):
        raise UserError(f"Camera {word!r}: expected a value such as {like!r}.") from None


def draw(camera: EventCamera, ids: Sequence[int]) -> dict[str, np.ndarray]:
    """What varies between the B recordings with these numbers, float32, by name.

    ``[B]`` factors of the threshold, its balance of ON and OFF, dark, path, noise and dead time,
    and the share of rest; ``[B, 2]`` offset of the path and zoom of the image.
    """
    u = np.stack([np.random.default_rng([camera.seed, 2, i]).random(11) for i in ids]) * camera.vary
    centred = 2 * u - camera.vary
    drawn = {name: 1 + spread * centred[:, i] for i, (name, spread) in enumerate(_VARIED.items())}
    drawn |= {"offset": centred[:, 5:7] * _OFFSET, "zoom": 1 + centred[:, 9:] * _ZOOM}
    drawn |= {"rest": u[:, 7] * _REST, "dead": 1 + u[:, 8] * _DEAD}
    return {name: values.astype(np.float32) for name, values in drawn.items()}
