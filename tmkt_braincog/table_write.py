"""A table of finished runs as CSV, Markdown, LaTeX, JSON with all facts, and pictures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, compress
from pathlib import Path
from typing import Any

import pandas as pd

from .comparison import Right, aligned_table, difference_text, p_text, summarise, texts, verdicts
from .engine.folder import PACKAGES, read_predictions
from .files import replacing
from .options import model_text
from .plots import COLOURS, SHOTS, plot_curves, plot_rows
from .runs import Run, runs_of
from .table_plan import Planned, jobs_of
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
TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "<": "$<$", ">": "$>$"}
TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
ESCAPED = str.maketrans(TEX)

Kept = Mapping[tuple[str, int], Run]  # by row and seed


def write(
    table: Table, runs: Sequence[Planned], command: str, output: Path, missing: Sequence[str] = ()
) -> str:
    """Write ``<name>.{csv,md,tex,json}``, and pictures but for a sweep; returns the text.

    Args:
        runs: finished.
        command: what makes the table again.
        missing: the jobs that are not there.
    """
    kept, said = _read(runs)
    if missing:
        n = len(jobs_of(runs))
        lost = f"{n} of {n + len(missing)} runs; missing: {', '.join(missing)}"
        said.append(f"NOT COMPLETE, {lost}.")
    rows = _rows(table, kept)
    # Rows differ in protocol only where the table is about that; settings were compared before.
    frame = rows.assign(method=rows["row"], protocol=" and ".join(rows["protocol"].unique()))
    right = _right(kept) if table.bootstrap else None
    summary = summarise(frame, table.references(), right)
    fact = _fact(table, kept, frame, summary, command)
    fact["notes"] += said
    fact["claims"] = [_plain(claim) for claim in verdicts(frame, table.claims, right)]
    fact["pictures"] = []
    if table.name not in SWEEP:
        fact["pictures"] = _draw(table, kept, frame, summary, output)
    labels = {name.replace("-", "_") for row in table.rows for name in row.labels}
    told = labels and not rows.duplicated([*labels, "seed"]).any()  # apart without their names
    sheet = rows.drop(columns=[*TIMES, "row"] if told else TIMES)
    cells = _cells(table, fact)
    text = _markdown(fact, cells)
    made = {"md": text, "tex": _latex(fact, cells), "json": json.dumps(fact, indent=1) + "\n"}
    made["csv"] = sheet.to_csv(index=False, float_format="%.4f")
    for suffix, content in made.items():
        with replacing(output / f"{table.name}.{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
    pictures = " and pictures" if fact["pictures"] else ""
    return f"{text}\nWritten: {output}/{table.name}.csv, .md, .tex, .json{pictures}"


def _read(runs: Sequence[Planned]) -> tuple[Kept, list[str]]:
    """What lies in the runs' folders, and what cannot be read."""
    problems: list[str] = []
    there = {}
    for job in jobs_of(runs):
        for one in runs_of(job.folder, job.options, problems):
            there[job.folder, one.method, one.seed] = one
    return {(r.row, r.seed): there[r.job.folder, r.method, r.seed] for r in runs}, problems


def _right(kept: Kept) -> Right:
    """Of every row and seed, which test recordings the last weights classify rightly."""
    found = {}
    for key, run in kept.items():
        of = read_predictions(run.folder)
        of = of[of["part"] == "test"].set_index("recording")
        found[key] = 100.0 * (of["event"] == of["label"])
    return found


def _rows(table: Table, kept: Kept) -> pd.DataFrame:
    """One row per run: what varies, the columns of ``comparison.csv``, and ``row``."""
    labels, found = {row.name: row.labels for row in table.rows}, []
    for (name, _), run in kept.items():
        own = {k.replace("-", "_"): v for k, v in labels[name].items() if k != "method"}
        row: dict[str, Any] = {k: v.removeprefix("-") for k, v in own.items()}
        row |= (run.result or {}) | {"row": name}
        # A network of one head has nothing to tell of others.
        static = run.log.get("test_top1_static")
        one = static is None or static.equals(run.log["test_top1"])
        for also, (column, _) in ALSO.items():
            if column in run.log and not (one and column.startswith("test")):
                row[also] = run.log[column].iloc[-1]
        found.append(row)
    return pd.DataFrame(found)


def _fact(
    table: Table, kept: Kept, frame: pd.DataFrame, summary: pd.DataFrame, command: str
) -> dict[str, Any]:
    """What is known of the table, as it goes into the JSON, but for claims and pictures."""
    dataset, protocol = next(iter(kept.values())).options.target_dataset, frame["protocol"].iloc[0]
    by_row, references = summary.drop(columns=TIMES).set_index("method"), table.references()
    for name in ALSO:
        if name in frame and frame[name].notna().any():
            by_row[name] = frame.groupby("method")[name].mean()
    rows, seen = [], by_row.to_dict("index")
    for row in table.rows:
        values: dict[str, Any] = {}
        if dataset in row.published:
            values["published"] = row.published[dataset]
        if row.name in seen and references[row.name] != row.name:
            values["reference"] = references[row.name]
        if values := values | _plain(seen.get(row.name, {})):
            rows.append({"name": row.name, "values": values})
    columns = ["published", "reference", *by_row]
    seeds = " or ".join(map(str, sorted(set(summary["n"]))))
    about = f"protocol {protocol}; {seeds} {'seed' if seeds == '1' else 'seeds'}"
    return {
        **{"kind": "table", "name": table.name, "title": table.title},
        "caption": _caption(table, kept.values(), about),
        "notes": [*table.notes, *dict.fromkeys(chain(*(run.notes for run in kept.values())))],
        "command": command,
        "dataset": dataset,
        "emulated": any(run.emulated for run in kept.values()),
        "protocol": protocol,
        "reference": table.reference,
        "columns": [name for name in columns if any(name in row["values"] for row in rows)],
        "rows": rows,
    }


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """None for NaN, which JSON does not have."""
    return {str(name): None if pd.isna(value) else value for name, value in values.items()}


