"""A teacher's network: any image model of timm, never a spiking one."""

import difflib
from dataclasses import replace
from pathlib import Path

from timm.models import (
    PretrainedCfg,
    create_model,
    get_pretrained_cfg,
    is_model,
    list_models,
    list_pretrained,
    model_entrypoint,
)
from torch import Tensor, nn
from torchvision.transforms import Normalize

from ..errors import UserError


def build_teacher(
    name: str, num_classes: int, pretrained: bool = False, weights: Path | None = None
) -> nn.Sequential:
    """timm's model of this name for images ``[B, 3, H, W]`` in [0, 1], normalised as its weights want it.

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
    try:
        net = create_model(
            name,
            pretrained=pretrained or bool(weights),
            pretrained_cfg=cfg,
            num_classes=num_classes,
        )
    except Exception as error:  # timm, huggingface_hub and torch raise many types
        what = f"{name} cannot be built with " + (
            f"the weights in {weights}" if weights else "its weights"
        )
        if not (pretrained or weights):
            raise UserError(
                f"--teacher {name} cannot be built ({error}). Choose another."
            ) from error
        raise UserError(
            f"--teacher {what}: {_first_line(error)}. Without a connection give --teacher-weights FILE, a checkpoint of "
            f"this model ({cfg.hf_hub_id or cfg.url or 'see timm'}), or train from scratch with --no-pretrained."
        ) from error
    return nn.Sequential(Normalize(cfg.mean, cfg.std), net)


def penultimate(network: nn.Sequential, x: Tensor) -> Tensor:
    """Pooled features ``[B, D]`` before the last layer of what :func:`build_teacher` returns."""
    normalise, net = network
    return net.forward_head(net.forward_features(normalise(x)), pre_logits=True).flatten(1)


def weights_of(name: str) -> PretrainedCfg:
    """What timm knows of a model's published weights: where they are, and the images that they want.

    Raises:
        UserError: timm has no model, or no weights, of this name.
    """
    arch = name.partition(".")[0]
    if not is_model(arch):
        close = difflib.get_close_matches(arch, filter(_is_timms, list_models()), n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"Unknown --teacher {name!r}.{hint} All of timm's: timm.list_models().")
    if not _is_timms(arch):
        raise UserError(
            f"--teacher {name} is a spiking network. A teacher is an ANN: one of timm's image models, such as "
            "wide_resnet101_2, resnet18 or mobilenetv3_small_050."
        )
    try:
        return get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        known = ", ".join(list_pretrained(f"{arch}.*")) or "none"
        raise UserError(f"--teacher {name}: weights of {arch} are {known}.") from error


def _is_timms(arch: str) -> bool:
    return model_entrypoint(arch).__module__.startswith("timm.")


def input_size(name: str) -> int:
    """Side in pixels of the images that the model was published for."""
    return weights_of(name).input_size[-1]


def _first_line(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
