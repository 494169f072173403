"""The program ``tmkt``, also ``python -m tmkt_braincog``: one word, then that command's options."""

import os
import sys
from importlib import import_module

from .errors import guarded, unknown_name
from .version import VERSION

# A thread of OpenMP that waits for work soon gives its core to others; by default it holds it for
# milliseconds, and a step on a busy machine takes three times as long (benchmarks/busy.py). OpenMP
# reads this once, when torch is imported, which is later.
SPIN_COUNT = "2000"
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

COMMANDS = {
    "train": "train methods side by side and compare them (also: python main_transfer.py)",
    "data": "list, prepare and look at data sets",
    "teacher": "train ANN teachers for the methods that distil",
    "table": "the paper's tables, others like them, and sweeps of any options",
    "figure": "figures and measurements from finished runs",
    "predict": "what a trained network says of recordings",
    "export": "a trained network as a program for torch, ONNX or neuromorphic simulators",
    "push": "a checkpoint and its model card to the Hugging Face Hub",
    "report": "one page about everything in output folders, or a checkpoint's model card",
}
HELP = """\
usage: tmkt COMMAND [options]   (tmkt COMMAND --help; tmkt --version)
       tmkt COMMAND [options] --debug   (with the traceback behind an error)

Static-to-event transfer for spiking neural networks: TMKT, its baseline and other methods,
on BrainCog.

commands:
{commands}

examples:
  tmkt train --method event-only baseline tmkt --seed 42 1024 90210 --output results/compare
      Three methods on the built-in data, with the same settings; ends with a table. No download.
  tmkt figure all results/compare
      Grad-CAM++, loss landscape, t-SNE, CKA, confusion and more, from these runs.
  tmkt report results/compare
      Tables, curves, pictures, settings and commands on one page."""


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status: 0, 2 for bad input, 128 + N after signal N."""
    return guarded(lambda: _run(sys.argv[1:] if argv is None else list(argv)))


def _run(argv: list[str]) -> int:
    if "--debug" in argv:
        os.environ["TMKT_DEBUG"] = "1"  # the processes that this one starts see it too
        argv = [word for word in argv if word != "--debug"]
    command, *rest = argv or ["--help"]
    if command in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {n:9}{what}" for n, what in COMMANDS.items())))
        return 0 if argv else 2
    if command == "--version":
        print(f"tmkt_braincog {VERSION}")
        return 0
    if command not in COMMANDS:
        raise unknown_name("command", command, COMMANDS)
    try:
        return import_module(f".commands.{command}", __package__).run(rest)
    except SystemExit as stop:  # argparse, after --help
        return int(stop.code or 0)
