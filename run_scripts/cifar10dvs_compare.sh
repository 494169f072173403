#!/usr/bin/env bash
# Event-only training, the baseline and TMKT with the published seeds, one table
# on CIFAR10-DVS with CIFAR-10, settings in cifar10dvs.yaml:
#   bash run_scripts/cifar10dvs_compare.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cifar10dvs "event-only baseline tmkt --seed 42 1024 90210" compare "$@"
