"""A table of finished runs as CSV, Markdown, LaTeX, JSON with all facts, and pictures."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain, compress
from pathlib import Path
from typing import Any

import pandas as pd

from .comparison import aligned_table, read_csv
from .engine.compare import run_folder
from .engine.folder import PACKAGES
from .engine.predictions import read_predictions
from .files import replacing
from .jobs import Job
from .options import model_text
from .plots import COLOURS, SHOTS, plot_curves, plot_rows
from .runs import runs_of
from .stats import Right, difference_text, p_text, summarise, texts, verdicts
from .table_plan import Run, jobs_of
from .tables import SWEEP, Table

TIMES = ["train_s", "peak_mib"]
DIFFERENCE = "difference [95 % CI]"
# What else a table shows of its runs' last epoch: a column of their logs, and the header.
ALSO = {
    "static_last": ("test_top1_static", "static head, last"),
    "both_last": ("test_top1_both", "both heads, last"),
    "val_last": ("val_top1", "validation, last"),
}
T_TEST = "paired over seeds, 95 % t-interval; p: two-sided paired t-test"
BOOTSTRAP = "paired, 95 % interval and p by a bootstrap over seeds and recordings (10,000 draws)"


def write(
    table: Table, runs: Sequence[Run], command: str, output: Path, missing: Sequence[str] = ()
) -> str:
    """Write ``<name>.{csv,md,tex,json}``, and pictures but for a sweep; returns the text.

    Args:
        runs: finished.
        command: what makes the table again.
        missing: the jobs that are not there.
    """
    rows = _rows(table, runs)
    # Rows differ in protocol only where the table is about that; settings were compared before.
    frame = rows.assign(method=rows["row"], protocol=" and ".join(rows["protocol"].unique()))
    right = _right(runs) if table.bootstrap else None
    fact = _fact(table, runs, frame, command, missing, right)
    if table.name not in SWEEP:
        fact["pictures"] = _draw(table, runs, frame, right, fact, output)
    shown = {name.replace("-", "_") for row in table.rows for name in row.labels}
    tell = [*(shown | {"method"}) & set(rows), "seed"]  # apart what the labels alone do not
    hidden = [*TIMES, *(["row"] if shown and not rows.duplicated(tell).any() else [])]
    sheet = rows.drop(columns=hidden).to_csv(index=False, float_format="%.4f")
    cells = _cells(table, fact)
    text = _markdown(fact, cells)
    made = {"md": text, "tex": _latex(fact, cells), "json": json.dumps(fact, indent=1) + "\n"}
    for suffix, content in (made | {"csv": sheet}).items():
        with replacing(output / f"{table.name}.{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
    pictures = " and pictures" if fact["pictures"] else ""
    return f"{text}\nWritten: {output}/{table.name}.csv, .md, .tex, .json{pictures}"


def _log(run: Run) -> pd.DataFrame:
    return pd.read_csv(run_folder(run.job.folder, run.method, run.seed) / "log.csv")


def _right(runs: Sequence[Run]) -> Right:
    """Of every row and seed, which test recordings the last weights classify rightly."""
    found = {}
    for run in runs:
        of = read_predictions(run_folder(run.job.folder, run.method, run.seed))
        of = of[of["part"] == "test"].set_index("recording")
        found[run.row, run.seed] = 100.0 * (of["event"] == of["label"])
    return found


def _rows(table: Table, runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: what varies, the columns of ``comparison.csv``, and ``row``."""
    labels, found = {row.name: row.labels for row in table.rows}, []
    for run in runs:
        of_job = read_csv(run.job.folder / "comparison.csv").set_index(["method", "seed"])
        own = {k.replace("-", "_"): v for k, v in labels[run.row].items() if k != "method"}
        row: dict[str, Any] = {k: v.removeprefix("-") for k, v in own.items()}
        row |= {"method": run.method, "seed": run.seed}
        row |= dict(of_job.loc[(run.method, run.seed), :]) | {"row": run.row}
        log = _log(run)
        # A network of one head has nothing to tell of others.
        one = "test_top1_static" not in log or log["test_top1_static"].equals(log["test_top1"])
        for name, (column, _) in ALSO.items():
            if column in log and not (one and column.startswith("test")):
                row[name] = log[column].iloc[-1]
        found.append(row)
    return pd.DataFrame(found)


