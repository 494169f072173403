#!/usr/bin/env bash
# Event-only training, the baseline and TMKT on N-MNIST with the published seeds, one table:
#   bash run_scripts/nmnist_compare.sh DATA --shots 5
root="$(realpath -m "${1:?usage: bash run_scripts/nmnist_compare.sh DATA [options]}")"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python main_transfer.py -c run_scripts/nmnist.yaml --method event-only baseline tmkt \
    --seed 42 1024 90210 --data-root "$root" "${@:2}"
