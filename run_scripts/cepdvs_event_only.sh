#!/usr/bin/env bash
# Event-only training on CEP-DVS with its RGB images, settings in tmkt_braincog/recipes/cepdvs.yaml:
#   bash run_scripts/cepdvs_event_only.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cepdvs "event-only" event_only "$@"
