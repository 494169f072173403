#!/usr/bin/env bash
# The baseline of He et al. (AAAI 2024) on N-Omniglot with Omniglot, settings in tmkt_braincog/recipes/nomniglot.yaml:
#   bash run_scripts/nomniglot_baseline.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nomniglot "baseline" baseline "$@"
