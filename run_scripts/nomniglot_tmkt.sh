#!/usr/bin/env bash
# TMKT on N-Omniglot with Omniglot, settings in tmkt_braincog/recipes/nomniglot.yaml:
#   bash run_scripts/nomniglot_tmkt.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nomniglot "tmkt" tmkt "$@"
