"""The network of a teacher, an image model of timm and never a spiking one, and what it sees."""

import difflib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm import models as timm_models
from torch import Tensor, nn
from torchvision.transforms import Normalize
from tqdm import tqdm

from ..data import TransferData
from ..errors import UserError

log = logging.getLogger(__name__)

BATCH = 64


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
        if weights and cfg.custom_load:
            cfg = replace(cfg, file=str(weights))
        elif weights:
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
        log.warning("%s: other names than timm's %s, taken in their order.", file, name)
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
    # Depthwise convolutions are faster so.
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def in_batches(
    forward: Callable, seen: Tensor, which: np.ndarray, size: int, device: torch.device, what: str
) -> Tensor:
    """``forward`` of what a teacher sees of ``which`` of these views, float32 on the CPU; ``what``
    is the text of the bar."""
    chunks = np.split(which, range(BATCH, len(which), BATCH))
    bar = tqdm(chunks, desc=what, disable=None, dynamic_ncols=True)
    inputs = (teacher_input(seen, chunk, size).to(device) for chunk in bar)
    return torch.cat([forward(x).float().cpu() for x in inputs])
