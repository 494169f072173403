# ruff: noqa: F401, I001  (imported to register their names; the package first, which keeps BrainCog's warnings quiet)
"""The program ``tmkt`` that also knows the extensions beside this file."""

import sys

from tmkt_braincog.cli import main

import backbone
import dataset
import figure
import method
import strategy

if __name__ == "__main__":
    sys.exit(main())
