"""Training a teacher on the static images, or on the time-means of the recordings, of a split."""

from argparse import Namespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from ..data import TransferData, make_split
from ..errors import UserError
from .kinds import KINDS, Teacher, about, load_teacher, save_teacher, teacher_path, trainable
from .network import build_teacher, in_batches, teacher_input, views, weights_of

WARM_UP = 0.1  # share of the steps in which the learning rate rises
# What is recorded of the command line.
RECIPE = "teacher teacher_size teacher_epochs teacher_batch_size teacher_lr pretrained"


def make_teachers(
    own: Namespace, options: Namespace, data: TransferData, device: torch.device
) -> None:
    """One teacher for each seed; ``own`` are its options, ``options`` decide data and split.

    One that is there is kept, another one refused by a UserError."""
    recipe = {name: getattr(own, name) for name in RECIPE.split()}
    recipe["weights"] = own.teacher_weights and str(own.teacher_weights)
    known = {
        **{"model": own.teacher, "on": own.on, **about(data, options, own.on)},
        "size": own.teacher_size or weights_of(own.teacher).input_size[-1],
    }
    for seed in options.seed:
        split = make_split(data, options, seed)
        path = teacher_path(own.teacher_checkpoint, seed, options.shots)
        print(f"Seed {seed}. {split.audit}")
        trained = torch.from_numpy(trainable(split, own.on).copy())
        known |= {"trained": trained, "recipe": {**recipe, "seed": seed}}
        rest = np.concatenate([split.val, split.test])
        if own.on == "static":
            rest = np.setdiff1d(np.arange(len(data.image_labels)), split.static)
        if is_there := path.exists():
            teacher = load_teacher(path)
            there = vars(teacher)
            if not all(np.array_equal(there.get(n, ""), value) for n, value in known.items()):
                raise UserError(
                    f"{path} holds another teacher (other options or training data). Choose "
                    "another --teacher-checkpoint, or move it away."
                )
        else:
            teacher = _Pupil(own, data, known["size"], device).learn(known, rest)
            save_teacher(path, teacher)
        print(
            f"{own.teacher} at {known['size']} x {known['size']}, trained on "
            f"{len(trained)} {KINDS[own.on].what}: top-1 {teacher.accuracy:.2f} % on {len(rest)} "
            f"held out. {'Already there, kept' if is_there else 'Written'}: {path}"
        )


class _Pupil:
    """A network that becomes a teacher."""

    def __init__(self, own: Namespace, data: TransferData, size: int, device: torch.device):
        self.own, self.size, self.device = own, size, device
        self.seen = views(data, own.on, size)
        self.labels = (data.image_labels if own.on == "static" else data.labels).cpu()

    def learn(self, known: dict[str, Any], rest: np.ndarray) -> Teacher:
        """The teacher of which all but weights and accuracy, which is on ``rest``, is known."""
        own, seed = self.own, known["recipe"]["seed"]
        torch.manual_seed(seed)
        start = own.pretrained, own.teacher_weights
        self.network = build_teacher(own.teacher, len(known["classes"]), *start).to(self.device)
        self._fit(known["trained"].numpy(), seed)
        return Teacher(**known, accuracy=self._accuracy(rest), weights=self.network.state_dict())

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
                    loss = self._loss(batch)
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

    def _loss(self, which: np.ndarray) -> Tensor:
        x = teacher_input(self.seen, which, self.size).to(self.device)
        try:
            return F.cross_entropy(self.network(x), self.labels[which].to(self.device))
        except (RuntimeError, AssertionError, ValueError) as error:  # of memory, too
            raise UserError(
                f"--teacher {self.own.teacher} does not take {self.size} x {self.size} pixels in "
                f"batches of {len(x)} ({error}). Change --teacher-size or --teacher-batch-size."
            ) from error

    def _accuracy(self, which: np.ndarray) -> float:
        """Top-1 (%) on these images or recordings; NaN where there are none."""
        if not len(which):
            return float("nan")
        given = self.seen, which, self.size, self.device, "teacher held out"
        found = in_batches(self.network.eval(), *given).argmax(-1)
        return 100 * int((found == self.labels[which]).sum()) / len(which)