def _caption(table: Table, runs: Iterable[Run], about: str) -> str:
    def each(name: str) -> str:
        return " and ".join(dict.fromkeys(str(getattr(run.options, name)) for run in runs))

    shots, size = each("shots"), each("event_size")
    data = each("target_dataset") + (f", {shots} recordings per class" if shots.isdigit() else "")
    models = ", ".join(dict.fromkeys(model_text(run.options) for run in runs))
    to = table.reference
    if any(row.labels for row in table.rows):
        to += " with the same values of the options that both take, if there is just one"
    elif len(set(table.references().values())) > 1:
        to = "the row's reference"
    how = BOOTSTRAP if table.bootstrap else T_TEST
    return (
        f"{table.title}. {data}, {models}, T = {each('step')}, {size} x {size}, {each('epochs')} "
        f"epochs; {about}. Top-1 (%) on the test recordings after the last epoch and at the best "
        "epoch (by validation where there is any, else by the test set), mean ± sample standard "
        f"deviation. Difference: to {to}, {how}, not corrected.{_versions(runs)}"
    )


def _versions(runs: Iterable[Run]) -> str:
    """Versions and machines that the runs kept, in words; empty where none did."""
    seen: dict[str, None] = {}
    for entry in chain(*(run.environments for run in runs)):
        packages = ", ".join(f"{name} {entry[name]}" for name in PACKAGES if name in entry)
        seen[f"{packages}; {entry['device']}"] = None
    return f" Made with {' / '.join(seen)}." if seen else ""


def _cells(table: Table, fact: dict[str, Any]) -> list[list[str]]:
    """Header and body of the table as it is shown."""
    rows, columns = {row.name: row for row in table.rows}, fact["columns"]
    labels = next((list(row.labels) for row in table.rows if row.labels), [])
    several = len(set(table.references().values())) > 1
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
    shown = [*[True] * (len(labels) or 1), "published" in columns, several and not labels]
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
    header, *body = [[cell.translate(ESCAPED) for cell in row] for row in cells]
    said = " ".join([fact["caption"], *fact["notes"]]).translate(ESCAPED)
    return (
        pd.DataFrame(body, columns=header)
        .style.hide(axis="index")
        .to_latex(
            hrules=True,
            position_float="centering",
            column_format="l" + "r" * (len(header) - 1),
            caption=said,
            label=f"tab:{fact['name']}",
        )
    )


def _draw(
    table: Table, kept: Kept, frame: pd.DataFrame, summary: pd.DataFrame, output: Path
) -> list[str]:
    """The rows, or a line where they vary a number, and curves over epochs; names of the PNGs."""
    emulated, first = any(run.emulated for run in kept.values()), next(iter(kept.values()))
    models = {model_text(run.options) for run in kept.values()}
    protocol = frame["protocol"].iloc[0]
    about = [first.options.target_dataset, *(models if len(models) == 1 else ())]
    about += [f"protocol {protocol}"] if protocol != "clean" else []
    title = f"{table.title}: {', '.join(about)}"
    along = {row.options[table.axis["option"]] for row in table.run_rows()} if table.axis else set()
    if table.curve or len(along) > 1:
        lines, x = _lines(table, frame)
        draw = partial(plot_curves, lines, x=x, title=title, logx=x == SHOTS)
    else:
        names = {row.name: row.labels.get("method", row.name) for row in table.run_rows()}
        to = {names[name]: names[other] for name, other in table.references().items()}
        frame, summary = (each.replace({"method": names}) for each in (frame, summary))
        whole = ", ".join([title, *(f"{table.axis['option']} {value}" for value in along)])
        draw = partial(plot_rows, frame, summary, to, title=whole)
    pictures = {table.name: draw}
    if len(summary) <= len(COLOURS):
        logs = pd.concat([run.log.assign(method=row, seed=s) for (row, s), run in kept.items()])
        curves = partial(plot_curves, logs, y="test_top1", title=title)
        pictures[f"{table.name}_curves"] = curves
    for name, picture in pictures.items():
        for suffix in ("png", "pdf"):
            picture(path=output / f"{name}.{suffix}", emulated=emulated)
    return [f"{name}.png" for name in pictures]


def _lines(table: Table, frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The last top-1 by line and seed against the number that the rows vary, and its name.

    Rows without it are level lines.
    """
    option, rows = (table.curve or table.axis)["option"], {r.name: r for r in table.run_rows()}
    x = SHOTS if option == "shots" else table.curve.get("label", option)
    numbers = [row.options[option] for row in rows.values() if option in row.options]
    points = []
    for name, seed, top1 in frame[["method", "seed", "top1_last"]].itertuples(index=False):
        row, line, at = rows[name], name, numbers
        if option in row.options:
            line = row.labels.get("method", table.curve.get("name", name))
            at = [row.options[option]]
        points += [(line, seed, value, top1) for value in at]
    return pd.DataFrame(points, columns=["method", "seed", x, "top1"]), x
