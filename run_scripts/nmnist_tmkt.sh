#!/usr/bin/env bash
# TMKT on N-MNIST with MNIST, settings in tmkt_braincog/recipes/nmnist.yaml:
#   bash run_scripts/nmnist_tmkt.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nmnist "tmkt" tmkt "$@"
