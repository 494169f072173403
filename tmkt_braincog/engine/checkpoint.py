"""Checkpoints: all of a run, written whole or not at all, read without running their code."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import build_parser
from ..errors import UserError
from ..files import replacing
from ..options import NOT_IDENTITY, identity
from .folder import environment

if TYPE_CHECKING:
    from .train import Trainer

FORMAT = 1
USED = ("format", "identity", "about", "model", "position", "rows")  # of a trained network


@dataclass
class Position:
    """What the loop counts: ``epoch`` and ``batch`` are the next to run; ``best_score`` is on the
    validation recordings where there are any, ``best_test`` and ``last_test`` on the test ones."""

    epoch: int = 0
    batch: int = 0
    train_s: float = 0.0
    peak_mib: float = 0.0
    best_score: float = -1.0
    best_test: float = float("nan")
    best_epoch: int = -1
    last_test: float = float("nan")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write whole or not at all: a full disk or a killed process leaves the previous one."""
    try:
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, **state}, temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Cannot write the checkpoint {path}: {error}. The previous one is untouched; free "
            "some space and go on with --resume."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; a UserError for what is not one of this program's."""
    state = load_any(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this program (format {FORMAT}).")
    return state


def load_any(path: Path) -> Any:
    """What :func:`torch.load` finds in a file, with ``weights_only``; a UserError if it fails."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"There is no checkpoint {path}.") from error
    except Exception as error:  # torch raises many types for a damaged file
        if kind := _other_kind(path):
            raise UserError(
                f"The checkpoint {path} cannot be read: it is {kind}, not best.pt or last.pt of a "
                "run. With recordings the order is CHECKPOINT FILE...: tmkt predict best.pt FILE."
            ) from error
        said = str(error).strip().partition(". ")[0].splitlines()[:1]
        reason = ": ".join([type(error).__name__, *said])
        raise UserError(
            f"The checkpoint {path} cannot be read ({reason}): it is damaged, or holds more than "
            "weights. Use another one, such as best.pt beside it, or train anew, without --resume."
        ) from error


def _other_kind(path: Path) -> str:
    """What a file is that :func:`torch.save` did not write; empty for what is left of one."""
    if path.is_dir():
        return "a folder"
    begins = b""
    with suppress(OSError), path.open("rb") as file:
        begins = file.read(400)
    ours = not begins or b"/data.pkl" in begins or begins.startswith(b"\x80\x02")  # now; long ago
    return "" if ours else "a file of another kind"


def load_weights(model: torch.nn.Module, weights: dict[str, Tensor], path: Path, name: str) -> None:
    """Load ``weights`` strictly into ``model``; a misfit is a UserError that says what differs."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        _, *seen = map(str.strip, str(error).splitlines())
        raise UserError(
            f"The checkpoint {path} does not fit {name}: {' '.join(seen)[:500]} Give the options "
            "that it was trained with (config.yaml beside it, with -c)."
        ) from error


def about(trainer: Trainer) -> dict[str, Any]:
    """What a network is used by without data and command line, in JSON values: classes, data, how
    recordings become frames, and versions."""
    data, split = trainer.data, trainer.split
    parts = {"train": split.train, **split.held_out()}
    how = None if data.preparation is None else json.loads(json.dumps(asdict(data.preparation)))
    return {
        "classes": list(data.classes),
        "source": data.source,
        "target": data.target,
        "emulated": data.emulated,
        "remarks": list(data.remarks),
        "preparation": how,
        "audit": split.audit,
        "recordings": {part: len(of) for part, of in parts.items()},
        "environment": environment(trainer.device),
    }


def seed_generators(seed: int) -> None:
    """Seed the global generators of PyTorch, Python and NumPy, which a model of one's own may use.

    Args:
        seed: any natural number; NumPy takes it modulo 2^32.
    """
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> dict[str, Any]:
    """State of the global generators, in types that ``weights_only`` reads."""
    numpy: Any = np.random.get_state()
    kind, keys, *rest = numpy
    return {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    for device, kept in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(kept, device)


def state_of(trainer: Trainer, sums: dict[str, Tensor]) -> dict[str, Any]:
    """All that :func:`restore` needs to go on bit for bit; ``sums`` are those of all processes."""
    scheduler = trainer.scheduler
    return {
        "identity": identity(trainer.options),
        "about": about(trainer),
        "model": trainer.model.state_dict(),
        "method": trainer.method.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": None if scheduler is None else scheduler.state_dict(),
        "teachers": trainer.teachers,
        "position": asdict(trainer.at),
        "sums": sums,
        "rows": trainer.log.rows,
        "random": random_state(),
    }


def slim(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state without what only further training needs: about a third of its size."""
    return {name: state[name] for name in USED}


def restore(trainer: Trainer, path: Path) -> None:
    """Go on from a checkpoint of the same run; a UserError for that of another."""
    if "optimizer" not in (state := load(path)):
        raise UserError(
            f"The checkpoint {path} holds a network alone, without what further training needs: go "
            "on with last.pt of its run, or train anew."
        )
    load_weights(trainer.model, state["model"], path, f"--model {trainer.options.model}")
    same_run(state["identity"], identity(trainer.options), f"The checkpoint {path}")
    load_weights(trainer.method, state["method"], path, f"--method {trainer.name}")
    trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.scheduler is not None:
        trainer.scheduler.load_state_dict(state["scheduler"])
    trainer.teachers = state["teachers"]
    trainer.at = Position(**state["position"])
    trainer.sums = {k: v.to(trainer.device) for k, v in state["sums"].items()}
    trainer.log.rows = list(state["rows"])
    restore_random_state(state["random"])


def same_run(seen: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    """A UserError that lists the options in which two runs differ, if they do.

    Options that are unset, or newer than the run, are not there: it was made with their defaults.
    """
    defaults = vars(build_parser().parse_args([]))
    lines = []
    for n in sorted((seen.keys() | expected.keys()) - set(NOT_IDENTITY)):
        there, here = seen.get(n), expected.get(n)
        if there != here and (n in seen or here != defaults.get(n)):
            lines.append(f"  {n}: there {there!r}, here {here!r}\n")
    if lines:
        raise UserError(
            f"{what} belongs to a different run:\n{''.join(lines)}Choose another --output, or give "
            "the same options."
        )
