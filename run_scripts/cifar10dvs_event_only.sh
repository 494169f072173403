#!/usr/bin/env bash
# Event-only training on CIFAR10-DVS with CIFAR-10, settings in cifar10dvs.yaml:
#   bash run_scripts/cifar10dvs_event_only.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cifar10dvs "event-only" event_only "$@"
