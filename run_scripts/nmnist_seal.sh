#!/usr/bin/env bash
# SeAl-KD on N-MNIST, settings in tmkt_braincog/recipes/nmnist.yaml, with a small teacher trained from scratch:
#   bash run_scripts/nmnist_seal.sh [DATA ROOT] [options]
exec bash "$(dirname "${BASH_SOURCE[0]}")/distil.sh" nmnist seal events "--teacher resnet18 --teacher-size 32 --no-pretrained --teacher-epochs 20 --teacher-lr 1e-3" "$@"
