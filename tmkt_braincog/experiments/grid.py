"""Combinations of options of ``tmkt train`` as independent jobs, each once."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress, product
from pathlib import Path

from ..errors import UserError
from ..methods.names import takes
from ..options import parse, resolve
from .axes import Axis, check_fixed, make_axis
from .jobs import Job

LONGEST_NAME = 120


@dataclass(frozen=True)
class Run:
    """One job of the grid and, by option, the values that it stands for: those that its method takes."""

    job: Job
    settings: dict[str, str]


def find_axes(vary: Sequence[str], fixed: Sequence[str]) -> list[Axis]:
    """The varied options, the seed first: the jobs then finish one whole seed after the other.

    Several methods or seeds among the fixed options are varied too.

    Raises:
        UserError: options that are unknown, twice there, or cannot be varied or given.
    """
    given = check_fixed(fixed)
    axes = [make_axis(text) for text in vary]
    names = [axis.name for axis in axes]
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise UserError(f"--vary {double.pop()} is there twice: give all its values at once.")
    for name in ("method", "seed"):
        values = [str(v) for v in getattr(given, name, [])]
        if len(values) > 1 and name not in names:
            axes.append(make_axis(f"{name}={','.join(values)}"))
    return sorted(axes, key=lambda axis: axis.name != "seed")


def grid(output: Path, axes: Sequence[Axis], fixed: Sequence[str]) -> tuple[list[Run], list[str]]:
    """The jobs of all combinations, each once, and remarks on those that fall together.

    An option that a method does not take is left out for it: combinations that differ only there are one job.

    Raises:
        UserError: a combination that main_transfer.py would refuse.
    """
    runs: dict[tuple, Run] = {}
    given: dict[tuple, tuple] = {}  # the words behind the values
    taken: dict[str, dict[str, list[bool]]] = {}  # by method and option, for every combination
    for combination in product(*(axis.choices for axis in axes)):
        options, _ = resolve(parse([*fixed, *chain(*combination)]))
        own = [takes(options, axis.dest) for axis in axes]
        settings = {axis.name: axis.value(options) for axis in compress(axes, own)}
        words = tuple(compress(combination, own))
        key = tuple(settings.items())
        if given.setdefault(key, words) != words:
            raise UserError(
                f"--vary gives the same settings twice: {in_words(settings)}. Name every value once."
            )
        if key not in runs:
            name = folder_name(settings)
            job = Job.from_words(name, output / "jobs" / name, [*fixed, *chain(*words)])
            runs[key] = Run(job, settings)
        by_option = taken.setdefault(options.method[0], {})
        for axis, is_taken in zip(axes, own, strict=True):
            by_option.setdefault(axis.name, []).append(is_taken)
    return list(runs.values()), list(_remarks(taken))


def _remarks(taken: dict[str, dict[str, list[bool]]]) -> Iterable[str]:
    for method, by_option in taken.items():
        never = [f"--{name}" for name, seen in by_option.items() if not any(seen)]
        partly = [f"--{name}" for name, seen in by_option.items() if any(seen) and not all(seen)]
        if never:
            yield f"{method} does not take {', '.join(never)}: run once."
        if partly:
            yield f"{method} does not take {', '.join(partly)} in some of the combinations: run once there."


def folder_name(settings: dict[str, str]) -> str:
    """A readable file name, different for different settings."""
    text = in_words(settings, "_", "-") or "run"
    name = re.sub(r"[^\w.+-]", "-", text, flags=re.ASCII)[:LONGEST_NAME]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def in_words(settings: dict[str, str], between: str = ", ", equals: str = " ") -> str:
    return between.join(f"{name}{equals}{value}" for name, value in settings.items())
