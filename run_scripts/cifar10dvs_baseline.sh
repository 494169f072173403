#!/usr/bin/env bash
# The baseline of He et al. (AAAI 2024) on CIFAR10-DVS with CIFAR-10, settings in cifar10dvs.yaml:
#   bash run_scripts/cifar10dvs_baseline.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/run.sh" cifar10dvs "baseline" baseline "$@"
