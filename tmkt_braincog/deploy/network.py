"""A trained network by itself: events in, probabilities of the classes out."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from timm.models import is_model
from torch import Tensor

from ..data.columns import Raw, checked
from ..data.events import Events
from ..data.preparation import Preparation
from ..engine import checkpoint
from ..engine.build import build_model, choose_device
from ..errors import UserError
from ..hub import local
from ..methods import canonical
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
        self.path, self.device = path, device
        self.about = state["about"]
        self.classes: tuple[str, ...] = tuple(self.about["classes"])
        self.options = o = Namespace(**state["identity"])
        at, rows = state["position"], state["rows"]
        self.reached = dict(rows[-1]) if rows and not at["batch"] else {}
        _check_known(o, path)
        self.model: TransferModel = build_model(o, len(self.classes), device)
        checkpoint.load_weights(self.model, state["model"], Path(path), f"--model {o.model}")
        self.model.eval()

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
        given = tuple(map(int, sensor)) if sensor is not None else None
        _, frames = prepared(self.preparation, self.model.event_size, recording, given)
        stack = torch.from_numpy(np.stack([*frames.values()]))
        over_time = self.over_time(stack).mean(0).numpy()
        return Prediction(self.classes[int(over_time[-1].argmax())], over_time[-1], over_time)


def prepared(
    how: Preparation, size: int, recording: Any, sensor: Sequence[int] | None = None
) -> tuple[Sequence[int] | None, dict[str, np.ndarray]]:
    """A recording, or its file, as a network sees it: the sensor's (W, H), None where it was taken
    from the events; and frames ``[T, 2, size, size]`` of each window, by its mark."""
    if isinstance(recording, (str, Path)):
        name = str(recording)
        events, own = how.read(Path(recording))
        sensor = sensor or own
    else:
        name, events = "the recording", _checked(recording)
    parts = how.windows(events)
    return sensor, {at: how.frames(part, sensor, size, name + at) for at, part in parts.items()}


def _checked(events: Any) -> Events:
    """Given events as a file's are; a UserError for what are none."""
    try:
        return checked(Raw({c: events[c] for c in "xytp"}, in_us=True)).events
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"These are no events ({type(error).__name__}: {error}): x, y in pixels, t in us and "
            "p, one number each per event, are expected."
        ) from error


def _check_known(options: Namespace, path: str) -> None:
    """A UserError for a model or a method of a user's own, before its module is imported."""
    try:
        canonical(options.method[0])
        lacking = "" if is_model(options.model) else f"model {options.model!r}"
    except UserError:
        lacking = f"method {options.method[0]!r}"
    if not lacking:
        return
    raise UserError(
        f"{path} was trained with the {lacking}, which is not known here: it is no name of this "
        "program's, but one that a module of yours registers. Import that module first; in Python: "
        f"import MODULE, then tmkt_braincog.load({path!r}). On the command line, in place of tmkt: "
        "your own program that imports it (docs/extending.md)."
    )


def load(path: str | Path, device: str = "cpu") -> Network:
    """The network in a checkpoint of ``tmkt train`` (``best.pt``), or ``hf:user/name`` on the Hub.

    Args:
        device: as of ``--device``.

    Raises:
        UserError: no checkpoint of this program, or one of a model or method that a module
            registers which was not imported.
    """
    return Network(checkpoint.load(local(path)), str(path), choose_device(device)[0])
