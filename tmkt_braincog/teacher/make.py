"""Training a teacher on the static images, or on the time-means of the recordings, of a split."""

from argparse import Namespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from ..data import Split, TransferData, make_split
from ..errors import UserError
from .files import load_teacher, save_teacher, teacher_path
from .kinds import WHAT, Teacher, fingerprint, seen, trainable
from .network import build_teacher, teacher_input, views, weights_of

WARM_UP = 0.1  # share of the steps in which the learning rate rises
BATCH = 64  # of the evaluation
# What is recorded of the command line.
RECIPE = "teacher teacher_size teacher_epochs teacher_batch_size teacher_lr pretrained"


def make_teachers(
    own: Namespace, options: Namespace, data: TransferData, device: torch.device
) -> None:
    """One teacher for each seed; ``own`` are its options, ``options`` decide data and split.

    One that is there is kept, another one refused by a UserError."""
    for seed in options.seed:
        split = make_split(data, options, seed)
        path = teacher_path(own.teacher_checkpoint, seed)
        print(f"Seed {seed}. {split.audit}")
        about = _about(own, options, data, split, seed)
        rest = np.concatenate([split.val, split.test])
        if own.on == "static":
            rest = np.setdiff1d(np.arange(len(data.image_labels)), split.static)
        if is_there := path.exists():
            teacher = load_teacher(path)
            if not isinstance(teacher, Teacher) or any(
                not np.array_equal(getattr(teacher, k), v) for k, v in about.items()
            ):
                raise UserError(
                    f"{path} holds another teacher (other options or training data). Choose "
                    "another --teacher-checkpoint, or move it away."
                )
        else:
            teacher = _Pupil(own, data, device, about["size"]).learn(about, rest, seed)
            save_teacher(path, teacher)
        print(
            f"{teacher.model} at {teacher.size} x {teacher.size}, trained on "
            f"{len(teacher.trained)} {WHAT[own.on]}: top-1 {teacher.accuracy:.2f} % on {len(rest)} "
            f"held out. {'Already there, kept' if is_there else 'Written'}: {path}"
        )


def _about(
    own: Namespace, options: Namespace, data: TransferData, split: Split, seed: int
) -> dict[str, Any]:
    """What there is to know of a teacher before it is trained."""
    recipe = {name: getattr(own, name) for name in RECIPE.split()}
    recipe |= {"weights": own.teacher_weights and str(own.teacher_weights), "seed": seed}
    return {
        "model": own.teacher,
        "on": own.on,
        "size": own.teacher_size or weights_of(own.teacher).input_size[-1],
        "classes": list(data.classes),
        "seen": seen(options, own.on),
        "fingerprint": fingerprint(data, own.on),
        "trained": torch.from_numpy(trainable(split, own.on).copy()),
        "recipe": recipe,
    }


class _Pupil:
    """A network that becomes a teacher."""

    def __init__(self, own: Namespace, data: TransferData, device: torch.device, size: int):
        self.own, self.data, self.device, self.size = own, data, device, size
        self.seen = views(data, own.on, size)

    def learn(self, about: dict[str, Any], rest: np.ndarray, seed: int) -> Teacher:
        own, which = self.own, about["trained"].numpy()
        torch.manual_seed(seed)
        weights = own.pretrained, own.teacher_weights
        self.network = build_teacher(own.teacher, len(about["classes"]), *weights).to(self.device)
        self._fit(which, seed)
        return Teacher(**about, accuracy=self._accuracy(rest), weights=self.network.state_dict())

    def _see(self, which: np.ndarray) -> tuple[Tensor, Tensor]:
        """What it sees of these images or recordings, and their labels."""
        labels = self.data.image_labels if self.own.on == "static" else self.data.labels
        x = teacher_input(self.seen, which, self.size)
        return x.to(self.device), labels.cpu()[which].to(self.device)

    def _fit(self, which: np.ndarray, seed: int) -> None:
        """Cross-entropy with AdamW; the learning rate rises to ``--teacher-lr`` and falls to 0."""
        own, network = self.own, self.network.train()
        n_batches = -(-len(which) // own.teacher_batch_size)
        steps = own.teacher_epochs * n_batches
        optimizer = torch.optim.AdamW(network.parameters(), own.teacher_lr)
        schedule = OneCycleLR(optimizer, own.teacher_lr, total_steps=steps, pct_start=WARM_UP)
        rng = np.random.default_rng(seed)
        name = f"{own.teacher} on {own.on}"
        with tqdm(total=steps, desc=name, disable=None, dynamic_ncols=True) as bar:
            for epoch in range(own.teacher_epochs):
                total = torch.zeros((), device=self.device)
                for batch in np.array_split(rng.permutation(which), n_batches):
                    loss = self._loss(*self._see(batch))
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    total += loss.detach() / n_batches
                    bar.update()
                if not total.isfinite():
                    problem = f"the loss is not finite in epoch {epoch}. Lower --teacher-lr."
                    raise UserError(f"--teacher {own.teacher}: {problem}")
                bar.set_postfix(epoch=epoch, loss=f"{total.item():.3f}")

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        try:
            return F.cross_entropy(self.network(x), y)
        except (RuntimeError, AssertionError, ValueError) as error:  # of memory, too
            raise UserError(
                f"--teacher {self.own.teacher} does not take {self.size} x {self.size} pixels in "
                f"batches of {len(x)} ({error}). Change --teacher-size or --teacher-batch-size."
            ) from error

    @torch.no_grad()
    def _accuracy(self, which: np.ndarray) -> float:
        """Top-1 (%) on these images or recordings; NaN where there are none."""
        self.network.eval()
        right = 0
        for start in range(0, len(which), BATCH):
            x, y = self._see(which[start : start + BATCH])
            right += int((self.network(x).argmax(-1) == y).sum())
        return 100 * right / len(which) if len(which) else float("nan")
