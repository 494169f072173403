"""Training one method with one seed: the loop, its checkpoints and its log."""

import contextlib
import json
import math
import time
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from timm.utils import distribute_bn
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from .. import distributed
from ..arguments import build_parser, launch_words
from ..data import Split, TransferData, TSMDataset
from ..data.sampling import epoch_batches
from ..errors import Interrupted, UserError
from ..files import replacing
from ..methods import build_method
from ..mixing import Progress
from ..options import NOT_IDENTITY, identity
from ..teacher.outputs import give_teachers, set_teacher_widths
from . import checkpoint
from .build import build_model, build_optimizer, build_scheduler
from .evaluate import Metrics, evaluate
from .finite import FiniteWatch, first_not_finite, gradient_norm
from .interrupt import StopSignal
from .loggers import EpochLog
from .memory import peak_mib, reset_peak


@dataclass(frozen=True)
class Result:
    """One finished run; field names are the columns of ``comparison.csv``. Accuracies in percent."""

    method: str
    seed: int
    protocol: str
    top1_best: float
    top1_last: float
    epoch_best: int
    train_s: float
    peak_mib: float


@dataclass
class Position:
    """Everything that the loop counts; saved with a checkpoint.

    ``epoch`` and ``batch`` are the next to run, ``sums`` the losses added up in this epoch,
    ``best_score`` is on the validation recordings where there are any, ``best_test`` and
    ``last_test`` on the test recordings.
    """

    epoch: int = 0
    batch: int = 0
    train_s: float = 0.0
    peak_mib: float = 0.0
    best_score: float = -1.0
    best_test: float = float("nan")
    best_epoch: int = -1
    last_test: float = float("nan")


