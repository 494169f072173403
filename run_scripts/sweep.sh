#!/usr/bin/env bash
# Seeds, ratios, methods, or any other options as independent jobs, and one table. Given again, it goes on where it
# stopped. Here or, with --slurm, on a cluster; --help for all options:
#   bash run_scripts/sweep.sh --output results/ratios --jobs 2 --vary method=baseline,tmkt \
#       --vary mixup-ratio=0.3,0.4,0.5 --vary seed=42,1024,90210 -c quickstart
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
python -m tmkt_braincog table sweep "$@"
