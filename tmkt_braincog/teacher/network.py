"""A teacher: an image model of timm, never a spiking one, what it sees and must not know."""

import difflib
import hashlib
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm import models as timm_models
from torch import Tensor, nn
from torchvision.transforms import Normalize

from ..data import Split, TransferData
from ..errors import UserError
from ..files import replacing

FORMAT = "teacher-1"
# The options that decide what a teacher sees of the data, and what messages call that.
SEEN = {
    "static": ("target_dataset", "event_size", "use_hsv"),
    "events": ("target_dataset", "event_size", "step", "frame_mode"),
}
WHAT = {"static": "static images", "events": "recordings"}


def build_teacher(
    name: str, num_classes: int, pretrained: bool = False, weights: Path | None = None
) -> nn.Sequential:
    """timm's model of this name for images ``[B, 3, H, W]`` in [0, 1], normalised as it wants.

    Args:
        name: as timm has it, with a tag such as ``resnet50.a1_in1k`` or without.
        pretrained: load its published weights, with a new last layer; downloaded once.
        weights: load them from this file instead, see :func:`_weights_in`.

    Raises:
        UserError: no model of timm, or weights that cannot be had or do not fit.
    """
    cfg = weights_of(name)
    if weights and not weights.is_file():
        raise UserError(f"--teacher-weights {weights}: there is no such file.")
    try:
        if weights:
            cfg = replace(cfg, state_dict=_weights_in(weights, name))
        start: dict[str, Any] = {"pretrained": pretrained or bool(weights), "pretrained_cfg": cfg}
        net = timm_models.create_model(name, num_classes=num_classes, **start)
    except Exception as error:  # timm, huggingface_hub and torch raise many types
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        what = f" with the weights in {weights}" if weights else " with its weights" * pretrained
        hint = (
            "Without a connection give --teacher-weights FILE, a checkpoint of this model "
            f"({cfg.hf_hub_id or cfg.url or 'see timm'}), or --no-pretrained."
        )
        raise UserError(f"--teacher {name} cannot be built{what}: {reason}. {hint}") from error
    return nn.Sequential(Normalize(cfg.mean, cfg.std), net)


def _weights_in(file: Path, name: str) -> dict[str, Tensor]:
    """The tensors in a checkpoint of this model, by timm's names.

    Other implementations have other names: where all shapes, and the last words of all names, are
    timm's in the same order, they are taken in that order."""
    found = timm_models.load_state_dict(str(file))
    own = timm_models.create_model(name).state_dict()

    def kinds(state: dict[str, Tensor]) -> list:
        return [(key.rpartition(".")[2], value.shape) for key, value in state.items()]

    if found.keys() != own.keys() and kinds(found) == kinds(own):
        return dict(zip(own, found.values(), strict=True))
    return found


def penultimate(network: Any, x: Tensor) -> Tensor:
    """Pooled features ``[B, D]`` before the last layer of what :func:`build_teacher` returns."""
    normalise, net = network
    return net.forward_head(net.forward_features(normalise(x)), pre_logits=True).flatten(1)


def weights_of(name: str) -> timm_models.PretrainedCfg:
    """What timm knows of a model's published weights; a UserError for a name that it lacks."""
    arch = name.partition(".")[0]
    if not timm_models.is_model(arch):
        close = difflib.get_close_matches(arch, filter(_is_timms, timm_models.list_models()), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"Unknown --teacher {name!r}.{hint} All of timm's: timm.list_models().")
    if not _is_timms(arch):
        raise UserError(
            f"--teacher {name} is a spiking network. A teacher is an ANN: one of timm's image "
            "models, such as wide_resnet101_2, resnet18 or mobilenetv3_small_050."
        )
    try:
        return timm_models.get_pretrained_cfg(name) or timm_models.PretrainedCfg()
    except RuntimeError as error:
        raise UserError(f"--teacher {name}: {error}.") from error


def _is_timms(arch: str) -> bool:
    return timm_models.model_entrypoint(arch).__module__.startswith("timm.")


def views(data: TransferData, on: str, size: int) -> Tensor:
    """All that a teacher looks at: static images ``[S, h, w]`` or frames ``[R, T, 2, H, W]``.

    Photographs are read at the teacher's own ``size``, others are as the run has them."""
    if on == "events":
        return data.frames
    return data.images if data.resized is None else torch.from_numpy(data.resized(size))


def teacher_input(seen: Tensor, which: np.ndarray, size: int) -> Tensor:
    """Of these views, images or recordings in which time is averaged away, as a teacher takes them.

    Images: the V channel three times. Recordings: the mean of the frames over time, in the channels
    OFF, ON and their sum, divided by the largest value of the recording.

    Args:
        which: ``[n]`` indices of images or recordings.
        size: side in pixels; bilinear, antialiased.

    Returns:
        ``[n, 3, size, size]`` float32 in [0, 1].
    """
    x = seen[torch.from_numpy(which).to(seen.device)]
    if x.ndim == 3:
        x = (x.float() if x.is_floating_point() else x.float() / 255).unsqueeze(1)
    else:
        x = x.float().mean(dim=1)
        x = torch.cat([x, x.sum(dim=1, keepdim=True)], dim=1)
        x = x / x.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    return x.expand(-1, 3, -1, -1)


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
