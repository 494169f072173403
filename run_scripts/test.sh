#!/usr/bin/env bash
# The whole test suite; words after the command go to pytest (such as: -m "not slow").
# Tests on real recordings run where TMKT_TEST_DATA names them, and skip elsewhere.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff check .
ruff format --check .
python -m mypy
lint-imports
# Several processes with one thread each: small tensors gain nothing from more.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
