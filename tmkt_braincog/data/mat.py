"""Read one recording from a MATLAB file of version 4 to 7."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat, whosmat

from ..errors import UserError
from .events import Events

VARIABLES = ("x", "y", "ts", "p")
RANGES = {"x": (0, 2**15 - 1), "y": (0, 2**15 - 1), "ts": (-(2**62), 2**62), "p": (-1, 1)}


def read_mat(path: str | Path) -> Events:
    """Read the variables ``x``, ``y``, ``ts`` and ``p`` of one recording; others are passed over.

    Each of shape ``[E, 1]``, ``[1, E]`` or ``[E]``, of any real type, whole numbers: x and y in
    pixels, ts in microseconds, p in {0, 1} or {-1, 1}, where -1 becomes 0.

    Returns:
        Columns x, y (int16), t (int64, us), p (uint8, 0 OFF, 1 ON) of length E >= 1, in the file's
        order.

    Raises:
        UserError: missing or damaged file, another format, other variables, no such events.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            names = [name for name, *_ in whosmat(str(path), appendmat=False)]
            if twice := [name for name in VARIABLES if names.count(name) > 1]:
                raise ValueError(f"{twice[0]} is there twice")
            found = loadmat(str(path), appendmat=False, variable_names=VARIABLES)
    except FileNotFoundError:
        raise UserError(f"No recording at {path}. Check the data folder.") from None
    except Exception as error:  # damaged files fail in many ways
        raise UserError(
            f"Cannot read {path}: {error}. A MATLAB file of version 4 to 7 was expected. Get it "
            "again; one of version 7.3 save with save(FILE, 'x', 'y', 'ts', 'p', '-v7')."
        ) from error
    x, y, t, p = (_column(found, name, path) for name in VARIABLES)
    if not len(x) == len(y) == len(t) == len(p) or {-1, 0} <= set(np.unique(p)):
        raise UserError(
            f"{path} holds {len(x)} x, {len(y)} y, {len(t)} ts and {len(p)} p, of the polarities "
            f"{np.unique(p).tolist()}; one of each per event, and 0, 1 or -1, 1 were expected."
        )
    columns = {"x": (x, np.int16), "y": (y, np.int16), "t": (t, np.int64), "p": (p > 0, np.uint8)}
    return {name: column.astype(dtype) for name, (column, dtype) in columns.items()}


def _column(found: dict[str, Any], name: str, path: str | Path) -> np.ndarray:
    """``[E]`` whole numbers in their range, in the type that they are stored in."""
    array, (low, high) = found.get(name), RANGES[name]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UserError(f"{path} holds no numbers called {name}; {', '.join(VARIABLES)} expected.")
    with np.errstate(invalid="ignore"):
        wrong = ~((array >= low) & (array <= high) & (array % 1 == 0))
    if wrong.any() or not array.size or array.size != max(array.shape, default=0):
        raise UserError(
            f"{path} holds {name} of shape {array.shape} with {int(wrong.sum())} values such as "
            f"{array[wrong][:1]}; a column of whole numbers in {low}..{high} was expected."
        )
    return array.reshape(-1)
