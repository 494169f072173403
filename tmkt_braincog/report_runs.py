"""Training runs as pieces of a page: results over seeds, curves, settings, split, environment."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from .arguments import build_parser, group_options
from .comparison import legend, summarise, to_markdown
from .errors import UserError
from .options import identity, parse, resolve
from .plots import common, plot_curves
from .report_files import Block, Picture, number, read_picture, safe_html
from .runs import Run, value_text

REFERENCE = "baseline"
SHADED = "Mean over seeds, shaded: standard deviation."
MOST_LINES = 7  # in a picture of curves: more colours could not be told apart
AXES = {"test_top1": "top-1, test (%)", "val_top1": "top-1, validation (%)"}
AXES |= {"loss": "loss (weighted sum)", "sigma": "sigma(theta_t), mean over t"}
NO_LOSSES = ("epoch", "lr", "train_s", "test_", "val_", "sigma")
RESULTS = {"top1_best": ".2f", "epoch_best": "d", "top1_last": ".2f"}
RESULTS |= {"train_s": ".1f", "peak_mib": ".0f"}

Group = dict[str, list[Run]]  # comparable runs by label: method, and settings that vary among them


def make_groups(runs: Sequence[Run], problems: list[str]) -> dict[str, Group]:
    """Runs that may be compared, by the settings that set them apart from the others.

    Options in which the baseline's own runs differ set groups apart, since a difference to it means
    something only at the same values. Others, such as TMKT's mixup ratio, are part of the label.

    Args:
        problems: takes runs of the same settings and seed, of which only the first counts.
    """
    own = {run.method: varied([r for r in runs if r.method == run.method]) for run in runs}
    apart = own.get(REFERENCE, [])
    # What differs between methods only would otherwise go unseen.
    between = [n for n in varied(runs) if not any(n in names for names in own.values())]
    keys = [_some(run, apart) for run in runs]
    whole = {in_words(key): key for key in keys if len(key) == len(apart)}
    groups: dict[str, Group] = {title: {} for title in whole}
    for title, key in whole.items():
        for run, its in zip(runs, keys, strict=True):
            if its.items() <= key.items():  # who does not take an option belongs to all its values
                names = [n for n in (*own[run.method], *between) if n not in apart]
                label = ", ".join(filter(None, (run.method, in_words(_some(run, names)))))
                same = groups[title].setdefault(label, [])
                if twin := next((other for other in same if other.seed == run.seed), None):
                    line = f"{run.folder} has the settings and seed of {twin.folder}"
                    problems.append(f"{line}: only the latter counts.")
                else:
                    same.append(run)
    return groups


def _some(run: Run, names: Sequence[str]) -> dict[str, str]:
    return {name: run.settings[name] for name in names if name in run.settings}


def varied(runs: Sequence[Run]) -> list[str]:
    """Names of the options, other than method and seed, in which runs that take them differ."""
    seen = Counter(name for name, _ in {pair for run in runs for pair in run.settings.items()})
    return sorted(name for name, n in seen.items() if n > 1 and name not in ("method", "seed"))


def in_words(values: dict[str, str]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in values.items())


def results(groups: dict[str, Group], problems: list[str]) -> Iterator[Block]:
    """Means over seeds with paired differences to the baseline, their intervals and p."""
    for title, group in groups.items():
        title = f"Over seeds: {title}" if title else "Over seeds"
        try:
            yield Block(title, emulated=_emulated(group), text=_over_seeds(group))
        except UserError as error:  # none is finished, or they follow different protocols
            problems.append(f"{title}: {error}")


def _emulated(group: Group) -> bool:
    return any(run.emulated for runs in group.values() for run in runs)


def _over_seeds(group: Group) -> str:
    every = [(label, run) for label, runs in group.items() for run in runs]
    rows = [run.result | {"method": label} for label, run in every if run.result]
    note = " ".join(dict.fromkeys(line for _, run in every for line in run.notes))
    part = "validation" if any(run.split.get("val") for _, run in every) else "test"
    summary = summarise(pd.DataFrame(rows), REFERENCE)
    said = legend(summary, str(rows[0]["protocol"]), f"best epoch on the {part} set", note)
    return safe_html(to_markdown(summary, said))


def curves(groups: dict[str, Group], problems: list[str]) -> Iterator[Block]:
    """Accuracy, losses and the learned coefficients over the epochs."""
    for title, group in groups.items():
        logs = {label: [_with_sigma(run.log) for run in runs] for label, runs in group.items()}
        pictures = list(_draw(logs, _emulated(group), problems))
        if pictures:
            yield Block(title, emulated=_emulated(group), text=SHADED, pictures=pictures)


def _draw(
    logs: dict[str, list[pd.DataFrame]], emulated: bool, problems: list[str]
) -> Iterator[Picture]:
    columns = dict.fromkeys(str(name) for some in logs.values() for log in some for name in log)
    losses = [name for name in columns if not name.startswith(NO_LOSSES)]
    # Methods log more or less of the same; in this order most keep their colour in all pictures.
    order = sorted(logs, key=lambda label: -max(len(log.columns) for log in logs[label]))
    for y in ("test_top1", "val_top1", *losses, "sigma"):
        held = {label: some for label in order if (some := _holding(label, logs[label], y))}
        for start in range(0, len(held), MOST_LINES):
            lines = dict(list(held.items())[start : start + MOST_LINES])
            with TemporaryDirectory() as folder:
                path, words = Path(folder) / "curves.png", AXES.get(y, y)
                try:
                    plot_curves(lines, path, y=y, ylabel=words, emulated=emulated)
                    yield read_picture(path, words)
                except UserError as error:
                    problems.append(f"{y} is not drawn: {error}")


def _with_sigma(log: pd.DataFrame) -> pd.DataFrame:
    sigmas = log.filter(regex=r"^sigma_\d+$")
    return log if sigmas.empty else log.assign(sigma=sigmas.mean(axis=1))


def _holding(label: str, logs: Sequence[pd.DataFrame], y: str) -> list[pd.DataFrame]:
    """The logs with a curve of `y`; none where they have no epoch in common yet."""
    some = [log[["epoch", y]].dropna() for log in logs if {"epoch", y} <= set(log)]
    some = [log for log in some if len(log)]
    with suppress(UserError):
        common(label, some, "epoch", y)
        return some
    return []


def one_by_one(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run, finished or not."""
    names, rows = varied(runs), []
    for run in sorted(runs, key=lambda run: run.seed):
        its = {"method": run.method}
        its |= {name.replace("_", "-"): run.settings.get(name, "-") for name in names}
        result = {n: number((run.result or {}).get(n), form) for n, form in RESULTS.items()}
        rows.append(its | {"seed": run.seed} | result | {"state": run.state})
    return pd.DataFrame(rows)


