# ruff: noqa: F401, I001  (imported to register their names)
"""``python -m tmkt_braincog.experiments`` that also knows the figure, and what the runs were made with."""

import sys

from tmkt_braincog.experiments.__main__ import main as run

import figure
import main

if __name__ == "__main__":
    sys.exit(run())
