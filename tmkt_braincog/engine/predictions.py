"""``predictions.csv``: what a run says of the recordings that it did not train on."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from .. import distributed
from ..errors import UserError
from ..files import replacing
from .evaluate import Predictions

FILE = "predictions.csv"


def write_predictions(folder: Path, names: Sequence[str], found: Mapping[str, Predictions]) -> None:
    """Write a row per recording: part (val or test), recording, label, and the class by each head.

    In place of those of earlier weights. Every process must call it.
    """
    tables: list[pd.DataFrame] = [
        pd.DataFrame(
            {
                "part": part,
                "recording": [names[i] for i in of.recordings],
                "label": of.labels.tolist(),
                **{head: p.argmax(1).tolist() for head, p in of.heads.items()},
            }
        )
        for part, of in found.items()
    ]
    together: pd.DataFrame = pd.concat(distributed.joined(tables)).sort_values(
        ["part", "recording"]
    )
    distributed.on_main(lambda: _write(folder / FILE, together))


def _write(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read_predictions(folder: Path) -> pd.DataFrame:
    """The rows of :func:`write_predictions`.

    Raises:
        UserError: the run has none.
    """
    try:
        return pd.read_csv(folder / FILE)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read {folder / FILE}: {error}. Every evaluation writes it: a run of an "
            "earlier version has to be run again."
        ) from error
