"""Tables of runs: results over seeds, the runs one by one, the audit of their splits, their settings."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..arguments import build_parser, group_options
from ..comparison import COLUMNS, read_csv, summarise, to_markdown
from ..errors import UserError
from ..options import parse, resolve
from .groups import REFERENCE, Group, in_label, settings, value_text, varied
from .runs import Run

# Not settings of a run: how it was called and where it lies.
NOT_SHOWN = ("help", "config", "output", "resume", "eval", "eval_checkpoint")
NOTE = "- note: "
NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?")


@dataclass(frozen=True)
class Table:
    """Cells of text."""

    header: list[str]
    rows: list[list[str]]

    @property
    def numeric(self) -> list[bool]:
        """For every column, whether it holds numbers alone, or ``-`` where there is none."""
        columns = [{*cells} - {"-"} for _, *cells in zip(self.header, *self.rows, strict=True)]
        return [
            bool(column) and all(NUMBER.fullmatch(cell) for cell in column) for column in columns
        ]


@dataclass(frozen=True)
class Setting:
    """One option: what it was, and the default of its data set if that is something else (otherwise None)."""

    name: str
    value: str
    default: str | None


def over_seeds(group: Group) -> str:
    """The finished runs of a group in Markdown: mean and std, paired difference to the baseline with interval and p.

    Raises:
        UserError: none is finished, or their protocols differ.
    """
    rows = [
        run.result | {"method": label}
        for label, runs in group.runs.items()
        for run in runs
        if run.result
    ]
    if not rows:
        raise UserError("No run is finished: there is no table yet.")
    runs = [run for some in group.runs.values() for run in some]
    validated = any(run.split.get("val") for run in runs)
    selection = f"best epoch on the {'validation' if validated else 'test'} set"
    df = pd.DataFrame(rows)
    return _markdown(
        df, selection, " ".join(dict.fromkeys(n for run in runs for n in _notes(run.output)))
    )


def of_csv(path: Path) -> str:
    """The same of a ``comparison.csv`` without its runs.

    Raises:
        UserError: as :func:`~tmkt_braincog.comparison.read_csv`.
    """
    return _markdown(
        read_csv(path), "how it was chosen is not in the CSV", " ".join(_notes(path.parent))
    )


def _markdown(df: pd.DataFrame, selection: str, note: str) -> str:
    summary = summarise(df, REFERENCE)
    return to_markdown(
        summary, df["protocol"].iloc[0], note, selection=selection, reference=REFERENCE
    )


def _notes(output: Path) -> list[str]:
    """What the table of a comparison says about its data."""
    path = output / "comparison.md"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return [line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)]


def one_by_one(runs: Sequence[Run]) -> Table:
    """One row per run, finished or not."""
    names = varied(runs)
    header = [
        *(n.replace("_", "-") for n in names),
        "method",
        "seed",
        "top-1 best",
        "at epoch",
        "top-1 last",
    ]
    rows = []
    for run in sorted(runs, key=lambda run: run.seed):
        its, result = settings(run, names), run.result or dict.fromkeys(COLUMNS)
        numbers = [_number(result[name], digits) for name, digits in RESULT_DIGITS.items()]
        rows.append(
            [*(its.get(n, "-") for n in names), run.method, str(run.seed), *numbers, run.state]
        )
    return Table([*header, "train s", "peak MiB", "state"], rows)


RESULT_DIGITS = {"top1_best": 2, "epoch_best": 0, "top1_last": 2, "train_s": 1, "peak_mib": 0}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def from_csv(path: Path, most: int) -> Table:
    """A CSV as it is, at most so many rows.

    Raises:
        UserError: not readable.
    """
    try:
        df = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from error
    return Table([str(column) for column in df.columns], df.head(most).values.tolist())


def audits(runs: Sequence[Run]) -> Table:
    """What every split says of itself, once for all runs that share it."""
    names = [name for name in varied(runs) if name in group_options(["data"])]
    places: dict[str, dict[str, set[int]]] = {}
    for run in runs:
        if run.split:
            text = " ".join(
                [str(run.split.get("audit", "-")), *map(str, run.split.get("remarks", []))]
            )
            places.setdefault(text, {}).setdefault(in_label(settings(run, names)), set()).add(
                run.seed
            )
    return Table(["runs", "split"], [[_places(its), text] for text, its in places.items()])


def _places(seeds: dict[str, set[int]]) -> str:
    return "; ".join(
        f"{its + ': ' if its else ''}seed {', '.join(map(str, sorted(some)))}"
        for its, some in seeds.items()
    )


def environments(runs: Sequence[Run]) -> Table:
    """Versions and machines that the runs kept, one column for each that differs; no rows where none did."""
    counts: dict[str, int] = {}
    for run in runs:
        for kept in run.environments:
            key = json.dumps(kept)
            counts[key] = counts.get(key, 0) + 1
    columns = [json.loads(key) for key in counts]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(str(column.get(name, "-")) for column in columns)] for name in names]
    return Table(["", *(f"{n} of {len(runs)} runs" for n in counts.values())], rows)


def all_settings(runs: Sequence[Run]) -> dict[str, list[Setting]]:
    """The settings by the groups of ``--help``."""
    defaults = _defaults(runs[0].options.target_dataset)
    groups = {}
    for group in build_parser()._action_groups:
        # The first one that sets an option; others are short for one of its values, such as --no-mag.
        actions = {a.dest: a for a in reversed(group._group_actions) if a.dest not in NOT_SHOWN}
        if actions:
            own = reversed(actions.values())
            groups[group.title] = [_setting(a.dest, a.option_strings, runs, defaults) for a in own]
    return groups


def _defaults(data_set: str) -> dict:
    """What ``main_transfer.py`` does without options, but for the data set, whose recipe they include."""
    parser = {a.dest: a.default for a in build_parser()._actions}
    try:
        of_set = vars(resolve(parse(["--target-dataset", data_set]))[0])
    except UserError:  # a data set that is not registered here
        of_set = parser
    return of_set | {"target_dataset": parser["target_dataset"]}


def _setting(dest: str, words: Sequence[str], runs: Sequence[Run], defaults: dict) -> Setting:
    values = list(dict.fromkeys(value_text(getattr(run.options, dest)) for run in runs))
    default = value_text(defaults[dest])
    name = next(
        word for word in reversed(words) if word.startswith("--") and not word.startswith("--no-")
    )
    return Setting(name, ", ".join(values), None if values == [default] else default)
