"""What a report shows: the files that lie in a folder, and what its training runs were and gave."""

import base64
import json
import re
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from .arguments import group_options
from .comparison import legend, summarise, to_markdown
from .errors import UserError
from .options import identity, parse, resolve
from .plots import plot_curves
from .registry import FIGURES, caption
from .runs import Run, value_text

MOST_ROWS = 100  # of a CSV
MOST_LINES = 7  # in a picture of curves: more colours could not be told apart
REFERENCE = "baseline"
AXES = {"test_top1": "top-1, test (%)", "val_top1": "top-1, validation (%)"}
AXES |= {"loss": "loss (weighted sum)", "sigma": "sigma(theta_t), mean over t"}
NO_LOSSES = ("epoch", "lr", "train_s", "test_", "val_", "sigma")
RESULTS = ("top1_best", "epoch_best", "top1_last", "train_s", "peak_mib")
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
MARKDOWN.disable(["link", "image", "autolink", "reference"])  # they stay as written


class Picture(NamedTuple):
    """A PNG as a data URI; a wide one needs the whole width of a page."""

    uri: str
    caption: str
    wide: bool


class Block(NamedTuple):
    """A piece of a page; what is given of it stands in this order."""

    title: str = ""
    text: str | Markup = ""
    table: Markup | None = None
    pictures: Sequence[Picture] = ()


@dataclass
class Found:
    """What lies in a folder: ``facts`` of the JSON files, ``left`` what is not shown."""

    blocks: list[Block] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    sheets: list[Block] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def look_into(folder: Path, hidden: Container[str]) -> Found:
    """The files of a folder and its ``figures/``, but for the hidden names.

    Of several of one name Markdown is shown, otherwise the picture, otherwise the CSV. Markdown
    comes with the pictures that its JSON names, or whose names begin like its own.
    """
    found, files = Found(), dict[Path, dict[str, Path]]()
    for path in [*sorted(folder.glob("[!.]*")), *sorted(folder.glob("figures/[!.]*"))]:
        if path.is_file() and path.name not in hidden:
            files.setdefault(path.with_suffix(""), {})[path.suffix] = path
    for stem in sorted(files, key=lambda stem: not {".json", ".md"} & files[stem].keys()):
        its = files.pop(stem, {})  # shown already with another
        fact = _fact(its, found)
        names = [Path(str(name)).stem for name in fact.get("pictures", ())]
        if not names and ".md" in its:
            names = [other.name for other in files if other.name.startswith(f"{stem.name}_")]
        more = [files.pop(stem.with_name(name), {}) for name in names if name != stem.name]
        about = ". ".join(str(fact[key]) for key in ("title", "caption") if fact.get(key))
        pngs = [some[".png"] for some in (its, *more) if ".png" in some]
        pictures = []
        for png in pngs:
            try:
                pictures.append(_read(png, about or _about(png)))
            except UserError as error:
                found.problems.append(str(error))
        if ".md" in its:
            text = safe_html(its[".md"].read_text(errors="replace"))
            found.blocks.append(Block(its[".md"].name, text, pictures=pictures))
        elif pictures or pngs:
            found.pictures += pictures
        elif ".csv" in its:
            _sheet(its[".csv"], found)
        else:
            found.left += [path.name for path in its.values()]
    return found


def _fact(its: dict[str, Path], found: Found) -> dict[str, Any]:
    """What the JSON of ``tmkt table`` or ``tmkt figure`` says; nothing of any other."""
    try:
        fact = json.loads(its[".json"].read_text()) if ".json" in its else {}
    except (OSError, ValueError) as error:
        found.problems.append(f"{its['.json']} cannot be read ({error}): left out.")
        return {}
    if not isinstance(fact, dict) or fact.get("kind") not in ("table", "figure"):
        return {}
    found.facts.append(fact)
    return fact


def _sheet(path: Path, found: Found) -> None:
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        found.problems.append(f"{path} cannot be read as a table: {error}")
        return
    text = f"The first {MOST_ROWS} of {len(rows)} rows." if len(rows) > MOST_ROWS else ""
    found.sheets.append(Block(path.name, text, html_table(rows.head(MOST_ROWS))))


def _read(path: Path, about: str) -> Picture:
    """A PNG that decodes, or a UserError."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            wide = image.width > 1.9 * image.height
    # What Pillow raises for files that are no picture, or too large to be one.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be shown: it is no whole PNG ({error}).") from error
    data = base64.b64encode(path.read_bytes()).decode()
    return Picture(f"data:image/png;base64,{data}", about, wide)


def _about(path: Path) -> str:
    """What the figure of that name shows; otherwise the name in words."""
    words = f"{re.sub('[-_]', ' ', path.stem).capitalize()}."
    return caption(path.stem) if path.stem in FIGURES else words


def safe_html(text: str) -> Markup:
    """Markdown as HTML. HTML in it is shown as text; links and images stay as written."""
    return Markup(re.sub(r"(</?h)\d>", r"\g<1>4>", MARKDOWN.render(text)))


def html_table(table: pd.DataFrame) -> Markup | None:
    """None for a table without rows."""
    form = "{:.2f}".format
    with pd.option_context("display.max_colwidth", None):  # else long cells are cut
        html = table.to_html(index=False, border=0, na_rep="-", float_format=form)
    return None if table.empty else Markup(html)


def varied(runs: Sequence[Run]) -> list[str]:
    """Names of the options, other than method and seed, in which runs that take them differ."""
    seen = Counter(name for name, _ in {pair for run in runs for pair in run.settings.items()})
    return sorted(name for name, n in seen.items() if n > 1 and name not in ("method", "seed"))


def labelled(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that may be averaged, by method and those of the varied settings that it takes."""
    names, groups = varied(runs), dict[str, list[Run]]()
    for run in runs:
        groups.setdefault(", ".join([run.method, *in_words(run, names)]), []).append(run)
    return groups


