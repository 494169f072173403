"""From options to device, model, optimiser and schedule."""

import logging
import os
import re
import traceback
import warnings
from argparse import Namespace
from functools import partial
from typing import Any

import torch
from timm.models import create_model, is_model, list_models
from timm.optim import create_optimizer_v2
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from .. import distributed
from ..errors import UserError, unknown_name
from ..methods import method_class
from ..models import TransferModel
from ..models.batchnorm import synchronise
from ..models.check import difference

log = logging.getLogger(__name__)

# As published, in every recipe: start of the warm-up, end of the cosine; the batch scales neither.
WARMUP_LR, MIN_LR = 1e-6, 1e-5
MOMENTUM = 0.9  # of the optimisers that have one
SCHEDULES = ("cosine", "step", "multistep", "tanh", "poly", "none")
# The options that a model is built with.
NEURON_OPTIONS = ("step", "node_type", "act_fun", "threshold", "tau", "event_size")
_verdicts: dict[tuple, str] = {}  # of the check of the fused executor, by model


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device for ``--device`` and a remark (empty where there is nothing to say).

    A bare number is the published way to name a GPU; without any GPU it falls back to the CPU and
    says so; ``cuda`` by name does not. Under ``torchrun`` a process takes the GPU of its number.
    """
    # A driver that is too old for this PyTorch counts its GPUs all the same.
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if distributed.count() > 1 and present and name != "cpu":
        return _own_gpu(name, present)
    if name.isdigit() and not present:
        remark = f"--device {name} names a GPU, but none is visible: running on the CPU."
        return torch.device("cpu"), remark
    usual = "cuda" if present else "cpu"
    words = f"cuda:{name}" if name.isdigit() else usual if name == "auto" else name
    if not re.fullmatch(r"(cpu|cuda)(:(0|[1-9][0-9]*))?", words):
        expected = "expected auto, cpu, cuda, cuda:N or the number of a GPU"
        raise UserError(f"--device {name!r}: {expected}.")
    device = torch.device(words)
    if device.type == "cuda" and (device.index or 0) >= present:
        seen = f"torch {torch.__version__} sees {present} GPU(s), counted from 0"
        raise UserError(f"--device {name}: {seen}. Name one of them, or use --device cpu.")
    return device, ""


def _own_gpu(name: str, present: int) -> tuple[torch.device, str]:
    if (number := int(os.environ["LOCAL_RANK"])) >= present:
        raise UserError(
            f"torchrun started at least {number + 1} processes here, but {present} GPU(s) are "
            "visible: lower --nproc_per_node, or train with --device cpu."
        )
    torch.cuda.set_device(number)
    remark = f"--device {name}: with several processes each takes its own GPU."
    return torch.device("cuda", number), "" if name in ("auto", "cuda") else remark


def build_model(
    options: Namespace, num_classes: int, device: torch.device = torch.device("cpu")
) -> TransferModel:
    """The model named by ``--model``, from timm's registry, on ``device``, as the method wants it.

    A UserError for an unknown name, no transfer model, or a neuron that does not fit the model.
    """
    if not is_model(options.model):
        raise unknown_name("--model", options.model, list_models("*ransfer_*"))
    given = {name: getattr(options, name) for name in NEURON_OPTIONS}
    if options.width_divisor != 1:  # a model of a user's own need not know the option
        given["width_divisor"] = options.width_divisor
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build = partial(_created, options.model, num_classes=num_classes, **given)
            model = method_class(options.method[0]).network(build)
            if distributed.count() > 1:
                synchronise(model)
            model.executor = "step"
            _try_out(model)
            model.to(device)
            if options.executor == "fused":
                _choose_fused(model)
    except UserError:
        raise
    except Exception as error:  # BrainCog's neurons fail in many ways where they do not fit
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"--model {options.model} with --node-type {options.node_type} and --act-fun "
            f"{options.act_fun} cannot be built and run: {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno}). BrainCog's neurons do not all fit all models: "
            "LIFNode, IFNode and PLIFNode do. TMKT_DEBUG=1 shows the traceback."
        ) from error
    return model


def _created(name: str, **given: Any) -> TransferModel:
    model = create_model(name, **given)
    if not isinstance(model, TransferModel):
        raise unknown_name("transfer model", name, list_models("*ransfer_*"))
    return model


def _choose_fused(model: TransferModel) -> None:
    """Switch to the fused executor if the model can be read apart and gives the loop's numbers."""
    model.executor = "fused"
    if why := model.why_step_by_step() or _verdict(model):
        model.executor = "step"
        log.warning("%s runs step by step instead of fused: %s.", type(model).__name__, why)


def _verdict(model: TransferModel) -> str:
    """What :func:`difference` says; it runs the model, and a comparison's runs share one answer."""
    device = next(model.parameters()).device.type  # its kernels are others
    key = device, type(model), repr(model), model.step, model.event_size, str(model.node_options)
    if key not in _verdicts:
        try:
            _verdicts[key] = difference(model)
        except Exception as error:  # whatever a foreign neuron does that folding does not allow
            _verdicts[key] = f"{type(error).__name__}: {error}"
    return _verdicts[key]


@torch.no_grad()
def _try_out(model: TransferModel) -> None:
    """Both streams of an empty recording: neurons that do not fit fail here, not in training."""
    model.eval()
    empty = torch.zeros(1, model.step, 2, model.event_size, model.event_size)
    model(empty, empty)
    model.reset()
    model.train()


def build_optimizer(options: Namespace, modules: nn.Module) -> torch.optim.Optimizer:
    """timm optimiser over all trainable parameters; no weight decay on one-dimensional ones."""
    lr = options.lr * options.batch_size / 1024
    try:
        return create_optimizer_v2(
            modules, opt=options.opt, lr=lr, weight_decay=options.weight_decay, momentum=MOMENTUM
        )
    except (ValueError, KeyError, AssertionError) as error:
        raise UserError(f"--opt {options.opt}: {error}") from error


def build_scheduler(options: Namespace, optimizer: torch.optim.Optimizer):
    """timm scheduler, stepped once per epoch; None is timm's constant rate."""
    if options.sched not in SCHEDULES:
        raise unknown_name("--sched", options.sched, SCHEDULES)
    if options.warmup_epochs >= options.epochs and options.sched != "none":
        raise UserError(
            f"--warmup-epochs {options.warmup_epochs} leaves nothing of --epochs {options.epochs}: "
            "the learning rate would never arrive. Lower the first or raise the second."
        )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=options.sched,
        num_epochs=options.epochs,
        decay_epochs=options.decay_epochs,
        decay_rate=options.decay_rate,
        min_lr=MIN_LR,
        warmup_lr=WARMUP_LR,
        warmup_epochs=options.warmup_epochs,
    )
    return scheduler
