"""Checkpoints: written whole or not at all, read without running code from the file."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from ..files import replacing

FORMAT = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write atomically: a full disk or a killed process leaves the previous checkpoint as it was."""
    try:
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, **state}, temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Cannot write the checkpoint {path}: {error}. The previous one is untouched; free some space "
            "and go on with --resume."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this program onto the CPU, with ``weights_only``.

    Raises:
        UserError: missing, corrupt, or not one of this program's.
    """
    state = load_any(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this program (format {FORMAT}).")
    return state


def load_any(path: Path) -> Any:
    """What :func:`torch.load` finds in a file, on the CPU, with ``weights_only``.

    Raises:
        UserError: missing or corrupt.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"There is no checkpoint {path}.") from error
    except Exception as error:  # torch raises many types for a damaged file
        reason = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
        raise UserError(
            f"The checkpoint {path} cannot be read ({reason}): it is damaged, or holds more than weights. "
            "Use another one, such as best.pt beside it, or train anew, without --resume."
        ) from error


def load_weights(
    model: torch.nn.Module, weights: dict[str, torch.Tensor], path: Path, name: str
) -> None:
    """Load ``weights`` strictly into ``model``; a misfit is a UserError that names what differs."""
    own = model.state_dict()
    missing, surplus = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    shapes = [
        f"{k}: file {tuple(weights[k].shape)}, model {tuple(own[k].shape)}"
        for k in sorted(own.keys() & weights.keys())
        if own[k].shape != weights[k].shape
    ]
    if missing or surplus or shapes:
        seen = [*(f"missing {k}" for k in missing), *(f"surplus {k}" for k in surplus), *shapes]
        more = f" and {len(seen) - 4} more" if len(seen) > 4 else ""
        raise UserError(
            f"The checkpoint {path} does not fit {name}: {'; '.join(seen[:4])}{more}. Give the options that it "
            "was trained with (config.yaml beside it, with -c)."
        )
    model.load_state_dict(weights)


def random_state() -> dict[str, Any]:
    """State of the global generators, in types that ``weights_only`` reads."""
    kind, keys, *rest = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo everything since :func:`random_state`."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
