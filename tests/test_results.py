"""What is committed under results/: every table's numbers follow from its CSV, and the README cites them as they are."""

import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from tmkt_braincog.experiments.table_file import load_table
from tmkt_braincog.experiments.tables import SCRIPTS, leave_out

REPOSITORY = Path(__file__).resolve().parent.parent
TABLES = sorted(REPOSITORY.glob("results/tables/*/*.csv"))
TABLES = [path for path in TABLES if (SCRIPTS / "tables" / f"{path.stem}.yaml").exists()]


def cells(text: str) -> dict[str, list[str]]:
    """Rows of all Markdown tables by their first cell."""
    rows = [
        [c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("path", TABLES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_committed_table_follows_from_its_runs(path):
    table, shown = (
        load_table(SCRIPTS / "tables" / f"{path.stem}.yaml"),
        cells(path.with_suffix(".md").read_text()),
    )
    runs = pd.read_csv(path, dtype={"row": str}).set_index(["row", "seed"])["top1_last"].unstack()
    least, _ = leave_out(table, [], 1)  # without teachers
    assert {r.name for r in least.run_rows()} <= set(runs.index) <= {r.name for r in table.run_rows()}
    assert not runs.isna().any(axis=None)
    for name, values in runs.iterrows():
        mean, difference = shown[name][-5:-3]
        assert mean == f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        reference = runs.loc[table.references()[name]]
        if reference.name != name:
            low, high = stats.ttest_rel(values, reference).confidence_interval(0.95)
            assert difference == f"{(values - reference).mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def test_the_readme_cites_verdicts_as_they_stand_in_the_tables():
    readme = (REPOSITORY / "README.md").read_text()
    paths = set(re.findall(r"\]\((results/tables/[\w/-]+\.md)\)", readme))
    known = {tuple(row) for path in paths for row in cells((REPOSITORY / path).read_text()).values()}
    verdicts = r"^\| .*? \| (holds|undecided|fails: the reverse holds) \| (.*?) \|$"
    cited = re.findall(verdicts, readme, re.M)
    assert len(cited) > 5 and set(cited) <= known
