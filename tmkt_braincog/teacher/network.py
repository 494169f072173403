"""A teacher's network, any image model of timm but never a spiking one, and what it sees."""

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from timm.models import (
    PretrainedCfg,
    create_model,
    get_pretrained_cfg,
    is_model,
    list_models,
    model_entrypoint,
)
from torch import Tensor, cat, from_numpy, nn
from torchvision.transforms import Normalize

from ..data import TransferData
from ..errors import UserError


def build_teacher(
    name: str, num_classes: int, pretrained: bool = False, weights: Path | None = None
) -> nn.Sequential:
    """timm's model of this name for images ``[B, 3, H, W]`` in [0, 1], normalised as it wants.

    Args:
        name: as timm has it, with a tag such as ``resnet50.a1_in1k`` or without.
        pretrained: load its published weights, with a new last layer; downloaded once.
        weights: load them from this file instead.

    Raises:
        UserError: no model of timm, or weights that cannot be had or do not fit.
    """
    cfg = weights_of(name)
    if weights and not weights.is_file():
        raise UserError(f"--teacher-weights {weights}: there is no such file.")
    if weights:
        cfg = replace(cfg, file=str(weights))
    start: dict[str, Any] = {"pretrained": pretrained or bool(weights), "pretrained_cfg": cfg}
    try:
        net = create_model(name, num_classes=num_classes, **start)
    except Exception as error:  # timm, huggingface_hub and torch raise many types
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        what = f" with the weights in {weights}" if weights else " with its weights" * pretrained
        hint = (
            "Without a connection give --teacher-weights FILE, a checkpoint of this model "
            f"({cfg.hf_hub_id or cfg.url or 'see timm'}), or --no-pretrained."
        )
        raise UserError(f"--teacher {name} cannot be built{what}: {reason}. {hint}") from error
    return nn.Sequential(Normalize(cfg.mean, cfg.std), net)


def penultimate(network: Any, x: Tensor) -> Tensor:
    """Pooled features ``[B, D]`` before the last layer of what :func:`build_teacher` returns."""
    normalise, net = network
    return net.forward_head(net.forward_features(normalise(x)), pre_logits=True).flatten(1)


def weights_of(name: str) -> PretrainedCfg:
    """What timm knows of a model's published weights; a UserError for a name that it lacks."""
    arch = name.partition(".")[0]
    if not is_model(arch):
        close = difflib.get_close_matches(arch, filter(_is_timms, list_models()), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"Unknown --teacher {name!r}.{hint} All of timm's: timm.list_models().")
    if not _is_timms(arch):
        raise UserError(
            f"--teacher {name} is a spiking network. A teacher is an ANN: one of timm's image "
            "models, such as wide_resnet101_2, resnet18 or mobilenetv3_small_050."
        )
    try:
        return get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        raise UserError(f"--teacher {name}: {error}.") from error


def _is_timms(arch: str) -> bool:
    return model_entrypoint(arch).__module__.startswith("timm.")


def teacher_input(data: TransferData, on: str, which: np.ndarray, size: int) -> Tensor:
    """Static images, or recordings in which time is averaged away, as a teacher takes them.

    ``static``: the V channel three times. ``events``: the mean of the frames over time, in the
    channels OFF, ON and their sum, divided by the largest value of the recording.

    Args:
        which: ``[n]`` indices of images or recordings.
        size: side in pixels; bilinear, antialiased.

    Returns:
        ``[n, 3, size, size]`` float32 in [0, 1].
    """
    if on == "static":
        v = data.images[from_numpy(which).to(data.images.device)]
        x = (v.float() if v.is_floating_point() else v.float() / 255).unsqueeze(1)
    else:
        x = data.frames[from_numpy(which).to(data.frames.device)].float().mean(dim=1)
        x = cat([x, x.sum(dim=1, keepdim=True)], dim=1)
        x = x / x.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    return x.expand(-1, 3, -1, -1)
