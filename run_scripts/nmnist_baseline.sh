#!/usr/bin/env bash
# The baseline of He et al. (AAAI 2024) on N-MNIST with MNIST, settings in tmkt_braincog/recipes/nmnist.yaml:
#   bash run_scripts/nmnist_baseline.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nmnist "baseline" baseline "$@"
