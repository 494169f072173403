"""Several methods and seeds with the same settings, and the table that compares them."""

import json
from argparse import Namespace
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pandas as pd
import torch

from .. import distributed
from ..comparison import write_report
from ..data import DATASETS, LoadSpec, Split, TransferData, make_split
from ..data.resident import to_device
from ..errors import UserError
from ..methods import METHODS, SYSTEMS, method_class
from ..options import identity, load_recipe, model_text, save_yaml
from ..teacher.outputs import check_teachers, load_teachers
from .build import choose_device
from .checkpoint import restore, same_run
from .folder import LEFT, owned, write_environment, write_json
from .memory import keep_freed_memory
from .stops import StopSignal
from .train import Trainer

# What a data set is loaded by: its name, then the fields of a LoadSpec in their order.
DATA_OPTIONS = (
    *("target_dataset", "data_root", "step", "event_size"),
    *("train_portion", "frame_mode", "window", "time_unit"),
)


def load_data(options: Namespace) -> TransferData:
    """The target data set named by the options, its classes checked against ``--num-classes``."""
    data_set = DATASETS[options.target_dataset]
    if options.download and data_set.fetch is not None and options.data_root is not None:
        data_set.fetch(Path(options.data_root))
    data = data_set.load(LoadSpec(*(getattr(options, name) for name in DATA_OPTIONS[1:])))
    if options.num_classes not in (None, len(data.classes)):
        raise UserError(
            f"--num-classes {options.num_classes}: {options.target_dataset} has "
            f"{len(data.classes)} classes. Leave it away, or choose the data set that you mean."
        )
    return data


def compare(options: Namespace) -> pd.DataFrame:
    """Run every method with every seed, write ``comparison.{csv,md,png}``, return the table's rows.

    A UserError where something is wrong; nothing that exists is overwritten.
    """
    # What can be wrong is tried before the first file is written.
    device, remark = choose_device(options.device)
    check_share(options.batch_size)
    folder = distributed.on_main(lambda: check_output(options))
    for seed in options.seed:
        load_teachers(options, options.method, seed)
    data = distributed.main_first(lambda: load_data(options))
    if device.type == "cpu":
        keep_freed_memory()
    splits = {seed: make_split(data, options, seed) for seed in options.seed}
    data = to_device(data, device)
    for seed, split in splits.items():
        check_teachers(options, data, split, seed)
    first = options.seed[0]
    for name in {method_class(name).network: name for name in reversed(options.method)}.values():
        Trainer(single(options, name, first), data, splits[first], folder, device)
    with ExitStack() as held:
        distributed.on_main(lambda: held.enter_context(owned(folder)))
        distributed.on_main(lambda: save_yaml(options, folder / "config.yaml"))
        for line in (remark, _headline(options, data, device), *data.remarks, f"Output: {folder}"):
            if line:
                distributed.say(line)
        with StopSignal() as signal:
            for seed, split in splits.items():
                distributed.say(f"Seed {seed}. {split.audit}")
                for name in options.method:
                    where = run_folder(folder, name, seed)
                    if not distributed.on_main((where / "result.json").exists):
                        run = Trainer(single(options, name, seed), data, split, where, device)
                        _begin(run)
                        run.fit(signal)
        return distributed.on_main(lambda: _report(options, data, folder, splits[first]))


def _headline(options: Namespace, data: TransferData, device: torch.device) -> str:
    kind = " (events emulated from the images)" if data.emulated else ""
    size = options.event_size
    return (
        f"{', '.join(options.method)} on {data.source} -> {data.target}{kind}: {len(data.labels)} "
        f"recordings, {len(data.image_labels)} images, {len(data.classes)} classes; "
        f"{model_text(options)}, T = {options.step}, {size} x {size}, {options.epochs} epochs, "
        f"{device}, protocol {options.protocol}."
    )


def _report(options: Namespace, data: TransferData, folder: Path, split: Split):
    """Table of all finished runs: methods as in the options, then others; by seed."""
    found = [json.loads(path.read_text()) for path in folder.glob("runs/*/result.json")]
    rank = {name: i for i, name in enumerate(dict.fromkeys([*options.method, *METHODS, *SYSTEMS]))}
    found.sort(key=lambda r: (rank.get(r["method"], len(rank)), r["method"], r["seed"]))
    rows = pd.DataFrame(found)
    selection = f"best epoch on the {'validation' if len(split.val) else 'test'} set"
    title = f"{options.target_dataset}, {model_text(options)}, T = {options.step}"
    note = " ".join(notes(data.remarks, data.emulated, distributed.count()))
    print(f"\n{write_report(rows, folder, title, selection, note, data.emulated)}")
    print(f"Written: {folder}/comparison.csv, .md, .png")
    return rows


def notes(remarks: Iterable[str], emulated: bool, processes: int) -> list[str]:
    """What every result made from a run must say."""
    said = [*remarks]
    if emulated:
        said.append("Events are emulated from the images.")
    if processes > 1:
        said.append(f"{processes} processes, which share every batch.")
    return said


def check_share(batch_size: int) -> None:
    """A UserError where the processes cannot share a batch equally."""
    n = distributed.count()
    if batch_size % n:
        below, above = batch_size // n * n, -(-batch_size // n) * n
        raise UserError(
            f"--batch-size {batch_size} is that of all processes together and cannot be shared "
            f"equally by {n}: take {' or '.join(str(b) for b in (below, above) if b)}, or another "
            "--nproc_per_node."
        )


def single(options: Namespace, method: str, seed: int) -> Namespace:
    """The options of one run of the comparison."""
    return Namespace(**vars(options) | {"method": [method], "seed": [seed]})


def run_folder(folder: Path, method: str, seed: int) -> Path:
    return folder / "runs" / f"{method}-seed{seed}"


def check_output(options: Namespace) -> Path:
    """The output folder, refused where it holds another run; nothing is written."""
    if options.resume not in (None, "auto") and len(options.method) * len(options.seed) > 1:
        raise UserError("--resume FILE continues one run: give one --method and one --seed.")
    if options.output is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        options.output = f"results/{options.target_dataset}-{'-'.join(options.method)}-{stamp}"
    folder = Path(options.output)
    if (config := folder / "config.yaml").exists():
        there, here = load_recipe(str(config)), identity(options)
        both = {"method": None, "seed": None}  # more methods and seeds may join a comparison
        same_run(there | both, here | both, f"The output folder {folder}")
        if options.resume is None:
            raise UserError(
                f"The output folder {folder} already holds this run. Add --resume to keep what is "
                "finished and go on, or choose another --output."
            )
    elif folder.exists() and (
        not folder.is_dir() or any(not p.name.startswith(LEFT) for p in folder.iterdir())
    ):
        raise UserError(
            f"The output folder {folder} holds other files: choose an empty or a new one."
        )
    return folder


def _begin(run: Trainer) -> None:
    """Go on where it stopped, if that is wanted; say what it trains on, and where."""
    resume, last = run.options.resume, run.folder / "last.pt"
    if resume not in (None, "auto"):
        restore(run, Path(resume))
    elif resume and distributed.on_main(last.exists):
        restore(run, last)
    split = run.split.record(run.data)
    distributed.on_main(lambda: write_json(run.folder / "split.json", split, indent=0))
    distributed.on_main(lambda: write_environment(run.folder, run.device))
