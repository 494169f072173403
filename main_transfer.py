"""Static-to-event transfer for spiking networks, the same as ``tmkt train``."""

import sys

from tmkt_braincog.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