def _fact(
    table: Table,
    runs: Sequence[Run],
    frame: pd.DataFrame,
    command: str,
    missing: Sequence[str],
    right: Right | None,
) -> dict[str, Any]:
    """All that is known of the table, as it goes into the JSON."""
    jobs, problems, references = jobs_of(runs), list[str](), table.references()
    kept = [one for job in jobs for one in runs_of(job.folder, job.options, problems)]
    dataset, protocol = jobs[0].options.target_dataset, frame["protocol"].iloc[0]
    summary = summarise(frame, references, right).drop(columns=TIMES).set_index("method")
    for name in ALSO:
        if name in frame and frame[name].notna().any():
            summary[name] = frame.groupby("method")[name].mean()
    rows, seen = [], summary.to_dict("index")
    for row in table.rows:
        values: dict[str, Any] = {}
        if dataset in row.published:
            values["published"] = row.published[dataset]
        if row.name in seen and references[row.name] != row.name:
            values["reference"] = references[row.name]
        if values := values | _plain(seen.get(row.name, {})):
            rows.append({"name": row.name, "values": values})
    said = [*table.notes, *dict.fromkeys(chain(*(one.notes for one in kept))), *problems]
    if missing:
        n = len(missing) + len(jobs)
        said.append(f"NOT COMPLETE, {len(jobs)} of {n} runs; missing: {', '.join(missing)}.")
    names = ["published", "reference", *summary]
    seeds = " or ".join(map(str, sorted(set(summary["n"]))))
    seeds += " seed" if seeds == "1" else " seeds"
    versions = _versions([entry for one in kept for entry in one.environments or [{}]])
    fact: dict[str, Any] = {"kind": "table", "name": table.name, "title": table.title}
    fact["caption"] = _caption(table, jobs, f"protocol {protocol}; {seeds}") + versions
    fact |= {"notes": said, "command": command, "dataset": dataset}
    fact |= {"emulated": any(one.emulated for one in kept), "protocol": protocol}
    columns = [name for name in names if any(name in row["values"] for row in rows)]
    fact |= {"reference": table.reference, "columns": columns, "rows": rows}
    fact["claims"] = [_plain(claim) for claim in verdicts(frame, table.claims, right)]
    return fact | {"pictures": []}


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """None for NaN, which JSON does not have."""
    return {str(name): None if pd.isna(value) else value for name, value in values.items()}


def _caption(table: Table, jobs: Sequence[Job], about: str) -> str:
    def each(name: str) -> str:
        return " and ".join(dict.fromkeys(str(getattr(job.options, name)) for job in jobs))

    shots, size = each("shots"), each("event_size")
    data = each("target_dataset") + (f", {shots} recordings per class" if shots.isdigit() else "")
    models = ", ".join(dict.fromkeys(model_text(job.options) for job in jobs))
    references = {row.reference or table.reference for row in table.run_rows()}
    to = table.reference
    if any(row.labels for row in table.rows):
        to += " with the same values of the options that both take, if there is just one"
    elif len(references) > 1:
        to = "the row's reference"
    how = BOOTSTRAP if table.bootstrap else T_TEST
    return (
        f"{table.title}. {data}, {models}, T = {each('step')}, {size} x {size}, {each('epochs')} "
        f"epochs; {about}. Top-1 (%) on the test recordings after the last epoch and at the best "
        "epoch (by validation where there is any, else by the test set), mean ± sample standard "
        f"deviation. Difference: to {to}, {how}, not corrected."
    )


def _versions(environments: Sequence[Mapping[str, Any]]) -> str:
    """Versions and machines that the runs kept, in words; empty where none did."""
    seen: dict[str, None] = {}
    for entry in environments:
        packages = ", ".join(f"{name} {entry[name]}" for name in PACKAGES if name in entry)
        seen[f"{packages}; {entry['device']}" if entry else "not recorded"] = None
    return "" if list(seen) == ["not recorded"] else f" Made with {' / '.join(seen)}."


def _cells(table: Table, fact: dict[str, Any]) -> list[list[str]]:
    """Header and body of the table as it is shown."""
    rows, columns = {row.name: row for row in table.rows}, fact["columns"]
    labels = next((list(row.labels) for row in table.rows if row.labels), [])
    several = {r["values"].get("reference", r["name"]) for r in fact["rows"] if "n" in r["values"]}
    body = [[*(labels or ["row"]), "published", "reference", "seeds", "last epoch", DIFFERENCE]]
    body[0] += ["p", "best epoch", DIFFERENCE, *(header for _, header in ALSO.values())]
    for row in fact["rows"]:
        its, name = dict.fromkeys(columns) | row["values"], row["name"]
        last, best = (list(texts(its, kind)) for kind in ("last", "best"))
        if its["n_paired"] not in (None, 0, its["n"]):
            last[1], best[1] = (f"{cell} ({its['n_paired']} seeds)" for cell in (last[1], best[1]))
        numbers = (its.get(key) for key in ("published", *ALSO))
        published, *also = ("-" if x is None else f"{x:.2f}" for x in numbers)
        first = [rows[name].labels[label] for label in labels] or [name]
        first += [published, its.get("reference") or "-", str(its["n"] or "-")]
        body.append([*first, *last, *best[:2], *also])
    shown = [*[True] * (len(labels) or 1), "published" in columns, len(several) > 1 and not labels]
    shown += [bool(labels), *[True] * 5, *(name in columns for name in ALSO)]
    return [list(compress(cells, shown)) for cells in body]


