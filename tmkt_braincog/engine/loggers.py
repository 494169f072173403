"""The training log: one row per epoch, as CSV and for TensorBoard."""

from pathlib import Path
from typing import Any

import pandas as pd

from ..files import replacing


class EpochLog:
    """Rows of named numbers. The CSV is rewritten whole, so that resuming leaves one header and no row twice."""

    def __init__(self, folder: Path, tensorboard: bool):
        self.path = folder / "log.csv"
        self.rows: list[dict[str, Any]] = []
        self._tensorboard_folder = folder / "tensorboard" if tensorboard else None
        self._writer = None

    def restore(self, rows: list[dict[str, Any]]) -> None:
        self.rows = list(rows)

    def add(self, row: dict[str, Any]) -> None:
        """Append one epoch's numbers; ``epoch`` is among them."""
        self.rows.append(row)
        with replacing(self.path) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False)
        if self._tensorboard_folder is not None:
            for name, value in row.items():
                if name != "epoch" and value is not None:
                    self._summary_writer(row["epoch"]).add_scalar(name, value, row["epoch"])

    def _summary_writer(self, epoch: int):
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._tensorboard_folder), purge_step=epoch)
        return self._writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
