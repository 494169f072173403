#!/usr/bin/env bash
# TMKT on N-Caltech101 with Caltech-101, settings in tmkt_braincog/recipes/ncaltech.yaml:
#   bash run_scripts/ncaltech_tmkt.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" ncaltech "tmkt" tmkt "$@"
