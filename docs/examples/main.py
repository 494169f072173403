# ruff: noqa: F401, I001  (imported to register their names; the package first, which keeps BrainCog's warnings quiet)
"""``main_transfer.py`` that also knows the method, strategy, backbone and data set beside this file."""

import sys

from tmkt_braincog.cli import main

import backbone
import dataset
import method
import strategy

if __name__ == "__main__":
    sys.exit(main())
