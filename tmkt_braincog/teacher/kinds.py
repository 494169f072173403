"""What a run can learn from beside its data: a teacher, or a vision-language model's embeddings."""

import hashlib
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Split, TransferData
from ..errors import UserError
from .network import build_teacher, penultimate

# The options that decide what it sees of the data, and what messages call that.
SEEN = {
    "static": ("target_dataset", "event_size"),
    "vlm": ("target_dataset", "event_size"),
    "events": ("target_dataset", "event_size", "step", "frame_mode"),
}
WHAT = {"static": "static images", "events": "recordings", "vlm": "images and class names"}


@dataclass(frozen=True)
class Teacher:
    """A trained teacher."""

    model: str  # timm's name
    on: str  # ``static`` or ``events``
    size: int  # side in pixels of its input
    classes: list[str]  # names, in the order of its outputs
    seen: dict[str, Any]  # options that decide what it sees, by name
    fingerprint: str  # of all images, or of the names of all recordings
    trained: Tensor  # sorted int64 indices of the images or recordings that it was trained on
    accuracy: float  # top-1 (%) on the others, NaN where there are none
    recipe: dict[str, Any]  # how it was trained
    weights: dict[str, Tensor]  # its state

    def network(self) -> nn.Sequential:
        """The network with its weights, in evaluation mode."""
        with torch.random.fork_rng([]):  # weights that are not used draw no numbers from a run
            net = build_teacher(self.model, len(self.classes))
        net.load_state_dict(self.weights)
        return net.eval()

    @torch.no_grad()
    def width(self) -> int:
        """D of its penultimate features."""
        return penultimate(self.network(), torch.zeros(1, 3, self.size, self.size)).shape[1]

    def check(self, path: Path, options: Namespace, data: TransferData, split: Split) -> None:
        """A UserError for a teacher of other data, or that knows what a run must not train on."""
        leaked = np.setdiff1d(self.trained.numpy(), trainable(split, self.on))
        why = _why_other(self, options, data)
        if not why and len(leaked):
            why = (
                f"was trained on {len(leaked)} {WHAT[self.on]} (of {len(self.trained)}) that this "
                "run may not train on, such as images of held-out recordings: they would "
                "leak; {seed} in --teacher-checkpoint names one per seed"
            )
        if why:
            raise UserError(
                f"The teacher {path} {why}. Train one for this run: tmkt teacher train --on "
                f"{self.on}, with its options."
            )


@dataclass(frozen=True)
class Embeddings:
    """What a vision-language model makes of a data set's images and of its classes' names."""

    encoder: str  # which model
    classes: list[str]
    seen: dict[str, Any]  # as of a :class:`Teacher`
    fingerprint: str
    accuracy: float  # top-1 (%) of the nearest class name, over all images
    images: Tensor  # ``[S, E]`` float32 of length 1
    text: Tensor  # ``[N, E]`` likewise
    on: ClassVar[str] = "vlm"

    def check(self, path: Path, options: Namespace, data: TransferData, split: Split) -> None:
        """A UserError for embeddings of other images or classes."""
        if why := _why_other(self, options, data):
            raise UserError(
                f"The file of embeddings {path} {why}. Make one for this run: tmkt teacher embed, "
                "with its options."
            )


def _why_other(teacher: Teacher | Embeddings, options: Namespace, data: TransferData) -> str:
    """In which way a teacher's data are not these; empty where they are."""
    here = seen(options, teacher.on)
    other = [
        f"{n}: there {teacher.seen[n]!r}, here {v!r}"
        for n, v in here.items()
        if teacher.seen[n] != v
    ]
    if teacher.classes != list(data.classes):
        return f"has other classes: {_few(teacher.classes)}; here {_few(data.classes)}"
    if other:
        return f"saw other data ({'; '.join(other)})"
    if teacher.fingerprint != fingerprint(data, teacher.on):
        return f"was made from other files of {options.target_dataset}"
    return ""


def _few(names) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def trainable(split: Split, on: str) -> np.ndarray:
    """The images or recordings that a run of this split, and so its teacher, may train on."""
    return split.train if on == "events" else split.static


def seen(options: Namespace, on: str) -> dict[str, Any]:
    """The options that decide what a teacher sees."""
    return {name: getattr(options, name) for name in SEEN[on]}


def fingerprint(data: TransferData, on: str) -> str:
    """SHA-256 of all images, or of the names of all recordings, with the labels."""
    if on != "events":
        content, labels = data.images.cpu().numpy().tobytes(), data.image_labels
    else:
        content, labels = "\n".join(data.names).encode(), data.labels
    return hashlib.sha256(content + labels.cpu().numpy().tobytes()).hexdigest()
