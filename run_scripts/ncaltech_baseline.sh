#!/usr/bin/env bash
# The baseline of He et al. (AAAI 2024) on N-Caltech101 with Caltech-101, settings in tmkt_braincog/recipes/ncaltech.yaml:
#   bash run_scripts/ncaltech_baseline.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" ncaltech "baseline" baseline "$@"
