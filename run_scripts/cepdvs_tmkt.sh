#!/usr/bin/env bash
# TMKT on CEP-DVS with its RGB images, settings in tmkt_braincog/recipes/cepdvs.yaml:
#   bash run_scripts/cepdvs_tmkt.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cepdvs "tmkt" tmkt "$@"
