"""What a report shows: the files that lie in a folder, and what its training runs were and gave."""

import base64
import json
import re
from collections import Counter
from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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

MOST_LINES = 7  # in a picture of curves: more colours could not be told apart
REFERENCE = "baseline"
AXES = {"test_top1": "top-1, test (%)", "val_top1": "top-1, validation (%)"}
AXES |= {"loss": "loss (weighted sum)", "sigma": "sigma(theta_t), mean over t"}
NO_LOSSES = ("epoch", "lr", "train_s", "test_", "val_", "sigma", "method", "seed")
RESULTS = ("top1_best", "epoch_best", "top1_last", "train_s", "peak_mib")
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
MARKDOWN.disable(["link", "image", "autolink", "reference"])  # they stay as written
PICTURE = Markup(
    '<figure class="{}">\n<img src="data:image/png;base64,{}" alt="{}" />'
    "<figcaption>{}</figcaption></figure>\n"
)
TEXT = Markup("<h4>{}</h4>\n<div>{}</div>\n")

Facts = dict[str, Any]


def look_into(
    folder: Path, hidden: Container[str], problems: list[str]
) -> tuple[Markup, Markup, list[Facts], list[str]]:
    """The Markdown and the PNGs of a folder and its ``figures/``, but for the hidden names.

    Gives the texts with their pictures, other pictures, what the JSON files say, and what is not
    shown. What has no Markdown or JSON of its own belongs to what its name begins with, as
    table1_curves to table1. Other kinds of files of a name that is shown hold the same.
    """
    texts, others, facts, left = Markup(""), Markup(""), list[Facts](), list[str]()
    files: dict[Path, dict[str, Path]] = {}
    for path in [*sorted(folder.glob("[!.]*")), *sorted(folder.glob("figures/[!.]*"))]:
        if path.is_file() and path.name not in hidden:
            files.setdefault(path.with_suffix(""), {})[path.suffix] = path
    first = [stem for stem, its in files.items() if {".json", ".md"} & its.keys()]
    for stem in dict.fromkeys([*first, *files]):
        begin = tuple(f"{stem}{sign}" for sign in "_-")
        more = [other for other in files if str(other).startswith(begin) and other not in first]
        its = files.pop(stem, {})  # shown already with another
        pngs = [some[".png"] for some in (its, *map(files.pop, more)) if ".png" in some]
        if fact := _fact(its, problems):
            facts.append(fact)
        if ".md" in its:  # what the fact says is part of it
            text = safe_html(its[".md"].read_text(errors="replace"))
            texts += TEXT.format(its[".md"].name, text) + pictures(pngs, "", problems)
            continue
        about = ". ".join(str(fact[key]) for key in ("title", "caption") if fact.get(key))
        others += pictures(pngs, about, problems)
        left += [] if pngs else [path.name for path in its.values()]
    return texts, others, facts, left


def _fact(its: dict[str, Path], problems: list[str]) -> Facts:
    """What the JSON of ``tmkt table`` or ``tmkt figure`` says; nothing of any other."""
    try:
        fact = json.loads(its[".json"].read_text()) if ".json" in its else {}
    except (OSError, ValueError) as error:
        problems.append(f"{its['.json']} cannot be read ({error}): left out.")
        return {}
    ours = isinstance(fact, dict) and fact.get("kind") in ("table", "figure")
    return fact if ours else {}


def pictures(paths: Sequence[Path], about: str, problems: list[str]) -> Markup:
    """PNGs that decode; without words what the figure of that name shows, or the name in words."""
    found = Markup("")
    for path in paths:
        words = f"{re.sub('[-_]', ' ', path.stem).capitalize()}."
        words = about or (caption(path.stem) if path.stem in FIGURES else words)
        try:
            with Image.open(path, formats=["PNG"]) as image:
                image.load()
                wide = image.width > 1.9 * image.height
        # What Pillow raises for files that are no picture, or too large to be one.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problems.append(f"{path} cannot be shown: it is no whole PNG ({error}).")
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        found += PICTURE.format("wide" if wide else "", data, words, words)
    return found


def safe_html(text: str) -> Markup:
    """Markdown as HTML. HTML in it is shown as text; links and images stay as written."""
    return Markup(re.sub(r"(</?h)\d>", r"\g<1>4>", MARKDOWN.render(text)))


def html_table(rows: pd.DataFrame) -> Markup | str:
    with pd.option_context("display.max_colwidth", None):  # else long cells are cut
        html = rows.to_html(index=False, border=0, na_rep="-", float_format="{:.2f}".format)
    return "" if rows.empty else Markup(html)


