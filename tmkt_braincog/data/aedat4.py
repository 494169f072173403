"""Read AEDAT4 files, as the DV software records them: the container of N-Omniglot."""

from pathlib import Path

import aedat
import numpy as np

from ..errors import UserError
from .events import Events

NAMES = {"x": ("x", np.int16), "y": ("y", np.int16), "t": ("t", np.int64), "p": ("on", np.uint8)}


def read_aedat4(path: str | Path) -> tuple[Events, tuple[int, int]]:
    """All events of the lowest-numbered stream of events.

    Format: https://docs.inivation.com/software/software-advanced-usage/file-formats/aedat-4.0.html.
    Nothing tells that a file that was not closed, and so has no table, was cut after a packet.

    Returns:
        Columns x, y (int16, pixels), t (int64, us), p (uint8, 0 OFF, 1 ON) of length E >= 1, in the
        file's order, and the sensor's (W, H) by the file. Events are not checked against it.

    Raises:
        UserError: missing, truncated or damaged file, no stream of events or no event in it.
    """
    if not Path(path).exists():
        raise UserError(f"No recording at {path}. Check the data folder, or download it again.")
    try:
        decoder = aedat.Decoder(str(path))
        streams = {i: s for i, s in decoder.id_to_stream().items() if s["type"] == "events"}
        first = min(streams, default=None)
        parts = [p["events"] for p in decoder if p["stream_id"] == first and len(p["events"])]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the decoder is not an Exception
        raise UserError(
            f"Cannot read {path}: {error}. It is truncated or damaged; download or copy it again."
        ) from None
    if first is None or not parts:
        what = "no stream of events" if first is None else "no event"
        raise UserError(f"{path} holds {what}. Check that it belongs to this data set.")
    events = {
        name: np.concatenate([part[of].astype(dtype) for part in parts])
        for name, (of, dtype) in NAMES.items()
    }
    return events, (streams[first]["width"], streams[first]["height"])
