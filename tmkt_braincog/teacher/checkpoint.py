"""A trained teacher in a file: its weights, and what it was trained on, so that nothing leaks through it."""

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
from .model import build_teacher, penultimate

FORMAT = "teacher-1"
# The options that decide what a teacher sees of the data.
SEEN = {
    "static": ("target_dataset", "event_size", "use_hsv"),
    "events": ("target_dataset", "event_size", "step", "frame_mode"),
}


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
        accuracy: top-1 (%) on those that it was not trained on, NaN where there are none.
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
        with torch.random.fork_rng(
            []
        ):  # initial weights that are not used draw no numbers from a run
            net = build_teacher(self.model, len(self.classes))
        net.load_state_dict(self.weights)
        return net.eval()

    @torch.no_grad()
    def width(self) -> int:
        """D of its penultimate features."""
        return penultimate(self.network(), torch.zeros(1, 3, self.size, self.size)).shape[1]

    def check(self, path: Path, options: Namespace, data: TransferData, split: Split) -> None:
        """Refuse a teacher of other classes or data, and one that knows what this run's training must not.

        Raises:
            UserError: with what differs.
        """
        again = f"Train one for this run: tmkt teacher train --on {self.on}, with its options."
        if self.classes != list(data.classes):
            raise UserError(
                f"The teacher {path} has other classes: {_few(self.classes)}; here {_few(data.classes)}. {again}"
            )
        here = seen(options, self.on)
        differing = [
            f"{n}: there {self.seen[n]!r}, here {here[n]!r}"
            for n in here
            if self.seen[n] != here[n]
        ]
        if differing:
            raise UserError(f"The teacher {path} saw other data ({'; '.join(differing)}). {again}")
        if self.fingerprint != fingerprint(data, self.on):
            raise UserError(
                f"The teacher {path} was trained on other files of {options.target_dataset}. {again}"
            )
        allowed = split.static if self.on == "static" else split.train
        leaked = np.setdiff1d(self.trained.numpy(), allowed)
        if len(leaked):
            what = "static images" if self.on == "static" else "recordings"
            raise UserError(
                f"The teacher {path} was trained on {len(leaked)} {what} (of {len(self.trained)}) that this run may not "
                f"train on, such as static twins of held-out recordings: they would leak. {again} A teacher per seed: "
                "{seed} in --teacher-checkpoint."
            )


def _few(names) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def seen(options: Namespace, on: str) -> dict[str, Any]:
    """The options that decide what a teacher sees."""
    return {name: getattr(options, name) for name in SEEN[on]}


def fingerprint(data: TransferData, on: str) -> str:
    """SHA-256 of all images, or of the names of all recordings, with the labels."""
    digest = hashlib.sha256()
    if on == "static":
        digest.update(np.ascontiguousarray(data.images.cpu().numpy()))
        digest.update(data.image_labels.cpu().numpy().tobytes())
    else:
        digest.update("\n".join(data.names).encode() + data.labels.cpu().numpy().tobytes())
    return digest.hexdigest()


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
            f"There is no teacher checkpoint {path}. Train one: tmkt teacher train --teacher-checkpoint {path}, "
            "with the options of this run."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(
            f"The teacher checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or something else. "
            "Train it again."
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise UserError(f"{path} is not a teacher ({FORMAT}), as `tmkt teacher train` writes it.")
    return Teacher(**state)
