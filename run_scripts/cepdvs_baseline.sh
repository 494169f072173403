#!/usr/bin/env bash
# The baseline of He et al. (AAAI 2024) on CEP-DVS with its RGB images, settings in tmkt_braincog/recipes/cepdvs.yaml:
#   bash run_scripts/cepdvs_baseline.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cepdvs "baseline" baseline "$@"
