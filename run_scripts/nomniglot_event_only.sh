#!/usr/bin/env bash
# Event-only training on N-Omniglot with Omniglot, settings in tmkt_braincog/recipes/nomniglot.yaml:
#   bash run_scripts/nomniglot_event_only.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nomniglot "event-only" event_only "$@"
