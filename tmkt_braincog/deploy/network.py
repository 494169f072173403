"""A trained network by itself: events in, probabilities of the classes out."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data.columns import Raw, checked
from ..data.events import Events
from ..data.preparation import Preparation
from ..engine import checkpoint
from ..engine.build import build_model, choose_device
from ..errors import UserError
from ..hub import local
from ..models import TransferModel


class Prediction(NamedTuple):
    """What a network says of one recording.

    Attributes:
        label: the class of the highest probability, after all time-steps.
        probabilities: ``[N]`` float64, softmax of the mean logits over time.
        over_time: ``[T, N]``, the same of the logits of the first t time-steps, t = 1 .. T.
    """

    label: str
    probabilities: np.ndarray
    over_time: np.ndarray


class Network:
    """A trained network with the preparation that its recordings had.

    Attributes:
        model: in evaluation mode, with the executor that it was trained with.
        classes: names, in the order of the logits.
        options: those that it was trained with.
        reached: the row of ``log.csv`` of the epoch after which it was saved, such as ``test_top1``
            in percent; empty if that was in the middle of one.
        about: what its checkpoint says of it, see ``tmkt_braincog.engine.checkpoint.about``.
    """

    def __init__(self, state: dict[str, Any], path: str, device: torch.device):
        self.about = state.get("about") or {}
        self.path = path
        if not self.about:
            raise UserError(
                f"{path} does not say what its classes are and how recordings become its frames: "
                "it was trained with an older version. Train again; --eval needs the data alone."
            )
        self.classes: tuple[str, ...] = tuple(self.about["classes"])
        self.options = Namespace(**state["identity"])
        at, rows = state["position"], state["rows"]
        self.reached = dict(rows[-1]) if rows and not at["batch"] else {}
        self.model: TransferModel = build_model(self.options, len(self.classes), device)
        name = f"--model {self.options.model}"
        checkpoint.load_weights(self.model, state["model"], Path(path), name)
        self.model.eval()
        self.device = device

    @property
    def preparation(self) -> Preparation:
        """How recordings became frames; a UserError where the data set did not say it."""
        if (how := self.about["preparation"]) is None:
            raise UserError(
                f"{self.path} does not say how recordings become its frames: its data set is one "
                "of your own without TransferData.preparation. Give that, and train again."
            )
        return Preparation(**how)

    @torch.no_grad()
    def over_time(self, frames: Tensor) -> Tensor:
        """Probabilities ``[B, T, N]`` float64 of frames ``[B, T, 2, h, h]``, after t = 1 .. T of
        their time-steps."""
        logits = self.model(frames.to(self.device)).event.logits.double().transpose(0, 1)
        steps = torch.arange(1, logits.shape[1] + 1, device=logits.device)
        return (logits.cumsum(1) / steps[:, None]).softmax(-1).cpu()

    def predict(
        self, recording: str | Path | Events, sensor: Sequence[int] | None = None
    ) -> Prediction:
        """What the network says of a file, or of events: a mapping, a structured array or a table
        of x, y, t in us and p (1 or 0, or -1, for OFF), and the (W, H) of their sensor.

        Where it was trained with windows, of a longer recording it is the mean over its windows.
        """
        name = "the recording"
        if isinstance(recording, (str, Path)):
            name = str(recording)
            events, own = self.preparation.read(Path(recording))
        else:
            events, own = _checked(recording), None
        size_of = tuple(map(int, sensor)) if sensor is not None else own
        how, size = self.preparation, self.model.event_size
        parts = how.windows(events)
        frames = [how.frames(part, size_of, size, name + at) for at, part in parts.items()]
        over_time = self.over_time(torch.from_numpy(np.stack(frames))).mean(0).numpy()
        return Prediction(self.classes[int(over_time[-1].argmax())], over_time[-1], over_time)


def _checked(events: Any) -> Events:
    """Given events as a file's are; a UserError for what are none."""
    try:
        return checked(Raw({c: events[c] for c in "xytp"}, in_us=True)).events
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"These are no events ({type(error).__name__}: {error}): x, y in pixels, t in us and "
            "p, one number each per event, are expected."
        ) from error


def load(path: str | Path, device: str = "cpu") -> Network:
    """The network in a checkpoint of ``tmkt train`` (``best.pt``), or ``hf:user/name`` on the Hub.

    Args:
        device: as of ``--device``.

    Raises:
        UserError: no checkpoint of this program, or one that does not say how recordings become
            frames.
    """
    return Network(checkpoint.load(local(path)), str(path), choose_device(device)[0])
