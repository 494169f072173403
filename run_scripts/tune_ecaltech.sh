#!/usr/bin/env bash
# The learning rates of `tmkt table ecaltech`: bash run_scripts/tune_ecaltech.sh DATA [JOBS]
# Four for every row, a third of the table's steps, a seed that no table reports, judged on validation recordings alone.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
DATA="${1:?the folder of the data: bash run_scripts/tune_ecaltech.sh DATA}"
sweep() { python -m tmkt_braincog table sweep -c ecaltech --data-root "$DATA" --seed 7 --no-tensorboard --epochs 34 --eval-interval 34 --jobs "$jobs" --against lr=0.1 --vary lr=0.03,0.1,0.3,0.9 "$@"; }
jobs="${2:-2}"
out="results/tuning_ecaltech"
sweep --method event-only --output "$out/events"
sweep --method baseline tmkt finetune --vary source-encoding=repeat,saccade --output "$out/streams"
