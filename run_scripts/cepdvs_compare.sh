#!/usr/bin/env bash
# Event-only training, the baseline and TMKT with the published seeds, one table
# on CEP-DVS with its RGB images, settings in tmkt_braincog/recipes/cepdvs.yaml:
#   bash run_scripts/cepdvs_compare.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cepdvs "event-only baseline tmkt --seed 42 1024 90210" compare "$@"
