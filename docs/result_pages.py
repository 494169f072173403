"""Pages of the site for what is under ``results/``, so that no number on them is typed by hand."""

import csv
import json
from pathlib import Path

import yaml

FEW = 40  # rows; a longer CSV is linked and not shown
TITLES = {
    "backbones": "Built-in digits, four backbones",
    "ecaltech101": "Emulated Caltech-101",
    "ecaltech101-1000": "Emulated Caltech-101, 1,000 steps",
    "ecaltech101-he2024": "Emulated Caltech-101, protocol he2024",
    "readme-example": "The README's example",
    "figures": "Numbers behind the figures",
    "leakage-shots1-images50": "N-MNIST, 1 shot, 50 images per class",
    "leakage-shots5-images50": "N-MNIST, 5 shots, 50 images per class",
    "leakage-shots5-images500": "N-MNIST, 5 shots, 500 images per class",
    "ndigits": "Built-in digits",
    "nmnist-encodings": "N-MNIST, images as events",
    "nmnist-encodings-first": "N-MNIST, images as events, run before",
    "nmnist-fewshot": "N-MNIST, 5 shots",
    "nmnist_fewshot": "N-MNIST, 1 to 50 shots",
    "performance": "Performance",
    "gpu_training": "Performance, training on a GPU",
    "amp": "Accuracy in bf16",
    "executor": "Accuracy of the executors",
}


def page_of(path: str) -> str:
    """Name of the page for a file or folder: ``results/a/b.md`` -> ``generated/a/b``."""
    name = Path(path)
    stem = name.stem + ("" if name.suffix in ("", ".md") else "-data")
    return Path("generated", *name.parent.parts[1:], stem).as_posix()


def write(repository: Path) -> set[str]:
    """Write ``docs/generated/``: pages of tables, measurements, folders of figures, and their list.

    Returns the names of the pages."""
    docs, results = repository / "docs", repository / "results"
    pages = {}
    for path in sorted(results.rglob("*")):
        if text := text_of(path):
            pages[page_of(path.relative_to(repository).as_posix())] = text
    pages["generated/index"] = index(sorted(pages))
    pages["generated/published"] = published(repository / "tmkt_braincog" / "tables")
    for page, text in pages.items():
        file = docs / f"{page}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    for file in (docs / "generated").rglob("*.md"):
        if file.relative_to(docs).with_suffix("").as_posix() not in pages:
            file.unlink()
    return set(pages)


def text_of(path: Path) -> str | None:
    """The page for this file or folder, None where others show it."""
    if path.name == "figures":
        return figures(path)
    if path.suffix == ".md":
        return table(path)
    if path.suffix == ".json" and not path.with_suffix(".md").exists():
        return measurement(path)
    if path.name == "tuning.csv":
        return f"# All trials of the tuning ({where(path)})\n\n{as_table(read(path))}\n"
    return None


def where(path: Path) -> str:
    return TITLES.get(path.parent.name, path.parent.name)


def table(path: Path) -> str:
    """A table as the program wrote it, its picture and its CSV."""
    text = path.read_text().strip()
    title, rest = path.stem.replace("_", " ").capitalize(), text
    if text.startswith("# "):
        first, _, rest = text.partition("\n")
        title = first[2:]
    lines = [f"# {title} ({where(path)})", rest.strip()]
    if path.with_suffix(".png").exists():
        lines.append(f"![{title}]({up(path.with_suffix('.png'))})")
    files = [p for p in (path.with_suffix(s) for s in (".csv", ".json")) if p.exists()]
    if files:
        lines.append("Files: " + ", ".join(f"{{download}}`{p.name} <{up(p)}>`" for p in files))
    return "\n\n".join(lines) + "\n"


def published(tables: Path) -> str:
    """The published values of the rows of the paper's tables, by data set."""
    lines = [
        "# Published numbers",
        "Top-1 in percent, from the papers' tables; none was made here.",
    ]
    for path in sorted(tables.glob("table*.yaml")):
        facts = yaml.safe_load(path.read_text())
        rows = {row["name"]: row.get("published", {}) for row in facts["rows"]}
        sets = list(dict.fromkeys(name for values in rows.values() for name in values))
        cells = [[name, *(v.get(s, "") for s in sets)] for name, v in rows.items() if v]
        lines.append(
            f"## Table {path.stem[-1]}: {facts['title']}\n\n{as_table([['', *sets], *cells])}"
        )
    return "\n\n".join(lines) + "\n"


def figures(folder: Path) -> str:
    """Short CSV files as tables, the others as downloads, and pictures."""
    lines = [f"# Numbers behind the figures ({where(folder)})"]
    lines += [f"![{p.stem}]({up(p)})" for p in sorted(folder.glob("*.png"))]
    for path in sorted(folder.glob("*.csv")):
        rows = read(path)
        shown = as_table(rows) if len(rows) <= FEW else f"{len(rows) - 1:,} rows."
        lines.append(f"## {path.stem}\n\n{shown}\n\n{{download}}`{path.name} <{up(path)}>`")
    return "\n\n".join(lines) + "\n"


def measurement(path: Path) -> str:
    """The JSON file of a benchmark: its settings, and its rows as a table."""
    facts = json.loads(path.read_text())
    rows = facts.pop("rows", None)
    lines = [f"# {path.stem.replace('_', ' ').capitalize()} ({where(path)})"]
    lines += [
        f"- {key}: {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in facts.items()
    ]
    if rows:
        keys = list(dict.fromkeys(key for row in rows for key in row))
        lines.append("\n" + as_table([keys, *([row.get(key, "") for key in keys] for row in rows)]))
    return "\n".join([lines[0], "", *lines[1:], "", f"{{download}}`{path.name} <{up(path)}>`", ""])


def index(pages: list[str]) -> str:
    """All pages by folder."""
    folders = dict.fromkeys(Path(page).parent for page in pages)
    lines = [
        "# All tables and measurements",
        "Written from the files under `results/` when the site is built.",
    ]
    for folder in folders:
        names = [
            Path(p).relative_to("generated").as_posix() for p in pages if Path(p).parent == folder
        ]
        head = TITLES.get(folder.name, folder.name)
        lines.append(
            f"```{{toctree}}\n:caption: {head}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```"
        )
    return "\n\n".join(lines) + "\n"


def up(path: Path) -> str:
    """The file as an absolute source path of Sphinx: from ``docs/``."""
    parts = path.parts[len(path.parts) - path.parts[::-1].index("results") - 1 :]
    return "/../" + "/".join(parts)


def read(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def as_table(rows: list[list]) -> str:
    """Markdown; numbers with four significant digits."""
    lines = [[short(cell) for cell in row] for row in rows]
    lines.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(cell: object) -> str:
    try:
        return f"{float(str(cell)):.4g}"
    except ValueError:
        return str(cell).replace("|", "\\|")
