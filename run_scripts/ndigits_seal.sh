#!/usr/bin/env bash
# SeAl-KD on the built-in data, settings in tmkt_braincog/recipes/quickstart.yaml, with a small teacher trained from scratch:
#   bash run_scripts/ndigits_seal.sh [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/distil.sh" quickstart seal events "--teacher resnet18 --teacher-size 32 --no-pretrained --teacher-epochs 100 --teacher-lr 1e-3" "$@"
