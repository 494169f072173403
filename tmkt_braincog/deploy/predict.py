"""``tmkt predict``: many files through one network, and what it says of them."""

import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..data.folder_files import IMAGE_SUFFIXES, OTHERS
from ..data.parallel import Problem, decode_each
from ..data.preparation import Preparation
from ..data.tree import natural
from ..errors import UserError
from ..files import PICTURES, check_output, replacing
from .network import Network, load

log = logging.getLogger(__name__)

AT_ONCE = 32  # recordings in a batch
SHOWN = 40  # rows on the screen; all are in --output
DRAWN = 5  # rows of the picture


class Answer(NamedTuple):
    """A file (and its window), (W, H) of the sensor where that is known, the frames
    ``[T, 2, h, w]`` where they are to be drawn, and the probabilities ``[T, N]`` after t = 1 .. T
    time-steps."""

    file: str
    sensor: tuple[int, ...]
    frames: np.ndarray | None
    over_time: np.ndarray


def predict(options: Namespace) -> int:
    """Print a table and write the files asked for; 1 where a recording could not be read.

    Raises:
        UserError: no file, none that can be read, or an output that exists.
    """
    written = {path.resolve() for path in (options.output, options.picture) if path}
    check_output(options.output, (".csv", ".json"), options.force)
    check_output(options.picture, PICTURES, options.force)
    files = _files(options.files, written)
    network = load(options.checkpoint, options.device)
    problems: list[str] = []
    drawn = DRAWN if options.picture else 0
    answers = list(answers_of(network, files, problems, drawn))
    if not answers:
        raise UserError("\n".join(problems))
    _warn_of_sensors(answers, network)
    print(_table(answers, network.classes))
    if options.output:
        with replacing(options.output) as temporary:
            text = _text(answers, network, options)
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
        print(f"Written: {options.output}")
    if options.picture:
        from .picture import save  # matplotlib

        save(answers[:drawn], network, options.picture)
        print(f"Written: {options.picture}")
    for problem in problems:
        print(f"not read: {problem}", file=sys.stderr)
    if problems:
        print(f"{len(problems)} of {len(files)} files could not be read.", file=sys.stderr)
    return 1 if problems else 0


def answers_of(
    network: Network, files: Sequence[Path], problems: list[str], drawn: int = 0
) -> Iterator[Answer]:
    """Answers in the order of the files; what is wrong with those left out goes to ``problems``.

    ``drawn``: so many answers keep their frames.
    """
    with closing(
        decode_each(
            partial(_frames, network.preparation, network.model.event_size),
            files,
            "recordings",
            0.5,
        )
    ) as found:
        pairs = zip(files, found, strict=True)
        while some := list(islice(pairs, AT_ONCE)):
            problems += [made for _, made in some if isinstance(made, Problem)]
            good = [(file, *made) for file, made in some if not isinstance(made, Problem)]
            if not good:
                continue
            stack = np.concatenate([frames for *_, frames in good])
            probabilities = np.concatenate(
                [network.over_time(part).numpy() for part in torch.from_numpy(stack).split(AT_ONCE)]
            )
            names = [(f"{file}{mark}", sensor) for file, sensor, marks, _ in good for mark in marks]
            for (name, sensor), frames, over_time in zip(names, stack, probabilities, strict=True):
                drawn -= 1
                yield Answer(name, sensor, frames if drawn >= 0 else None, over_time)


def _frames(
    preparation: Preparation, size: int, path: Path
) -> tuple[tuple[int, ...], list[str], np.ndarray]:
    """The sensor's (W, H), empty where it was taken from the events; the marks of the recording's
    windows and their frames ``[n, T, 2, size, size]``."""
    events, sensor = preparation.read(path)
    parts = preparation.windows(events)
    frames = [preparation.frames(part, sensor, size, f"{path}{at}") for at, part in parts.items()]
    return tuple(sensor or ()), [*parts], np.stack(frames)


