"""The training runs in a folder: options, state, result, log and split of each, read without opening data or weights."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ..arguments import build_parser
from ..comparison import checked, read_csv
from ..engine.compare import run_folder, single
from ..engine.folder import ENVIRONMENT
from ..errors import UserError
from ..methods import METHODS
from ..options import parse

# An output folder of main_transfer.py itself; jobs/NAME of a sweep or table; shots-K/seed-N.
CONFIGS = ("config.yaml", "*/config.yaml", "*/*/config.yaml")


@dataclass(frozen=True)
class Run:
    """One method with one seed.

    Attributes:
        folder: ``<output>/runs/<method>-seed<N>``.
        options: those of ``<output>/config.yaml``, with this method and seed alone.
        result: ``result.json``, or the row of ``comparison.csv`` where only that was kept; None while the run is not finished.
        log: ``log.csv``, one row per epoch; empty while there is none.
        split: ``split.json``; empty while there is none.
        environments: ``environment.json``: versions and machines it has run on; empty where none were kept.
    """

    folder: Path
    options: Namespace
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
        if self.result is not None:
            return "finished"
        return f"{len(self.log)} of {self.options.epochs} epochs" if len(self.log) else "not begun"


def read_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """All runs that the folder holds or, by its ``config.yaml``, should hold; and warnings on what cannot be read."""
    runs, warnings = [], []
    configs = sorted(path for pattern in CONFIGS for path in folder.glob(pattern))
    for config in configs:
        try:
            options = read_options(config)
        except UserError as error:
            warnings.append(f"{config.parent}: its runs are left out. {error}")
            continue
        table = _read(config.parent / "comparison.csv", _rows, {}, warnings)
        for method, seed in _expected(config.parent, options, table):
            place = run_folder(config.parent, method, seed)
            result = _read(place / "result.json", _result, None, warnings)
            if table and result and (method, seed) not in table:
                warnings.append(
                    f"{config.parent / 'comparison.csv'} is older than {place}, and lacks it."
                )
            runs.append(
                Run(
                    place,
                    single(options, method, seed),
                    result or table.get((method, seed)),
                    _read(place / "log.csv", pd.read_csv, pd.DataFrame(), warnings),
                    _read(place / "split.json", _json, {}, warnings),
                    _read(place / ENVIRONMENT, _json, [], warnings),
                )
            )
    if len(configs) > 1:  # folders come by their names; one comparison keeps its own order
        known = list(METHODS)
        runs.sort(key=lambda run: known.index(run.method) if run.method in known else len(known))
    return runs, warnings


def read_options(config: Path) -> Namespace:
    """The options that a run wrote down. Its method or data set need not be known here.

    Raises:
        UserError: not readable, or no option of ``main_transfer.py``.
    """
    defaults = {a.dest: a.default for a in build_parser()._actions if a.dest != "help"}
    options = Namespace(**{**defaults, **vars(parse(["-c", str(config)]))})
    if not isinstance(options.method, list):
        raise UserError(
            f"{config} names no method. Expected the config.yaml that main_transfer.py writes."
        )
    return options


def _expected(
    output: Path, options: Namespace, table: Iterable[tuple[str, int]]
) -> Iterable[tuple[str, int]]:
    """Method and seed of the runs that the options name, then of others that joined them."""
    there = [path.name.rpartition("-seed") for path in sorted(output.glob("runs/*-seed*"))]
    joined = [(method, int(seed)) for method, _, seed in there if seed.isdigit()]
    return dict.fromkeys([*product(options.method, options.seed), *joined, *table])


def _read(path: Path, read: Callable[[Path], Any], otherwise: Any, warnings: list[str]) -> Any:
    if not path.exists():
        return otherwise
    try:
        return read(path)
    except (OSError, ValueError, UserError) as error:  # pandas' and json's errors are ValueErrors
        warnings.append(f"{path} cannot be read ({error}): taken as absent.")
        return otherwise


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


def _result(path: Path) -> dict[str, Any]:
    (row,) = checked(pd.DataFrame([_json(path)])).to_dict("records")
    return row


def _rows(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["method"], row["seed"]): row for row in read_csv(path).to_dict("records")}
