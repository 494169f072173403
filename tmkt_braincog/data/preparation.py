"""How the events of a recording become the frames that a network is trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from .columns import Told
from .events import Events, check_events, extent, shift_to_origin, windows
from .formats import read_any
from .frames import framed, resize_frames


@dataclass(frozen=True)
class Preparation:
    """JSON values alone: checkpoints keep it.

    Attributes:
        steps: T.
        reads: whether :meth:`read` reads files as training did.
        size, mode, crop: as of a :class:`~tmkt_braincog.data.recordings.FrameSpec`.
        sensor_by: what says a recording's sensor: its ``file``; the data ``set``, whatever the file
            says; or its ``events``, which are moved to x, y >= 0 and span it.
        sensor: (W, H) of all recordings that were trained with; None: they differ.
        sensors, told: (W, H), and the fields of a :class:`~tmkt_braincog.data.columns.Told`, by the
            ending of a file that does not say them.
        window_us: longer recordings were cut into windows of this length.
        fingerprint: of the frames, the images and their labels.
    """

    steps: int
    reads: bool = False
    size: int | None = None
    mode: str = "count"
    crop: Sequence[int] | None = None
    sensor: Sequence[int] | None = None
    sensor_by: str = "file"
    sensors: Mapping[str, Sequence[int]] = field(default_factory=dict)
    told: Mapping[str, Sequence] = field(default_factory=dict)
    window_us: int | None = None
    fingerprint: str = ""

    def read(self, path: Path) -> tuple[Events, Sequence[int] | None]:
        """The events of a file in any format of :mod:`~tmkt_braincog.data.formats`, and (W, H) of
        its sensor, None where nothing says it.

        Raises:
            UserError: a file that cannot be read, or the data set reads files in a way of its own.
        """
        if not self.reads:
            raise UserError(
                f"{path}: the network was trained on a data set that reads files in a way of its "
                "own. Read it so, and give the events to tmkt_braincog.load(...).predict."
            )
        end = path.suffix.lower()
        found = read_any(path, Told(*self.told.get(end, ())))
        own = None if self.sensor_by == "set" else found.sensor
        return found.events, own or self.sensors.get(end) or self.sensor

    def windows(self, events: Events) -> dict[str, Events]:
        """The events of each window, by its mark such as ``@100ms``; ``""`` is all of them."""
        return windows(events, self.window_us)

    def frames(
        self, events: Events, sensor: Sequence[int] | None, size: int, name: str
    ) -> np.ndarray:
        """``[T, 2, size, size]`` float32 of events (x, y in pixels, t in us, p 1 for ON).

        Args:
            sensor: (W, H) in pixels; None: as in training, or else what has events.
            name: of the recording, for messages.

        Raises:
            UserError: no event, one outside the sensor, too short a time, or another sensor than
                that which was cropped.
        """
        if self.sensor_by == "events" and len(events["t"]):
            events, sensor = shift_to_origin(events)
        width, height = sensor or self.sensor or extent(events)
        if self.crop and self.sensor and (width, height) != tuple(self.sensor):
            usual = "{} x {}".format(*self.sensor)
            raise UserError(
                f"{name} is of a sensor of {width} x {height} pixels; the network was trained with "
                f"a part of {usual}, and takes no other."
            )
        events, _ = check_events(events, (width, height), name)
        if (span := int(events["t"][-1]) - int(events["t"][0])) < self.steps:
            raise UserError(
                f"{name} spans {span} us, too short for T = {self.steps} frames. Times in "
                "microseconds are expected."
            )
        frames = framed(events, (width, height), self)
        return resize_frames(torch.from_numpy(frames), size).numpy()
