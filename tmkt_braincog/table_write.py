"""A table of finished runs as CSV, Markdown, LaTeX, and JSON with all facts."""

import json
from collections.abc import Mapping, Sequence
from itertools import chain, compress
from pathlib import Path
from typing import Any

import pandas as pd

from .comparison import aligned_table, read_csv
from .engine.folder import PACKAGES
from .errors import UserError
from .files import replacing
from .jobs import Job, shared_machine
from .options import model_text
from .runs import Run as Kept
from .runs import runs_of
from .stats import difference_text, summarise, texts, verdicts
from .table_pictures import log_of, pictures_of
from .table_plan import Run
from .tables import Table

TIMES = ["train_s", "peak_mib"]


def write(
    table: Table, runs: Sequence[Run], command: str, output: Path, missing: Sequence[str] = ()
) -> str:
    """Write ``<name>.{csv,md,tex,json}``, and pictures but for a sweep; returns the text.

    Args:
        runs: finished.
        command: what makes the table again.
        missing: the jobs that are not there.
    """
    rows = collect(table, runs)
    protocol = " and ".join(dict.fromkeys(rows["protocol"]))
    # Rows differ in protocol only where the table is about that; settings were compared before.
    frame = rows.assign(method=rows["row"], protocol=protocol)
    is_sweep = table.name == "sweep"
    if is_sweep:
        _check_protocols(table, rows)
    fact = _fact(table, runs, frame, command, missing)
    times = TIMES if not is_sweep or shared_machine(output) else []
    if any(row.labels for row in table.rows):
        rows = rows.drop(columns="row")
    with replacing(output / f"{table.name}.csv") as temporary:
        rows.drop(columns=times).to_csv(temporary, index=False, float_format="%.4f")
    fact["pictures"] = (
        pictures_of(table, runs, frame, fact, output) if table.name != "sweep" else []
    )
    cells = _cells(table, fact)
    text = "\n".join(_markdown(fact, cells)) + "\n"
    made = {"md": text, "tex": _latex(fact, cells), "json": json.dumps(fact, indent=1) + "\n"}
    for suffix, content in made.items():
        with replacing(output / f"{table.name}.{suffix}") as temporary:
            temporary.write_text(content, encoding="utf-8")
    pictures = " and pictures" if fact["pictures"] else ""
    return f"{text}\nWritten: {output}/{table.name}.csv, .md, .tex, .json{pictures}"


def _check_protocols(table: Table, rows: pd.DataFrame) -> None:
    """A sweep's rows are compared under one protocol only."""
    of = dict(zip(rows["row"], rows["protocol"], strict=True))
    for name, reference in table.references().items():
        if name in of and of[name] != of.get(reference, of[name]):
            raise UserError(
                f"{name} and {reference} cannot be compared: their protocols are {of[name]!r} and "
                f"{of[reference]!r}. Make a sweep of each, or choose another --against."
            )


