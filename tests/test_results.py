"""What is committed under results/: tables follow from their CSV, and the README cites them."""

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from tmkt_braincog.table_plan import leave_out
from tmkt_braincog.tables import listed, load_table

REPOSITORY = Path(__file__).resolve().parent.parent
TABLES = [p for p in sorted(REPOSITORY.glob("results/tables/*/*.csv")) if p.stem in listed()]


def cells(text: str) -> dict[str, list[str]]:
    """Rows of all Markdown tables by their first cell."""
    lines = re.findall(r"^\|(.*)\|$", text, re.M)
    rows = [[c.strip() for c in line.split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def by_labels(path: Path) -> dict[str, list[str]]:
    """Rows of a table with an axis by their name in the CSV."""
    rows = re.findall(r"^\|(.*)\|$", path.with_suffix(".md").read_text(), re.M)
    parts = [[c.strip() for c in line.split("|")] for line in rows]
    option = parts[0][0]
    return {f"{row[1]}, {option} {row[0]}": row[1:] for row in parts}


@pytest.mark.parametrize("path", TABLES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_committed_table_follows_from_its_runs(path):
    table, shown = load_table(path.stem), cells(path.with_suffix(".md").read_text())
    frame = pd.read_csv(path, dtype={"row": str})
    if table.axis:  # its rows are told apart by their first cells
        table, shown = table.expanded(sorted(frame[table.axis["option"]].unique())), by_labels(path)
    runs = frame.set_index(["row", "seed"])["top1_last"].unstack()
    at = next(row.index("last epoch") for row in shown.values() if "last epoch" in row)
    least, _ = leave_out(table, [], 1)  # without teachers
    needed, known = ({r.name for r in t.run_rows()} for t in (least, table))
    assert needed <= set(runs.index) <= known
    assert not runs.isna().any(axis=None)
    for name, values in runs.iterrows():
        mean, difference = shown[name][at : at + 2]
        assert mean == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        reference = runs.loc[table.references()[name]]
        if table.bootstrap:  # over recordings too, whose predictions are not kept here
            assert difference == "-" or float(difference.split()[0]) == pytest.approx(
                (values - reference).mean(), abs=0.2
            )
        elif reference.name != name:
            low, high = stats.ttest_rel(values, reference).confidence_interval(0.95)
            assert difference == f"{(values - reference).mean():+.2f} [{low:+.2f}, {high:+.2f}]"


EXAMPLE = REPOSITORY / "results/tables/readme-example/comparison.md"
CLAIM = r"^\| (?:r_m = )?(.*?) \(Table (\d).*?\) \| (.*?) \| (.*?) \|$"


def test_verdicts_are_cited_as_they_stand_in_the_tables():
    claims = re.findall(CLAIM, (REPOSITORY / "docs/results.md").read_text(), re.M)
    assert len(claims) > 5
    for say, number, *cited in claims:
        for folder, cell in zip(("nmnist-fewshot", "ndigits"), cited, strict=True):
            shown = cells((REPOSITORY / f"results/tables/{folder}/table{number}.md").read_text())
            verdict, difference, *_ = shown[say]
            assert cell == f"{verdict.removeprefix('fails: ')}, {difference}"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_differences_that_are_named_stand_in_a_table(page):
    """Every ``+1.23 [-0.45, +2.91]`` of the page is, up to its sign, in some table."""
    pattern = r"[+-]\d+\.\d\d \[[+-]\d+\.\d\d, [+-]\d+\.\d\d\]"
    tables = "".join(p.read_text() for p in (*(p.with_suffix(".md") for p in TABLES), EXAMPLE))
    named = set(re.findall(pattern, (REPOSITORY / page).read_text()))
    found = re.findall(pattern, tables)
    assert named and named <= {*found, *map(_reversed, found)}


def _reversed(difference: str) -> str:
    mean, low, high = (-float(number) + 0.0 for number in re.findall(r"[+-][\d.]+", difference))
    return f"{mean:+.2f} [{high:+.2f}, {low:+.2f}]"
