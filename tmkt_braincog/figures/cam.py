"""Grad-CAM++ through time (Chattopadhyay et al., WACV 2018): one map of the input per time-step."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from braincog.base.node.node import BaseNode
from torch import Tensor, nn

from ..errors import UserError
from ..models import TransferModel

# Grad-CAM++ does not depend on the unit of the activations, but the 1e-6 that the package adds to
# squared
# gradients does: as they come, those of a mean over many pixels and time-steps drown in it.
UNIT = 1e-4


class Explained(NamedTuple):
    """What one run makes of one kind of input, on the CPU.

    ``maps`` ``[B, T, H, W]`` >= 0, not scaled; mean ``logits`` ``[B, N]``; ``covered`` ``[H, W]``
    bool, the pixels
    that the maps say something about; ``head`` that decided, ``event`` or ``static``.
    """

    maps: Tensor
    logits: Tensor
    covered: Tensor
    head: str


def class_maps(model: TransferModel, x: Tensor, classes: Sequence[int], head: str) -> Explained:
    """Grad-CAM++ of the mean logit over time, one map per time-step. The model is not touched: a
    copy runs.

    Every time-step of the target layer counts as a layer of its own, so that the gradient at a step
    holds
    what the step does to all later ones, and the weights of its channels are its own (Eq. 19).

    Args:
        x: ``[B, T, 2, H, W]``, on the model's device.
        classes: B, whose logits are explained.
        head: ``event`` or ``static``.

    Raises:
        UserError: the package grad-cam is not installed, or the model has no feature map.
    """
    try:
        from pytorch_grad_cam import GradCAMPlusPlus
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise UserError(
            f"The package grad-cam cannot be imported ({error}), and the figure gradcam needs it. "
            "Install it with: pip install 'tmkt-braincog[figures]'"
        ) from error
    unrolled = _Unrolled(model, head)
    # time as channels: the package takes the picture's size from a tensor of four dimensions
    folded = x.detach().flatten(1, 2).requires_grad_()
    targets = [ClassifierOutputTarget(c) for c in classes]
    cam = GradCAMPlusPlus(unrolled, list(unrolled.steps))
    try:
        cam(folded, targets)
        held = cam.activations_and_grads
        # its own maps are scaled step by step; these can be compared over time
        maps = [
            cam.get_cam_image(folded, step, targets, UNIT * a.numpy(), g.numpy() / UNIT)
            for step, a, g in zip(unrolled.steps, held.activations, held.gradients, strict=True)
        ]
        size, enlarged = x.shape[-1], unrolled.target.enlarged
        covered = enlarged(torch.ones(1, 1, 1, 1), size)[0, 0] > 0
        whole = enlarged(torch.from_numpy(np.stack(maps, 1)).clamp(min=0), size)
        return Explained(whole, cam.outputs.detach().cpu(), covered, head)
    finally:
        cam.activations_and_grads.release()


class _Unrolled(nn.Module):
    """A copy of the model, ``[B, T 2, H, W]`` -> mean logits ``[B, N]``, whose target layer is one
    module per time-step."""

    def __init__(self, model: TransferModel, head: str):
        super().__init__()
        model.reset()  # a membrane that is part of a graph cannot be copied
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.head = head
        self.steps = nn.ModuleList(nn.Identity() for _ in range(model.step))
        self.target = find_target(self.model)
        self.target.layer.register_forward_hook(lambda _, __, output: next(self.ahead)(output))

    def forward(self, x: Tensor) -> Tensor:
        self.ahead = iter(self.steps)
        return self.model.run_stream(x.unflatten(1, (-1, 2)), self.head).logits.mean(0)


class Target(NamedTuple):
    """The layer whose output is explained, and the pixels of the input on each side outside its
    map."""

    layer: nn.Module
    margin: float

    def enlarged(self, maps: Tensor, size: int) -> Tensor:
        """``[B, T, h, w]`` -> ``[B, T, size, size]``: bilinear, over the part of the input it
        belongs to, 0 outside."""
        inner, left = round(size - 2 * self.margin), round(self.margin)
        right = size - inner - left
        inside = F.interpolate(maps, size=(inner, inner), mode="bilinear")
        return F.pad(inside, (left, right, left, right))


@torch.no_grad()
def find_target(model: TransferModel) -> Target:
    """The last neuron behind the last convolution; where none follows it, the last module with a
    map.

    Args:
        model: in evaluation mode.

    Raises:
        UserError: there is no convolution with a map of more than one pixel.
    """
    called: list[nn.Module] = []
    margin = 0.0

    def note(module: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal margin
        if not isinstance(output, Tensor) or output.ndim != 4 or output[0, 0].numel() == 1:
            return
        called.append(module)
        if isinstance(module, nn.Conv2d):
            padding, dilation = module.padding, module.dilation[0]
            lost = dilation * (module.kernel_size[0] - 1) / 2
            lost -= (lost if padding == "same" else 0) if isinstance(padding, str) else padding[0]
            margin += lost * (model.event_size - 2 * margin) / inputs[0].shape[-1]

    handles = [module.register_forward_hook(note) for module in model.modules()]
    model.reset()
    model.features(next(model.parameters()).new_zeros(1, 2, model.event_size, model.event_size))
    model.reset()
    for handle in handles:
        handle.remove()
    convolutions = [i for i, module in enumerate(called) if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise UserError(
            f"{type(model).__name__} with --event-size {model.event_size} has no convolution with "
            "a map of more than one pixel, so there is nothing to show on its input. Use a "
            "convolutional model or a larger size."
        )
    behind = called[convolutions[-1] :]
    neurons = [module for module in behind if isinstance(module, BaseNode)]
    return Target((neurons or behind)[-1], margin)
