#!/usr/bin/env bash
# event-only on N-MNIST with MNIST as static images. The first word is the data root, the rest are options:
#   bash run_scripts/nmnist_event_only.sh DATA --shots 5 --seed 42
# Expected under DATA: NMNIST/Train, NMNIST/Test and MNIST/raw; --download fetches them.
root="$(realpath -m "${1:?usage: bash run_scripts/nmnist_event_only.sh DATA [options]}")"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python main_transfer.py -c run_scripts/nmnist.yaml --method event-only --data-root "$root" "${@:2}"
