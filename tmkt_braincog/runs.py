"""Runs on disk, opened again: data, split, trained model and log, to look into them."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .arguments import GENERAL_GROUPS, group_options
from .data import TransferData, make_split
from .engine.build import choose_device
from .engine.checkpoint import same_run
from .engine.compare import DATA_OPTIONS, load_data, single
from .engine.train import Trainer
from .errors import UserError
from .options import parse, resolve


def reopen(
    folders: Sequence[Path],
    checkpoint: str | None = "last.pt",
    device: str = "auto",
    data_root: str | None = None,
    executor: str | None = None,
) -> list[Trainer]:
    """The trainers of these run folders (``<output>/runs/<method>-seed<N>``) as they were at the checkpoint.

    Nothing is written. What there is to look at: ``options``, ``data``, ``split``, ``pairs``, ``model`` (in training mode),
    ``method``, ``name``, ``seed``, ``log.rows``.

    Args:
        checkpoint: its file name; None: the initial weights of the run's seed.
        device: as ``--device``.
        data_root: where the data are now, if they moved.
        executor: ``step`` for models whose hooks must see one time-step at a time.

    Raises:
        UserError: no such run or checkpoint, data that are gone, or runs that differ in more than method, seed and the
            methods' own options; the message shows the difference.
    """
    runs = [run_options(Path(folder)) for folder in folders]
    check_comparable(folders, runs)
    loaded: dict[tuple, TransferData] = {}
    trainers = []
    for folder, options in zip(folders, runs, strict=True):
        options.device = device
        options.data_root = data_root or options.data_root
        options.tensorboard = options.download = False
        key = tuple(getattr(options, name) for name in DATA_OPTIONS)
        if key not in loaded:
            loaded[key] = load_data(options)
        data, (seed,) = loaded[key], options.seed
        split = make_split(data, options, seed)
        trainer = Trainer(options, data, split, Path(folder), choose_device(device)[0])
        if checkpoint is not None:
            trainer.restore(Path(folder) / checkpoint)
        trainer.model.executor = executor or trainer.model.executor
        trainers.append(trainer)
    return trainers


def run_options(folder: Path) -> Namespace:
    """The resolved options of one run folder.

    Raises:
        UserError: it is not one.
    """
    config = folder.parent.parent / "config.yaml"
    name, _, seed = folder.name.rpartition("-seed")
    if folder.parent.name != "runs" or not seed.isdigit() or not config.exists():
        raise UserError(
            f"{folder} is not the folder of a run: expected <output>/runs/<method>-seed<N>, with config.yaml in <output>."
        )
    if not folder.is_dir():
        there = sorted(p.name for p in folder.parent.glob("*-seed*"))
        raise UserError(f"There is no run {folder}. Beside it: {', '.join(there) or 'none'}.")
    options, _ = resolve(parse(["-c", str(config)]))
    return single(options, name, int(seed))


def check_comparable(folders: Sequence[Path], runs: Sequence[Namespace]) -> None:
    """Refuse runs of different data, model or training.

    Raises:
        UserError: with the options that differ.
    """
    names = group_options(GENERAL_GROUPS) - {"method", "seed", "executor"}

    def general(options: Namespace) -> dict[str, Any]:
        return {name: getattr(options, name) for name in names}

    for folder, options in zip(folders[1:], runs[1:], strict=True):
        same_run(general(options), general(runs[0]), f"{folder}, compared with {folders[0]},")
