"""What a run can learn from beside its data, each a file: a teacher, or embeddings by a
vision-language model."""

import hashlib
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Split, TransferData
from ..errors import UserError
from ..files import replacing
from .network import build_teacher, penultimate


class Kind(NamedTuple):
    what: str  # it learned from, in messages
    command: str  # of ``tmkt teacher`` that makes one
    seen: tuple[str, ...]  # the options that decide what it sees of the data


_SEEN = ("target_dataset", "event_size")
KINDS = {
    "static": Kind("static images", "train --on static", _SEEN),
    "events": Kind("recordings", "train --on events", (*_SEEN, "step", "frame_mode")),
    "vlm": Kind("images and class names", "embed", _SEEN),
}


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What teachers and embeddings have in common."""

    on: str  # what it learned from, a key of KINDS
    classes: list[str]  # names, in the order of its outputs
    seen: dict[str, Any]  # options that decide what it sees, by name
    fingerprint: str  # of all images, or of the names of all recordings
    trained: Tensor  # sorted int64 indices of the images or recordings that it was trained on
    accuracy: float  # top-1 (%) on the others, NaN where there are none

    def check(self, path: Path, options: Namespace, data: TransferData, split: Split) -> None:
        """A UserError for one of other data, or that knows what a run must not train on."""
        kind, here = KINDS[self.on], about(data, options, self.on)
        pairs = ((name, self.seen[name], value) for name, value in here["seen"].items())
        other = [f"{name}: there {a!r}, here {b!r}" for name, a, b in pairs if a != b]
        leaked = np.setdiff1d(self.trained.numpy(), trainable(split, self.on))
        if self.classes != here["classes"]:
            why = f"has other classes: {_few(self.classes)}; here {_few(here['classes'])}"
        elif other:
            why = f"saw other data ({'; '.join(other)})"
        elif self.fingerprint != here["fingerprint"]:
            why = f"was made from other files of {options.target_dataset}"
        elif len(leaked):
            why = (
                f"was trained on {len(leaked)} {kind.what} (of {len(self.trained)}) that this "
                "run may not train on, such as images of held-out recordings: they would "
                "leak; {seed} and {shots} in --teacher-checkpoint name one per split"
            )
        else:
            return
        what, make = ("file of embeddings", "Make") if self.on == "vlm" else ("teacher", "Train")
        command = f"tmkt teacher {kind.command}, with its options"
        raise UserError(f"The {what} {path} {why}. {make} one for this run: {command}.")


@dataclass(frozen=True, kw_only=True)
class Teacher(Learned):
    """A teacher, trained on ``static`` images or on ``events``."""

    model: str  # timm's name
    size: int  # side in pixels of its input
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


@dataclass(frozen=True, kw_only=True)
class Embeddings(Learned):
    """What a vision-language model makes of a data set's images and of its classes' names; the
    accuracy is that of the nearest name, over all images."""

    on: str = "vlm"
    trained: Tensor = field(default_factory=lambda: torch.empty(0))
    encoder: str  # which model
    images: Tensor  # ``[S, E]`` float32 of length 1
    text: Tensor  # ``[N, E]`` likewise


FORMATS = {"teacher-1": Teacher, "embeddings-1": Embeddings}


def about(data: TransferData, options: Namespace, on: str) -> dict[str, Any]:
    """The ``classes``, ``seen`` and ``fingerprint`` of what learns from these data.

    The fingerprint is SHA-256 of all images, or of the names of all recordings, with the labels."""
    if on != "events":
        content, labels = data.images.cpu().numpy().tobytes(), data.image_labels
    else:
        content, labels = "\n".join(data.names).encode(), data.labels
    return {
        "classes": list(data.classes),
        "seen": {name: getattr(options, name) for name in KINDS[on].seen},
        "fingerprint": hashlib.sha256(content + labels.cpu().numpy().tobytes()).hexdigest(),
    }


def trainable(split: Split, on: str) -> np.ndarray:
    """The images or recordings that a run of this split, and so its teacher, may train on."""
    return split.train if on == "events" else split.static


def _few(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def teacher_path(text: str, seed: int, shots: int | None) -> Path:
    """The file that ``text`` names for such a run: ``{seed}`` and ``{shots}`` stand for these."""
    known = "all" if shots is None else str(shots)
    return Path(text.replace("{seed}", str(seed)).replace("{shots}", known))


def save_teacher(path: Path, teacher: Teacher | Embeddings) -> None:
    """Write atomically."""
    name = next(name for name, kind in FORMATS.items() if isinstance(teacher, kind))
    try:
        with replacing(path) as temporary:
            torch.save({"format": name, **vars(teacher)}, temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(f"Cannot write the teacher {path}: {error}.") from error


def load_teacher(path: Path) -> Teacher | Embeddings:
    """Read one, with ``weights_only``; its tensors stay on the disk until they are used.

    Raises:
        UserError: missing, damaged, or neither.
    """
    if not path.is_file():
        raise UserError(
            f"There is no teacher checkpoint {path}. Make one: tmkt teacher train (for vl2spike: "
            f"embed) --teacher-checkpoint {path}, with the options of this run."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        kind = FORMATS[state.pop("format")]
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged or not a teacher "
            "checkpoint, as `tmkt teacher` writes it."
        ) from error
    return kind(**state)
