"""A table as a YAML file: rows of options for ``tmkt train``, published values, claims."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError, unknown_name
from . import TABLES as OTHERS
from .axes import Axis, make_axis

TABLES = files("tmkt_braincog") / "tables"
# --data -> the recipe that all rows share.
RECIPES = {
    "ndigits": "quickstart",
    "nmnist": "nmnist",
    "nmnist-fewshot": "nmnist_fewshot",
    "ncaltech101": "ncaltech",
    "cepdvs": "cepdvs",
    "nomniglot": "nomniglot",
    "cifar10dvs": "cifar10dvs",
}


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: unique in the table.
        options: what it gives to ``tmkt train``, by option name; None: not run here, only published.
        published: top-1 (%) by data set.
        reference: name of the row that its difference is taken to; None: the table's.
    """

    name: str
    options: Mapping[str, Any] | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    reference: str | None = None

    def words(self) -> list[str]:
        return list(chain(*(axis.choices[0] for axis in self.axes())))

    def axes(self) -> list[Axis]:
        return [make_axis(f"{name}={_text(value)}") for name, value in (self.options or {}).items()]


@dataclass(frozen=True)
class Table:
    """A table's YAML file.

    Attributes:
        name: of the file, such as ``table1``.
        reference: name of the row that differences are taken to, where the rows name none of their own.
        rows: at least one of them with options.
        claims: what the rows are held against, see :func:`~tmkt_braincog.experiments.paper_table.verdicts`.
        curve: ``option`` and ``label`` of a number that the rows vary, for a line plot.
        optional_teachers: rows whose teacher is not given are left out; else that is an error.
        about: what it shows, in a line for lists.
    """

    name: str
    title: str
    reference: str
    rows: tuple[Row, ...]
    claims: tuple[Mapping[str, str], ...] = ()
    curve: Mapping[str, str] | None = None
    optional_teachers: bool = False
    about: str = ""

    def run_rows(self) -> list[Row]:
        return [row for row in self.rows if row.options is not None]

    def references(self) -> dict[str, str]:
        """For every row that is run the row that its difference is taken to; the reference itself has its own name."""
        return {row.name: row.reference or self.reference for row in self.run_rows()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def listed() -> dict[str, str]:
    """The package's tables by name, and what each shows."""
    return {name: load_table(name).about for name in sorted(_known())}


def _known() -> dict[str, Traversable]:
    return {Path(file.name).stem: file for file in TABLES.iterdir()}


def load_table(name: str) -> Table:
    """Read and check a table: one of the package's by its name, or a file of the user's own by its path.

    Raises:
        UserError: no such table, an unknown key, a name that is twice there or nowhere.
    """
    path: Traversable = Path(name)
    if not name.endswith((".yaml", ".yml")):
        if name not in _known():
            raise UserError(
                f"{unknown_name('table', name, [*_known(), *OTHERS])} A table of your own is a file that ends in .yaml."
            )
        path = _known()[name]
    try:
        text = yaml.safe_load(path.read_text())
        table = Table(
            Path(path.name).stem, **{**text, "rows": tuple(Row(**row) for row in text["rows"])}
        )
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error.strerror}.") from error
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no table: {error}. Expected title, reference, rows, claims, curve."
        ) from error
    names, run_names = [row.name for row in table.rows], [row.name for row in table.run_rows()]
    double = {name for name in names if names.count(name) > 1}
    own = {row.reference for row in table.rows if row.reference is not None}
    wanted = {
        table.reference,
        *own,
        *(claim[key] for claim in table.claims for key in ("better", "worse")),
    }
    if double or wanted - set(run_names):
        seen = (
            f"rows twice: {sorted(double)}"
            if double
            else f"no such row: {sorted(wanted - set(run_names))}"
        )
        raise UserError(f"{path}: {seen}.")
    return table
