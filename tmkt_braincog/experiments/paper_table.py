"""A table for a paper: our numbers beside the published ones, as CSV, Markdown, LaTeX and pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import pandas as pd

from ..comparison import aligned_table, summarise
from ..engine.folder import PACKAGES, read_environment
from ..files import replacing
from ..plots import ACCURACY, COLOURS, plot_curves, plot_rows
from .table_file import Table

# Shown beside results on data that the papers have no number for.
BEST_KNOWN = "NCALTECH101"
# A claim is decided by the 95 % interval of the paired difference.
HOLDS, FAILS, UNDECIDED, ONE_SEED = (
    "holds",
    "fails: the reverse holds",
    "undecided",
    "needs more seeds",
)


@dataclass(frozen=True)
class Origin:
    """Where a table's numbers come from.

    Attributes:
        dataset: registered name of the target data set.
        setting: data, model and budget in words.
        notes: sentences about the data that must go with every number.
        versions: packages and machine in words; empty where the runs did not keep them.
        command: what makes the table again.
    """

    dataset: str
    setting: str
    notes: Sequence[str]
    versions: str
    command: str


def write(
    table: Table,
    rows: pd.DataFrame,
    logs: Mapping[str, list[pd.DataFrame]],
    origin: Origin,
    folder: Path,
) -> str:
    """Write ``<name>.{csv,md,tex,png,pdf}``, and for few enough rows ``<name>_curves.{png,pdf}``; returns the text.

    Args:
        rows: one row per run: column ``row`` (the table's row) and those of :mod:`~tmkt_braincog.comparison`.
        logs: per row, one log per seed with columns epoch and top1.
    """
    protocol = " and ".join(dict.fromkeys(rows["protocol"]))
    # Rows may differ in protocol only where the table is about that; the runs' settings were compared before.
    frame = rows.assign(method=rows["row"], protocol=protocol)
    summary = _summary(table, frame)
    claims = verdicts(frame, table.claims)
    caption = _caption(table, summary, protocol, origin)
    with replacing(folder / f"{table.name}.csv") as temporary:
        rows.drop(columns=["train_s", "peak_mib"]).to_csv(
            temporary, index=False, float_format="%.4f"
        )
    text = "\n".join(_markdown(table, summary, claims, caption, origin)) + "\n"
    with replacing(folder / f"{table.name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    with replacing(folder / f"{table.name}.tex") as temporary:
        temporary.write_text(_latex(table, summary, caption, origin), encoding="utf-8")
    _pictures(table, frame, summary, logs, origin, folder)
    return f"{text}\nWritten: {folder}/{table.name}.csv, .md, .tex and pictures"


def _summary(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """The summary of :mod:`~tmkt_braincog.comparison` by row, each with the difference to its own reference."""
    references = table.references()
    by_reference = {to: summarise(frame, to).set_index("method") for to in set(references.values())}
    return pd.concat([by_reference[to].loc[[name]] for name, to in references.items()])


def verdicts(
    frame: pd.DataFrame, claims: Iterable[Mapping[str, str]]
) -> list[tuple[str, str, str]]:
    """For every claim its words, its verdict, and the paired difference of top-1 after the last epoch.

    A claim ``{say, better, worse}`` holds where the 95 % t-interval of ``better - worse`` over common seeds is above 0, the
    reverse where it is below 0, and is undecided in between and where all seeds have the same difference. Not corrected for the number of claims.
    """
    out = []
    for claim in claims:
        pair = frame[frame["method"].isin([claim["better"], claim["worse"]])]
        row = summarise(pair, claim["worse"]).set_index("method").loc[claim["better"]]
        low, high = row["last_low"], row["last_high"]
        unknown = ONE_SEED if row["n_paired"] < 2 else UNDECIDED
        verdict = (
            unknown if pd.isna(low) else HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED
        )
        out.append((claim["say"], verdict, _difference(row, "last")))
    return out


def notes(comparison: Path) -> list[str]:
    """What a run's own ``comparison.md`` says about its data."""
    lines = comparison.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("- note: ") for line in lines if line.startswith("- note: ")]


def versions(run_folders: Iterable[Path]) -> str:
    """Versions and machines that the runs kept, in words; empty where none did."""
    seen = {}
    for folder in run_folders:
        for entry in read_environment(folder) or [{}]:
            packages = ", ".join(f"{name} {entry[name]}" for name in PACKAGES if name in entry)
            seen[f"{packages}; {entry['device']}" if entry else "not recorded"] = None
    return "" if list(seen) == ["not recorded"] else " / ".join(seen)


def _caption(table: Table, summary: pd.DataFrame, protocol: str, origin: Origin) -> str:
    (n,) = set(summary["n"])
    seeds = f"{n} seeds" if n > 1 else "1 seed"
    made = f" Made with {origin.versions}." if origin.versions else ""
    references = set(table.references().values())
    reference = "the row's reference" if len(references) > 1 else references.pop()
    return (
        f"{table.title}. {origin.setting}; protocol {protocol}; {seeds}. Top-1 (%) on the test recordings after the last "
        f"epoch and at the best epoch (by validation where there is any, else by the test set), mean ± sample standard "
        f"deviation. Difference: to {reference}, paired over seeds, 95 % t-interval; p: two-sided paired t-test, not "
        f"corrected.{made}"
    )


