"""docs/: links lead somewhere, names exist, numbers are the code's, the notebook runs."""

import json
import math
import re
from pathlib import Path

import braincog.base.node.node
import braincog.base.strategy.surrogate
import pytest
import torch
from tonic.datasets import NCALTECH101

import tmkt_braincog
from tmkt_braincog import data, losses, methods, mixing, models, teacher
from tmkt_braincog.arguments import build_parser
from tmkt_braincog.commands import data as data_command
from tmkt_braincog.data import DATASETS, LoadSpec, cifar10dvs, make_split, ncaltech101
from tmkt_braincog.engine import evaluate
from tmkt_braincog.losses import RDALoss, linear_cka
from tmkt_braincog.methods import TMKT, Baseline
from tmkt_braincog.mixing import LAWS, STRATEGIES, mix, solve_p
from tmkt_braincog.models import StreamOutput, TransferOutput
from tmkt_braincog.options import parse, resolve

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
NOTEBOOK = DOCS / "quickstart.ipynb"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
OURS = [DOCS / f"{name}.md" for name in ("method", "data", "extending", "faq")]
MODULES = (
    *(tmkt_braincog, data, losses, methods, mixing, models, evaluate, methods.baseline, teacher),
    *(braincog.base.node.node, braincog.base.strategy.surrogate),
)


