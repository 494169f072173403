"""The commands that make a folder's contents again."""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from .runs import Run
from .shown import shown

# What tables of this project say of themselves.
MADE_BY = re.compile(r"Made by `([^`\n]+)`")


def commands(
    folder: Path, runs: Sequence[Run], texts: Iterable[str], has_figures: bool
) -> list[str]:
    """Command lines for the working directory of the report, comments between them.

    Args:
        texts: Markdown found in the folder, which may name its command.
    """
    named = list(dict.fromkeys(line for text in texts for line in MADE_BY.findall(text)))
    lines = ["# the tables, and the runs behind them", *named] if named else []
    outputs = list(dict.fromkeys(run.output for run in runs))
    if any(run.result is None for run in runs):
        lines += [
            "# go on with what is not finished",
            *_train(folder, outputs, runs, "", ["--resume"]),
        ]
    if outputs:
        lines += [
            "# all runs once more, in another folder",
            *_train(folder, outputs, runs, "-again", []),
        ]
    if has_figures:
        lines += ["# the figures", f"tmkt figure all {shlex.quote(shown(folder))}"]
    return lines


def _train(
    folder: Path, outputs: Sequence[Path], runs: Sequence[Run], suffix: str, more: Sequence[str]
) -> list[str]:
    """Calls of ``tmkt train`` for the runs of ``folder``, into the folder of that name with a suffix."""
    if outputs == [folder]:
        words = ["tmkt", "train", "-c", shown(folder / "config.yaml")]
        words += ["--method", *dict.fromkeys(run.method for run in runs)]
        words += ["--seed", *dict.fromkeys(str(run.seed) for run in runs)]
        return [shlex.join([*words, "--output", shown(folder) + suffix, *more])]
    here, there = shlex.quote(f"{shown(folder)}/"), shlex.quote(shown(folder) + suffix)
    depths = dict.fromkeys(len(output.relative_to(folder).parts) for output in outputs)
    call = " ".join(['tmkt train -c "$c" --output', f'{there}/"${{o#{here}}}"', *more])
    return [
        f"for c in {here}{'*/' * depth}config.yaml; do o=${{c%/config.yaml}}; {call}; done"
        for depth in depths
    ]
