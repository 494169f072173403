#!/usr/bin/env bash
# Event-only training on N-Caltech101 with Caltech-101, settings in tmkt_braincog/recipes/ncaltech.yaml:
#   bash run_scripts/ncaltech_event_only.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" ncaltech "event-only" event_only "$@"
