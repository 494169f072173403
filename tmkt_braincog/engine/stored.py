"""``--eval``: stored weights on the test recordings, with the options that they were trained with.

Three kinds of file: checkpoints of this program, which hold all options; timm's container
(``state_dict``, ``args``), in which the baseline's weights are published; and a bare state dict.
"""

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import distributed
from ..data import DATASETS, make_split
from ..errors import UserError
from ..hub import local
from ..options import resolve
from . import checkpoint
from .build import NEURON_OPTIONS, build_model, choose_device
from .compare import load_data
from .evaluate import evaluate

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


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Weights by name, the options that the file tells, and remarks, of which our own need none.

    A UserError for none of the three kinds of file.
    """
    with torch.serialization.safe_globals([Namespace]):  # timm's container holds one
        state = checkpoint.load_any(path)
    known = state if isinstance(state, dict) else {}
    if known.get("format") == checkpoint.FORMAT:
        return known["model"], known["identity"], []
    said, options, weights = [UNKNOWN_SPLIT], {}, known
    if "state_dict" in known:
        average = known.get("state_dict_ema")
        weights = average or known["state_dict"]
        epoch = f", epoch {known['epoch']}" if "epoch" in known else ""
        said.append(
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
    return weights, options, said


def evaluate_stored(given: Namespace) -> None:
    """Print the accuracy of ``--eval-checkpoint`` on the test recordings; writes nothing.

    Options come from the file; what those given, unresolved, change is said. A UserError for
    misfitting weights, or a change that would evaluate on what was trained on.
    """
    if not getattr(given, "eval_checkpoint", None):
        raise UserError("--eval needs --eval-checkpoint FILE.")
    path = local(given.eval_checkpoint)
    weights, kept, said = read(path)
    is_own = not said
    said += _changes(given, kept, is_own, path)
    options, _ = resolve(Namespace(**{**kept, **vars(given)}))
    device, remark = choose_device(options.device)
    data = distributed.main_first(lambda: load_data(options))
    model = build_model(options, len(data.classes), device)
    if not is_own:
        weights = _fitted(weights, model.state_dict(), said)
    checkpoint.load_weights(model, weights, path, f"--model {options.model}")
    split = make_split(data, options, options.seed[0])
    amp = options.amp == "bf16"
    metrics = evaluate(model, data.frames, data.labels, split.test, device, amp=amp)
    audit = f"Seed {options.seed[0]}. {split.audit}" if is_own else ""
    for line in filter(None, (remark, *said, *data.remarks, audit)):
        distributed.say(line)
    top = f"top-1 {metrics.top1:.2f} %, top-5 {metrics.top5:.2f} %"
    distributed.say(f"{path}: {top}, loss {metrics.loss:.4f}")


def _changes(given: Namespace, kept: dict[str, Any], is_own: bool, path: Path) -> list[str]:
    """Lines on options that the command line changes; a UserError where that changes the split."""
    changed = {}
    for name in sorted(vars(given).keys() & kept.keys()):
        here, there = getattr(given, name), kept[name]
        if name == "target_dataset":
            here = DATASETS.canonical(here)
        if here != there:
            changed[name] = f"{name}: {here}, in place of the file's {there}."
    bad = [line for name, line in changed.items() if name in SPLIT]
    if is_own and bad and "target_dataset" not in changed:
        raise UserError(
            f"--eval of {path}: {' '.join(bad)} With another split the network is asked about "
            "recordings that it was trained on: leave this away."
        )
    return [*changed.values()]


def _fitted(weights: dict[str, Tensor], own: dict[str, Tensor], said: list[str]):
    """The weights with what a foreign file may lack or have too much, and remarks on that."""
    constants = {k for k in own if k.endswith((".threshold", ".act_fun.alpha"))} - weights.keys()
    if constants:
        said.append(
            "The file has no constants of the neurons: --threshold and --act-fun give them."
        )
    weights = weights | {name: own[name] for name in constants}
    surplus = sorted(weights.keys() - own.keys())
    if surplus and not own.keys() - weights.keys():
        said.append(f"Not used: {', '.join(surplus)}.")
        weights = {name: value for name, value in weights.items() if name in own}
    return weights
