"""A teacher's network: any image model of timm, never a spiking one."""

import difflib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm.models
from timm.models import is_model
from torch import Tensor, nn
from torchvision.transforms import Normalize

from ..errors import UserError


def build_teacher(
    name: str, num_classes: int, pretrained: bool = False, weights: Path | None = None
) -> nn.Sequential:
    """timm's model of this name for images ``[B, 3, H, W]`` in [0, 1], normalised as its weights want it.

    BrainCog registers spiking networks with timm, some under timm's own names, such as ``resnet18`` and
    ``wide_resnet101_2``: here these names mean timm's.

    Args:
        name: as timm has it, with a tag such as ``resnet50.a1_in1k`` or without.
        pretrained: load its published weights, with a new last layer; downloaded once.
        weights: load them from this file instead.

    Raises:
        UserError: no model of timm, or weights that cannot be had or do not fit.
    """
    entry, cfg = timm_model(name)
    given = {"file": str(weights)} if weights else {}
    if weights and not weights.is_file():
        raise UserError(f"--teacher-weights {weights}: there is no such file.")
    try:
        cfg = replace(cfg, **given)
        net = entry(pretrained=pretrained or bool(weights), pretrained_cfg=cfg, num_classes=num_classes)
    except Exception as error:  # timm, huggingface_hub and torch raise many types
        what = f"{name} cannot be built with " + (f"the weights in {weights}" if weights else "its weights")
        if not (pretrained or weights):
            raise UserError(f"--teacher {name} cannot be built ({error}). Choose another.") from error
        raise UserError(
            f"--teacher {what}: {_first_line(error)}. Without a connection give --teacher-weights FILE, a checkpoint of "
            f"this model ({cfg.hf_hub_id or cfg.url or 'see timm'}), or train from scratch with --no-pretrained."
        ) from error
    return nn.Sequential(Normalize(cfg.mean, cfg.std), net)


def penultimate(network: nn.Sequential, x: Tensor) -> Tensor:
    """Pooled features ``[B, D]`` before the last layer of what :func:`build_teacher` returns."""
    normalise, net = network
    return net.forward_head(net.forward_features(normalise(x)), pre_logits=True).flatten(1)


def timm_model(name: str) -> tuple[Callable, timm.models.PretrainedCfg]:
    """timm's own function for a model, and what is known of its weights.

    Raises:
        UserError: timm has none of this name.
    """
    arch, _, tag = name.partition(".")
    entry = vars(timm.models).get(arch)
    module = sys.modules.get(getattr(entry, "__module__", None))
    if not is_model(arch) or arch not in getattr(module, "__all__", ()):
        if is_model(arch):
            raise UserError(
                f"--teacher {name} is a spiking network. A teacher is an ANN: one of timm's image models, such as "
                "wide_resnet101_2, resnet18 or mobilenetv3_small_050."
            )
        close = difflib.get_close_matches(
            arch, [n for n in timm.list_models() if n in vars(timm.models)], n=3
        )
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(f"Unknown --teacher {name!r}.{hint} All of timm's: timm.list_models().")
    known = module.default_cfgs[arch]
    tag = tag or known.default_with_tag[0]
    if tag not in known.cfgs:
        raise UserError(
            f"--teacher {name}: weights of {arch} are {', '.join(filter(None, known.cfgs)) or 'none'}."
        )
    full = f"{arch}.{tag}" if tag else arch
    cfg = replace(known.cfgs[tag], architecture=arch, tag=tag or None)
    if cfg.hf_hub_id and cfg.hf_hub_id.endswith("/"):
        cfg = replace(cfg, hf_hub_id=cfg.hf_hub_id + full)
    return entry, cfg


def input_size(name: str) -> int:
    """Side in pixels of the images that the model was published for."""
    return timm_model(name)[1].input_size[-1]


def _first_line(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
