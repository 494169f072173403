"""Training a teacher on the static images, or on the time-means of the recordings, of a split."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from ..data import Split, TransferData, make_split
from ..errors import UserError
from . import trained
from .model import build_teacher, input_size, teacher_input
from .trained import WHAT, Teacher

WARM_UP = 0.1  # share of the steps in which the learning rate rises
BATCH = 64  # of the evaluation
# What is recorded of the command line.
RECIPE = "teacher teacher_size teacher_epochs teacher_batch_size teacher_lr pretrained"


@dataclass(frozen=True)
class Sight:
    """What a teacher sees of the data, by indices of images or recordings, with their labels."""

    data: TransferData
    on: str
    size: int
    device: torch.device

    def __call__(self, which: np.ndarray) -> tuple[Tensor, Tensor]:
        labels = self.data.image_labels if self.on == "static" else self.data.labels
        x = teacher_input(self.data, self.on, which, self.size)
        return x.to(self.device), labels.cpu()[which].to(self.device)


def make_teachers(
    own: Namespace, options: Namespace, data: TransferData, device: torch.device
) -> None:
    """One teacher for each seed; ``own`` are its options, ``options`` decide data and split."""
    for seed in options.seed:
        split = make_split(data, options, seed)
        path = trained.teacher_path(own.teacher_checkpoint, seed)
        print(f"Seed {seed}. {split.audit}")
        what = "Already there, kept" if path.exists() else "Written"
        teacher = make_teacher(own, options, data, split, seed, path, device)
        print(
            f"{teacher.model} at {teacher.size} x {teacher.size}, trained on "
            f"{len(teacher.trained)} {WHAT[own.on]}: top-1 {teacher.accuracy:.2f} % on "
            f"{len(held_out(own.on, data, split))} held out. {what}: {path}"
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
    """Train and write the teacher of one seed; one that is there is kept, another one refused."""
    which = trained.trainable(split, own.on)
    recipe = {name: getattr(own, name) for name in RECIPE.split()}
    recipe |= {"weights": own.teacher_weights and str(own.teacher_weights), "seed": seed}
    about = {"on": own.on, "seen": trained.seen(options, own.on), "recipe": recipe}
    about["fingerprint"] = trained.fingerprint(data, own.on)
    if path.exists():
        there = trained.load_teacher(path)
        same = all(getattr(there, name) == value for name, value in about.items())
        if same and np.array_equal(there.trained.numpy(), which):
            return there
        raise UserError(
            f"{path} holds another teacher (other options or training data). Choose another "
            "--teacher-checkpoint, or move it away."
        )
    torch.manual_seed(seed)
    network = build_teacher(own.teacher, len(data.classes), own.pretrained, own.teacher_weights)
    sight = Sight(data, own.on, own.teacher_size or input_size(own.teacher), device)
    fit(network.to(device), own, sight, which, seed)
    teacher = Teacher(
        model=own.teacher,
        size=sight.size,
        classes=list(data.classes),
        trained=torch.from_numpy(which.copy()),
        accuracy=accuracy(network, sight, held_out(own.on, data, split)),
        weights=network.state_dict(),
        **about,
    )
    trained.save_teacher(path, teacher)
    return teacher


def held_out(on: str, data: TransferData, split: Split) -> np.ndarray:
    """The images or recordings that this split never trains on."""
    if on == "static":
        return np.setdiff1d(np.arange(len(data.image_labels)), split.static)
    return np.concatenate([split.val, split.test])


def fit(network: nn.Module, own: Namespace, sight: Sight, which: np.ndarray, seed: int) -> None:
    """Cross-entropy with AdamW; the learning rate rises to ``--teacher-lr`` and falls to 0."""
    n_batches = -(-len(which) // own.teacher_batch_size)
    steps = own.teacher_epochs * n_batches
    optimizer = torch.optim.AdamW(network.parameters(), own.teacher_lr)
    schedule = OneCycleLR(optimizer, own.teacher_lr, total_steps=steps, pct_start=WARM_UP)
    rng = np.random.default_rng(seed)
    network.train()
    name = f"{own.teacher} on {own.on}"
    with tqdm(total=steps, desc=name, disable=None, dynamic_ncols=True) as bar:
        for epoch in range(own.teacher_epochs):
            total = torch.zeros((), device=sight.device)
            for batch in np.array_split(rng.permutation(which), n_batches):
                loss = _loss(network, *sight(batch), own.teacher)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.detach()
                bar.update()
            mean = total.item() / n_batches
            if not np.isfinite(mean):
                problem = f"the loss is not finite in epoch {epoch}. Lower --teacher-lr."
                raise UserError(f"--teacher {own.teacher}: {problem}")
            bar.set_postfix(epoch=epoch, loss=f"{mean:.3f}")


def _loss(network: nn.Module, x: Tensor, y: Tensor, name: str) -> Tensor:
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
def accuracy(network: nn.Module, sight: Sight, which: np.ndarray) -> float:
    """Top-1 (%) on these images or recordings; NaN where there are none."""
    network.eval()
    right = 0
    for start in range(0, len(which), BATCH):
        x, y = sight(which[start : start + BATCH])
        right += int((network(x).argmax(-1) == y).sum())
    return 100 * right / len(which) if len(which) else float("nan")