def _published(table: Table, dataset: str) -> tuple[str, dict[str, float]]:
    """Heading and values of the published column."""
    shown = dataset if any(dataset in row.published for row in table.rows) else BEST_KNOWN
    values = {row.name: row.published[shown] for row in table.rows if shown in row.published}
    return "published" if shown == dataset else f"published, {shown}", values


def _cells(table: Table, summary: pd.DataFrame, origin: Origin) -> list[list[str]]:
    """Header and body; rows that are only published are shown for their own data set."""
    heading, published = _published(table, origin.dataset)
    references = table.references()
    difference = "difference [95 % CI]"
    body = [["row", heading, "reference", "last epoch", difference, "p", "best epoch", difference]]
    for row in table.rows:
        value = f"{published[row.name]:.2f}" if row.name in published else "-"
        if row.name in summary.index:
            ours = summary.loc[row.name]
            to = "-" if references[row.name] == row.name else references[row.name]
            last = [_mean(ours, "last"), _difference(ours, "last"), _p(ours["last_p"])]
            body.append(
                [row.name, value, to, *last, _mean(ours, "best"), _difference(ours, "best")]
            )
        elif origin.dataset in row.published:
            body.append([row.name, value, *["-"] * 6])
    shown = [True, bool(published), len(set(references.values())) > 1, *[True] * 5]
    return [list(compress(cells, shown)) for cells in body]


def _mean(row: pd.Series, kind: str) -> str:
    mean, std = row[f"{kind}_mean"], row[f"{kind}_std"]
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def _difference(row: pd.Series, kind: str) -> str:
    mean, low, high = (row[f"{kind}_{name}"] for name in ("diff", "low", "high"))
    if pd.isna(mean):
        return "-"
    return f"{mean:+.2f}" if pd.isna(low) else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _p(value: float) -> str:
    return "-" if pd.isna(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _markdown(
    table: Table, summary: pd.DataFrame, claims: list[tuple], caption: str, origin: Origin
) -> list[str]:
    lines = [
        f"# {table.title}",
        "",
        *aligned_table(_cells(table, summary, origin)),
        "",
        caption,
        "",
    ]
    lines += [line for note in origin.notes for line in (note, "")]
    if claims:
        head = ["claim", "here", "difference [95 % CI]"]
        lines += ["What was claimed or asked, and what the last epochs here say:", ""]
        lines += [*aligned_table([head, *map(list, claims)]), ""]
    return [*lines, f"Made by `{origin.command}`"]


def _latex(table: Table, summary: pd.DataFrame, caption: str, origin: Origin) -> str:
    """A booktabs table."""
    header, *body = _cells(table, summary, origin)
    # The two difference columns share a heading, which pandas' styler does not allow.
    frame = pd.DataFrame(body, columns=range(len(header)))
    style = frame.style.hide(axis="index").format(_tex)
    style = style.format_index(lambda i: _tex(header[i]), axis=1)
    return style.to_latex(
        hrules=True,
        caption=_tex(" ".join([caption, *origin.notes])),
        label=f"tab:{table.name}",
        position_float="centering",
        column_format="l" + "r" * (len(header) - 1),
    )


_TEX = {
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "\\": r"\textbackslash{}",
}
_TEX |= {
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


def _pictures(
    table: Table,
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    logs: Mapping[str, list[pd.DataFrame]],
    origin: Origin,
    folder: Path,
) -> None:
    # A title may break between its parts, not within them.
    setting = ", ".join(
        part.replace(" ", "\N{NO-BREAK SPACE}") for part in origin.setting.split(", ")
    )
    title = f"{table.title}: {setting}"
    for suffix in ("png", "pdf"):
        path = folder / f"{table.name}.{suffix}"
        if table.curve:
            _line(table, frame, title, path)
        else:
            plot_rows(frame, summary.reset_index(), table.references(), path, title)
        if len(logs) <= len(COLOURS):
            plot_curves(dict(logs), folder / f"{table.name}_curves.{suffix}", title=title)


def _line(table: Table, frame: pd.DataFrame, title: str, path: Path) -> None:
    """Top-1 after the last epoch against the number that the rows vary; rows without it as level lines."""
    x, values = table.curve["label"], {}
    for row in table.run_rows():
        values[row.name] = row.options.get(table.curve["option"])
    numbers = [v for v in values.values() if v is not None]
    lines: dict[str, list[pd.DataFrame]] = {}
    for _, part in frame.groupby("seed"):
        top1 = part.set_index("method")["top1_last"]
        varied = [(v, top1[name]) for name, v in values.items() if v is not None]
        lines.setdefault("TMKT", []).append(pd.DataFrame(varied, columns=[x, "top1"]))
        for name in (name for name, v in values.items() if v is None):
            level = [(v, top1[name]) for v in numbers]
            lines.setdefault(name, []).append(pd.DataFrame(level, columns=[x, "top1"]))
    plot_curves(lines, path, x=x, ylabel=ACCURACY, title=title)
