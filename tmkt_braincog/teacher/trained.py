"""A trained teacher in a file: weights, and what it was trained on, so that nothing leaks."""

import hashlib
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Split, TransferData
from ..errors import UserError
from ..files import replacing
from .network import build_teacher, penultimate

FORMAT = "teacher-1"
# The options that decide what a teacher sees of the data, and what messages call that.
SEEN = {
    "static": ("target_dataset", "event_size", "use_hsv"),
    "events": ("target_dataset", "event_size", "step", "frame_mode"),
}
WHAT = {"static": "static images", "events": "recordings"}


@dataclass(frozen=True)
class Teacher:
    """A trained teacher.

    Attributes:
        model: timm's name.
        on: ``static`` or ``events``.
        size: side in pixels of its input.
        classes: names, in the order of its outputs.
        seen: options that decide what it sees, by name.
        fingerprint: of all images, or of the names of all recordings.
        trained: sorted int64 indices of the images or recordings that it was trained on.
        accuracy: top-1 (%) on the others, NaN where there are none.
        recipe: how it was trained.
        weights: its state.
    """

    model: str
    on: str
    size: int
    classes: list[str]
    seen: dict[str, Any]
    fingerprint: str
    trained: Tensor
    accuracy: float
    recipe: dict[str, Any]
    weights: dict[str, Tensor]

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
        here = seen(options, self.on)
        other = [
            f"{n}: there {self.seen[n]!r}, here {v!r}" for n, v in here.items() if self.seen[n] != v
        ]
        leaked = np.setdiff1d(self.trained.numpy(), trainable(split, self.on))
        if self.classes != list(data.classes):
            why = f"has other classes: {_few(self.classes)}; here {_few(data.classes)}"
        elif other:
            why = f"saw other data ({'; '.join(other)})"
        elif self.fingerprint != fingerprint(data, self.on):
            why = f"was trained on other files of {options.target_dataset}"
        elif len(leaked):
            why = (
                f"was trained on {len(leaked)} {WHAT[self.on]} (of {len(self.trained)}) that this "
                "run may not train on, such as static twins of held-out recordings: they would "
                "leak; {seed} in --teacher-checkpoint names one per seed"
            )
        else:
            return
        raise UserError(
            f"The teacher {path} {why}. Train one for this run: tmkt teacher train --on "
            f"{self.on}, with its options."
        )


def _few(names) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def trainable(split: Split, on: str) -> np.ndarray:
    """The images or recordings that a run of this split, and so its teacher, may train on."""
    return split.static if on == "static" else split.train


def seen(options: Namespace, on: str) -> dict[str, Any]:
    """The options that decide what a teacher sees."""
    return {name: getattr(options, name) for name in SEEN[on]}


def fingerprint(data: TransferData, on: str) -> str:
    """SHA-256 of all images, or of the names of all recordings, with the labels."""
    if on == "static":
        content, labels = data.images.cpu().numpy().tobytes(), data.image_labels
    else:
        content, labels = "\n".join(data.names).encode(), data.labels
    return hashlib.sha256(content + labels.cpu().numpy().tobytes()).hexdigest()


def teacher_path(text: str, seed: int) -> Path:
    """The file that ``text`` names for a run of this seed: ``{seed}`` stands for it."""
    return Path(text.replace("{seed}", str(seed)))


def save_teacher(path: Path, teacher: Teacher) -> None:
    """Write atomically."""
    try:
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, **vars(teacher)}, temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(f"Cannot write the teacher {path}: {error}.") from error


def load_teacher(path: Path) -> Teacher:
    """Read a teacher, with ``weights_only``; its weights stay on the disk until they are used.

    Raises:
        UserError: missing, damaged, or no teacher.
    """
    if not path.is_file():
        raise UserError(
            f"There is no teacher checkpoint {path}. Train one: tmkt teacher train "
            f"--teacher-checkpoint {path}, with the options of this run."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if state.pop("format") != FORMAT:
            raise KeyError(FORMAT)
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged or not a teacher "
            "checkpoint, as `tmkt teacher train` writes it."
        ) from error
    return Teacher(**state)