def _warn_of_sensors(answers: Sequence[Answer], network: Network) -> None:
    usual = tuple(network.preparation.sensor or ())
    others = [a for a in answers if usual and a.sensor and a.sensor != usual]
    if others:
        log.warning(
            "%d of %d recordings are not of the %d x %d sensor that was trained with, such as %s "
            "(%d x %d): their frames are resized, and what is seen has another size in pixels.",
            *(len(others), len(answers), *usual, others[0].file, *others[0].sensor),
        )


def _files(given: Sequence[Path], written: Collection[Path]) -> list[Path]:
    """All files, those of a folder in natural order without images and what training leaves out.

    Raises:
        UserError: none, one that is not there, or one that would be ``written`` over.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            below = [p for p in _below(path) if p.suffix.lower() not in OTHERS | IMAGE_SUFFIXES]
            below = [p for p in below if p.resolve() not in written]
            found += sorted(below, key=lambda p: natural(p.as_posix()))
        elif not path.exists():
            raise UserError(f"There is no file {path}.")
        elif path.resolve() in written:
            raise UserError(f"{path} is a recording, and would be written over: name another file.")
        else:
            found.append(path)
    if not found:
        raise UserError(f"No file below {', '.join(map(str, given))}.")
    return found


def _below(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(where, name) for name in names if not name.startswith("."))


def settled(over_time: np.ndarray) -> int:
    """The time-step t, 1 .. T, from which on the likeliest class of ``[T, N]`` is the last one."""
    other = np.flatnonzero(over_time.argmax(1) != over_time[-1].argmax())
    return int(other[-1]) + 2 if len(other) else 1


def _table(answers: Sequence[Answer], classes: Sequence[str]) -> str:
    rows = []
    for answer in answers[:SHOWN]:
        first, *rest = np.argsort(-answer.over_time[-1], kind="stable")[:2]
        row = {"file": answer.file, **_likely(answer, int(first), classes, "class", "p")}
        row |= _likely(answer, int(rest[0]), classes, "next", "p ") if rest else {}
        rows.append(row | {"settled at t": settled(answer.over_time)})
    said = [pd.DataFrame(rows).to_string(index=False)]
    if len(answers) > SHOWN:
        said.append(f"... and {len(answers) - SHOWN:,} more.")
    known = [(Path(a.file).parent.name, a) for a in answers if Path(a.file).parent.name in classes]
    if known:
        right = sum(name == classes[a.over_time[-1].argmax()] for name, a in known)
        share = f"{right:,} of {len(known):,} right ({100 * right / len(known):.2f} %)"
        said.append(
            f"In folders named as a class: {share}; recordings that were trained on count too."
        )
    return "\n".join(said)


def _likely(
    answer: Answer, c: int, classes: Sequence[str], name: str, share: str
) -> dict[str, str]:
    return {name: classes[c], share: f"{answer.over_time[-1][c]:.3f}"}


def _text(answers: Sequence[Answer], network: Network, options: Namespace) -> str:
    """The content of ``--output``: CSV, a row per file or per file and step; JSON, all of it."""
    if options.output.suffix.lower() == ".csv":
        rows = [row for a in answers for row in _rows(a, network.classes, options.over_time)]
        return pd.DataFrame(rows).to_csv(index=False)
    of = {"checkpoint": network.path, "classes": network.classes}
    files = [
        {
            "file": a.file,
            "class": network.classes[a.over_time[-1].argmax()],
            "settled": settled(a.over_time),
            "probabilities": a.over_time[-1].tolist(),
            "over_time": a.over_time.tolist(),
        }
        for a in answers
    ]
    return json.dumps({**of, "files": files}, indent=1) + "\n"


def _rows(answer: Answer, classes: Sequence[str], over_time: bool) -> Iterator[dict[str, Any]]:
    T = len(answer.over_time)
    for t in range(1, T + 1) if over_time else [T]:
        values = answer.over_time[t - 1]
        row = {"file": answer.file, "t": t, "class": classes[values.argmax()]}
        yield row | {f"p({c})": v for c, v in zip(classes, values.tolist(), strict=True)}
