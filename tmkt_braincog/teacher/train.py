"""Training a teacher on the static images, or on the time-means of the recordings, of a split."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from ..data import Split, TransferData, make_split
from ..errors import UserError
from .model import build_teacher, input_size, teacher_input
from .stored import (
    WHAT,
    Teacher,
    fingerprint,
    load_teacher,
    save_teacher,
    seen,
    teacher_path,
    trainable,
)

WARM_UP = 0.1  # share of the steps in which the learning rate rises
BATCH = 64  # of the evaluation
# What is recorded of the command line.
RECIPE = (
    *("teacher", "teacher_size", "teacher_epochs", "teacher_batch_size", "teacher_lr"),
    "pretrained",
)


def make_teachers(
    own: Namespace, options: Namespace, data: TransferData, device: torch.device
) -> None:
    """``tmkt teacher train``: one teacher for each seed.

    Args:
        own: the teacher's options, see :func:`~tmkt_braincog.commands.teacher.teacher_parser`.
        options: the run's, which decide data and split.
    """
    for seed in options.seed:
        split = make_split(data, options, seed)
        path = teacher_path(own.teacher_checkpoint, seed)
        print(f"Seed {seed}. {split.audit}")
        kept = path.exists()
        teacher = make_teacher(own, options, data, split, seed, path, device)
        print(
            f"{teacher.model} at {teacher.size} x {teacher.size}, trained on "
            f"{len(teacher.trained)} {WHAT[own.on]}: top-1 {teacher.accuracy:.2f} % on "
            f"{len(held_out(own.on, data, split))} held out. "
            f"{'Already there, kept' if kept else 'Written'}: {path}"
        )


def make_teacher(
    own: Namespace,
    options: Namespace,
    data: TransferData,
    split: Split,
    seed: int,
    path: Path,
    device: torch.device,
) -> Teacher:
    """Train and write the teacher of one seed; one that is there already is kept.

    Raises:
        UserError: a different file at ``path``, a model that cannot be built, a loss that is not
            finite.
    """
    which = trainable(split, own.on)
    recipe = {name: getattr(own, name) for name in RECIPE}
    recipe |= {"weights": own.teacher_weights and str(own.teacher_weights), "seed": seed}
    about = {"on": own.on, "seen": seen(options, own.on), "recipe": recipe}
    about["fingerprint"] = fingerprint(data, own.on)
    if path.exists():
        there = load_teacher(path)
        same = all(getattr(there, name) == value for name, value in about.items())
        if same and np.array_equal(there.trained.numpy(), which):
            return there
        raise UserError(
            f"{path} holds another teacher (other options or training data). Choose another "
            "--teacher-checkpoint, or move it away."
        )
    torch.manual_seed(seed)
    network = build_teacher(own.teacher, len(data.classes), own.pretrained, own.teacher_weights)
    network = network.to(device)
    size = own.teacher_size or input_size(own.teacher)
    fit(network, own, data, which, size, seed, device)
    teacher = Teacher(
        model=own.teacher,
        size=size,
        classes=list(data.classes),
        trained=torch.from_numpy(which.copy()),
        accuracy=accuracy(network, data, own.on, held_out(own.on, data, split), size, device),
        weights=network.state_dict(),
        **about,
    )
    save_teacher(path, teacher)
    return teacher


def held_out(on: str, data: TransferData, split: Split) -> np.ndarray:
    """The images or recordings that this split never trains on."""
    if on == "static":
        return np.setdiff1d(np.arange(len(data.image_labels)), split.static)
    return np.concatenate([split.val, split.test])


def fit(
    network: nn.Module, own, data: TransferData, which: np.ndarray, size: int, seed: int, device
) -> None:
    """Cross-entropy with AdamW; the learning rate rises to ``--teacher-lr`` and falls to 0."""
    labels = _labels(data, own.on)
    n_batches = -(-len(which) // own.teacher_batch_size)
    steps = own.teacher_epochs * n_batches
    optimizer = torch.optim.AdamW(network.parameters(), own.teacher_lr)
    schedule = OneCycleLR(optimizer, own.teacher_lr, total_steps=steps, pct_start=WARM_UP)
    rng = np.random.default_rng(seed)
    network.train()
    name = f"{own.teacher} on {own.on}"
    with tqdm(total=steps, desc=name, disable=None, dynamic_ncols=True) as bar:
        for epoch in range(own.teacher_epochs):
            total = torch.zeros((), device=device)
            for batch in np.array_split(rng.permutation(which), n_batches):
                x = teacher_input(data, own.on, batch, size).to(device)
                loss = _loss(network, x, labels[batch].to(device), own.teacher)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
                bar.update()
            mean = total.item() / n_batches
            if not np.isfinite(mean):
                raise UserError(
                    f"--teacher {own.teacher}: the loss is not finite in epoch {epoch}. Lower "
                    "--teacher-lr."
                )
            bar.set_postfix(epoch=epoch, loss=f"{mean:.3f}")


def _loss(network: nn.Module, x: torch.Tensor, y: torch.Tensor, name: str) -> torch.Tensor:
    try:
        return F.cross_entropy(network(x), y)
    except torch.OutOfMemoryError as error:
        raise UserError(f"--teacher {name}: out of memory. Lower --teacher-batch-size.") from error
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"--teacher {name} does not take {x.shape[-1]} x {x.shape[-1]} pixels in batches of "
            f"{len(x)} ({error}). Change --teacher-size or --teacher-batch-size."
        ) from error


@torch.no_grad()
def accuracy(
    network: nn.Module, data: TransferData, on: str, which: np.ndarray, size: int, device
) -> float:
    """Top-1 (%) on these images or recordings; NaN where there are none."""
    network.eval()
    labels, right = _labels(data, on), 0
    for start in range(0, len(which), BATCH):
        chunk = which[start : start + BATCH]
        logits = network(teacher_input(data, on, chunk, size).to(device)).cpu()
        right += int((logits.argmax(-1) == labels[chunk]).sum())
    return 100 * right / len(which) if len(which) else float("nan")


def _labels(data: TransferData, on: str) -> torch.Tensor:
    return (data.image_labels if on == "static" else data.labels).cpu()