def in_words(run: Run, names: Sequence[str]) -> list[str]:
    return [f"{n.replace('_', '-')} {run.settings[n]}" for n in names if n in run.settings]


def over_seeds(runs: Sequence[Run]) -> Block:
    """Means over seeds with paired differences to the baseline, if there is one, and not several.

    Raises:
        UserError: rows that cannot be compared, such as those of two protocols.
    """
    groups = labelled(runs)
    rows = [r.result | {"method": name} for name in groups for r in groups[name] if r.result]
    if not rows:
        return Block()
    references = [name for name in groups if groups[name][0].method == REFERENCE]
    reference = references[0] if len(references) == 1 else REFERENCE
    summary = summarise(pd.DataFrame(rows), reference)
    note = " ".join(dict.fromkeys(line for run in runs for line in run.notes))
    part = "validation" if any(run.split.get("val") for run in runs) else "test"
    best = f"best epoch on the {part} set"
    said = legend(summary, str(rows[0]["protocol"]), best, note, reference)
    return Block("Over seeds", safe_html(to_markdown(summary, said)))


def curves(runs: Sequence[Run], problems: list[str]) -> Iterator[Picture]:
    """Accuracy, losses and the mean of the learned coefficients over the epochs."""
    logs = {name: [_with_sigma(run.log) for run in some] for name, some in labelled(runs).items()}
    columns = dict.fromkeys(str(name) for some in logs.values() for log in some for name in log)
    losses = [name for name in columns if not name.startswith(NO_LOSSES)]
    for y in ("test_top1", "val_top1", *losses, "sigma"):
        held = {name: _holding(some, y) for name, some in logs.items() if _holding(some, y)}
        for start in range(0, len(held), MOST_LINES):
            part = {name: held[name] for name in [*held][start : start + MOST_LINES]}
            with TemporaryDirectory() as folder:
                path, about = Path(folder) / "curves.png", AXES.get(y, y)
                try:
                    plot_curves(part, path, y=y, ylabel=about, emulated=runs[0].emulated)
                    yield _read(path, about)
                except UserError as error:
                    problems.append(f"{y} is not drawn: {error}")


def _holding(logs: Sequence[pd.DataFrame], y: str) -> list[pd.DataFrame]:
    return [log[["epoch", y]].dropna() for log in logs if y in log and log[y].notna().any()]


def _with_sigma(log: pd.DataFrame) -> pd.DataFrame:
    sigmas = log.filter(regex=r"^sigma_\d+$")
    return log if sigmas.empty else log.assign(sigma=sigmas.mean(axis=1))


def one_by_one(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run, finished or not."""
    names = varied(runs)
    rows = [
        {"method": run.method, "seed": run.seed}
        | {name.replace("_", "-"): run.settings.get(name, "-") for name in names}
        | {name: (run.result or {}).get(name) for name in RESULTS}
        | {"state": run.state}
        for run in runs
    ]
    return pd.DataFrame(rows).astype({"epoch_best": "Int64"} if rows else {})


def audits(runs: Sequence[Run]) -> pd.DataFrame:
    """What every split says of itself, once for all runs that share it."""
    names, places = (
        [n for n in varied(runs) if n in group_options(["data"])],
        dict[str, list[str]](),
    )
    for run in runs:
        if run.split:
            text = " ".join(map(str, [run.split.get("audit", "-"), *run.split.get("remarks", ())]))
            places.setdefault(text, []).append(
                ", ".join([*in_words(run, names), f"seed {run.seed}"])
            )
    rows = [("; ".join(dict.fromkeys(some)), text) for text, some in places.items()]
    return pd.DataFrame(rows, columns=["runs", "split"])


def environments(runs: Sequence[Run]) -> pd.DataFrame:
    """Versions and machines that the runs kept, one column for each that differs."""
    counts = Counter(json.dumps(kept) for run in runs for kept in run.environments)
    table = pd.DataFrame([json.loads(kept) for kept in counts]).T.reset_index()
    return table.set_axis(["", *(f"{n} of {len(runs)} runs" for n in counts.values())], axis=1)


def settings(runs: Sequence[Run]) -> pd.DataFrame:
    """What decides the results: what varies first; the data set's default where it is another."""
    defaults: dict[str, Any] = {}
    with suppress(UserError):  # a data set that is not registered here
        words = ["--target-dataset", runs[0].options.target_dataset] if runs else []
        defaults = identity(resolve(parse(words))[0])
    rows = []
    for name in sorted({name for run in runs for name in run.settings}):
        values = list(dict.fromkeys(r.settings[name] for r in runs if name in r.settings))
        default = value_text(defaults.get(name))
        own = "" if values == [default] else default
        rows.append((len(values) == 1, f"--{name.replace('_', '-')}", ", ".join(values), own))
    table = pd.DataFrame(sorted(rows, key=lambda row: row[0]))
    return table.iloc[:, 1:].set_axis(["option", "value", "default"], axis=1) if rows else table
