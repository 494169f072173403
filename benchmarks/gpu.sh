#!/usr/bin/env bash
# Everything that needs a GPU, in under 9 minutes: see benchmarks/gpu.py --help.
source "$(dirname "${BASH_SOURCE[0]}")/../run_scripts/setup.sh"
python benchmarks/gpu.py "$@"
