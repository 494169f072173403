"""``tmkt predict``: many files through one network, and what it says of them."""

import json
import logging
import sys
from argparse import Namespace
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from functools import partial
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ..data.folder_files import IMAGE_SUFFIXES, OTHERS
from ..data.parallel import Problem, decode_each
from ..data.tree import natural
from ..errors import UserError
from ..files import PICTURES, check_output, replacing
from .network import Network, load, prepared

log = logging.getLogger(__name__)

AT_ONCE = 32  # recordings in a batch
SHOWN = 40  # rows on the screen; all are in --output
DRAWN = 5  # rows of the picture


class Answer(NamedTuple):
    """A file (and its window), (W, H) of the sensor where that is known, the frames
    ``[T, 2, h, w]`` where they are to be drawn, and the probabilities ``[T, N]`` after t = 1 .. T
    time-steps."""

    file: str
    sensor: Sequence[int] | None
    frames: Any
    over_time: np.ndarray

    def likeliest(self, n: int) -> list[int]:
        """The n likeliest classes at the end."""
        return np.argsort(-self.over_time[-1], kind="stable")[:n].tolist()

    @property
    def settled(self) -> int:
        """The time-step t, 1 .. T, from which on the likeliest class is the last one."""
        other = np.flatnonzero(self.over_time.argmax(1) != self.over_time[-1].argmax())
        return int(other[-1]) + 2 if len(other) else 1


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
    answers = answers_of(network, files, problems, drawn)
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
) -> list[Answer]:
    """Answers in the order of the files; what is wrong with those left out goes to ``problems``.

    ``drawn``: so many answers keep their frames.
    """
    answers: list[Answer] = []
    with closing(_recordings(network, files, problems)) as recordings:
        while some := list(islice(recordings, AT_ONCE)):
            stack = torch.from_numpy(np.stack([frames for *_, frames in some]))
            for (file, sensor, frames), over_time in zip(
                some, network.over_time(stack).numpy(), strict=True
            ):
                kept = frames if len(answers) < drawn else None
                answers.append(Answer(file, sensor, kept, over_time))
    return answers


def _recordings(network: Network, files: Sequence[Path], problems: list[str]) -> Generator:
    """Name, sensor and frames of every window."""
    decode = partial(prepared, network.preparation, network.model.event_size)
    with closing(decode_each(decode, files, "recordings", 0.5)) as found:
        for file, made in zip(files, found, strict=True):
            if isinstance(made, Problem):
                problems.append(made)
                continue
            sensor, windows = made
            yield from ((f"{file}{mark}", sensor, frames) for mark, frames in windows.items())


def _warn_of_sensors(answers: Sequence[Answer], network: Network) -> None:
    usual = tuple(network.preparation.sensor or ())
    others = [a for a in answers if usual and a.sensor and tuple(a.sensor) != usual]
    if others:
        log.warning(
            "%d of %d recordings are not of the %d x %d sensor that was trained with, such as %s "
            "(%d x %d): their frames are resized, and what is seen has another size in pixels.",
            *(len(others), len(answers), *usual, others[0].file, *(others[0].sensor or ())),
        )


def _files(given: Sequence[Path], written: Collection[Path]) -> list[Path]:
    """All files, those of a folder in natural order without images and what training leaves out.

    Raises:
        UserError: none, one that is not there, or one that would be ``written`` over.
    """
    found: list[Path] = []
    no_recording = OTHERS | IMAGE_SUFFIXES
    for path in given:
        if path.is_dir():  # without what is hidden
            names = sorted(glob("**/*", root_dir=path, recursive=True), key=natural)
            below = [path / n for n in names if Path(n).suffix.lower() not in no_recording]
            found += [p for p in below if not p.is_dir() and p.resolve() not in written]
        elif not path.exists():
            raise UserError(f"There is no file {path}.")
        elif path.resolve() in written:
            raise UserError(f"{path} is a recording, and would be written over: name another file.")
        else:
            found.append(path)
    if not found:
        raise UserError(f"No file below {', '.join(map(str, given))}.")
    return found


def _table(answers: Sequence[Answer], classes: Sequence[str]) -> str:
    rows = []
    for answer in answers[:SHOWN]:
        row: dict[str, Any] = {"file": answer.file}
        heads = ("class", "p"), ("next", "p ")
        for c, (name, share) in zip(answer.likeliest(2), heads, strict=False):
            row |= {name: classes[c], share: f"{answer.over_time[-1][c]:.3f}"}
        rows.append(row | {"settled at t": answer.settled})
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


def _text(answers: Sequence[Answer], network: Network, options: Namespace) -> str:
    """The content of ``--output``: CSV, a row per file or per file and step; JSON, all of it."""
    values = np.concatenate([answer.over_time for answer in answers])
    steps = [(a.file, t) for a in answers for t in range(1, len(a.over_time) + 1)]
    rows = pd.DataFrame(steps, columns=["file", "t"])
    rows["class"] = np.array(network.classes, dtype=object)[values.argmax(1)]
    rows = rows.join(pd.DataFrame(values, columns=[f"p({c})" for c in network.classes]))
    last = rows[rows.t == rows.t.max()]
    if options.output.suffix.lower() == ".csv":
        return (rows if options.over_time else last).to_csv(index=False)
    files = [
        {
            "file": answer.file,
            "class": name,
            "settled": answer.settled,
            "probabilities": answer.over_time[-1].tolist(),
            "over_time": answer.over_time.tolist(),
        }
        for answer, name in zip(answers, last["class"], strict=True)
    ]
    whole = {"checkpoint": network.path, "classes": network.classes, "files": files}
    return json.dumps(whole, indent=1) + "\n"