def audits(runs: Sequence[Run]) -> pd.DataFrame:
    """What every split says of itself, once for all runs that share it."""
    names = [name for name in varied(runs) if name in group_options(["data"])]
    places: dict[str, dict[str, None]] = {}
    for run in runs:
        if run.split:
            text = " ".join(map(str, [run.split.get("audit", "-"), *run.split.get("remarks", ())]))
            own = in_words(_some(run, names) | {"seed": str(run.seed)})
            places.setdefault(text, {})[own] = None
    rows = [("; ".join(its), text) for text, its in places.items()]
    return pd.DataFrame(rows, columns=["runs", "split"])


def environments(runs: Sequence[Run]) -> pd.DataFrame:
    """Versions and machines that the runs kept, one column for each that differs."""
    counts = Counter(json.dumps(kept) for run in runs for kept in run.environments)
    table = pd.DataFrame([json.loads(kept) for kept in counts]).T.fillna("-").reset_index()
    return table.set_axis(["", *(f"{n} of {len(runs)} runs" for n in counts.values())], axis=1)


def settings(runs: Sequence[Run]) -> pd.DataFrame:
    """What decides the results: what varies first; the data set's default where it is another."""
    defaults: dict[str, Any] = {a.dest: a.default for a in build_parser()._actions}
    with suppress(UserError):  # a data set that is not registered here
        words = ["--target-dataset", runs[0].options.target_dataset] if runs else []
        defaults = identity(resolve(parse(words))[0])
    rows: dict[bool, list[tuple[str, str, str]]] = {True: [], False: []}  # by whether it varies
    for name in sorted({name for run in runs for name in run.settings}):
        values = dict.fromkeys(run.settings[name] for run in runs if name in run.settings)
        default = value_text(defaults.get(name))
        own = "" if [*values] == [default] else default
        rows[len(values) > 1].append((f"--{name.replace('_', '-')}", ", ".join(values), own))
    return pd.DataFrame([*rows[True], *rows[False]], columns=["option", "value", "default"])