def prose(path: Path) -> str:
    """A page without its blocks of code, or the text cells of the notebook."""
    if path.suffix == ".ipynb":
        return "\n".join("".join(c["source"]) for c in cells() if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def tables(path: Path, header: str) -> list[list[list[str]]]:
    """The tables whose header row begins with these words: rows of cells, without the header."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", path.read_text(), re.M):
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()]
        if " | ".join(rows[0]).startswith(header):
            found.append(rows[2:])
    return found


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("page", [*PAGES, NOTEBOOK], ids=lambda p: p.name)
def test_links_to_files_and_headings_lead_there(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", OURS, ids=lambda p: p.name)
def test_options_exist(page):
    parsers = [build_parser(), data_command.build_parser()]
    parsers += next(a.choices for a in parsers[1]._actions if a.choices).values()
    known = {o for p in parsers for a in p._actions for o in a.option_strings}
    known |= {"--nproc_per_node", "--slurm"}
    assert set(re.findall(r"(?<![\w-])--[a-zA-Z][\w-]+", page.read_text())) <= known


def loss_names() -> dict[str, list[str]]:
    """By method, in the order of the log, what a step returns beside ``loss``."""
    T, B, N = 3, 4, 5
    stream = StreamOutput(torch.randn(T, B, N), torch.randn(T, B, 7), torch.randn(T, B, 6))
    out, y = TransferOutput(stream, stream), torch.arange(B)
    mixed = mix(torch.rand(B, 2, 4, 4), torch.rand(B, T, 2, 4, 4), torch.tensor([0, 1, 2, 3]))
    found = {
        "baseline": Baseline(T).losses(out, y),
        "tmkt": TMKT(T, features=6).losses(out, mixed, y),
    }
    return {name: [n for n in terms if n != "loss"] for name, terms in found.items()}


def exists(name: str) -> bool:
    """Whether a name of Python, such as ``mix`` or ``Mixed.t_star``, is that of something."""
    first, _, attribute = name.partition(".")
    owner = next((getattr(m, first) for m in MODULES if hasattr(m, first)), None)
    if owner is None or not attribute:
        return owner is not None
    fields = {*getattr(owner, "__dataclass_fields__", ()), *getattr(owner, "_fields", ())}
    return attribute in fields or hasattr(RDALoss(2) if owner is RDALoss else owner, attribute)


def test_method_every_name_is_that_of_something():
    columns = {n for names in loss_names().values() for n in names}
    columns |= {"sigma_1", "sigma_T", "ela", "sta"}
    values = {*STRATEGIES, *LAWS, *methods.PARTS}
    named = {w for w in code(prose(DOCS / "method.md")) if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", w)}
    assert len(named) > 40
    assert {w for w in named - columns - values if not exists(w)} == set()
    assert not exists("TSMixup") and not exists("Mixed.t_end") and not exists("RDALoss.thetas")


def test_method_the_columns_of_the_log():
    event_only, baseline, tmkt = tables(DOCS / "method.md", "column of the log")
    columns = [[c for row in t for c in code(row[0])] for t in (event_only, baseline, tmkt)]
    sigma = ["sigma_1", "sigma_T"]
    assert columns[0] == ["cls_event"]
    assert columns[1] == [*loss_names()["baseline"], *sigma]
    assert sorted(columns[2]) == sorted([*loss_names()["tmkt"], *sigma])


def test_method_the_strategies():
    (rows,) = tables(DOCS / "method.md", "name | class")
    named = {code(row[0])[0]: code(row[1])[0] for row in rows}
    assert named == {name: STRATEGIES[name].__name__ for name in STRATEGIES}


def test_method_the_solutions_for_p():
    (rows,) = tables(DOCS / "method.md", "$T$ | $r_m$")
    assert len(rows) == 7
    for T, ratio, *ps in rows:
        assert ps == [f"{solve_p(float(ratio), int(T), law):.4f}" for law in LAWS]


def test_data_counts_and_sizes():
    (rows,) = tables(DOCS / "data.md", " | recordings | camera")
    held = {code(row[0])[0]: row[1] for row in rows}
    assert set(held) == set(DATASETS)
    for name in set(DATASETS) - {"ndigits", "nmnist"}:
        counts = DATASETS[name].counts
        assert held[name].startswith(f"{sum(counts):,} in {len(counts):,} classes")
    (rows,) = tables(DOCS / "data.md", " | shape of the frames")
    assert {code(row[0])[0] for row in rows} == set(DATASETS)
    for name, shape, kind, size in rows:
        options, _ = resolve(parse(["--target-dataset", code(name)[0]]))
        shape = [int(n) for n in shape.split(" x ")]
        assert shape[1] == options.step and (kind == "uint8" or shape[-1] == options.event_size)
        n_bytes = math.prod(shape) * (1 if kind == "uint8" else 4)
        assert size == f"{n_bytes / 1e9:.2f} GB"


@pytest.mark.slow
def test_data_the_audit_is_what_a_run_prints():
    page = (DOCS / "data.md").read_text()
    options, _ = resolve(parse(["--shots", "5"]))
    found = DATASETS["ndigits"].load(LoadSpec())
    assert f"\nSeed 42. {make_split(found, options, 42).audit}\n" in page
    assert f"half of those have a recording: {len(found.train)} / {len(found.test)} |" in page


def test_faq_cka_of_unrelated_features():
    (rows,) = tables(DOCS / "faq.md", "d | B = 8")
    generator = torch.Generator().manual_seed(0)
    for d, *found in rows:
        for B, value in zip((8, 32, 120), found, strict=True):
            x, y = (torch.randn(50, B, int(d), generator=generator) for _ in range(2))
            assert linear_cka(x, y).mean().item() == pytest.approx(float(value), abs=0.01)
            assert linear_cka(x, y).mean().item() == pytest.approx(int(d) / (int(d) + B), abs=0.02)
            assert linear_cka(x, y, debiased=True).mean().item() == pytest.approx(0, abs=0.1)


def test_faq_where_archives_are_looked_for():
    root, page = Path("DATA"), (DOCS / "faq.md").read_text()
    assert f"\n{(root / ncaltech101.RECORDINGS).parent / NCALTECH101.filename}\n" in page
    assert f"\n{(root / ncaltech101.IMAGES).parent / ncaltech101.IMAGES_ARCHIVE.name}\n" in page
    assert f"`{(root / cifar10dvs.RECORDINGS).with_suffix('.zip')}`" in page


def test_faq_the_list_names_every_question():
    page = (DOCS / "faq.md").read_text()
    listed = re.findall(r"\(#([^)]+)\)", page.partition("\n## ")[0])
    asked = anchors(DOCS / "faq.md") - {"questions", "data", "results", "running"}
    assert sorted(listed) == sorted(asked)


def test_notebook_its_stored_outputs():
    assert NOTEBOOK.stat().st_size < 300_000
    text = NOTEBOOK.read_text()
    assert not re.search(r"/(?:home|root|tmp|usr|opt|work|mnt|Users|private)\b", text)
    ran = [c for c in cells() if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in ran] == list(range(1, len(ran) + 1))
    outputs = [o for c in ran for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or "Warning" in str(o)]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 3
    for name in ("event-only", "baseline", "tmkt"):
        assert any(f"\n{name} " in "".join(o.get("text", "")) for o in outputs)


@pytest.mark.slow
def test_notebook_runs_from_a_clean_folder(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    for folder in ("temporary", "clean"):
        (tmp_path / folder).mkdir()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = [kinds(c) for c in notebook.cells]
    where = {"metadata": {"path": tmp_path / "clean"}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert [kinds(c) for c in notebook.cells] == stored
    assert not list((tmp_path / "clean").iterdir())


def kinds(cell) -> set[str]:
    """What a cell puts out: text, pictures, tables."""
    outputs = cell.get("outputs", ())
    return {k for o in outputs for k in o.get("data", {o.get("name", o.output_type): 0})}
