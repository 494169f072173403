#!/usr/bin/env bash
# Event-only training, the baseline and TMKT with the published seeds, one table
# on N-Omniglot with Omniglot, settings in tmkt_braincog/recipes/nomniglot.yaml:
#   bash run_scripts/nomniglot_compare.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nomniglot "event-only baseline tmkt --seed 42 1024 90210" compare "$@"
