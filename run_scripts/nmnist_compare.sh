#!/usr/bin/env bash
# Event-only training, the baseline and TMKT with the published seeds, one table
# on N-MNIST with MNIST, settings in tmkt_braincog/recipes/nmnist.yaml:
#   bash run_scripts/nmnist_compare.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nmnist "event-only baseline tmkt --seed 42 1024 90210" compare "$@"
