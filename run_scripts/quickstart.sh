#!/usr/bin/env bash
# Event-only training, the baseline and TMKT on the built-in data: same settings, same seeds.
# Ends with the comparison table, also in results/quickstart/. Run again, it goes on where it stopped.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python main_transfer.py -c quickstart --output results/quickstart --resume "$@"
