"""What is committed under results/: tables follow from their CSV, and the README cites them."""

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from tests.table_runs import cells
from tmkt_braincog.table_plan import leave_out
from tmkt_braincog.tables import listed, load_table

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / "results/tables"
TABLES = [p for p in sorted(FOLDER.glob("*/*.csv")) if p.stem in listed()]
CLAIM = r"^\| (?:r_m = )?(.*?) \(Table (\d).*?\) \| (.*?) \| (.*?) \|$"


@pytest.mark.parametrize("path", TABLES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_committed_table_follows_from_its_runs(path):
    table, rows = load_table(path.stem), cells(path.with_suffix(".md").read_text())
    frame, shown = pd.read_csv(path, dtype={"row": str}), {row[0]: row[1:] for row in rows}
    if table.axis:  # its rows are told apart by their first cells
        table = table.expanded(sorted(frame[table.axis["option"]].unique()))
        shown = {f"{row[1]}, {rows[0][0]} {row[0]}": row[1:] for row in rows}
    runs = frame.set_index(["row", "seed"])["top1_last"].unstack()
    at = next(row.index("last epoch") for row in shown.values() if "last epoch" in row)
    least, _ = leave_out(table, [], 1)  # without teachers
    needed, known = ({r.name for r in t.run_rows()} for t in (least, table))
    assert needed <= set(runs.index) <= known and not runs.isna().any(axis=None)
    for name, values in runs.iterrows():
        mean, difference = shown[name][at : at + 2]
        assert mean == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        reference = runs.loc[table.references()[name]]
        change = (values - reference).mean()
        if table.bootstrap:  # over recordings too, whose predictions are not kept here
            assert difference == "-" or abs(float(difference.split()[0]) - change) <= 0.2
        elif reference.name != name:
            low, high = stats.ttest_rel(values, reference).confidence_interval(0.95)
            assert difference == f"{change:+.2f} [{low:+.2f}, {high:+.2f}]"


def test_a_committed_sweep_follows_from_its_runs():
    runs = pd.read_csv(FOLDER / "nmnist-steps/sweep.csv").groupby("epochs")["top1_last"]
    shown = {int(r[0]): r[3] for r in cells((FOLDER / "nmnist-steps/sweep.md").read_text())[2:]}
    assert shown == {k: f"{v.mean():.2f} ± {v.std():.2f}" for k, v in runs}


def test_verdicts_are_cited_as_they_stand_in_the_tables():
    claims = re.findall(CLAIM, (REPOSITORY / "docs/results.md").read_text(), re.M)
    assert len(claims) > 5
    for say, number, *cited in claims:
        for folder, cell in zip(("nmnist-fewshot", "ndigits"), cited, strict=True):
            text = (FOLDER / f"{folder}/table{number}.md").read_text()
            ((_, verdict, difference, *_),) = [row for row in cells(text) if row[0] == say]
            assert cell == f"{verdict.removeprefix('fails: ')}, {difference}"


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_differences_that_are_named_stand_in_a_table(page):
    """Every ``+1.23 [-0.45, +2.91]`` of the page is, up to its sign, in some table."""
    pattern = r"[+-]\d+\.\d\d \[[+-]\d+\.\d\d, [+-]\d+\.\d\d\]"
    named = set(re.findall(pattern, (REPOSITORY / page).read_text()))
    found = re.findall(pattern, "".join(p.read_text() for p in FOLDER.glob("*/*.md")))
    assert named and named <= {*found, *map(_reversed, found)}


NUMBER = r"(?<![\w.])(?<!\w-)(?:\d[\d,]*\.\d+(?!\w)|\d+(?= (?:to \d+ |and \d+ )?%))"
# What is no result: code, links, versions, papers, settings, and the FLOPs that other tests hold.
NO_RESULT = (
    r"^```.*?^```|`[^`\n]*`|\]\([^)]*\)|(?:Python|arXiv|torch|SpikingJelly|on) \d[\d.]*"
    r"(?: (?:to|and) [\d.]+)?|r_m = [\d.]+|is below 0.05|95 %|[\d.]+\s+(?:GMAC|TFLOP)"
)
KNOWN = r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]\d+)?"
UNITS = (1, 100, 1000, 1 / 1024)  # shares as percent, s as ms, MiB as GiB


@pytest.mark.parametrize("page", ["README.md", "docs/results.md", "docs/performance.md"])
def test_numbers_of_a_section_stand_in_the_files_that_it_links(page):
    """Decimals, and whole numbers of percent, up to sign and rounding."""
    path = REPOSITORY / page
    for section in re.split(r"^(?=## )", path.read_text(), flags=re.M):
        linked = re.findall(r"\]\(((?:\.\./)?results/[^)]+?)\)", section)
        files = [f for name in linked for f in _files((path.parent / name).resolve())]
        known = {float(n) for file in files for n in re.findall(KNOWN, file.read_text())}
        for number in re.findall(NUMBER, re.sub(NO_RESULT, "", section, flags=re.S | re.M)):
            given, digits = float(number.replace(",", "")), len(number.partition(".")[2])
            near = (abs(k * unit - given) <= 0.5001 * 10**-digits for k in known for unit in UNITS)
            assert any(near), f"{number} in {section.splitlines()[0]}"


def _files(path: Path) -> list[Path]:
    """The table, CSV or JSON itself; of a folder of figures the short CSVs; of a picture none."""
    if path.is_dir():
        return [p for p in path.glob("*.csv") if p.stat().st_size < 10_000]
    return [path] if path.suffix in (".md", ".csv", ".json") else []


def _reversed(difference: str) -> str:
    mean, low, high = (-float(number) + 0.0 for number in re.findall(r"[+-][\d.]+", difference))
    return f"{mean:+.2f} [{high:+.2f}, {low:+.2f}]"
