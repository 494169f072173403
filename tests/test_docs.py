"""README and docs/: links lead somewhere, names exist, numbers are the code's, code runs."""

import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import tmkt_braincog
from tmkt_braincog import tables
from tmkt_braincog.arguments import build_parser
from tmkt_braincog.cli import COMMANDS
from tmkt_braincog.commands import data as data_command
from tmkt_braincog.commands import export, predict, push
from tmkt_braincog.commands import table as table_command
from tmkt_braincog.commands.teacher import teacher_parser
from tmkt_braincog.data import DATASETS, LoadSpec, make_split
from tmkt_braincog.losses import linear_cka
from tmkt_braincog.mixing import LAWS, STRATEGIES, solve_p
from tmkt_braincog.options import parse, resolve
from tmkt_braincog.registry import FIGURES

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS, README = REPOSITORY / "docs", REPOSITORY / "README.md"
NOTEBOOK, LIBRARY = DOCS / "quickstart.ipynb", DOCS / "library.md"
OF_OWN = DOCS / "own_recordings.ipynb"
PICTURES = {NOTEBOOK: 3, OF_OWN: 2}
PAGES = [README, *sorted(DOCS.glob("*.md"))]
LOGGED = {"epoch", "lr", "loss", "train_s"}  # whatever the method
OWN = ("start", "use", "data", "deploy", "method", "encodings", "reproducing", "extending")
OURS = [README, *(DOCS / f"{name}.md" for name in (*OWN, "braincog", "faq"))]


def prose(path: Path) -> str:
    """A page without its blocks of code, or the text cells of the notebook."""
    if path.suffix == ".ipynb":
        return "\n".join("".join(c["source"]) for c in cells(path) if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)


def cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text())["cells"]


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def table_of(path: Path, header: str) -> list[list[list[str]]]:
    """The tables whose header row begins with these words: rows of cells, without the header."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", path.read_text(), re.M):
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()]
        if " | ".join(rows[0]).startswith(header):
            found.append(rows[2:])
    return found


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("page", [*PAGES, *PICTURES], ids=lambda p: p.name)
def test_links_to_files_and_headings_lead_there(page):
    links = re.findall(r"(?:\]\(|src=\")([^)\"\s]+)[)\"]", prose(page))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", OURS, ids=lambda p: p.name)
def test_options_scripts_and_commands_exist(page):
    text = page.read_text()
    parsers = [build_parser(), data_command.build_parser(), table_command.sweep_parser()]
    parsers += next(a.choices for a in parsers[1]._actions if a.choices).values()
    parsers += [table_command.table_parser(tables.load_table("table2")), teacher_parser()]
    parsers += [command.build_parser() for command in (predict, export, push)]
    known = {o for p in parsers for a in p._actions for o in a.option_strings}
    known |= {"--nproc_per_node", "--slurm", "--logdir", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]+", text)) <= known
    assert all((REPOSITORY / path).is_file() for path in re.findall(r"run_scripts/\w+\.sh", text))
    words = {
        "data": {"list", "prepare", "inspect", "emulate"},
        "teacher": {"train", "embed"},
        "table": {*tables.listed(), *tables.SWEEP, "--help"},
        "figure": {"all", *FIGURES, "--help"},
    }
    for command, named in re.findall(r"\btmkt (\w+) ([\w,-]+)", "\n".join(code(text))):
        assert command in COMMANDS and named in words.get(command, {named})


def run_blocks(page: Path) -> dict:
    """The names after the Python blocks of a page, run in order on 40 recordings and images."""
    g, labels = torch.Generator().manual_seed(0), torch.arange(40) % 10
    given = {"labels": labels, "image_labels": labels}
    given["frames"] = torch.randint(0, 4, (40, 10, 2, 34, 34), generator=g, dtype=torch.uint8)
    given["images"] = torch.randint(0, 256, (40, 28, 28), generator=g, dtype=torch.uint8)
    for lines in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
        exec(compile(lines, page.name, "exec"), given)
    return given


def test_readme_the_loop_of_your_own():
    blocks = [re.findall(r"```python\n.*?```", p.read_text(), re.S) for p in (README, LIBRARY)]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 1
    given = run_blocks(README)
    parameters = (*given["model"].named_parameters(), *given["method"].named_parameters())
    trained = {n: p.grad for n, p in parameters if p.requires_grad}
    assert all(g is not None and torch.isfinite(g).all() for g in trained.values())
    assert {"fc2.weight", "mag.weight", "mrp.weight", "rda.theta"} <= set(trained)
    assert trained["fc2.weight"].abs().sum() > 0 and trained["mag.weight"].abs().sum() > 0


def test_braincog_its_edits_train_and_evaluate():
    given = run_blocks(DOCS / "braincog.md")
    assert given["output"].shape == (20, 10) and given["output"].isfinite().all()
    assert set(given["losses"]) == {"loss", "cls_mixed", "cls_event", "alignment", "mag", "mrp"}
    trained = [p for group in given["optimizer"].param_groups for p in group["params"]]
    assert any(p is given["method"].rda.theta for p in trained)


def test_readme_is_short_and_shows_what_the_example_printed():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    shown = re.search(r"```text\n(.*?)```", text, re.S)[1]
    assert shown in (REPOSITORY / "results/tables/readme-example/comparison.md").read_text()


def test_api_has_every_public_name():
    page = (DOCS / "api.md").read_text()
    assert set(tmkt_braincog.__all__) <= set(re.findall(r":: tmkt_braincog\.(\w+)$", page, re.M))


@pytest.mark.slow
def test_method_the_columns_of_the_log(comparison):
    found = table_of(DOCS / "method.md", "column of the log")
    for rows, name in zip(found, ("event-only", "baseline", "tmkt"), strict=True):
        columns = pd.read_csv(comparison / f"runs/{name}-seed1/log.csv").columns
        own = {re.sub("sigma_4", "sigma_T", c) for c in columns if not re.match("sigma_[23]", c)}
        named = {c for row in rows for c in code(row[0])}
        assert named == {c for c in own if not c.startswith(("test_", "val_"))} - LOGGED


def test_method_the_strategies_and_the_solutions_for_p():
    (rows,) = table_of(DOCS / "method.md", "name | class")
    named = {code(row[0])[0]: code(row[1])[0] for row in rows}
    assert named == {name: STRATEGIES[name].__name__ for name in STRATEGIES}
    (rows,) = table_of(DOCS / "method.md", "$T$ | $r_m$")
    assert len(rows) == 7
    for T, ratio, *ps in rows:
        assert ps == [f"{solve_p(float(ratio), int(T), law):.4f}" for law in LAWS]


def test_data_counts_and_sizes():
    (rows,) = table_of(DOCS / "data.md", " | recordings | camera")
    held = {code(row[0])[0]: row[1] for row in rows}
    assert set(held) == set(DATASETS)
    for name in set(DATASETS) - {"ndigits", "nmnist", "folder"}:
        counts = DATASETS[name].counts
        assert held[name].startswith(f"{sum(counts):,} in {len(counts):,} classes")
    (rows,) = table_of(DOCS / "data.md", " | shape of the frames")
    assert {code(row[0])[0] for row in rows} == set(DATASETS) - {"folder"}
    for _, shape, kind, size in rows:
        n_bytes = math.prod(map(int, shape.split(" x "))) * (1 if kind == "uint8" else 4)
        assert size == f"{n_bytes / 1e9:.2f} GB"


@pytest.mark.slow
def test_data_the_audit_is_what_a_run_prints():
    page = (DOCS / "data.md").read_text()
    options, _ = resolve(parse(["--shots", "5"]))
    found = DATASETS["ndigits"].load(LoadSpec())
    assert f"\nSeed 42. {make_split(found, options, 42).audit}\n" in page
    assert f"half of those have a recording: {len(found.train)} / {len(found.test)} |" in page


def test_faq_cka_of_unrelated_features():
    (rows,) = table_of(DOCS / "faq.md", "d | B = 8")
    generator = torch.Generator().manual_seed(0)
    for d, *found in rows:
        for B, value in zip((8, 32, 120), found, strict=True):
            x, y = (torch.randn(50, B, int(d), generator=generator) for _ in range(2))
            assert linear_cka(x, y).mean().item() == pytest.approx(float(value), abs=0.01)
            assert linear_cka(x, y, debiased=True).mean().item() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("notebook", PICTURES, ids=lambda path: path.stem)
def test_notebook_its_stored_outputs(notebook):
    text = notebook.read_text()
    assert not re.search(r"/(?:home|root|tmp|usr|opt|work|mnt|Users|private)\b", text)
    ran = [c for c in cells(notebook) if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in ran] == list(range(1, len(ran) + 1))
    outputs = [o for c in ran for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or "Warning" in str(o)]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == PICTURES[notebook]
    for name in ("event-only", "baseline", "tmkt"):
        assert any(f"\n| {name} " in "".join(o.get("text", "")) for o in outputs)


@pytest.mark.slow
def test_notebook_runs_from_a_clean_folder(tmp_path, monkeypatch):
    runs_as_stored(NOTEBOOK, tmp_path, monkeypatch)
    assert not list((tmp_path / "clean").iterdir())


@pytest.mark.slow
@pytest.mark.realdata
def test_notebook_of_own_recordings_runs(tmp_path, monkeypatch, real_data):
    monkeypatch.setenv("DATA", str(real_data))
    runs_as_stored(OF_OWN, tmp_path, monkeypatch)


def runs_as_stored(path, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for folder in ("temporary", "clean"):
        (tmp_path / folder).mkdir()
    notebook = nbformat.read(path, as_version=4)
    stored = [kinds(c) for c in notebook.cells]
    where = {"metadata": {"path": tmp_path / "clean"}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert [kinds(c) for c in notebook.cells] == stored


def kinds(cell) -> set[str]:
    """What a cell puts out: text, pictures, tables. Not stderr: a busy machine shows more bars."""
    outputs = cell.get("outputs", ())
    found = {k for o in outputs for k in o.get("data", {o.get("name", o.output_type): 0})}
    return found - {"stderr"}