def collect(table: Table, runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: what varies, the columns of ``comparison.csv``, and ``row``.

    With an axis also ``val_last``, top-1 on the validation recordings after the last epoch.
    """
    rows, parts = {row.name: row for row in table.rows}, []
    of_job = {job.folder: read_csv(job.folder / "comparison.csv") for job in _jobs(runs)}
    for run in runs:
        its = of_job[run.job.folder]
        part = its[(its["method"] == run.method) & (its["seed"] == run.seed)].assign(row=run.row)
        varied = {k: v for k, v in rows[run.row].labels.items() if k != "method"}
        for i, (name, value) in enumerate(varied.items()):
            part.insert(i, name.replace("-", "_"), "" if value == "-" else value)
        if table.axis:
            log = log_of(run)  # without validation recordings it has no such column
            part["val_last"] = log["val_top1"].iloc[-1] if "val_top1" in log else float("nan")
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _jobs(runs: Sequence[Run]) -> list[Job]:
    """Rows may share them."""
    return list({run.job.folder: run.job for run in runs}.values())


def _fact(
    table: Table, runs: Sequence[Run], frame: pd.DataFrame, command: str, missing: Sequence[str]
) -> dict[str, Any]:
    """All that is known of the table, as it goes into the JSON."""
    jobs, problems = _jobs(runs), list[str]()
    kept = [one for job in jobs for one in runs_of(job.folder, job.options, problems)]
    dataset = jobs[0].options.target_dataset
    references = table.references()
    summary = summarise(frame, references).drop(columns=TIMES).set_index("method")
    if "val_last" in frame and frame["val_last"].notna().any():
        summary["val_last"] = frame.groupby("method")["val_last"].mean()
    rows, seen = [], {name: _plain(its) for name, its in summary.to_dict("index").items()}
    for row in table.rows:
        published = {"published": row.published[dataset]} if dataset in row.published else {}
        if row.name in seen:
            own = {} if references[row.name] == row.name else {"reference": references[row.name]}
            rows.append({"name": row.name, "values": published | own | seen[row.name]})
        elif published:
            rows.append({"name": row.name, "values": published})
    said = [*table.notes, *dict.fromkeys(chain(*(one.notes for one in kept))), *problems]
    if missing:
        n = len(missing) + len(jobs)
        said.append(f"NOT COMPLETE, {len(jobs)} of {n} runs; missing: {', '.join(missing)}.")
    names = ["published", "reference", *summary]
    columns = [name for name in names if any(name in row["values"] for row in rows)]
    protocol = frame["protocol"].iloc[0]
    return {
        "kind": "table",
        "name": table.name,
        "title": table.title,
        "caption": _caption(table, jobs, _versions(kept), sorted(set(summary["n"])), protocol),
        "notes": said,
        "command": command,
        "dataset": dataset,
        "emulated": any(one.emulated for one in kept),
        "protocol": protocol,
        "reference": table.reference,
        "columns": columns,
        "rows": rows,
        "claims": [_plain(claim) for claim in verdicts(frame, table.claims)],
    }


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """None for NaN, which JSON does not have."""
    return {str(name): None if pd.isna(value) else value for name, value in values.items()}


def _setting(jobs: Sequence[Job]) -> str:
    """Data, model and budget of the runs in words."""

    def each(name: str) -> str:
        return " and ".join(dict.fromkeys(str(getattr(job.options, name)) for job in jobs))

    o, models = jobs[0].options, ", ".join(dict.fromkeys(model_text(job.options) for job in jobs))
    shots = f", {o.shots} recordings per class" if o.shots and each("shots") == str(o.shots) else ""
    size = f"{each('event_size')} x {each('event_size')}"
    data = f"{each('target_dataset')}{shots}"
    return f"{data}, {models}, T = {each('step')}, {size}, {each('epochs')} epochs"


def _caption(
    table: Table, jobs: Sequence[Job], versions: str, n: Sequence[int], protocol: str
) -> str:
    seeds = " or ".join(map(str, n)) + (" seed" if n == [1] else " seeds")
    several = len({row.reference or table.reference for row in table.run_rows()}) > 1
    labels = any(row.labels for row in table.rows)
    reference = "the row's reference" if several and not labels else table.reference
    both = " with the same values of the options that both take, if there is just one"
    same = both if labels else ""
    return (
        f"{table.title}. {_setting(jobs)}; protocol {protocol}; {seeds}. Top-1 (%) on the test "
        "recordings after the last epoch and at the best epoch (by validation where there is any, "
        "else by the test set), mean ± sample standard deviation. Difference: to "
        f"{reference}{same}, paired over seeds, 95 % t-interval; p: two-sided paired t-test, not "
        f"corrected.{f' Made with {versions}.' if versions else ''}"
    )


def _versions(kept: Sequence[Kept]) -> str:
    """Versions and machines that the runs kept, in words; empty where none did."""
    seen: dict[str, None] = {}
    for one in kept:
        for entry in one.environments or [{}]:
            packages = ", ".join(f"{name} {entry[name]}" for name in PACKAGES if name in entry)
            seen[f"{packages}; {entry['device']}" if entry else "not recorded"] = None
    return "" if list(seen) == ["not recorded"] else " / ".join(seen)


def _cells(table: Table, fact: dict[str, Any]) -> list[list[str]]:
    """Header and body of the table as it is shown."""
    rows = {row.name: row for row in table.rows}
    labels = next((list(row.labels) for row in table.rows if row.labels), [])
    several = "reference" in fact["columns"] and not labels
    several = several and len({r["values"].get("reference", r["name"]) for r in fact["rows"]}) > 1
    difference = "difference [95 % CI]"
    head = [*(labels or ["row"]), "published", "reference", "seeds", "last epoch", difference, "p"]
    head += ["best epoch", difference, "validation, last"]
    shown = [*[True] * (len(labels) or 1), "published" in fact["columns"], several, bool(labels)]
    shown += [True] * 5 + ["val_last" in fact["columns"]]
    body = [head]
    for row in fact["rows"]:
        its, name = row["values"], row["name"]
        first = [rows[name].labels[label] for label in labels] or [name]
        first.append(f"{its['published']:.2f}" if "published" in its else "-")
        first.append(its.get("reference", "-"))
        if "n" not in its:
            body.append([*first, *["-"] * 7])
            continue
        last, best = (list(texts(its, kind)) for kind in ("last", "best"))
        if its["n_paired"] not in (0, its["n"]):
            last[1], best[1] = (f"{cell} ({its['n_paired']} seeds)" for cell in (last[1], best[1]))
        validation = f"{its['val_last']:.2f}" if "val_last" in its else "-"
        body.append([*first, str(its["n"]), *last, *best[:2], validation])
    return [list(compress(cells, shown)) for cells in body]


def _markdown(fact: dict[str, Any], cells: list[list[str]]) -> list[str]:
    lines = [f"# {fact['title']}", "", *aligned_table(cells), "", fact["caption"], ""]
    lines += [line for note in fact["notes"] for line in (note, "")]
    if fact["claims"]:
        claims = [["claim", "here", "difference [95 % CI]"]]
        for c in fact["claims"]:
            difference = difference_text(c["difference"], c["low"], c["high"])
            claims.append([c["say"], c["verdict"], difference])
        lines += ["What was claimed or asked, and what the last epochs here say:", ""]
        lines += [*aligned_table(claims), ""]
    return [*lines, f"Made by `{fact['command']}`"]


TEX = {c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "<": "$<$", ">": "$>$"}
TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: object) -> str:
    return "".join(TEX.get(letter, letter) for letter in str(text))


def _latex(fact: dict[str, Any], cells: list[list[str]]) -> str:
    """A booktabs table."""
    header, *body = cells
    # The two difference columns share a heading, which pandas' styler does not allow.
    frame = pd.DataFrame(body, columns=range(len(header)))
    style = frame.style.hide(axis="index").format(_tex)
    style = style.format_index(lambda i: _tex(header[int(str(i))]), axis=1)
    return style.to_latex(
        hrules=True,
        caption=_tex(" ".join([fact["caption"], *fact["notes"]])),
        label=f"tab:{fact['name']}",
        position_float="centering",
        column_format="l" + "r" * (len(header) - 1),
    )
