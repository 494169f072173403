"""A trained network as a file that runs without this package, checked before it appears.

A format is a module ``to_<format>``: ``write(program, frames, path, texts)`` writes a program in
float64, which may be tried with the frames, and texts that travel with it; ``run(path, frames)``
gives a file's logits ``[B, T, N]``, in float32 or, without the rounding of sums, in float64;
``tau_of`` is what becomes of a neuron's time constant in the file.
"""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import UserError
from ..files import replacing
from ..models.check import let_fire
from ..models.transfer import TransferModel
from .plain import Neuron, program_of, rounded

if TYPE_CHECKING:
    from .network import Network

LIMIT = 1e-4  # of the difference of a logit
RATES = 0.1, 0.5, 2.0, 8.0  # events per pixel, polarity and step of the recordings of the check


def export(network: Network, kind: str, path: Path) -> list[str]:
    """Write the event stream of ``network`` to ``path``; returns what there is to say of it.

    Args:
        kind: ``torch``, ``onnx`` or ``nir``.

    Raises:
        UserError: a missing package, a layer that cannot be expressed, or a file that does not give
            the checkpoint's logits. Nothing is written then.
    """
    try:
        form = import_module(f".to_{kind}", __package__)
    except ImportError as error:
        what = f"--to {kind} needs {error.name}: pip install 'tmkt-braincog[export]'"
        raise UserError(what) from error
    model, frames = network.model, _frames(network.model)
    texts = {"classes": json.dumps([*network.classes]), "about": json.dumps(network.about)}
    with warnings.catch_warnings(), replacing(path) as temporary:
        warnings.simplefilter("ignore")  # of torch's exporters, about themselves
        said = _written(form, kind, model, frames, temporary, texts)
        if silent := _silent(model, frames):
            with tempfile.TemporaryDirectory() as folder:
                also = _written(form, kind, _awake(model, frames), frames, Path(folder, "x"), texts)
            some = ", ".join(silent[:3]) + (", ..." if len(silent) > 3 else "")
            said += [f"No neuron fired in {len(silent)} layers ({some}). With other thresholds:"]
            said += also
    shape = ", ".join(map(str, frames.shape[1:]))
    return [
        f"{path}: frames [B, {shape}] float32 -> logits [B, {model.step}, {model.num_classes}], "
        f"whose mean over the {model.step} time-steps decides; {len(network.classes)} classes.",
        *said,
    ]


def _frames(model: TransferModel) -> Tensor:
    """``[B, T, 2, H, W]``: counts of random events, a recording for each of ``RATES``."""
    shape = (-1, model.step, 2, model.event_size, model.event_size)
    rates = torch.tensor(RATES).view(-1, 1, 1, 1, 1).expand(shape)
    return torch.poisson(rates, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _written(
    form: ModuleType, kind: str, model: TransferModel, frames: Tensor, path: Path, texts: dict
) -> list[str]:
    """Write the file and run it; a UserError where it does not give the model's logits.

    In float32 the order of a sum can move a membrane across its threshold, and one spike is worth
    more than ``LIMIT``. Where that may be so, the recording that differs most decides in float64:
    the program against the model, and the file against the program with the file's weights."""
    program = program_of(model)
    try:
        form.write(program, frames, path, texts)
    except UserError:
        raise
    except Exception as error:  # of any kind: a user's own layer that an exporter does not know
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"--to {kind} failed ({what}); --debug shows where.") from error
    expected, found = _logits(model, frames), form.run(path, frames)
    apart = (found - expected).abs().amax((1, 2))
    said = f"Largest difference from the checkpoint's logits: {apart.max():.1e}"
    if apart.max() <= LIMIT:
        return [f"{said}."]
    close, worst = int((apart <= LIMIT).sum()), int(apart.argmax())
    frames = frames[worst : worst + 1].double()
    exact, folded = _logits(copy.deepcopy(model).double(), frames), program(frames)
    of_file = form.run(path, frames) - rounded(program, form.tau_of)(frames)
    decisive = torch.cat([folded - exact, of_file]).abs().max()
    if not decisive <= LIMIT:
        raise UserError(
            f"--to {kind} does not give the checkpoint's logits: the largest difference is "
            f"{apart.max():.1e} in float32 and {decisive:.1e} in float64, expected at most "
            f"{LIMIT:.0e}. Nothing was written; please report this."
        )
    own, its = ((a - b[worst]).abs().max() for a, b in ((exact, expected), (folded, found)))
    return [
        f"{said} in float32, {decisive:.1e} in float64.",
        f"{close} of {len(apart)} recordings are within {LIMIT:.0e} in float32. Rounding moves "
        f"single spikes across the threshold: from float32 to float64 the checkpoint's logits of "
        f"the worst recording change by {own:.1e}, the file's by {its:.1e}.",
    ]


def _logits(model: TransferModel, frames: Tensor) -> Tensor:
    """``[B, T, N]``, by BrainCog's own loop."""
    model = copy.copy(model)
    model.executor = "step"
    return model(frames).event.logits.transpose(0, 1)


@torch.no_grad()
def _silent(model: TransferModel, frames: Tensor) -> list[str]:
    """Names of the layers of neurons that never fire."""
    program, fired = program_of(model).float(), {}
    for path, layer in program.body.named_modules():
        if isinstance(layer, Neuron):
            name = path.rpartition(".")[2]
            layer.register_forward_hook(lambda *call, n=name: fired.update({n: call[2].any()}))
    program(frames)
    return [name for name, any_spike in fired.items() if not any_spike]


def _awake(model: TransferModel, frames: Tensor) -> TransferModel:
    """A copy with other thresholds, at which every layer fires."""
    twin = copy.deepcopy(model)
    let_fire(twin, frames)  # it resets running statistics, which stay here
    twin.load_state_dict(dict(model.named_buffers()), strict=False)
    return twin
