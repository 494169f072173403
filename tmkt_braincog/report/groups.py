"""Runs put in order: which options vary, and which runs belong into one table and one picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import UserError
from ..methods.names import takes
from ..options import identity
from ..table_plan import in_words
from .runs import Run

REFERENCE = "baseline"


@dataclass(frozen=True)
class Group:
    """Runs that may be compared.

    Attributes:
        title: the settings that set it apart from the other groups; empty where there is one group.
        runs: by label (method, and settings that vary within the group), in order of first appearance.
    """

    title: str
    runs: dict[str, list[Run]] = field(default_factory=dict)


def varied(runs: Sequence[Run]) -> list[str]:
    """Names of the options, other than method and seed, in which runs that take them differ."""
    names = {name for run in runs for name in identity(run.options)} - {"method", "seed"}
    return [
        n
        for n in sorted(names)
        if len({settings(run, [n])[n] for run in runs if _takes(run, n)}) > 1
    ]


def settings(run: Run, names: Sequence[str]) -> dict[str, str]:
    """The values of these options as text, of those that the run's method takes."""
    return {name: value_text(getattr(run.options, name)) for name in names if _takes(run, name)}


def value_text(value) -> str:
    """An option's value as text; 3 for 3.0, on or off for a switch."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "not set" if value is None else str(value)


def in_label(values: dict[str, str]) -> str:
    return in_words({name.replace("_", "-"): value for name, value in values.items()})


def make_groups(runs: Sequence[Run]) -> tuple[list[Group], list[str]]:
    """The groups, and warnings on runs of the same settings and seed, of which only the first counts.

    Options in which the baseline's own runs differ set groups apart, since a difference to it means something only
    at the same values. Others, such as TMKT's mixup ratio, are part of the label.
    """
    methods = {run.method: [other for other in runs if other.method == run.method] for run in runs}
    own = {method: varied(some) for method, some in methods.items()}
    apart = own.get(REFERENCE, [])
    # What differs between methods only would otherwise go unseen.
    between = [n for n in varied(runs) if not any(n in names for names in own.values())]
    keys = [settings(run, apart) for run in runs]
    whole = [key for i, key in enumerate(keys) if len(key) == len(apart) and key not in keys[:i]]
    groups, warnings = [], []
    for key in whole:
        group = Group(in_label(key))
        for run, its in zip(runs, keys, strict=True):
            if (
                its.items() <= key.items()
            ):  # a method that does not take an option belongs to all its values
                names = [n for n in (*own[run.method], *between) if n not in apart]
                label = ", ".join(filter(None, (run.method, in_label(settings(run, names)))))
                warnings += _join(group.runs.setdefault(label, []), run)
        groups.append(group)
    return groups, list(dict.fromkeys(warnings))


def _join(same: list[Run], run: Run) -> list[str]:
    for other in same:
        if other.seed == run.seed:
            return [
                f"{run.folder} has the settings and seed of {other.folder}: only the latter counts."
            ]
    same.append(run)
    return []


def _takes(run: Run, name: str) -> bool:
    try:
        return takes(run.options, name)
    except UserError:  # a method that is not registered here
        return True
