"""``--eval``: stored weights on the test recordings, with the options that they were trained with.

Three kinds of file: checkpoints of this program, which hold all options; timm's container
(``state_dict``, ``args``), in which the baseline's weights are published; and a bare state dict.
"""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import distributed
from ..data import DATASETS, make_split
from ..errors import UserError
from ..options import resolve
from . import checkpoint
from .build import NEURON_OPTIONS, build_model, choose_device
from .compare import load_data
from .evaluate import Metrics, evaluate

# What decides which recordings and images were trained on.
SPLIT = (
    *("source_dataset", "train_portion", "traindata_ratio", "val_portion", "shots", "leftover"),
    *("protocol", "static_images", "seed"),
)
# Of the arguments in a timm container: those that mean the same here.
PUBLISHED = ("model", "num_classes", *NEURON_OPTIONS)
UNKNOWN_SPLIT = (
    "The file does not say which recordings it was trained on: if this split is not the one of its "
    "training, the accuracy is partly that on training recordings."
)


@dataclass(frozen=True)
class Stored:
    """Weights by parameter name, the options that the file tells, and whether it tells all."""

    weights: dict[str, Tensor]
    options: dict[str, Any]
    is_own: bool
    notes: list[str]


def read(path: Path) -> Stored:
    """The weights in any of the three kinds of file; a UserError for any other."""
    with torch.serialization.safe_globals([Namespace]):  # timm's container holds one
        state = checkpoint.load_any(path)
    known = state if isinstance(state, dict) else {}
    if known.get("format") == checkpoint.FORMAT:
        return Stored(known["model"], dict(known["identity"]), True, [])
    notes, options, weights = [], {}, known
    if "state_dict" in known:
        average = known.get("state_dict_ema")
        weights = average or known["state_dict"]
        epoch = f", epoch {known['epoch']}" if "epoch" in known else ""
        notes.append(
            f"{path} is a container of timm ({known.get('arch', 'unnamed')}{epoch}): the "
            f"{'moving average of the ' if average else ''}weights in it."
        )
        given = vars(known["args"]) if isinstance(known.get("args"), Namespace) else {}
        options = {name: given[name] for name in PUBLISHED if given.get(name) is not None}
    tensors = isinstance(weights, dict) and all(map(torch.is_tensor, weights.values()))
    if not weights or not tensors:
        raise UserError(
            f"{path} holds no weights: expected a checkpoint of this program, timm's container "
            "with a 'state_dict', or a state dict alone."
        )
    weights = {name.removeprefix("module."): value for name, value in weights.items()}
    return Stored(weights, options, False, notes)


def evaluate_stored(given: Namespace, say=print) -> Metrics:
    """Accuracy of ``--eval-checkpoint`` on the test recordings; writes nothing.

    Options come from the file; what the command line changes is said.

    Args:
        given: the options on the command line and of its recipe, unresolved.

    Raises:
        UserError: misfitting weights, or a change that would evaluate on what was trained on.
    """
    if not getattr(given, "eval_checkpoint", None):
        raise UserError("--eval needs --eval-checkpoint FILE.")
    path = Path(given.eval_checkpoint)
    stored = read(path)
    changed = _changes(given, stored, path)
    options, _ = resolve(Namespace(**{**stored.options, **vars(given)}))
    device, remark = choose_device(options.device)
    data = distributed.main_first(lambda: load_data(options))
    model = build_model(options, len(data.classes), device)
    weights, notes = _fitted(stored, model.state_dict())
    checkpoint.load_weights(model, weights, path, f"--model {options.model}")
    split = make_split(data, options, options.seed[0])
    amp = options.amp == "bf16"
    metrics = evaluate(model, data.frames, data.labels, split.test, device, amp=amp)
    audit = f"Seed {options.seed[0]}. {split.audit}" if stored.is_own else UNKNOWN_SPLIT
    for line in (remark, *stored.notes, *notes, *changed, *data.remarks, audit):
        if line:
            say(line)
    say(f"{path}: top-1 {metrics.top1:.2f} %, top-5 {metrics.top5:.2f} %, loss {metrics.loss:.4f}")
    return metrics


def _changes(given: Namespace, stored: Stored, path: Path) -> list[str]:
    """Lines on options that the command line changes; a UserError where that changes the split."""
    changed = {}
    for name in sorted(vars(given).keys() & stored.options.keys()):
        here, there = getattr(given, name), stored.options[name]
        if name == "target_dataset":
            here = DATASETS.canonical(here)
        if here != there:
            changed[name] = f"{name}: {here}, in place of the file's {there}."
    bad = [line for name, line in changed.items() if name in SPLIT]
    if stored.is_own and bad and "target_dataset" not in changed:
        raise UserError(
            f"--eval of {path}: {' '.join(bad)} With another split the network is asked about "
            "recordings that it was trained on: leave this away."
        )
    return [*changed.values()]


def _fitted(stored: Stored, own: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights with what a foreign file may lack or have too much, and remarks on that."""
    if stored.is_own:
        return stored.weights, []
    weights, notes = dict(stored.weights), []
    constants = {k for k in own if k.endswith((".threshold", ".act_fun.alpha"))} - weights.keys()
    if constants:
        weights |= {name: own[name] for name in constants}
        notes.append(
            "The file has no constants of the neurons: --threshold and --act-fun give them."
        )
    surplus = sorted(weights.keys() - own.keys())
    if surplus and not own.keys() - weights.keys():
        notes.append(f"Not used: {', '.join(surplus)}.")
        weights = {name: value for name, value in weights.items() if name in own}
    return weights, notes