def values(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Of every option that decides results its values, in the order of the runs that take it."""
    table = pd.DataFrame([run.settings for run in runs])
    return {str(name): list(table[name].dropna().unique()) for name in table}


def varied(runs: Sequence[Run]) -> list[str]:
    """Names of the options, other than method and seed, in which runs that take them differ."""
    several = (name for name, seen in values(runs).items() if len(seen) > 1)
    return sorted(name for name in several if name not in ("method", "seed"))


def in_words(run: Run, names: Sequence[str]) -> list[str]:
    return [f"{n.replace('_', '-')} {run.settings[n]}" for n in names if n in run.settings]


def labels(runs: Sequence[Run]) -> list[str]:
    """Runs that may be averaged share one: method and those of the varied settings it takes."""
    names = varied(runs)
    return [", ".join([run.method, *in_words(run, names)]) for run in runs]


def over_seeds(runs: Sequence[Run], problems: list[str]) -> Markup:
    """Means over seeds with paired differences to the baseline, if there is one, and not several.

    Nothing of rows that cannot be compared, such as those of two protocols.
    """
    of = list(zip(runs, labels(runs), strict=True))
    rows = [run.result | {"method": label} for run, label in of if run.result]
    references = {label for run, label in of if run.method == REFERENCE}
    reference = references.pop() if len(references) == 1 else REFERENCE
    if not rows:
        return Markup("")
    try:
        summary = summarise(pd.DataFrame(rows), reference)
    except UserError as error:
        problems.append(f"Over seeds: {error}")
        return Markup("")
    note = " ".join(dict.fromkeys(line for run in runs for line in run.notes))
    part = "validation" if any(run.split.get("val") for run in runs) else "test"
    best = f"best epoch on the {part} set"
    said = legend(summary, str(rows[0]["protocol"]), best, note, reference)
    return TEXT.format("Over seeds", safe_html(to_markdown(summary, said)))


def curves(runs: Sequence[Run], problems: list[str]) -> Markup:
    """Accuracy, losses and the mean of the learned coefficients over the epochs, drawn."""
    named = enumerate(zip(runs, labels(runs), strict=True))
    logs = [run.log.assign(method=label, seed=i) for i, (run, label) in named if len(run.log)]
    if not logs:
        return Markup("")
    log, drawn = pd.concat(logs), Markup("")
    log["sigma"] = log.filter(regex=r"^sigma_\d+$").mean(axis=1)
    losses = [name for name in map(str, log) if not name.startswith(NO_LOSSES)]
    for y in ("test_top1", "val_top1", *losses, "sigma"):
        held = log.dropna(subset=["epoch", y]) if y in log else log[:0]
        names = list(held["method"].unique())
        for start in range(0, len(names), MOST_LINES):
            part = held[held["method"].isin(names[start : start + MOST_LINES])]
            with TemporaryDirectory() as folder:
                path, about = Path(folder) / "curves.png", AXES.get(y, y)
                try:
                    plot_curves(part, path, y=y, ylabel=about, emulated=runs[0].emulated)
                    drawn += pictures([path], about, problems)
                except UserError as error:
                    problems.append(f"{y} is not drawn: {error}")
    return drawn


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
    names, rows = set(varied(runs)) & group_options(["data"]), dict[str, dict[str, None]]()
    for run in runs:
        if run.split:
            text = " ".join(map(str, [run.split.get("audit", "-"), *run.split.get("remarks", ())]))
            words = ", ".join([*in_words(run, sorted(names)), f"seed {run.seed}"])
            rows.setdefault(text, {})[words] = None
    return pd.DataFrame({"runs": ["; ".join(some) for some in rows.values()], "split": [*rows]})


def environments(runs: Sequence[Run]) -> pd.DataFrame:
    """Versions and machines that the runs kept, one column for each that differs."""
    counts = Counter(json.dumps(kept) for run in runs for kept in run.environments)
    rows = pd.DataFrame([json.loads(kept) for kept in counts]).T.reset_index()
    return rows.set_axis(["", *(f"{n} of {len(runs)} runs" for n in counts.values())], axis=1)


def settings(runs: Sequence[Run]) -> pd.DataFrame:
    """What decides the results: what varies first; the data set's default where it is another."""
    defaults: dict[str, Any] = {}
    with suppress(UserError):  # a data set that is not registered here
        words = ["--target-dataset", runs[0].options.target_dataset] if runs else []
        defaults = identity(resolve(parse(words))[0])
    rows = []
    for name, seen in sorted(values(runs).items(), key=lambda one: (len(one[1]) == 1, one[0])):
        default = value_text(defaults.get(name))
        shown = {"option": f"--{name.replace('_', '-')}", "value": ", ".join(seen)}
        rows.append(shown | {"default": "" if seen == [default] else default})
    return pd.DataFrame(rows)
