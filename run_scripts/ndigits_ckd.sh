#!/usr/bin/env bash
# CKD on the built-in data, settings in tmkt_braincog/recipes/quickstart.yaml, with a small teacher trained from scratch:
#   bash run_scripts/ndigits_ckd.sh [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/distil.sh" quickstart ckd static "--teacher resnet18 --teacher-size 32 --no-pretrained --teacher-epochs 20 --teacher-lr 1e-3" "$@"
