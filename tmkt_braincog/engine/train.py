"""Training one method with one seed: the loop, its checkpoints and its log."""

import math
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timm.utils import distribute_bn
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from .. import distributed
from ..arguments import launch_words
from ..comparison import COLUMNS
from ..data import Split, TransferData, TSMDataset
from ..data.encodings import build_encoding
from ..data.sampling import epoch_batches
from ..errors import Interrupted, UserError
from ..methods import build_method
from ..mixing import Progress
from ..teacher.outputs import give_teachers, meet_teachers
from . import checkpoint
from .build import build_model, build_optimizer, build_scheduler
from .checkpoint import Position
from .evaluate import Predictions, predict
from .folder import PREDICTIONS, EpochLog, write_csv, write_json
from .memory import peak_mib, reset_peak
from .stops import FiniteWatch, StopSignal


class Trainer:
    """Trains, evaluates, logs and saves one run; nothing is written before :meth:`fit`.

    ``options`` are resolved, with one method and one seed in the lists. A UserError for those that
    cannot be built or do not fit the data.
    """

    def __init__(
        self,
        options: Namespace,
        data: TransferData,
        split: Split,
        folder: Path,
        device: torch.device,
    ):
        self.options, self.data, self.split = options, data, split
        self.folder, self.device = folder, device
        (self.name,), (self.seed,) = options.method, options.seed
        # The model comes first: all methods that train it then begin with the same weights.
        checkpoint.seed_generators(self.seed)
        self.model = build_model(options, len(data.classes), device)
        self.method = build_method(self.name, options, self.model.num_features)
        meet_teachers(self.method, options)  # the optimiser needs all parameters
        self.method.to(device)
        self.modules = nn.ModuleDict({"model": self.model, "method": self.method})
        self.losses = distributed.data_parallel(self.model, self.method)
        self.optimizer = build_optimizer(options, self.modules)
        self.scheduler = build_scheduler(options, self.optimizer)
        self.amp = options.amp == "bf16"
        self.encoding = build_encoding(options) if self.method.needs_images else None
        self.pairs = TSMDataset(
            *(data.frames, data.labels, data.images, data.image_labels),
            recordings=split.train,
            pools=split.pools,
            size=options.event_size,
            seed=self.seed,
            augment=options.augment,
            twins=data.twins,
            encoding=self.encoding,
        )
        self.steps = len(self.batches(0))  # per epoch
        self.log = EpochLog(folder, options.tensorboard)
        self.at = Position()
        self.sums: dict[str, Tensor] = {}  # of the losses in this epoch
        self.teachers: dict[str, str] | None = None  # checksums; None before training
        self.watch, self.signal = FiniteWatch(), StopSignal()

    def fit(self, signal: StopSignal) -> None:
        """Train to the end, which ``result.json`` marks: a row of ``comparison.csv``.

        Raises:
            UserError: a gradient that is not finite, or a checkpoint that cannot be written.
            Interrupted: Ctrl-C or SIGTERM, after saving.
        """
        self.signal = signal
        self._give_teachers()
        self.encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        reset_peak(self.device)
        bar = tqdm(
            total=self.options.epochs * self.steps,
            initial=self.at.epoch * self.steps + self.at.batch,
            desc=f"{self.name} seed {self.seed}",
            disable=True if distributed.rank() else None,  # None: where nobody looks, in a file
            dynamic_ncols=True,
            mininterval=0.5,
        )
        with bar:
            while self.at.epoch < self.options.epochs:
                self._train_epoch(bar)
                self._end_epoch(bar)
        self.log.close()
        at, one = self.at, (self.name, self.seed, self.options.protocol)
        found = at.best_test, at.last_test, at.best_epoch
        costs = round(at.train_s, 3), round(at.peak_mib, 1)
        result = dict(zip(COLUMNS, (*one, *found, *costs), strict=True))
        distributed.on_main(lambda: write_json(self.folder / "result.json", result))

    def encode(self) -> None:
        """Make the static frames that can be made once; before the first batch."""
        if (encoding := self.encoding) is not None:
            distributed.main_first(lambda: encoding.prepare(self.data, self.split.static))

    def _give_teachers(self) -> None:
        """The outputs of its teachers for the method's parts; those that the run began with."""
        given = give_teachers(self.method, self.options, self.data, self.split, self.device)
        if self.teachers not in (None, given):
            raise UserError(
                f"{self.name}, seed {self.seed}: a file of --teacher-checkpoint has changed since "
                "the run was stopped. Put the old one back, or start anew with another --output."
            )
        self.teachers = given

    def batches(self, epoch: int) -> list[list[int]]:
        """Indices into :attr:`pairs`, of all processes, in the order of this epoch."""
        o, labels = self.options, self.pairs.item_labels
        return epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, self.seed, epoch)

    def _train_epoch(self, bar: tqdm) -> None:
        batches = self.batches(self.at.epoch)
        self.pairs.set_epoch(self.at.epoch)
        self.modules.train()
        loader = DataLoader(
            self.pairs,
            sampler=[distributed.share(batch) for batch in batches[self.at.batch :]],
            batch_size=None,
            pin_memory=self.device.type == "cuda" and not self.pairs.frames.is_cuda,
            # An iterator draws from its generator, and a resumed epoch starts one more of them.
            generator=torch.Generator(),
        )
        started = time.perf_counter()
        for batch in loader:
            progress = Progress(self.at.epoch, self.options.epochs, self.at.batch, self.steps)
            self._refuse(self._step(batch.to(self.device), progress))
            self.at.batch += 1
            bar.update()
            if self.at.batch % self.options.log_interval == 0:
                loss = self._means()["loss"]
                bar.set_postfix(epoch=self.at.epoch, loss=f"{loss:.3f}", refresh=False)
            if self.at.batch < self.steps:
                self._stop_if_wanted(started)
        self._refuse(self.watch.flush())
        self._add_time(started)

    def _step(self, batch, progress: Progress) -> int | None:
        """Train on one batch; the number of a step whose gradient was not finite."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            losses = self.losses(batch, progress)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        gradients = [p.grad for p in self.modules.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if (bad := self.watch.add(progress.batch, norm)) is not None:
            return bad
        if self.options.clip_grad is not None:
            nn.utils.clip_grads_with_norm_(self.modules.parameters(), self.options.clip_grad, norm)
        self.optimizer.step()
        with torch.no_grad():
            for name, value in losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + value.detach().double()
        return None

    def _means(self) -> dict[str, float]:
        means = distributed.mean(torch.stack(list(self.sums.values()))) / self.at.batch
        return dict(zip(self.sums, means.tolist(), strict=True))

    def _add_time(self, started: float) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.at.train_s += time.perf_counter() - started
        self.at.peak_mib = max(self.at.peak_mib, peak_mib(self.device))

    def _refuse(self, bad: int | None) -> None:
        """A UserError where a step's gradient was not finite; it is the same in every process."""
        if bad is None:
            return
        last, named = self.folder / "last.pt", self.modules.named_parameters()
        where = [n for n, p in named if p.grad is not None and not p.grad.isfinite().all()]
        first = f", first that of {where[0]}" if where else ""
        kept = f"The last good checkpoint is kept ({last}). " if last.exists() else ""
        of = [self.data.names[r] for r in self.split.train] or ["an image"]
        names = [of[i % len(of)] for i in self.batches(self.at.epoch)[bad]]
        raise UserError(
            f"{self.name}, seed {self.seed}: the gradient is not finite at epoch {self.at.epoch}, "
            f"step {bad} of {self.steps}{first}; the batch holds {', '.join(names[:4])}"
            f"{', ...' if len(names) > 4 else ''}. {kept}Lower --lr, or set --clip-grad 1."
        )

    def _end_epoch(self, bar: tqdm) -> None:
        epoch, o = self.at.epoch, self.options
        row: dict[str, Any] = {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= self._means() | self.method.diagnostics()
        self._share_statistics()
        if (epoch + 1) % o.eval_interval == 0 or epoch + 1 == o.epochs:
            row |= self._evaluate(epoch)
            bar.set_postfix(epoch=epoch, loss=f"{row['loss']:.3f}", top1=f"{self.at.last_test:.2f}")
        row["train_s"] = round(self.at.train_s, 3)
        distributed.on_main(lambda: self.log.add(row))
        if self.scheduler is not None:
            self.scheduler.step(epoch + 1)
        self.at.epoch, self.at.batch, self.sums = epoch + 1, 0, {}
        # The best one first: what last.pt speaks of is then always there.
        if self.at.best_epoch == epoch:
            self.save("best.pt")
        self.save("last.pt")

    def _share_statistics(self) -> None:
        """Give every process the mean of all running statistics; being averages, they allow it."""
        if distributed.count() > 1:
            distribute_bn(self.model, distributed.count(), reduce=True)

    def _evaluate(self, epoch: int) -> dict[str, float]:
        row, score = dict[str, float](), math.nan
        found = {part: self.predict(which) for part, which in self.split.held_out().items()}
        tables = {part: of.table(self.data.names) for part, of in found.items()}
        rows = pd.concat(tables, names=["part"]).reset_index("part")
        rows = rows.sort_values(["part", "recording"])
        distributed.on_main(lambda: write_csv(self.folder / PREDICTIONS, rows))
        for part, of in found.items():
            row |= {f"{part}_{k}": v for k, v in asdict(of.metrics()).items()}
            row |= {f"{part}_top1_{h}": of.top1(h) for h in of.heads if h != "event"}
            score = row[f"{part}_top1"]
        at, at.last_test = self.at, row["test_top1"]
        if score > at.best_score:
            at.best_score, at.best_test, at.best_epoch = score, at.last_test, epoch
        return row

    def predict(self, recordings: np.ndarray) -> Predictions:
        """What both heads make of these recordings."""
        d, more = self.data, (32, self.amp, self._stop_if_wanted, self.method.has_static)
        return predict(self.model, d.frames, d.labels, recordings, self.device, *more)

    def _stop_if_wanted(self, started: float | None = None) -> None:
        """After a signal save, counting time from ``started``, and raise :class:`Interrupted`."""
        if (signum := self.signal.wanted()) is None:
            return
        self._refuse(self.watch.flush())
        if started is not None:
            self._add_time(started)
        self._share_statistics()
        self.save("last.pt")
        self.log.close()
        alone, target = launch_words()
        n = distributed.count()
        program = alone if n == 1 else f"torchrun --nproc_per_node={n} {target}"
        raise Interrupted(
            f"Stopped on a signal after epoch {self.at.epoch}, step {self.at.batch} of {self.steps}"
            f"; saved in {self.folder / 'last.pt'}.\nContinue with: {program} -c "
            f"{self.folder.parent.parent / 'config.yaml'} --resume",
            signum,
        )

    def save(self, name: str) -> None:
        """Write a checkpoint with all that is needed to go on bit for bit."""
        sums = {k: distributed.mean(v).cpu() for k, v in self.sums.items()}
        path = self.folder / name
        distributed.on_main(lambda: checkpoint.save(path, checkpoint.state_of(self, sums)))