def _markdown(fact: dict[str, Any], cells: list[list[str]]) -> str:
    lines = [f"# {fact['title']}", "", *aligned_table(cells), ""]
    lines += [line for note in (fact["caption"], *fact["notes"]) for line in (note, "")]
    if fact["claims"]:
        claims = [["claim", "here", DIFFERENCE, "p (Holm)"]]
        for c in fact["claims"]:
            difference = difference_text(c["difference"], c["low"], c["high"])
            claims.append([c["say"], c["verdict"], difference, p_text(c["p_holm"])])
        asked = "What was claimed or asked, and what the last epochs here say (5 % level, Holm):"
        lines += [asked, "", *aligned_table(claims), ""]
    return "\n".join([*lines, f"Made by `{fact['command']}`"]) + "\n"


TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "<": "$<$", ">": "$>$"}
TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPED = str.maketrans(TEX)


def _latex(fact: dict[str, Any], cells: list[list[str]]) -> str:
    """A booktabs table."""
    header, *body = (" & ".join(cell.translate(ESCAPED) for cell in row) + r" \\" for row in cells)
    said = " ".join([fact["caption"], *fact["notes"]])
    lines, columns = [r"\begin{table}", r"\centering"], "l" + "r" * (len(cells[0]) - 1)
    lines += [rf"\caption{{{said.translate(ESCAPED)}}}"]
    lines += [rf"\label{{tab:{fact['name']}}}", rf"\begin{{tabular}}{{{columns}}}"]
    lines += [r"\toprule", header, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _draw(
    table: Table,
    runs: Sequence[Run],
    frame: pd.DataFrame,
    right: Right | None,
    fact: dict[str, Any],
    output: Path,
) -> list[str]:
    """The rows, or a line where they vary a number, and curves over epochs; names of the PNGs."""
    models = {model_text(run.job.options) for run in runs}
    about = [fact["dataset"], *(models if len(models) == 1 else ())]
    title, emulated = f"{table.title}: {', '.join(about)}", fact["emulated"]
    curves = frame["method"].nunique() <= len(COLOURS)
    along = {row.options[table.axis["option"]] for row in table.run_rows()} if table.axis else ()
    if len(along) > 1 or table.curve:
        draw = partial(_line, table, frame, title)
    else:
        to, names = table.references(), {row.name: row.name for row in table.run_rows()}
        summary, whole = summarise(frame, to, right), title
        if table.axis:  # of one value, which is said once
            names = {row.name: row.labels["method"] for row in table.run_rows()}
            whole = f"{title}, {table.axis['option']} {', '.join(map(str, along))}"
        summary, shown = (each.replace({"method": names}) for each in (summary, frame))
        to = {names[name]: names[other] for name, other in to.items()}
        draw = partial(plot_rows, shown, summary, to, title=whole)
    for suffix in ("png", "pdf"):
        draw(path=output / f"{table.name}.{suffix}", emulated=emulated)
        if curves:
            logs = pd.concat([_log(run).assign(method=run.row, seed=run.seed) for run in runs])
            path = output / f"{table.name}_curves.{suffix}"
            plot_curves(logs, path, y="test_top1", title=title, emulated=emulated)
    return [f"{table.name}.png", *([f"{table.name}_curves.png"] if curves else [])]


def _line(table: Table, frame: pd.DataFrame, title: str, path: Path, emulated: bool) -> None:
    """The last top-1 against the number that the rows vary; rows without it are level lines."""
    option = (table.curve or table.axis or {})["option"]
    x, rows = (table.curve or {}).get("label", option), {row.name: row for row in table.run_rows()}
    x = SHOTS if option == "shots" else x
    numbers = [row.options[option] for row in rows.values() if option in row.options]
    points = []
    for name, seed, top1 in frame[["method", "seed", "top1_last"]].itertuples(index=False):
        row, line, at = rows[name], name, numbers
        if option in row.options:
            line = row.labels.get("method", (table.curve or {}).get("name", name))
            at = [row.options[option]]
        points += [(line, seed, value, top1) for value in at]
    df = pd.DataFrame(points, columns=["method", "seed", x, "top1"])
    plot_curves(df, path, x, title=title, emulated=emulated, logx=option == "shots")
