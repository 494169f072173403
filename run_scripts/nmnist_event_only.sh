#!/usr/bin/env bash
# Event-only training on N-MNIST with MNIST, settings in tmkt_braincog/recipes/nmnist.yaml:
#   bash run_scripts/nmnist_event_only.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" nmnist "event-only" event_only "$@"
