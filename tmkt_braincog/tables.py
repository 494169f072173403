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
    """A row of a table, by a name that is unique there.

    Attributes:
        options: what it gives to ``tmkt train``, by name; none: not run here, only published.
        published: top-1 (%) by data set.
        reference: name of the row that its difference is taken to; None: the table's.
        labels: what is shown in place of the name, by heading.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    reference: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Rows that are run with the same seeds; ``name`` is that of its files.

    Attributes:
        reference: name of the row that differences are taken to; a row may name another.
        claims: what the rows are held against, see :func:`.stats.verdicts`.
        axis: ``option`` and ``values`` that every row is run with, for a curve.
        curve: ``option``, ``label`` and line ``name``, where the rows themselves vary a number.
        optional_teachers: rows whose teacher is not given are left out; else that is an error.
        recipe: of all rows, instead of ``--data``.
        folder: where the rows of one axis value and seed, which differ in the method, are one run.
        output: where it is written without ``--output``.
        bootstrap: intervals over seeds and recordings, from the runs' predictions, instead of
            Student's over seeds.
        notes: sentences that go with the numbers.
        about: what it shows, in a line for lists.
        needs: options that it needs beside its data, for the help.
    """

    name: str
    title: str
    reference: str
    rows: tuple[Row, ...]
    claims: Sequence[Mapping[str, str]] = ()
    axis: Mapping[str, Any] | None = None
    curve: Mapping[str, str] | None = None
    optional_teachers: bool = False
    recipe: str | None = None
    folder: str | None = None
    output: str | None = None
    bootstrap: bool = False
    notes: Sequence[str] = ()
    about: str = ""
    needs: str = ""

    def run_rows(self) -> list[Row]:
        return [row for row in self.rows if row.options]

    def references(self) -> dict[str, str]:
        """For every row that is run the one that its difference is to; a reference has its own."""
        return {row.name: row.reference or self.reference for row in self.run_rows()}

    def expanded(self, values: Sequence[Any]) -> "Table":
        """Every row once with each of these values of the axis."""
        if self.axis is None:
            return self
        option, rows, claims = self.axis["option"], [], []
        if len(set(values)) < len(values):
            raise UserError(f"--{option} names the same value twice: {values}.")
        for value in values:
            at = f", {option} {value}"
            for row in self.run_rows():
                options, labels = {**row.options, option: value}, {option: str(value)}
                reference = self.references()[row.name] + at
                labels["method"] = row.name
                rows.append(Row(row.name + at, options, {}, reference, labels))
            claims += [{key: text + at for key, text in claim.items()} for claim in self.claims]
        return replace(self, rows=tuple(rows), claims=claims)


def listed() -> dict[str, str]:
    """The package's tables by name, and what each shows."""
    return {name: load_table(name).about for name in sorted(_known())}


def _known() -> dict[str, Traversable]:
    return {Path(file.name).stem: file for file in TABLES.iterdir()}


def load_table(name: str) -> Table:
    """Read and check a table: one of the package's by name, or a file of the user's own by path.

    Raises:
        UserError: no such table, an unknown key, a name that is twice there or nowhere.
    """
    path: Traversable = Path(name)
    if not name.endswith((".yaml", ".yml")):
        if name not in _known():
            unknown = unknown_name("table", name, [*_known(), *SWEEP])
            raise UserError(f"{unknown} A table of your own is a file that ends in .yaml.")
        path = _known()[name]
    try:
        text = yaml.safe_load(path.read_text())
        rows = tuple(Row(**row) for row in text["rows"])
        table = Table(Path(path.name).stem, **{**text, "rows": rows})
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no table: {error}. Expected title, reference, rows, claims, axis, curve."
        ) from error
    names = [row.name for row in table.rows]
    double = {name for name in names if names.count(name) > 1}
    wanted = {*table.references().values(), table.reference}
    wanted |= {claim[key] for claim in table.claims for key in ("better", "worse")}
    lost = wanted - {row.name for row in table.run_rows()}
    if double or lost or table.name in SWEEP:
        seen = f"rows twice: {sorted(double)}" if double else f"no such row: {sorted(lost)}"
        taken = f"{table.name} is a name of tmkt table itself: choose another one"
        raise UserError(f"{path}: {seen if double or lost else taken}.")
    return table
