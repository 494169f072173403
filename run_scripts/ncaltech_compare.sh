#!/usr/bin/env bash
# Event-only training, the baseline and TMKT with the published seeds, one table
# on N-Caltech101 with Caltech-101, settings in tmkt_braincog/recipes/ncaltech.yaml:
#   bash run_scripts/ncaltech_compare.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" ncaltech "event-only baseline tmkt --seed 42 1024 90210" compare "$@"