class Trainer:
    """Trains, evaluates, logs and saves one run.

    Args:
        options: resolved options with one method and one seed in the lists.
        data, split: what to train, validate and test on.
        folder: of this run; checkpoints ``last.pt`` and ``best.pt``, ``log.csv``, ``result.json``.
            Nothing is written before :meth:`fit`.
        device: where the model runs.

    Raises:
        UserError: options that cannot be built or do not fit the data.
    """

    def __init__(
        self,
        options: Namespace,
        data: TransferData,
        split: Split,
        folder: Path,
        device: torch.device,
    ):
        self.options, self.data, self.split, self.folder, self.device = (
            options,
            data,
            split,
            folder,
            device,
        )
        (self.name,), (self.seed,) = options.method, options.seed
        # The model comes first: its initial weights are then the same for all methods.
        torch.manual_seed(self.seed)
        self.model = build_model(options, len(data.classes), device)
        self.method = build_method(self.name, options, self.model.num_features)
        set_teacher_widths(self.method, options)  # the optimiser needs all parameters
        self.method.to(device)
        self.modules = nn.ModuleDict({"model": self.model, "method": self.method})
        self.losses = distributed.data_parallel(self.model, self.method)
        self.optimizer = build_optimizer(options, self.modules)
        self.scheduler = build_scheduler(options, self.optimizer)
        self.amp = options.amp == "bf16"
        self.pairs = TSMDataset(
            data.frames,
            data.labels,
            data.images,
            data.image_labels,
            recordings=split.train,
            pools=split.pools,
            size=options.event_size,
            seed=self.seed,
            augment=options.augment,
            twins=data.twins,
        )
        self.steps = len(self._batches(0))  # per epoch
        self.log = EpochLog(folder, options.tensorboard)
        self.at = Position()
        self.sums: dict[str, Tensor] = {}
        self.teachers: dict[str, str] | None = None  # checksums; None before training
        self.watch, self.signal = FiniteWatch(), StopSignal()

    def fit(self, signal: StopSignal | None = None) -> Result:
        """Train to the end.

        Args:
            signal: what is already listening for signals; one of the run's own where None.

        Raises:
            UserError: a gradient that is not finite, or a checkpoint that cannot be written.
            Interrupted: Ctrl-C or SIGTERM, after saving.
        """
        self._give_teachers()
        self.folder.mkdir(parents=True, exist_ok=True)
        reset_peak(self.device)
        bar = tqdm(
            total=self.options.epochs * self.steps,
            initial=self.at.epoch * self.steps + self.at.batch,
            desc=f"{self.name} seed {self.seed}",
            disable=None if distributed.is_main() else True,  # None: where nobody looks, in a file
            dynamic_ncols=True,
            mininterval=0.5,
        )
        with contextlib.ExitStack() as stack:
            self.signal = signal or stack.enter_context(StopSignal())
            stack.enter_context(bar)
            while self.at.epoch < self.options.epochs:
                self._train_epoch(bar)
                self._end_epoch(bar)
        self.log.close()
        return self._finish()

    def _give_teachers(self) -> None:
        """The outputs of its teachers for the method's parts; those that the run began with."""
        given = give_teachers(self.method, self.options, self.data, self.split, self.device)
        if self.teachers not in (None, given):
            raise UserError(
                f"{self.name}, seed {self.seed}: a file of --teacher-checkpoint has changed since the run was stopped. Put "
                "the old one back, or start anew with another --output."
            )
        self.teachers = given

    def _batches(self, epoch: int) -> list[list[int]]:
        o = self.options
        labels = self.data.labels[self.split.train].numpy()
        return epoch_batches(labels, o.batch_size, o.epoch_size, o.sampling, self.seed, epoch)

    def _train_epoch(self, bar: tqdm) -> None:
        batches = self._batches(self.at.epoch)
        self.pairs.set_epoch(self.at.epoch)
        self.model.train()
        self.method.train()
        loader = DataLoader(
            self.pairs,
            sampler=[distributed.share(batch) for batch in batches[self.at.batch :]],
            batch_size=None,
            # Data that live on the device are put together there, by this process.
            num_workers=0 if self.pairs.frames.is_cuda else self.options.workers,
            pin_memory=self.device.type == "cuda" and not self.pairs.frames.is_cuda,
            # Its own: an iterator draws from the global generator when it starts, and a resumed
            # epoch starts one more of them.
            generator=torch.Generator(),
        )
        started = time.perf_counter()
        for batch in loader:
            progress = Progress(self.at.epoch, self.options.epochs, self.at.batch, self.steps)
            self._refuse(self._step(batch.to(self.device), progress))
            self.at.batch += 1
            bar.update()
            if self.at.batch % self.options.log_interval == 0:
                bar.set_postfix(
                    epoch=self.at.epoch, loss=f"{self._means()['loss']:.3f}", refresh=False
                )
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
        norm = gradient_norm(self.modules)
        bad = self.watch.add(progress.batch, norm)
        if bad is not None:
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
        """A UserError, where a step had a gradient that is not finite. In every process it was the same."""
        if bad is None:
            return
        last, where = self.folder / "last.pt", first_not_finite(self.modules)
        kept = f"The last good checkpoint is kept ({last}). " if last.exists() else ""
        names = [
            self.data.names[self.split.train[i % len(self.pairs)]]
            for i in self._batches(self.at.epoch)[bad]
        ]
        raise UserError(
            f"{self.name}, seed {self.seed}: the gradient is not finite at epoch {self.at.epoch}, step {bad} of "
            f"{self.steps}{f', first that of {where}' if where else ''}; the batch holds {', '.join(names[:4])}"
            f"{', ...' if len(names) > 4 else ''}. {kept}Lower --lr, or set --clip-grad 1."
        )

    def _end_epoch(self, bar: tqdm) -> None:
        epoch, o = self.at.epoch, self.options
        row: dict[str, Any] = {
            "epoch": epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            **self._means(),
        }
        row |= self.method.diagnostics()
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
        """Give every process the mean of all processes' running statistics.

        They are exponential averages, so that it makes no difference how often.
        """
        if distributed.count() > 1:
            distribute_bn(self.model, distributed.count(), reduce=True)

    def _evaluate(self, epoch: int) -> dict[str, float]:
        row, score = {}, math.nan
        for part in ("test", "val"):
            recordings = getattr(self.split, part)
            if len(recordings):
                metrics = self.evaluate_on(recordings)
                row |= {f"{part}_{k}": v for k, v in asdict(metrics).items()}
                score = metrics.top1
        self.at.last_test = row["test_top1"]
        if score > self.at.best_score:
            self.at.best_score, self.at.best_test, self.at.best_epoch = (
                score,
                row["test_top1"],
                epoch,
            )
        return row

    def evaluate_on(self, recordings) -> Metrics:
        """Evaluate the model on these recordings."""
        data = self.data.frames, self.data.labels
        return evaluate(
            self.model, *data, recordings, self.device, amp=self.amp, between=self._stop_if_wanted
        )

    def _finish(self) -> Result:
        at = self.at
        result = Result(
            self.name,
            self.seed,
            self.options.protocol,
            at.best_test,
            at.last_test,
            at.best_epoch,
            round(at.train_s, 3),
            round(at.peak_mib, 1),
        )
        distributed.on_main(lambda: _write(self.folder / "result.json", asdict(result)))
        return result

    def _stop_if_wanted(self, started: float | None = None) -> None:
        """Save and raise :class:`Interrupted` after a signal.

        Args:
            started: when the training in hand began, whose time is to be counted.
        """
        signum = self.signal.wanted()
        if signum is None:
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
            f"Stopped on a signal after epoch {self.at.epoch}, step {self.at.batch} of {self.steps}; saved in "
            f"{self.folder / 'last.pt'}.\nContinue with: {program} -c "
            f"{self.folder.parent.parent / 'config.yaml'} --resume",
            signum,
        )

    def save(self, name: str) -> None:
        """Write a checkpoint with all that :meth:`restore` needs to go on bit for bit."""
        sums = {k: distributed.mean(v).cpu() for k, v in self.sums.items()}
        distributed.on_main(lambda: checkpoint.save(self.folder / name, self._state(sums)))

    def _state(self, sums: dict[str, Tensor]) -> dict[str, Any]:
        return {
            "identity": identity(self.options),
            "model": self.model.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler is not None else None,
            "teachers": self.teachers,
            "position": asdict(self.at),
            "sums": sums,
            "rows": self.log.rows,
            "random": checkpoint.random_state(),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of the same run.

        Raises:
            UserError: unreadable, of another model, or made with other options.
        """
        state = checkpoint.load(path)
        name = f"--model {self.options.model}"
        checkpoint.load_weights(self.model, state["model"], path, name)
        same_run(state["identity"], identity(self.options), f"The checkpoint {path}")
        checkpoint.load_weights(self.method, state["method"], path, f"--method {self.name}")
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.teachers = state.get("teachers")  # not in checkpoints of older versions
        self.at = Position(**state["position"])
        self.sums = {k: v.to(self.device) for k, v in state["sums"].items()}
        self.log.restore(state["rows"])
        checkpoint.restore_random_state(state["random"])


def _write(path: Path, record: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")


def same_run(seen: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    """A UserError that lists the options in which two runs differ, if they do.

    Options that are unset, or newer than the run, are not there: it was made with their defaults.
    """
    names = sorted((seen.keys() | expected.keys()) - set(NOT_IDENTITY))
    defaults = {action.dest: action.default for action in build_parser()._actions}

    def same(n: str) -> bool:
        return seen.get(n) == expected.get(n) or (n not in seen and expected[n] == defaults.get(n))

    differing = [n for n in names if not same(n)]
    if differing:
        lines = "\n".join(
            f"  {n}: there {seen.get(n)!r}, here {expected.get(n)!r}" for n in differing
        )
        raise UserError(
            f"{what} belongs to a different run:\n{lines}\nChoose another --output, or give the same options."
        )
