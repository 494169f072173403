"""``tmkt train`` in float64, where no rounding flips a spike, told to stop: EPOCH STEP WORDS..."""

import os
import signal
import sys

import torch

from tmkt_braincog.cli import main
from tmkt_braincog.engine.train import Trainer
from tmkt_braincog.models import TransferModel


def in_float64(forward):
    return lambda self, *streams: forward(self, *(x if x is None else x.double() for x in streams))


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    TransferModel.forward = in_float64(TransferModel.forward)
    stop_at, step = tuple(map(int, sys.argv[1:3])), Trainer._step

    def told(self, *given):
        if (self.at.epoch, self.at.batch) == stop_at and os.environ.get("RANK", "0") == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *given)

    Trainer._step = told
    sys.exit(main(["train", *sys.argv[3:]]))
