"""What a table is, in YAML: rows of options, an axis, published values, claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from .errors import UserError, unknown_name

TABLES = files(__package__) / "tables"
# --data -> the recipe that all rows share.
RECIPES = {"ndigits": "quickstart", "nmnist": "nmnist", "nmnist-fewshot": "nmnist_fewshot"}
RECIPES |= {"ncaltech101": "ncaltech", "cepdvs": "cepdvs", "nomniglot": "nomniglot"}
RECIPES |= {"cifar10dvs": "cifar10dvs", "ecaltech101": "ecaltech"}
RECIPES |= {"nmnist-encodings": "nmnist_encodings"}
SWEEP = {"sweep": "any options varied"}


@dataclass(frozen=True)
class Row:
    """A row of a table, by a name that is unique there."""

    name: str
    # What it gives to ``tmkt train``, by name; none: not run here, only published.
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)  # top-1 (%) by data set
    reference: str | None = None  # the row that its difference is taken to; None: the table's
    labels: Mapping[str, str] = field(default_factory=dict)  # in place of the name, by heading


@dataclass(frozen=True)
class Table:
    """Rows that are run with the same seeds."""

    name: str  # of its files
    title: str
    reference: str  # name of the row that differences are taken to; a row may name another
    rows: tuple[Row, ...]
    # What the rows are held against, see :func:`.comparison.verdicts`.
    claims: Sequence[Mapping[str, str]] = ()
    # ``option`` and ``values`` that every row is run with, for a curve.
    axis: Mapping[str, Any] = field(default_factory=dict)
    # ``option``, ``label`` and line ``name``, where the rows themselves vary a number.
    curve: Mapping[str, str] = field(default_factory=dict)
    optional_teachers: bool = False  # rows without their teachers are left out; else an error
    recipe: str | None = None  # of all rows, instead of ``--data``
    # Of the rows of one axis value and seed, which differ in the method and are one run.
    folder: str | None = None
    output: str | None = None  # where it is written without ``--output``
    # Intervals over seeds and recordings, from the runs' predictions, not Student's over seeds.
    bootstrap: bool = False
    notes: Sequence[str] = ()  # sentences that go with the numbers
    about: str = ""  # what it shows, in a line for lists
    needs: str = ""  # options that it needs beside its data, for the help

    def run_rows(self) -> list[Row]:
        return [row for row in self.rows if row.options]

    def references(self) -> dict[str, str]:
        """For every row that is run the one that its difference is to; a reference has its own."""
        return {row.name: row.reference or self.reference for row in self.run_rows()}

    def with_rows(self, rows: Sequence[Row]) -> "Table":
        """The table of other rows, with the claims and references that they allow."""
        names = [row.name for row in rows if row.options]
        own = {row.reference for row in rows if row.options}  # of all rows where there is an axis
        kept = self.reference in names or own <= {*names}
        reference = self.reference if kept else names[0]
        rows = [r if r.reference in names else replace(r, reference=None) for r in rows]
        claims = [c for c in self.claims if {c["better"], c["worse"]} <= {*names}]
        return replace(self, rows=tuple(rows), reference=reference, claims=claims)

    def expanded(self, values: Sequence[Any]) -> "Table":
        """Every row once with each of these values of the axis."""
        option, rows, claims = self.axis["option"], [], []
        for value in values:
            at = f", {option} {value}"
            for row in self.run_rows():
                options, labels = {**row.options, option: value}, {option: str(value)}
                reference = self.references()[row.name] + at
                rows.append(
                    Row(row.name + at, options, {}, reference, labels | {"method": row.name})
                )
            claims += [{key: text + at for key, text in claim.items()} for claim in self.claims]
        return replace(self, rows=tuple(rows), claims=claims)


def listed() -> dict[str, str]:
    """The package's tables by name, and what each shows."""
    names = sorted(Path(file.name).stem for file in TABLES.iterdir())
    return {name: load_table(name).about for name in names}


def load_table(name: str) -> Table:
    """Read and check a table: one of the package's by name, or a file of the user's own by path.

    Raises:
        UserError: no such table, an unknown key, a name that is twice there or nowhere.
    """
    path: Traversable = Path(name)
    if not name.endswith((".yaml", ".yml")):
        path = TABLES / f"{name}.yaml"
        if not path.is_file():
            unknown = unknown_name("table", name, [*listed(), *SWEEP])
            raise UserError(f"{unknown} A table of your own is a file that ends in .yaml.")
    try:
        text = yaml.safe_load(path.read_text())
        rows = tuple(Row(**row) for row in text["rows"])
        table = Table(Path(path.name).stem, **{**text, "rows": rows})
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        expected = "Expected title, reference, rows, claims, axis, curve."
        raise UserError(f"{path} is no table: {error}. {expected}") from error
    names = [row.name for row in table.rows]
    double = {name for name in names if names.count(name) > 1}
    wanted = {*table.references().values(), table.reference}
    wanted |= {claim[key] for claim in table.claims for key in ("better", "worse")}
    lost = wanted - {row.name for row in table.run_rows()}
    if double:
        raise UserError(f"{path}: rows twice: {sorted(double)}.")
    if lost:
        raise UserError(f"{path}: no such row: {sorted(lost)}.")
    if table.name in SWEEP:
        raise UserError(f"{path}: {table.name} is a name of tmkt table itself: choose another one.")
    return table
