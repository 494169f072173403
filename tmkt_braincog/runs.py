"""Runs on disk: found, read without opening data or weights, and opened again to look into them."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from .arguments import GENERAL_GROUPS, build_parser, group_options
from .comparison import checked, read_csv
from .data import TransferData, make_split
from .engine.build import choose_device
from .engine.checkpoint import restore, same_run
from .engine.compare import DATA_OPTIONS, load_data, notes, run_folder, single
from .engine.folder import ENVIRONMENT
from .engine.train import Trainer
from .errors import UserError
from .methods import METHODS
from .methods.names import takes
from .options import identity, parse

# An output folder of tmkt train itself; jobs/NAME of a sweep or table; shots-K/seed-N.
CONFIGS = ("config.yaml", "*/config.yaml", "*/*/config.yaml")


@dataclass(frozen=True)
class Run:
    """One method with one seed, finished or not."""

    folder: Path  # ``<output>/runs/<method>-seed<N>``
    options: Namespace  # those of ``<output>/config.yaml``, with this method and seed alone
    # Its row of ``comparison.csv``, or ``result.json`` before that is written; or None.
    result: dict[str, Any] | None
    log: pd.DataFrame
    split: dict[str, Any]
    environments: list[dict[str, Any]]

    @property
    def output(self) -> Path:
        return self.folder.parent.parent

    @property
    def method(self) -> str:
        return self.options.method[0]

    @property
    def seed(self) -> int:
        return self.options.seed[0]

    @property
    def state(self) -> str:
        reached = f"{len(self.log)} of {self.options.epochs} epochs" if len(self.log) else ""
        return "finished" if self.result is not None else reached or "not begun"

    @property
    def emulated(self) -> bool:
        """Whether its events come from a sensor model; older runs do not say."""
        return self.split.get("emulated", self.options.target_dataset == "ndigits")

    @property
    def notes(self) -> list[str]:
        """What every result made from it must say."""
        most = max((int(kept.get("processes", 1)) for kept in self.environments), default=1)
        return notes(self.split.get("remarks", ()), self.emulated, most)

    @cached_property
    def settings(self) -> dict[str, str]:
        """The options that decide its result, of those that its method takes, as text."""
        given = identity(self.options)
        with suppress(UserError):  # a method that is not registered here
            given = {name: given[name] for name in given if takes(self.options, name)}
        return {name: value_text(value) for name, value in given.items()}


def value_text(value: object) -> str:
    """An option's value; 3 for 3.0, on or off for a switch."""
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "on", False: "off"}[value]
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).removesuffix(".0")


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs that a folder holds or should hold by its ``config.yaml``; what cannot be read."""
    runs: list[Run] = []
    problems: list[str] = []
    configs = sorted(path for pattern in CONFIGS for path in folder.glob(pattern))
    for config in configs:
        try:
            runs += runs_of(config.parent, read_options(config), problems)
        except UserError as error:
            problems.append(f"{config.parent}: its runs are left out. {error}")
    if len(configs) > 1:  # folders come by their names; one comparison keeps its own order
        order = {name: i for i, name in enumerate(METHODS)}
        runs.sort(key=lambda run: order.get(run.method, len(order)))
    return runs, problems


def runs_of(output: Path, options: Namespace, problems: list[str]) -> Iterator[Run]:
    """Those that the options name, then others that joined them; what cannot be read is absent."""

    def read(path: Path, how: Callable[[Path], Any], otherwise: Any) -> Any:
        try:
            found = how(path) if path.exists() else otherwise
            if not isinstance(found, type(otherwise)):
                raise ValueError(f"a {type(otherwise).__name__} is expected")
            return found
        except (OSError, ValueError) as error:  # json's, pandas' and our own are ValueErrors
            problems.append(f"{path} cannot be read ({error}): taken as absent.")
            return otherwise

    table = read(output / "comparison.csv", read_csv, pd.DataFrame())
    of = {(row["method"], row["seed"]): row for row in table.to_dict("records")}
    there = [path.name.rpartition("-seed") for path in sorted(output.glob("runs/*-seed*"))]
    joined = [(method, int(seed)) for method, _, seed in there if seed.isdigit()]
    for one in dict.fromkeys([*product(options.method, options.seed), *joined, *of]):
        place = run_folder(output, *one)
        yield Run(
            place,
            single(options, *one),
            of.get(one) or read(place / "result.json", _result, {}) or None,
            read(place / "log.csv", pd.read_csv, pd.DataFrame()),
            read(place / "split.json", _json, {}),
            read(place / ENVIRONMENT, _json, []),
        )


def read_options(config: Path) -> Namespace:
    """The options of a ``config.yaml``, or a UserError; its method or data may be unknown here."""
    defaults = {a.dest: a.default for a in build_parser()._actions if a.dest != "help"}
    options = Namespace(**{**defaults, **vars(parse(["-c", str(config)]))})
    if not isinstance(options.method, list):
        raise UserError(f"{config} names no method. Expected the file that tmkt train writes.")
    return options


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _result(path: Path) -> dict[Any, Any]:
    return checked(pd.DataFrame([_json(path)])).to_dict("records")[0]


def all_seeds(given: Path) -> list[Path]:
    """All finished run folders of an output folder, or a UserError; a run folder is itself."""
    if given.parent.name == "runs":
        return [given]
    found = sorted(result.parent for result in given.glob("runs/*-seed*/result.json"))
    if not found:
        raise UserError(f"{given} holds no finished run. Give the --output of tmkt train.")
    return found


def run_folders(given: Path, seed: int | None = None) -> list[Path]:
    """Those of :func:`all_seeds` with one seed, by default the smallest there."""
    if given.parent.name == "runs":
        return [given]
    of = {path: int(path.name.rpartition("-seed")[2]) for path in all_seeds(given)}
    if seed not in (None, *of.values()):
        there = ", ".join(map(str, sorted(set(of.values()))))
        raise UserError(f"{given} holds no finished run of seed {seed} (seeds there: {there}).")
    return [path for path, n in of.items() if n == (min(of.values()) if seed is None else seed)]


def reopen(
    folders: Sequence[Path],
    checkpoint: str | None = "last.pt",
    device: str = "auto",
    data_root: str | None = None,
) -> list[Trainer]:
    """The trainers of these run folders as they were at the checkpoint. Nothing is written.

    Args:
        checkpoint: its file name; None: the initial weights of the run's seed.
        device: as ``--device``.
        data_root: where the data are now, if they moved.

    Raises:
        UserError: no such run or checkpoint, data that are gone, or runs that differ in more than
            method, seed and the methods' own options; the message shows the difference.
    """
    runs = [run_options(folder) for folder in folders]
    names = group_options(GENERAL_GROUPS) - {"method", "seed", "executor"}
    first, *others = [{name: getattr(run, name) for name in names} for run in runs]
    for folder, other in zip(folders[1:], others, strict=True):
        same_run(other, first, f"{folder}, compared with {folders[0]},")
    loaded: dict[tuple, TransferData] = {}
    trainers = []
    for folder, options in zip(folders, runs, strict=True):
        options.device, options.data_root = device, data_root or options.data_root
        options.tensorboard = options.download = False
        key = tuple(getattr(options, name) for name in DATA_OPTIONS)
        data = loaded[key] = loaded[key] if key in loaded else load_data(options)
        split = make_split(data, options, options.seed[0])
        trainers.append(Trainer(options, data, split, folder, choose_device(device)[0]))
        if checkpoint is not None:
            restore(trainers[-1], folder / checkpoint)
    return trainers


def run_options(folder: Path) -> Namespace:
    """The options of a run folder, or a UserError if it is none."""
    config = folder.parent.parent / "config.yaml"
    name, _, seed = folder.name.rpartition("-seed")
    if folder.parent.name != "runs" or not seed.isdigit() or not config.exists():
        expected = "expected <output>/runs/<method>-seed<N>, with config.yaml in <output>"
        raise UserError(f"{folder} is not the folder of a run: {expected}.")
    if not folder.is_dir():
        there = sorted(p.name for p in folder.parent.glob("*-seed*"))
        raise UserError(f"There is no run {folder}. Beside it: {', '.join(there) or 'none'}.")
    return single(read_options(config), name, int(seed))
