#!/usr/bin/env bash
# Accuracy against shots on real N-MNIST: table and plot in results/nmnist_fewshot/.
#   bash run_scripts/nmnist_fewshot.sh DATA
root="$(realpath -m "${1:?usage: bash run_scripts/nmnist_fewshot.sh DATA [options]}")"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python -m tmkt_braincog table fewshot --data-root "$root" "${@:2}"
