#!/usr/bin/env bash
# The whole test suite; words after the command go to pytest (such as: -m "not slow").
# Tests on real recordings run where TMKT_TEST_DATA names them, and skip elsewhere.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff check .
ruff format --check .
python -m pytest "$@"
